"""Measures pixels: sizes, depth, bands, and sizes of objects. Knows nothing about label formats."""
