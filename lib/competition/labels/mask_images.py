"""Labels as mask images: class indices, palette colours, or object against the rest; one or several per image."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import groupby
from pathlib import Path

import numpy as np

from lib.competition.labels.annotators import agreed, check_annotators, most_frequent
from lib.competition.labels.common import Label, WrongSize, index_of, painted_once
from lib.competition.labels.mask_file import MaskFile, codes_of
from lib.competition.labels.pictures import check_no_picture
from lib.competition.labels.planes import label_of_objects, planes_of_indices
from lib.competition.labels.template import Names, ids_by_path
from lib.config.competition import CompetitionSettings, Pixels
from lib.errors import UserError
from lib.imaging.readers.registry import file_and_slice, images_in, is_image, suffix_of
from lib.organiser_text import same_form, visible_files
from lib.plugins import register
from lib.tables import IGNORE
from lib.user_tables import read_csv

TRANSLATED_PIXELS = 2**22  # pixels translated at once: codes take four times the memory of indices


@register("labels", "mask_images")
class MaskImages:
    """Masks `<labels.path>/<image id><labels.suffix>`, or files in the form of `labels.files`.

    Several masks of one image are painted in the order of the classes, or are planes of their own where classes
    overlap. An image may lack some of them.
    """

    def __init__(self, config: CompetitionSettings, known_ids: set[str]):
        self.config = config
        self.folder = Path(config.root) / config.labels.path
        if not self.folder.is_dir():
            raise UserError(f"competition.labels.path: there is no folder {self.folder}")
        if len(config.classes) > 1 and config.labels.threshold is not None and "{class}" not in config.labels.files:
            raise UserError(
                f"masks of object against the rest are of one class; competition.classes has {len(config.classes)}: "
                "say with {class} in competition.labels.files how the files name theirs"
            )
        check_annotators(config, self.binary)
        self.files = label_files(config, known_ids)
        strangers = sorted(set(self.files) - known_ids)
        if config.labels.surplus == "skip":
            self.files = {image_id: files for image_id, files in self.files.items() if image_id in known_ids}
        elif strangers:
            raise UserError(
                f"{self.files[strangers[0]][0][1]} is a mask without image: competition.train_images "
                f"({config.train_images}) has no {strangers[0]!r}; add the image, remove the mask, or set "
                "competition.labels.surplus to skip"
            )
        several = next((files for files in self.files.values() if len(files) > 1 and not self.binary), [])
        if several and not config.labels.annotators:
            raise UserError(
                f"{several[0][1]} and {several[1][1]} are of one image; say in competition.labels.files which of them "
                "counts, or with {class} which class each one shows"
            )
        self.image_ids = set(self.files)
        self.table = {} if self.binary else _lookup(config)
        self._last: tuple[tuple[str, int, int], Label] | None = None  # windows of one image come one after another

    @property
    def binary(self) -> bool:
        """Whether a mask separates one class from the rest."""
        labels = self.config.labels
        of_one_class = bool(labels.files) and len(self.config.classes) == 1 and not labels.palette
        return "{class}" in labels.files or labels.threshold is not None or of_one_class

    def open(self, image_id: str, height: int, width: int) -> Label:
        """Raises UserError when a mask has another size than the image, or an unknown colour."""
        key = image_id, height, width
        if self._last is None or self._last[0] != key:
            self._last = key, self._open(*key)
        return self._last[1]

    def _open(self, image_id: str, height: int, width: int) -> Label:
        masks = []
        for index, path in self.files.get(image_id, []):
            axis = self.config.pixels.slice_axis
            mask = MaskFile(path, has_colours(self.config), self.config.labels.dataset, axis)
            if (mask.height, mask.width) != (height, width):
                raise WrongSize(
                    f"{path} is {mask.height} x {mask.width}, its image {height} x {width} (height x width); they "
                    "must agree"
                )
            people = mask.layers if self.config.labels.annotators else 1
            masks += [(index, mask.layer(i)) for i in range(people)] if people > 1 else [(index, mask)]

        def paint(some: list[tuple[int, MaskFile]], maps: int) -> Label:
            def read(y: int, x: int, h: int, w: int) -> np.ndarray:
                out = np.empty((h, w), np.uint8)
                step = max(1, TRANSLATED_PIXELS // w)
                for top in range(0, h, step):
                    box = y + top, x, min(step, h - top), w
                    painted = self.binary or not some
                    out[top : top + step] = (
                        self._painted(some, box) if painted else most_frequent([self._indices(m, box) for _, m in some])
                    )
                return out

            label = painted_once(read, height, width, planes=maps)
            if self.config.labels.annotators == "mean" and len(some) > 1:
                label.opinions = [paint([one], maps * len(some)) for one in some]
            return label

        if self.config.multilabel and not self.binary:  # one file of indices
            return planes_of_indices(paint(masks, 1), len(self.config.classes))
        return label_of_objects(masks, paint, self.config)

    def _painted(self, masks: list[tuple[int, MaskFile]], box: tuple[int, int, int, int]) -> np.ndarray:
        """Masks of one class each, later classes on top. What is unknown in one of them may be an object of another."""
        labels, nothing = self.config.labels, 0 if self.config.background else IGNORE
        out, unknown = np.full(box[2:], nothing, np.uint8), np.zeros(box[2:], bool)
        for index, own in groupby(masks, key=lambda one: one[0]):
            votes, voters = np.zeros(box[2:], np.uint16), np.zeros(box[2:], np.uint16)
            for _, mask in own:
                is_object, known = self._object(mask, box)
                votes += is_object
                voters += known
                unknown |= ~known & (not labels.annotators)
            out[agreed(votes, voters, labels.annotators)] = index
            unknown |= voters == 0
        if labels.other == "ignore":
            out[unknown & (out == nothing)] = IGNORE
        return out

    def _object(self, mask: MaskFile, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(where a mask of one class says object, where it says anything), both (h, w) bool."""
        labels, values = self.config.labels, mask.read(*box)
        check_no_picture(mask.path, values)
        values = values if values.ndim == 2 else values.max(axis=-1)
        nowhere = _unknown(values, mask.nodata, labels.threshold or 0)
        if labels.other == "error" and nowhere.any():
            raise UserError(
                f"{mask.path} holds value {values[nowhere][0]:.9g}, which says neither object nor background; set "
                "competition.labels.other to ignore or background"
            )
        return (values > (labels.threshold or 0)) & ~nowhere, ~nowhere

    def _indices(self, mask: MaskFile, box: tuple[int, int, int, int]) -> np.ndarray:
        """Stored values to label indices, (h, w) uint8."""
        pixels = mask.read(*box)
        if pixels.ndim == 3 and not has_colours(self.config):
            raise UserError(f"{mask.path} holds colours; name them, or their CSV, in competition.labels.palette")
        check_no_picture(mask.path, pixels)
        codes = codes_of(pixels)
        keys = np.array(sorted(self.table))
        place = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        known = keys[place] == codes
        values = np.array([self.table[int(k)] for k in keys], np.uint8)
        other = self.config.labels.other
        if other == "error" and not known.all():
            raise UserError(f"{mask.path} holds {self._name(codes[~known][0])}")
        return np.where(known, values[place], 0 if other == "background" else IGNORE).astype(np.uint8)

    def _name(self, code: np.number) -> str:
        """An unknown code in words, with the way out."""
        if has_colours(self.config):
            code = int(code)
            colour = f"{code >> 16},{code >> 8 & 255},{code & 255}"
            return f"colour {colour}, which is not a class; set competition.labels.other to ignore or background"
        return (
            f"value {code:.9g}, which is not a class; set competition.labels.other to ignore or background, or, when "
            "the values are grey levels (0 and 255), competition.labels.threshold to 0, or name them in "
            "competition.labels.palette: {road: 7, car: 26}"
        )


def _unknown(values: np.ndarray, nodata: float | None, threshold: float) -> np.ndarray:
    """Where a mask of object against the rest says neither: below 0, NaN, or what the file calls nodata."""
    unknown = np.isnan(values) | (values < 0) if values.dtype.kind == "f" else values < 0
    return unknown | (values == nodata) if nodata is not None and nodata > threshold else unknown


def label_files(config: CompetitionSettings, known_ids: Collection[str] = ()) -> dict[str, list[tuple[int, Path]]]:
    """Image id → (label index, file) of each of its label files, in the order of the classes, then of their names."""
    folder, first, template = Path(config.root) / config.labels.path, int(config.background), config.labels.files
    read = reader_of_names(config, known_ids)
    found: dict[str, list[tuple[int, Path]]] = {}
    volumes = Pixels(slice_axis=config.pixels.slice_axis, dataset=config.labels.dataset)
    files = visible_files(folder, "**/*" if template else "*", lambda path: path.is_file() or is_image(path))
    for path in (one for file in files for one in (images_in(file, volumes) if suffix_of(file) else [file])):
        if named := read(path):
            image_id, name = named
            found.setdefault(image_id, []).append((config.classes.index(name or config.classes[0]) + first, path))
    if template and not found:
        raise UserError(f"competition.labels.files: no file of {folder} is like {template}")
    return {image_id: sorted(files) for image_id, files in found.items()}


def reader_of_names(
    config: CompetitionSettings, known_ids: Collection[str] = ()
) -> Callable[[Path], tuple[str, str] | None]:
    """Tells of which image and class (or "") a file is the label; None for other files.

    Images that are known decide where a name can be read in two ways. Slice 12 of the label `ct.nii.gz` is that of the
    image `ct_0012`, or `ct.nii.gz/0012` in `labels.files`.
    """
    folder, labels = Path(config.root) / config.labels.path, config.labels
    if not labels.files:

        def named_by_suffix(path: Path) -> tuple[str, str] | None:
            file, number = file_and_slice(path)
            if file.parent != folder or not file.name.endswith(labels.suffix):
                return None
            return same_form(
                file.name.removesuffix(labels.suffix) + (f"_{path.name}" if number is not None else "")
            ), ""

        return named_by_suffix
    names = Names(labels.files, config.classes, known_ids, ids_by_path(config.train_images, config.image_ids))
    return lambda path: names.read(path.relative_to(folder).as_posix()) if path.is_relative_to(folder) else None


def has_colours(config: CompetitionSettings) -> bool:
    """Whether masks hold colours, and not stored values."""
    palette = config.labels.palette
    return bool(palette) and not (isinstance(palette, dict) and any(isinstance(v, int) for v in palette.values()))


def _lookup(config: CompetitionSettings) -> dict[int, int]:
    """Colour code or stored index → label index."""
    first = 1 if config.background else 0
    if not config.labels.palette:
        return {i: i for i in range(len(config.classes) + first)}
    lookup = {}
    for name, colour in stored_colours(config).items():
        code = colour if isinstance(colour, int) else (colour[0] << 16) | (colour[1] << 8) | colour[2]
        index = index_of(name, config)
        if index is not None:
            lookup[code] = index
    missing = [name for name in config.classes if config.classes.index(name) + first not in lookup.values()]
    if missing:
        where = config.labels.palette if isinstance(config.labels.palette, str) else "competition.labels.palette"
        raise UserError(f"{where} has no colour for class {missing[0]!r} of competition.classes")
    return lookup


def stored_colours(config: CompetitionSettings) -> dict[str, tuple[int, int, int] | int]:
    """Name → red, green, blue, or a stored value, of `labels.palette`: from the CSV or the option itself."""
    if isinstance(config.labels.palette, dict):
        return config.labels.palette
    path = Path(config.root) / config.labels.palette
    colours = {}
    for row in read_csv(path, ["name", "r", "g", "b"]).to_dict("records"):
        colour = tuple(int(row[c]) if row[c].strip().isdecimal() else -1 for c in "rgb")
        if not all(0 <= value <= 255 for value in colour):
            raise UserError(f"{path}: the colour of {row['name']!r} is not three numbers from 0 to 255")
        colours[row["name"]] = colour
    return colours
