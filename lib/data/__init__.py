"""Tiles, folds, leaks between images, samplers, augmentation, torch datasets."""
