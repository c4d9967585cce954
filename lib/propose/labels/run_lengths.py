"""Determines from run-lengths and their images: order of pixels, first pixel, absolute or relative starts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from lib.competition import rle
from lib.competition.labels.common import label_of_runs
from lib.config.competition import Pixels
from lib.data.preprocess.tile_labels import label_shares
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.propose.found import Notes, OptionChoice, choice_if, evenly_spaced

SAMPLED_RUNS = 12  # so many run-lengths, and their images, are read
MIN_MASK_IOU = 0.8  # intersection over union above which masks confirm how runs are read
OUTLINE_SIDE = 1024  # pixels of the longer side of the pictures that outlines are compared with


PictureRuns = tuple[Path, np.ndarray]
"""A picture, and its run-lengths: starts and lengths in turn, (2N,) int64."""


def read_layout(
    texts: list[tuple[Path, str]],
    pixels: Pixels,
    notes: Notes,
    mask_of: Callable[[Path], np.ndarray | None] | None = None,
) -> list[OptionChoice]:
    """Options `order`, `base` and `relative` of `competition.labels`.

    `texts`: (picture, run-lengths) of many images. `mask_of`: gives the mask (H, W) of a picture, or None. Masks
    decide where there are some. Otherwise the runs and the images decide.
    """
    sampled = [(path, np.array(text.split(), np.int64)) for path, text in evenly_spaced(texts, SAMPLED_RUNS)]
    sizes = {path: _size(path, pixels) for path, _ in sampled}
    if confirmed := mask_of and _as_masks(sampled, mask_of):
        return _layout(*confirmed, ("as the masks show",) * 3)
    relative = _is_relative(sampled, sizes)
    if relative:
        notes.found.append("starts do not rise, so they count from the end of the run before")
        sampled = [(path, _absolute(numbers)) for path, numbers in sampled]
    base, certain = _base(sampled, sizes)
    if not certain:
        notes.unsure.append(f"the number of the first pixel: {base} is usual, and no run contradicts it")
    order, order_reason = _order(sampled, sizes, base, pixels)
    if order_reason.startswith("guess"):
        notes.unsure.append(f"whether runs go down columns or along rows: {order_reason}")
    base_reason = "as runs at the image's edge show" if certain else "usual; the runs do not show it"
    return _layout(order, base, relative, (order_reason, base_reason, "starts do not rise"))


def _layout(order: str, base: int, relative: bool, why: tuple[str, str, str]) -> list[OptionChoice]:
    start = "competition.labels."
    return [
        *choice_if(relative, start + "relative", True, why[2]),
        OptionChoice(start + "order", order, why[0]),
        OptionChoice(start + "base", base, why[1]),
    ]


def _as_masks(sampled: list[PictureRuns], mask_of: Callable[[Path], np.ndarray | None]) -> tuple[str, int, bool] | None:
    """(order, base, relative) that decodes the runs to the masks; None where no combination does."""
    pairs = [(numbers, mask) for path, numbers in sampled if (mask := mask_of(path)) is not None and mask.any()]
    best, most = None, MIN_MASK_IOU
    for order, base, relative in itertools.product(("column", "row"), (0, 1), (False, True)) if pairs else ():
        agreement = np.mean([_agreement(numbers, mask, order, base, relative) for numbers, mask in pairs])
        if agreement > most:
            best, most = (order, base, relative), agreement
    return best


def _agreement(numbers: np.ndarray, mask: np.ndarray, order: str, base: int, relative: bool) -> float:
    """Intersection over union of decoded runs and a mask (H, W); 0.0 where the runs are illegal for its size."""
    try:
        starts, lengths = rle.parse(" ".join(map(str, numbers)), mask.size, "", base, relative)
    except UserError:
        return 0.0
    decoded = rle.window_of_runs(starts, lengths, mask.shape, order, (0, 0, *mask.shape)) > 0
    return float((decoded & mask).sum() / (decoded | mask).sum())


def _is_relative(sampled: list[PictureRuns], sizes: dict[Path, tuple[int, int]]) -> bool:
    """Whether starts count from the end of the run before: some do not rise, and all runs together fit the image."""
    falling = any((np.diff(numbers[::2]) < 0).any() for _, numbers in sampled)
    return falling and all(numbers.sum() <= np.prod(sizes[path]) + 1 for path, numbers in sampled)


def _size(path: Path, pixels: Pixels) -> tuple[int, int]:
    with open_image(path, pixels) as reader:
        return reader.height, reader.width


def _absolute(numbers: np.ndarray) -> np.ndarray:
    """Relative starts and lengths (2N,) as absolute starts and lengths."""
    lengths, out = numbers[1::2], numbers.copy()
    out[::2] += np.concatenate([[0], np.cumsum(numbers[:-2:2] + lengths[:-1])])
    return out


def _base(sampled: list[PictureRuns], sizes: dict[Path, tuple[int, int]]) -> tuple[int, bool]:
    """(number of the first pixel, whether it is certain).

    A start at 0, a run that ends behind the last pixel, or runs that are cut at the image's edge make it certain.
    """
    if any(numbers[0] == 0 for _, numbers in sampled):
        return 0, True
    ends = [(numbers[-2] + numbers[-1], sizes[path][0] * sizes[path][1]) for path, numbers in sampled]
    if any(end > pixels for end, pixels in ends):
        return 1, True
    at_edge = [0, 0]
    for path, numbers in sampled:
        for line in set(sizes[path]):
            starts, stops = numbers[::2], numbers[::2] + numbers[1::2]
            for base in (0, 1):
                at_edge[base] += ((starts - base) % line == 0).sum() + ((stops - base) % line == 0).sum()
    if max(at_edge) > 4 and max(at_edge) > 3 * min(at_edge):
        return int(at_edge[1] >= at_edge[0]), True
    return 1, False


def _order(
    sampled: list[PictureRuns], sizes: dict[Path, tuple[int, int]], base: int, pixels: Pixels
) -> tuple[str, str]:
    """(order, reason). Neighbouring lines of a mask overlap; in square images, only edges in the image decide."""
    overlap = {"column": 0.0, "row": 0.0}
    for path, numbers in sampled:
        height, width = sizes[path]
        if height != width:
            for order, line in (("column", height), ("row", width)):
                overlap[order] += _overlap(numbers, line) / max(1, numbers[1::2].sum())
    best = max(overlap, key=overlap.get)
    if overlap[best] > 1.1 * min(overlap.values()):
        return best, "only so do neighbouring lines of the masks overlap"
    contrast = {order: _outline_contrast(sampled, sizes, order, base, pixels) for order in overlap}
    best = max(contrast, key=contrast.get)
    if contrast[best] > 1.1 * min(contrast.values()):
        return best, "only so do outlines lie on edges of the images"
    return "column", "guessed: neither the runs nor the images' edges show it"


def _overlap(numbers: np.ndarray, line: int) -> int:
    """How many pixels of runs have a neighbour in the next line that is in a run too. `line`: pixels of a line."""
    starts, lengths = numbers[::2], numbers[1::2]
    ends = starts + lengths
    total = np.concatenate([[0], np.cumsum(lengths)])

    def before(places: np.ndarray) -> np.ndarray:
        """How many pixels of runs lie before each place."""
        run = np.searchsorted(starts, places, side="right")
        inside = np.where(run > 0, np.minimum(places, ends[run - 1]) - starts[run - 1], 0)
        return total[np.maximum(run - 1, 0)] + inside

    return int((before(ends + line) - before(starts + line)).sum())


def _outline_contrast(
    sampled: list[PictureRuns], sizes: dict[Path, tuple[int, int]], order: str, base: int, pixels: Pixels
) -> float:
    """Mean gradient of the images along the outlines of their masks, divided by the mean gradient everywhere."""
    ratios = []
    for path, numbers in sampled:
        size = sizes[path]
        try:
            starts, lengths = rle.parse(" ".join(map(str, numbers)), size[0] * size[1], str(path), base)
        except UserError:
            continue
        with open_image(path, pixels) as reader:
            picture = cv2.cvtColor(reader.thumbnail(OUTLINE_SIDE), cv2.COLOR_RGB2GRAY).astype(np.float32)
        label = label_of_runs([(1, starts, lengths)], *size, order, background=True)
        mask = label_shares(label, (0, 0, *size), picture.shape, 2)[1]
        edges = np.hypot(cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1))
        outline = np.hypot(cv2.Sobel(mask, cv2.CV_32F, 1, 0), cv2.Sobel(mask, cv2.CV_32F, 0, 1))
        if outline.sum() and edges.mean():
            ratios.append(float((edges * outline).sum() / outline.sum() / edges.mean()))
    return float(np.mean(ratios)) if ratios else 0.0
