"""Pseudo-labels: from predictions on unlabeled images to tiles that 03 can train on.

Knows probabilities and tiles, nothing of how members were trained.
"""
