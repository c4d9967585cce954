"""Submission codecs: one file per family.

A codec is `Codec(config: Competition section, sample: DataFrame, label_names)`. `add(image_id, height, width, bands)`
takes an image's label indices in bands of rows; `write(path)` makes the file with the rows of the sample;
`check(path, sizes)` raises UserError unless a file is what the organiser asks for. Only scoring needs
`read(path, sizes)`, which gives a label (read by window) for every image.
"""

from lib.competition.codecs import rle_rows  # noqa: F401  (registers itself)
