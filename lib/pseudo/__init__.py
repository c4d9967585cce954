"""Pseudo-labels: predictions on images without labels become tiles that 03 trains on.

Knows probabilities and tiles. Never knows how members are trained.
"""
