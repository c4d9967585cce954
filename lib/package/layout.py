"""What a package's files are called, and where its images are found."""

from __future__ import annotations

from pathlib import PurePosixPath

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
    *parents, name = PurePosixPath(glob).parts
    fixed = next((i for i, part in enumerate(parents) if set(part) & set("*?[")), len(parents))
    return str(PurePosixPath(*parents[:fixed])), str(PurePosixPath(*parents[fixed:], name))
