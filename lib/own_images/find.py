"""Which images a user names, and what each one's output files are called."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import files_of, images_in, is_image, stem_of, suffixes
from lib.organiser_text import visible_files


@dataclass(frozen=True)
class OwnImage:
    """A user's image. `name`: where it lies below the folder that all images have in common, without suffix.

    The name is the image's id, for example in a CSV of boxes.
    """

    name: str
    path: Path


def find_images(paths: list[Path], pixels: Pixels) -> list[OwnImage]:
    """The images that `paths` (files and folders) name, each once, sorted by name.

    Folders are searched with their subfolders, without hidden files. Images that differ only in their suffix keep it in
    their names. Of channels in files of their own only the first file counts, and each slice of a volume is an
    image. Raises UserError where a path does not exist, or a folder holds no image.
    """
    paths = [_absolute(path) for path in paths]
    files = [file for path in paths for file in _images_at(path, pixels)]
    root = os.path.commonpath([path if path.is_dir() else path.parent for path in paths])
    places = [Path(os.path.relpath(file, root)) for file in dict.fromkeys(files)]
    alike = Counter(place.with_suffix("") for place in places)
    images = [
        OwnImage((place if alike[place.with_suffix("")] > 1 else place.with_suffix("")).as_posix(), Path(root) / place)
        for place in places
    ]
    return sorted(images, key=lambda image: image.name)


def _absolute(path: Path) -> Path:
    """Links to images keep their own names."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _images_at(path: Path, pixels: Pixels) -> list[Path]:
    if is_image(path) or path.is_file():
        return images_in(path, pixels)
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}; give images, or folders that hold some")
    files = [file for file in visible_files(path, "**/*", is_image) if stem_of(file).endswith(pixels.ending)]
    if not files:
        raise UserError(f"{path} holds no image ({', '.join(suffixes())})")
    return [image for file in files for image in images_in(file, pixels)]


def check_output_folder(out: Path, paths: list[Path]) -> None:
    """Raises UserError where outputs would be taken for images in the next call."""
    for path in paths:
        folder, target = path.resolve(), out.resolve()
        if path.is_dir() and (folder == target or folder in target.parents):
            raise UserError(f"--out {out} lies inside {path}, so that the outputs would be images; give another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")


def state_of(image: OwnImage, pixels: Pixels) -> list[list[int]]:
    """Size in bytes and time of change of the image's files: what tells whether it is still the same image.

    The content is not hashed: reading a slide twice would take minutes.
    """
    stats = [file.stat() for file in files_of(image.path, pixels) if file.is_file()]
    return [[about.st_size, about.st_mtime_ns] for about in stats]
