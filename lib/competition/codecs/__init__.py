"""Submission codecs: one file per family.

A codec is `Codec(config: Competition section, sample: DataFrame, label_names)`; `add` takes an image's
label indices in bands of rows, `write` makes the file with the rows of the sample, `read` turns a file
back into label maps, `check` (optional) refuses what `read` does without making the maps.
"""

from lib.competition.codecs import rle_rows  # noqa: F401  (registers itself)
