"""The names of a package's files, and where a competition's files are found below an input folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.competition.labels.template import fixed_part
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.reader import is_image

MEMBERS = "members.json"
NOTEBOOK = "notebook.ipynb"
KERNEL = "kernel-metadata.json"
DATASET = "dataset-metadata.json"
WHEELS = "wheels"
BOXES = "boxes.csv"
CONTENT = (
    "lib", "infer.py", "config.yaml", "decision.json", "runs", "plugins", "__pycache__", BOXES, MEMBERS, NOTEBOOK,
    KERNEL, DATASET, WHEELS,
)  # fmt: skip
"""Everything that a package's folder holds."""


def check_package(folder: Path) -> None:
    """Raises UserError where a folder lacks what every package has."""
    for name in ("config.yaml", MEMBERS, "decision.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a package, because it has no {name}; give a YAML, or a package's folder")


def split_pattern(glob: str) -> tuple[str, str]:
    """`competition.test_images` as (folder, pattern inside the folder).

    >>> split_pattern("test/images/*"), split_pattern("test/*/images/*.tif")
    (('test/images', '*'), ('test', '*/images/*.tif'))
    """
    fixed = fixed_part(glob)
    return str(fixed), str(PurePosixPath(glob).relative_to(fixed))


DEPTH = 3  # folders between a notebook's input folder and a competition's files


def found_in(folder: Path, package: Path, competition: CompetitionSettings) -> tuple[Path, Path | None, Path | None]:
    """(folder of test images, sample submission, list of test images) of a competition somewhere below `folder`.

    Kaggle mounts datasets and competitions up to three folders deep. `package` is not searched. A folder with images is
    preferred to one without. Raises UserError where nothing is found.
    """
    sample = competition.submission.sample
    listed = "" if sample else competition.test_list
    inside, pattern = split_pattern(competition.test_images)
    empty = None
    for root in _roots(folder, package):
        named = [root / name for name in (sample, listed) if name]
        images = root / inside
        if not all(file.exists() for file in named) or not images.is_dir():
            continue
        found = images, root / sample if sample else None, root / listed if listed else None
        files = (path for path in images.glob(pattern) if is_image(path))
        if any(package not in path.parents for path in files):
            return found
        if named or inside != ".":
            empty = empty or found
    if empty:
        return empty
    asked = ", ".join([*(name for name in (sample, listed) if name), competition.test_images])
    raise UserError(f"--input: no folder in {folder} holds {asked}; add the competition's data to the notebook")


def _roots(folder: Path, package: Path) -> Iterator[Path]:
    """`folder` and the folders below it, the nearest first."""
    yield folder
    for depth in range(1, DEPTH + 1):
        for path in sorted(folder.glob("/".join("*" * depth))):
            if path.is_dir() and package != path and package not in path.parents:
                yield path
