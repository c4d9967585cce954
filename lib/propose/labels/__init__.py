"""Recognises labels: masks, run-lengths and JSONs. Knows files and values; knows nothing about training."""
