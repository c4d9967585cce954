"""Recognises labels: masks, run-lengths and JSONs. Knows files and values, nothing of training."""
