"""What a package's files are called, and where its images are found."""

from __future__ import annotations

from pathlib import PurePosixPath

from lib.competition.labels.template import fixed_part

MEMBERS = "members.json"
NOTEBOOK = "notebook.ipynb"
KERNEL = "kernel-metadata.json"
DATASET = "dataset-metadata.json"
WHEELS = "wheels"
BOXES = "boxes.csv"


def split_pattern(glob: str) -> tuple[str, str]:
    """`competition.test_images` as (the folder, the pattern inside it).

    >>> split_pattern("test/images/*"), split_pattern("test/*/images/*.tif")
    (('test/images', '*'), ('test', '*/images/*.tif'))
    """
    fixed = fixed_part(glob)
    return str(fixed), str(PurePosixPath(glob).relative_to(fixed))
