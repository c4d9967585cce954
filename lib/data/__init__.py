"""Tiles, folds, the leak check, the sampler, augmentation, and the torch dataset.

Knows images and labels. Never knows networks or predictions.
"""
