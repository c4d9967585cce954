"""The files of a raw folder: pictures, masks, tables, COCO JSONs."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.labels.coco import read_coco
from lib.competition.labels.mask_file import MaskFile, codes_of
from lib.competition.labels.rle_csv import read_csv
from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import AS_THEY_ARE, SUFFIXES, open_image
from lib.imaging.readers.tiff import TIFF_SUFFIXES
from lib.init.found import evenly

MASK_SUFFIXES = (*SUFFIXES, ".gif", ".bmp")
MASK_WORDS = r"(?:masks?|labels?|annotations?|gt|seg|segmentations?|truth|targets?)(?![a-z])"
VALUES = 64  # a file with more values than this is a picture
LOOKED = 2048  # side of the middle of a mask that is looked at
WHITE = (1023, 4095, 65535)  # the largest value of 10, 12 and 16 bits
JSONS = 50  # of a folder with more, none is a COCO JSON


@dataclass
class Folder:
    """Files by what they are; paths are relative to `root`, with slashes. `pixels`: how deep pictures are shown."""

    root: Path
    pictures: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    cocos: dict[str, dict] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    pixels: Pixels = AS_THEY_ARE

    def stems(self) -> dict[str, str]:
        """Image id → picture. Raises UserError when two pictures have one id."""
        out: dict[str, str] = {}
        for name in self.pictures:
            stem = Path(name).stem
            if stem in out:
                raise UserError(f"{self.root}: {out[stem]} and {name} have the same name; images are told apart by it")
            out[stem] = name
        return out


def look(root: Path) -> Folder:
    """Sort the files of a folder. Raises UserError when there is none, or no picture in it."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the organiser's, for example ../data/competition")
    folder, images = Folder(root), defaultdict(list)
    for name in sorted(_walk(root)):
        suffix = Path(name).suffix.lower()
        if suffix in MASK_SUFFIXES:
            images[_kind(name)].append(name)
        elif suffix == ".csv":
            _sort_table(folder, name)
        elif suffix == ".json":
            _sort_json(folder, name)
        else:
            folder.others.append(name)
    for names in images.values():
        (folder.masks if _are_masks(root, names) else folder.pictures).extend(names)
    folder.pictures = [name for name in sorted(folder.pictures) if Path(name).suffix.lower() in SUFFIXES]
    if not folder.pictures:
        raise UserError(f"{root} holds no image ({', '.join(SUFFIXES)}); unpack the organiser's archives there")
    return folder


def _walk(root: Path) -> list[str]:
    names = []
    for place, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        names += [(Path(place) / f).relative_to(root).as_posix() for f in files if not f.startswith(".")]
    return names


def _kind(name: str) -> tuple[str, str, str]:
    """Images of one folder, one suffix, and one word at the end of their names are masks or pictures together.

    A folder with a part in its path that differs from image to image (`a1b2/masks/`) goes by its last part.
    """
    path = Path(name)
    word = re.search(rf"[_-]({MASK_WORDS})", path.stem.lower())
    parts = path.parent.as_posix().split("/")
    where = "/".join(parts) if len(parts) < 3 else f"{parts[0]}/*/{parts[-1]}"
    return where, path.suffix.lower(), word[1] if word else ""


def _are_masks(root: Path, names: list[str]) -> bool:
    """Whether most of a few files hold few values; of JPEGs, whether they say that they are masks."""
    folder, suffix, word = _kind(names[0])
    if suffix in (".jpg", ".jpeg"):
        return bool(word or re.search(rf"(?<![a-z]){MASK_WORDS}", folder.lower()))
    few = [_has_few_values(root / name) for name in evenly(names, 5)]
    return sum(few) * 2 > len(few)


def _has_few_values(path: Path) -> bool:
    """Whether few values occur; of TIFFs deeper than 8 bits, also far above those that a mask has."""
    if len(values_of(path)) > VALUES:
        return False
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return True
    for white in WHITE:
        with open_image(path, Pixels(range=(0, white))) as reader:
            h, w = min(LOOKED, reader.height), min(LOOKED, reader.width)
            seen = reader.read((reader.height - h) // 2, (reader.width - w) // 2, h, w)
        if len(np.unique(codes_of(seen))) > VALUES:
            return False
    return True


def values_of(path: Path, coloured: bool = False) -> np.ndarray:
    """The different values, or colours as one number each, in the middle of an image, rising; colours are above 255."""
    try:
        mask = MaskFile(path, coloured)
    except UserError:  # a format that masks never have
        return np.arange(VALUES + 1)
    h, w = min(LOOKED, mask.height), min(LOOKED, mask.width)
    return np.unique(codes_of(mask.read((mask.height - h) // 2, (mask.width - w) // 2, h, w)))


def _sort_table(folder: Folder, name: str) -> None:
    try:
        folder.tables[name] = read_csv(folder.root / name, [])
    except UserError:
        folder.others.append(name)


def _sort_json(folder: Folder, name: str) -> None:
    path = folder.root / name
    if sum(1 for _ in path.parent.glob("*.json")) > JSONS:
        folder.others.append(name)
        return
    try:
        folder.cocos[name] = read_coco(path)
    except UserError:
        folder.others.append(name)


def glob_of(root: Path, names: list[str]) -> str | None:
    """The plainest pattern below `root` that matches these pictures and no other; None when there is none."""
    wanted = set(names)
    if not wanted:
        return None
    for pattern in _patterns(names):
        found = {p.relative_to(root).as_posix() for p in root.glob(pattern) if p.suffix.lower() in SUFFIXES}
        if found == wanted:
            return pattern
    return None


def _patterns(names: list[str]) -> list[str]:
    """Patterns that match all the names, the plainest first."""
    folders = [Path(name).parent.parts for name in names]
    if len({len(parts) for parts in folders}) != 1:
        return []
    parts = [next(iter(set(level))) if len(set(level)) == 1 else "*" for level in zip(*folders, strict=True)]
    suffixes = {Path(name).suffix for name in names}
    start = os.path.commonprefix([Path(name).name for name in names])
    end = os.path.commonprefix([Path(name).name[::-1] for name in names])[::-1]
    ends = ["*", *(f"*{suffix}" for suffix in suffixes if len(suffixes) == 1), f"{start}*", f"*{end}"]
    return ["/".join([*parts, last]) for last in ends]
