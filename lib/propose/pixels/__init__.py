"""Measures pixels: image sizes, bit depth, channels, and sizes of objects. Never knows label formats."""
