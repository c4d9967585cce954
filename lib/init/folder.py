"""The files of a raw folder: pictures, masks, tables, JSONs, lists."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd

from lib.competition.labels.coco import read_coco
from lib.competition.labels.mask_file import MaskFile, codes_of
from lib.competition.labels.rle_csv import read_csv
from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import AS_THEY_ARE, SUFFIXES, open_image
from lib.imaging.readers.array import ARRAY_SUFFIXES
from lib.imaging.readers.tiff import TIFF_SUFFIXES
from lib.init.depth import middle, span
from lib.init.found import evenly
from lib.init.ids import find_ids, ids_of, known_of, of_first_band
from lib.init.names import Known

TABLES = (".csv", ".csv.gz", ".csv.zip", ".tsv")
MASK_WORDS = r"(?:masks?|labels?|annotations?|gt|seg|segmentations?|truth|targets?)(?![a-z])"
VALUES = 64  # a file with more values than this is a picture
LOOKED = 2048  # side of the middle of a mask that is looked at
JSONS = 50  # of a folder with more, none is a COCO JSON
MANY = 12  # folders beside one another whose files are alike
SOFT = 0.2  # share of a mask's pixels that may be grey edges, between 0 and the largest value


@dataclass
class Folder:
    """Files by what they are; paths are relative to `root`, with slashes.

    `texts`: JSONs that are no COCO, and lists. `pixels`: how deep pictures are shown. `image_ids`: as the option.
    """

    root: Path
    pictures: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    cocos: dict[str, dict] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    pixels: Pixels = AS_THEY_ARE
    image_ids: str = ""

    def images(self) -> dict[str, str]:
        """Image id → picture."""
        return ids_of(self.pictures, self.image_ids)

    def known(self) -> Known:
        """The ids, as texts may name them."""
        return known_of(self.pictures, self.image_ids)

    def where(self, names: list[str]) -> tuple[str, list[str]]:
        """(the folder that files share, their names below it)."""
        base = os.path.commonpath([PurePosixPath(name).parent for name in names]).removeprefix(".")
        return base, [name[len(base) + 1 :] if base else name for name in names]


def look(root: Path) -> Folder:
    """Sort the files of a folder. Raises UserError when there is none, or no picture in it."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the organiser's, for example ../data/competition")
    folder, images = Folder(root), defaultdict(list)
    names = sorted(_walk(root))
    parents = {PurePosixPath(name).parent for name in names}
    beside = Counter(parent.parent for parent in parents)
    alike = {str(parent): f"{parent.parent}/*" for parent in parents if beside[parent.parent] > MANY}
    for name in names:
        suffix = Path(name).suffix.lower()
        if suffix in SUFFIXES:
            images[_kind(name, alike)].append(name)
        elif name.lower().endswith(TABLES):
            _sort_table(folder, name)
        elif suffix == ".json":
            _sort_json(folder, name)
        elif suffix == ".txt":
            folder.texts.append(name)
    for (where, suffix, word), own in images.items():
        masks = _are_masks(root, own, suffix, bool(word or re.search(rf"(?<![a-z]){MASK_WORDS}", where.lower())))
        (folder.masks if masks else folder.pictures).extend(own)
    folder.pictures.sort()
    if not folder.pictures:
        raise UserError(f"{root} holds no image ({', '.join(SUFFIXES)}); unpack the organiser's archives there")
    tables = [[list(table[c]) for c in table.columns] for table in folder.tables.values() if len(table)]
    folder.image_ids, files = find_ids(folder.pictures, tables, folder.masks)
    folder.pictures = of_first_band(folder.pictures, files)
    folder.pixels = Pixels(files=files)
    return folder


def _walk(root: Path) -> list[str]:
    names = []
    for place, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        names += [(Path(place) / f).relative_to(root).as_posix() for f in files if not f.startswith(".")]
    return names


def _kind(name: str, alike: dict[str, str]) -> tuple[str, str, str]:
    """Images of one folder, one suffix, and one word in their names are masks or pictures together.

    A folder with a part in its path that differs from image to image (`a1b2/masks/`) goes by its last part; `alike`:
    folders whose files are taken together.
    """
    path = Path(name)
    word = re.search(rf"(?:^|[_-])({MASK_WORDS})", path.stem.lower())
    parts = path.parent.as_posix().split("/")
    where = alike.get("/".join(parts), "/".join(parts)) if len(parts) < 3 else f"{parts[0]}/*/{parts[-1]}"
    return where, path.suffix.lower(), word[1] if word else ""


def _are_masks(root: Path, names: list[str], suffix: str, said: bool) -> bool:
    """Whether most of a few files hold few values; of JPEGs, whether they say that they are masks."""
    if suffix in (".jpg", ".jpeg"):
        return said
    few = [_has_few_values(root / name) for name in evenly(names, 5)]
    return sum(few) * 2 > len(few)


def _has_few_values(path: Path) -> bool:
    """Whether few values occur, edges aside; of files deeper than 8 bits, also far from those that a mask has."""
    if len(values_of(path)) > VALUES:
        return soft_level(path) > 0
    if path.suffix.lower() not in (*TIFF_SUFFIXES, *ARRAY_SUFFIXES):
        return True
    with open_image(path, Pixels(range=span(path, AS_THEY_ARE))) as reader:
        return len(np.unique(codes_of(reader.read(*middle(reader.height, reader.width, LOOKED))))) <= VALUES


def soft_level(path: Path) -> int:
    """The value of objects in a grey mask where only edges hold others than that and 0; 0 for other files."""
    try:
        mask = MaskFile(path, coloured=False)
        pixels = mask.read(*middle(mask.height, mask.width, LOOKED))
    except UserError:
        return 0
    if pixels.ndim == 3 or pixels.max(initial=0) < 128:
        return 0
    pixels = np.clip(pixels.astype(np.int64), 0, 65535).astype(np.uint16)
    square = np.ones((3, 3), np.uint8)
    flat = np.unique(pixels[cv2.dilate(pixels, square) == cv2.erode(pixels, square)])
    top = int(pixels.max())
    sharp = np.isin(pixels, (0, top)).mean()
    inside = set(flat.tolist()) == {0, top} and len(np.unique(pixels)) > 2
    return top if inside and sharp > 1 - SOFT else 0


def values_of(path: Path, coloured: bool = False) -> np.ndarray:
    """The different values, or colours as one number each, in the middle of an image, rising; colours are above 255."""
    try:
        mask = MaskFile(path, coloured)
    except UserError:  # a format that masks never have
        return np.arange(VALUES + 1)
    return np.unique(codes_of(mask.read(*middle(mask.height, mask.width, LOOKED))))


def _sort_table(folder: Folder, name: str) -> None:
    try:
        folder.tables[name] = read_csv(folder.root / name, [])
    except UserError:
        folder.texts.append(name)


def _sort_json(folder: Folder, name: str) -> None:
    path = folder.root / name
    if sum(1 for _ in path.parent.glob("*.json")) > JSONS:
        folder.texts.append(name)
        return
    try:
        folder.cocos[name] = read_coco(path)
    except UserError:
        folder.texts.append(name)


def read_json(path: Path) -> object:
    """What a JSON holds; None for one that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None


def glob_of(root: Path, names: list[str], aside: set[str]) -> str | None:
    """The plainest pattern below `root` that matches these pictures and, `aside` from some, no other; else None."""
    wanted = set(names)
    if not wanted:
        return None
    for pattern in _patterns(names):
        pictures = (p for p in root.glob(pattern) if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if {p.relative_to(root).as_posix() for p in pictures} - aside == wanted:
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
