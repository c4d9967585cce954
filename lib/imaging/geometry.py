"""Boxes of pixels."""

from __future__ import annotations

Box = tuple[int, int, int, int]
"""y, x, height and width in pixels; y and x are the top left corner, counted from 0."""
