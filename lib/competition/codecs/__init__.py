"""Submission codecs: one file per family; `lib.config.presets` names the settings of known competitions.

A codec is `Codec(config: Competition section, sample: DataFrame, label_names)`, best made from
`lib.competition.codecs.common.Codec`. `add(image_id, height, width, bands)` takes an image's label indices in bands of
rows, or its planes where classes overlap (lib/competition/labels/planes.py); `write(path)` makes the file with the rows
of the sample (`suffix` is its, where that is not `.csv`); `check(path, sizes)` raises UserError unless a file is what
the organiser asks for, and gives the object's pixels of each image, or None; `unanswered()` names what the sample asks
for and no image answered. Scoring and pictures need `read(path, sizes)`, which gives a label (read by window, in the
pixels of the answer) for every image, and `seen(height, width, bands)`, label bands as the leaderboard sees them:
resized, or by patches.
"""

from lib.competition.codecs import file_zip, patch_rows, pixel_rows, rle_rows  # noqa: F401  (they register themselves)
