"""Readers of image files: one file per family of formats, all behind `lib.imaging.reader.open_image`.

They give windows of pixels, and know nothing of labels.
"""
