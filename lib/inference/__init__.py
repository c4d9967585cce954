"""Networks on windows of huge images: sliding window, multi-scale ensemble, test-time augmentation, backends.

Gives probabilities. Knows nothing of how a network was trained, of truth, or of decisions.
"""
