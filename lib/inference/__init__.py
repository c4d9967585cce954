"""Predictors, test-time augmentation, ensembles, decisions. Knows nothing of how a network was trained."""
