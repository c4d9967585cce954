"""Tiles, folds, leaks between images, sampler, augmentation, torch datasets.

Knows images and labels, nothing of networks or predictions.
"""
