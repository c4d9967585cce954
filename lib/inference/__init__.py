"""Networks on windows of huge images: sliding window, multi-scale ensemble, test-time augmentation, backends.

Gives probabilities. Never knows how a network was trained, the true labels, or decisions.
"""
