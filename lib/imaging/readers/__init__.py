"""Readers of image files: one file per family of formats, all behind `lib.imaging.reader.open_image`."""
