"""Huge images: windowed reading, grids, blending, bounded-memory stitching, connected components, blank maps.

Knows pixels and files of images, nothing of label formats, competitions or networks.
"""
