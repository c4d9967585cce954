"""Networks: architectures, pretrained encoder weights, and weight files.

Knows nothing of training, nor of what the maps are used for.
"""
