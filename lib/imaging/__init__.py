"""Huge images: windowed reading, grids, blending, bounded-memory stitching, blank maps.

Knows nothing of label formats or networks.
"""
