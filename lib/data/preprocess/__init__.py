"""Stage 1: survey images and labels, choose tiles, cut them, describe the data.

Knows images, labels and tiles. Never knows folds, training or predictions.
"""
