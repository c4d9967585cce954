"""Sorts the files of a raw folder: pictures, masks, tables, JSONs, lists."""

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

from lib.competition.labels.coco_file import read_coco
from lib.competition.labels.mask_file import MaskFile, codes_of
from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import AS_THEY_ARE, open_image, suffixes
from lib.imaging.readers.plain import PLAIN_SUFFIXES
from lib.imaging.readers.registry import suffix_of
from lib.propose.found import abbreviated, evenly_spaced
from lib.propose.ids import endings_of, find_ids, ids_of, known_of, of_first_band
from lib.propose.names import Known
from lib.propose.pixels.depth import middle, span
from lib.user_tables import read_csv

TABLES = (".csv", ".csv.gz", ".csv.zip", ".tsv")
MASK_WORDS = r"(?:masks?|labels?|annotations?|gt|seg|segmentations?|truth|targets?)(?![a-z])"
MASK_VALUES = 64  # a file with more values than this is a picture
MASK_MIDDLE_SIDE = 2048  # pixels: values are read from a square of this side in the middle of a mask
MAX_COCO_JSONS = 50  # in a folder with more JSONs, none is taken for a COCO file
MANY_FOLDERS = 12  # with more sibling folders than this, their files are taken for one kind
UNREAD = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI", ".mat": "MATLAB", ".npz": "archives of arrays", ".zarr": "Zarr",
    ".nc": "NetCDF", ".parquet": "Parquet", ".tfrecord": "TFRecord", ".shp": "shapefiles", ".jsonl": "JSON by line",
    ".xml": "XML", ".xlsx": "Excel", ".mp4": "video", ".avi": "video", ".zip": "archives", ".tar": "archives",
    ".gz": "archives", ".7z": "archives",
}  # fmt: skip
"""Suffix of files that no reader can read -> what they are."""
SOFT_SHARE = 0.2  # share of a mask's pixels that may be grey edges, between 0 and the largest value


@dataclass
class Folder:
    """Files by their kind. Paths are relative to `root`, with slashes.

    `texts`: lists, GeoJSONs, other JSONs. `pixels`: how images with more than 8 bits are read. `image_ids`: the option
    `competition.image_ids`. `endings`: how the names of an image's channel files end, where these do not name red,
    green and blue; `all_endings`: in any case. `unread`: suffix -> files that no reader takes. `broken`: picture -> its
    reader's error.
    """

    root: Path
    pictures: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    cocos: dict[str, dict] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    pixels: Pixels = AS_THEY_ARE
    image_ids: str = ""
    endings: list[str] = field(default_factory=list)
    all_endings: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def images(self) -> dict[str, str]:
        """Image id → picture."""
        return ids_of(self.pictures, self.image_ids)

    def kinds_unread(self) -> list[str]:
        """One phrase for each suffix that no reader takes, the most frequent first.

        A single file of an unknown suffix, such as a README, is not mentioned.
        """
        kinds = sorted(self.unread.items(), key=lambda item: -len(item[1]))
        return [
            f"{len(names)} files {suffix or 'without suffix'} ({UNREAD.get(suffix, 'unknown')}), such as {names[0]}, "
            "are not read"
            for suffix, names in kinds
            if len(names) > 1 or suffix in UNREAD
        ]

    def known(self) -> Known:
        """The image ids in the forms in which texts may name them."""
        return known_of(self.pictures, self.image_ids)

    def split_base(self, names: list[str]) -> tuple[str, list[str]]:
        """The innermost folder that holds all files, and their paths below it."""
        base = os.path.commonpath([PurePosixPath(name).parent for name in names]).removeprefix(".")
        return base, [name[len(base) + 1 :] if base else name for name in names]


def read_folder(root: Path) -> Folder:
    """Sort the files of a folder. Raises UserError when the folder does not exist or holds no picture."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the organiser's, for example ../data/competition")
    folder = Folder(root)
    images = _sort(folder, sorted(_walk(root)))
    for (parent, suffix, mask_word), names in images.items():
        if reason := _unusable(root, names):
            folder.broken |= dict.fromkeys(names, reason)
            continue
        called_masks = bool(mask_word or re.search(rf"(?<![a-z]){MASK_WORDS}", parent.lower()))
        (folder.masks if _are_masks(root, names, suffix, called_masks) else folder.pictures).extend(names)
    folder.pictures.sort()
    if not folder.pictures:
        raise UserError(_no_image(folder))
    tables = [[list(table[c]) for c in table.columns] for table in folder.tables.values() if len(table)]
    folder.image_ids, files, folder.endings = find_ids(folder.pictures, tables, folder.masks)
    folder.all_endings = endings_of(folder.pictures) if files else []
    folder.pictures = of_first_band(folder.pictures, files)
    folder.pixels = Pixels(files=files)
    return folder


def _sort(folder: Folder, names: list[str]) -> dict[tuple[str, str, str], list[str]]:
    """Sort tables, JSONs and others into `folder`. Returns the images by kind."""
    images: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    parents = {PurePosixPath(name).parent for name in names}
    siblings = Counter(parent.parent for parent in parents)
    alike = {str(parent): f"{parent.parent}/*" for parent in parents if siblings[parent.parent] > MANY_FOLDERS}
    for name in names:
        suffix = Path(name).suffix.lower()
        if suffix_of(name) and suffix_of(name) not in UNREAD:
            images[_kind(name, alike)].append(name)
        elif name.lower().endswith(TABLES):
            _sort_table(folder, name)
        elif suffix == ".json":
            _sort_json(folder, name)
        elif suffix in (".txt", ".geojson"):
            folder.texts.append(name)
        else:
            ending = ".nii.gz" if name.lower().endswith(".nii.gz") else suffix
            folder.unread.setdefault(ending, []).append(name)
    return _joined(images)


def _joined(images: dict[tuple[str, str, str], list[str]]) -> dict[tuple[str, str, str], list[str]]:
    """Kinds of images; those of one file each, as where each image has folders of its own, by their first folder."""
    if len(images) <= MANY_FOLDERS or sorted(map(len, images.values()))[len(images) // 2] > 1:
        return images
    joined: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (where, suffix, word), names in images.items():
        joined[where.split("/")[0], suffix, word].extend(names)
    return joined


def _no_image(folder: Folder) -> str:
    """The message for a folder without any picture: what was found, and what to do."""
    if folder.masks:
        return (
            f"{folder.root} holds no image: its {len(folder.masks)} image files ({abbreviated(folder.masks, 2)}) hold "
            "few different values, as masks do; add the images"
        )
    found = next(iter(folder.broken.values())) if folder.broken else "; ".join(folder.kinds_unread())
    advice = f"{found}; convert them to TIFF, PNG or .npy" if found else "unpack the organiser's archives there"
    return f"{folder.root} holds no image of a supported format ({', '.join(suffixes())}): {advice}"


def _unusable(root: Path, names: list[str]) -> str:
    """The last error where none of a few files can be opened; empty where one can."""
    reason = ""
    for name in evenly_spaced(names, 3):
        try:
            open_image(root / name, Pixels(range=(0, 255))).close()
            return ""
        except UserError as error:
            reason = str(error)
    return reason


def _walk(root: Path) -> list[str]:
    names = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        names += [(Path(parent) / f).relative_to(root).as_posix() for f in files if not f.startswith(".")]
    return names


def _kind(name: str, alike: dict[str, str]) -> tuple[str, str, str]:
    """Images of one folder, one suffix, and one word in their names are masks or pictures together.

    A folder with a part in its path that differs from image to image (`a1b2/masks/`) goes by its last part; `alike`:
    folders whose files are taken together; files of one name (`band_08`) in them are of one kind.
    """
    path = Path(name)
    word = re.search(rf"(?:^|[_-])({MASK_WORDS})", path.stem.lower())
    parts = path.parent.as_posix().split("/")
    where = alike.get("/".join(parts), "/".join(parts)) if len(parts) < 3 else f"{parts[0]}/*/{parts[-1]}"
    if word and where.endswith("/*"):
        return where, path.suffix.lower(), path.stem
    return where, path.suffix.lower(), word[1] if word else ""


def _are_masks(root: Path, names: list[str], suffix: str, called_masks: bool) -> bool:
    """Whether most of a few files hold few values. JPEG noise hides that, so for JPEGs their names decide."""
    if suffix in (".jpg", ".jpeg"):
        return called_masks
    few = [_has_few_values(root / name) for name in evenly_spaced(names, 5)]
    return sum(few) * 2 > len(few)


def _has_few_values(path: Path) -> bool:
    """Whether few different values occur besides soft edges.

    In files with more than 8 bits, values beyond those of a mask count too.
    """
    if len(values_of(path)) > MASK_VALUES:
        return soft_level(path) > 0
    if suffix_of(path) in PLAIN_SUFFIXES:
        return True
    with open_image(path, Pixels(range=span(path, AS_THEY_ARE))) as reader:
        return (
            len(np.unique(codes_of(reader.read(*middle(reader.height, reader.width, MASK_MIDDLE_SIDE))))) <= MASK_VALUES
        )


def soft_level(path: Path) -> int:
    """The objects' value in a grey mask where all other values but 0 occur at edges only; 0 for any other file."""
    try:
        mask = MaskFile(path, coloured=False)
        pixels = mask.read(*middle(mask.height, mask.width, MASK_MIDDLE_SIDE))
    except UserError:
        return 0
    if pixels.ndim == 3 or pixels.max(initial=0) < 128:
        return 0
    pixels = np.clip(np.nan_to_num(pixels), 0, 65535).astype(np.uint16)
    square = np.ones((3, 3), np.uint8)
    flat = np.unique(pixels[cv2.dilate(pixels, square) == cv2.erode(pixels, square)])
    top = int(pixels.max())
    sharp = np.isin(pixels, (0, top)).mean()
    inside = set(flat.tolist()) == {0, top} and len(np.unique(pixels)) > 2
    return top if inside and sharp > 1 - SOFT_SHARE else 0


def values_of(path: Path, coloured: bool = False) -> np.ndarray:
    """The different values in the middle of an image, ascending. A colour is one number above 255 (`codes_of`)."""
    try:
        mask = MaskFile(path, coloured)
    except UserError:  # a format that masks never have
        return np.arange(MASK_VALUES + 1)
    return np.unique(codes_of(mask.read(*middle(mask.height, mask.width, MASK_MIDDLE_SIDE))))


def _sort_table(folder: Folder, name: str) -> None:
    try:
        folder.tables[name] = read_csv(folder.root / name, [])
    except UserError:
        folder.texts.append(name)


def _sort_json(folder: Folder, name: str) -> None:
    path = folder.root / name
    if sum(1 for _ in path.parent.glob("*.json")) > MAX_COCO_JSONS:
        folder.texts.append(name)
        return
    try:
        folder.cocos[name] = read_coco(path)
    except UserError:
        folder.texts.append(name)


def read_organiser_json(path: Path) -> object:
    """The content of a JSON; None where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
