"""Labels as one mask image per image: class indices, or palette colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lib.competition.labels.common import Label
from lib.competition.labels.rle_csv import read_csv
from lib.config.competition import Competition
from lib.errors import UserError
from lib.plugins import register
from lib.tables import IGNORE

Image.MAX_IMAGE_PIXELS = None  # masks are as huge as their images
BAND = 1024  # rows translated at once


@register("labels", "mask_images")
class MaskImages:
    """Masks `<labels.path>/<image id><labels.suffix>`."""

    def __init__(self, config: Competition, known_ids: set[str]):
        self.config = config
        self.folder = Path(config.root) / config.labels.path
        if not self.folder.is_dir():
            raise UserError(f"competition.labels.path: there is no folder {self.folder}")
        suffix = config.labels.suffix
        files = {p.name.removesuffix(suffix): p for p in self.folder.iterdir() if p.name.endswith(suffix)}
        strangers = sorted(set(files) - known_ids)
        if strangers:
            raise UserError(
                f"{files[strangers[0]]} is a mask without image: competition.train_images "
                f"({config.train_images}) has no {strangers[0]!r}"
            )
        self.files = files
        self.image_ids = set(files)
        self.table = _lookup(config)
        self._last: tuple[str, np.ndarray] | None = None  # windows of one image come one after another

    def open(self, image_id: str, height: int, width: int) -> Label:
        """Raises UserError when the mask has another size than the image, or an unknown colour."""
        if self._last is None or self._last[0] != image_id:
            self._last = (image_id, self._load(image_id))
        indices = self._last[1]
        if indices.shape != (height, width):
            raise UserError(
                f"{self.files[image_id]} is {indices.shape[0]} x {indices.shape[1]}, its image "
                f"{height} x {width} (height x width); they must agree"
            )
        return Label(lambda y, x, h, w: indices[y : y + h, x : x + w])

    def _load(self, image_id: str) -> np.ndarray:
        path = self.files[image_id]
        try:
            with Image.open(path) as image:
                coloured = bool(self.config.labels.palette)
                pixels = np.asarray(image.convert("RGB") if coloured else image)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} is no readable mask ({error}); replace it") from None
        if not coloured and pixels.ndim == 3:
            raise UserError(f"{path} holds colours; name their CSV in competition.labels.palette")
        indices = np.empty(pixels.shape[:2], np.uint8)
        for y in range(0, len(indices), BAND):  # bands: the codes take four times the memory of the indices
            indices[y : y + BAND] = self._translate(_codes(pixels[y : y + BAND]), path)
        return indices

    def _translate(self, codes: np.ndarray, path: Path) -> np.ndarray:
        """Codes (h, w) to label indices (h, w) uint8."""
        keys = np.array(sorted(self.table), np.uint32)
        place = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        known = keys[place] == codes
        values = np.array([self.table[int(k)] for k in keys], np.uint8)
        other = self.config.labels.other
        if other == "error" and not known.all():
            raise UserError(f"{path} holds {self._name(int(codes[~known][0]))}")
        return np.where(known, values[place], 0 if other == "background" else IGNORE).astype(np.uint8)

    def _name(self, code: int) -> str:
        """An unknown code in words, with the way out."""
        if self.config.labels.palette:
            colour = f"{code >> 16},{code >> 8 & 255},{code & 255}"
            return f"colour {colour}, which is no class; set competition.labels.other to ignore or background"
        return (
            f"value {code}, which is no class; set competition.labels.other to ignore or background, or, when "
            "the values are grey levels (0 and 255), name them in a CSV (competition.labels.palette)"
        )


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Stored indices (h, w), or colours (h, w, 3), as one number per pixel, uint32."""
    if pixels.ndim == 2:
        return pixels.astype(np.uint32)
    r, g, b = (pixels[..., i].astype(np.uint32) for i in range(3))
    return (r << 16) | (g << 8) | b


def _lookup(config: Competition) -> dict[int, int]:
    """Colour code or stored index → label index."""
    first = 1 if config.background else 0
    if not config.labels.palette:
        return {i: i for i in range(len(config.classes) + first)}
    path = Path(config.root) / config.labels.palette
    table = read_csv(path, ["name", "r", "g", "b"])
    lookup = {}
    for row in table.to_dict("records"):
        colour = [int(row[c]) if row[c].strip().isdecimal() else -1 for c in "rgb"]
        if not all(0 <= value <= 255 for value in colour):
            raise UserError(f"{path}: the colour of {row['name']!r} is not three numbers from 0 to 255")
        code = (colour[0] << 16) | (colour[1] << 8) | colour[2]
        if row["name"] in config.classes:
            lookup[code] = config.classes.index(row["name"]) + first
        elif row["name"] == "background" and config.background:
            lookup[code] = 0
    missing = [name for name in config.classes if config.classes.index(name) + first not in lookup.values()]
    if missing:
        raise UserError(f"{path} has no colour for class {missing[0]!r} of competition.classes")
    return lookup
