"""Looks at pixels: sizes, depth, bands, and how large objects are. Knows nothing of labels' formats."""
