"""Files of each image: labels or probabilities, an overlay, and a manifest that says what they are made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.artifacts.read import sound_json
from lib.artifacts.schemas import PREDICTED
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.files import replacing, write_json
from lib.imaging.draw import as_picture, overlay, save_picture
from lib.imaging.writers.png import write_png
from lib.imaging.writers.pyramid_tiff import geo_tags_of, write_pyramid_tiff
from lib.imaging.writers.spool import Spool
from lib.inference.windows import Source
from lib.oof.codes import from_planes
from lib.own_images.find import OwnImage

FORMATS = {"tif": ".tif", "png": ".png", "probabilities": ".probabilities.tif"}
OVERLAY_SIDE = 1600  # longest side of an overlay, pixels


@dataclass(frozen=True)
class OutputFolder:
    """Where the files of images go. `format`: one of `FORMATS`; `overlay`: also a picture to look at."""

    folder: Path
    format: str
    overlay: bool

    def main_file(self, name: str) -> Path:
        return self.folder / (name + FORMATS[self.format])

    def overlay_file(self, name: str) -> Path:
        return self.folder / f"{name}.overlay.jpg"

    def manifest(self, name: str) -> Path:
        return self.folder / f"{name}{FORMATS[self.format]}.json"

    def files(self, name: str) -> list[Path]:
        return [self.main_file(name), *[self.overlay_file(name)] * self.overlay]

    def finished(self, name: str, made_from: dict) -> bool:
        """Whether all files of an image are there, and were made from the same."""
        known = sound_json(self.manifest(name), {}, PREDICTED)
        there = all(file.is_file() and file.name in known.get("files", ()) for file in self.files(name))
        return there and known["made_from"] == made_from

    def check(self, images: list[OwnImage]) -> None:
        """Raises UserError where an output would overwrite an image."""
        paths = {image.path.resolve() for image in images}
        for image in images:
            for file in self.files(image.name):
                if file.resolve() in paths:
                    raise UserError(f"--out {self.folder}: {file} is one of the images; give another folder")


@dataclass(frozen=True)
class LabeledRows:
    """An image's rows from the top down, as they are predicted.

    `rows`: (y, uint8 (C, h, W)): codes of the decision, and behind them `classes` planes of probabilities (255 stands
    for 1), or none.
    """

    height: int
    width: int
    rows: Iterable[tuple[int, np.ndarray]]
    classes: int


def write_prediction(
    image: OwnImage, source: Source, predicted: LabeledRows, decision: Decision, outputs: OutputFolder, about: dict
) -> None:
    """Decide, and write all files of an image; the manifest, which holds `about`, comes last.

    Labels and probabilities wait in nameless files of the folder; only bands of rows are in memory. `about` names the
    `labels`, and says `multilabel` where they overlap: then each has a plane of its own.
    """
    size, folder, manifest = (predicted.height, predicted.width), outputs.folder, outputs.manifest(image.name)
    before = sound_json(manifest, {}, PREDICTED).get("files", [])
    outdated = set(before) - {file.name for file in outputs.files(image.name)}
    manifest.unlink(missing_ok=True)
    with ExitStack() as stack:
        overlap = about.get("multilabel", False)
        labels = stack.enter_context(Spool(len(about["labels"]) if overlap else 1, *size, folder))
        probs = stack.enter_context(Spool(predicted.classes, *size, folder)) if predicted.classes else None
        y = 0
        for band in decision.bands(_codes(predicted, probs), folder):
            labels.write(y, band)
            y += band.shape[1]
        with replacing(outputs.main_file(image.name)) as temporary:
            if outputs.format == "png":
                write_png(temporary, labels)
            else:
                write_pyramid_tiff(temporary, labels if probs is None else probs, geo_tags_of(image.path))
        if outputs.overlay:
            with replacing(outputs.overlay_file(image.name)) as temporary:
                save_picture(temporary, overlay_picture(source, labels, about["labels"][0] == "background", overlap))
    for name in outdated:  # an overlay of other members
        (manifest.parent / name).unlink(missing_ok=True)
    write_json(manifest, {**about, "files": [file.name for file in outputs.files(image.name)]})


def _codes(predicted: LabeledRows, probs: Spool | None) -> Iterator[np.ndarray]:
    """The codes (C, h, W) of rows whose probabilities are put aside."""
    for y, planes in predicted.rows:
        codes = planes[: len(planes) - predicted.classes]
        if probs is not None:
            probs.write(y, planes[len(codes) :])
        yield codes


def overlay_picture(source: Source, labels: Spool, background: bool, overlap: bool) -> np.ndarray:
    """The shrunken image (h, w, 3) with the colours of its labels over it."""
    with source.open() as reader:
        image = as_picture(reader.thumbnail(OVERLAY_SIDE), source.pixels)
    rows, columns = (
        (np.arange(small) + 0.5) * large / small
        for small, large in zip(image.shape, (labels.height, labels.width), strict=False)
    )
    rows, columns = rows.astype(int).tolist(), columns.astype(int)
    small = [[labels.read(plane, (row, row + 1))[0, columns] for row in rows] for plane in range(labels.planes)]
    return overlay(image, from_planes(np.array(small), overlap), background)
