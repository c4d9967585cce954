"""Determines order, base and kind of starts from run-lengths and from their images."""

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
from lib.propose.found import Notes, OptionChoice, choice_if, evenly

COMPARED_IMAGES = 12  # images
ALIKE = 0.8  # intersection over union from which masks confirm how runs are read
OUTLINE_SIDE = 1024  # of the pictures that outlines are compared with


def read_layout(
    texts: list[tuple[Path, str]],
    pixels: Pixels,
    notes: Notes,
    mask_of: Callable[[Path], np.ndarray | None] | None = None,
) -> list[OptionChoice]:
    """Options of `competition.labels` from (picture, run-lengths) of many images.

    `mask_of`: gives the mask (H, W) of a picture that has one; masks decide, the runs and images alone otherwise.
    """
    looked = [(path, np.array(text.split(), np.int64)) for path, text in evenly(texts, COMPARED_IMAGES)]
    sizes = {path: _size(path, pixels) for path, _ in looked}
    if confirmed := mask_of and _as_masks(looked, mask_of):
        return _layout(*confirmed, ("as the masks show",) * 3)
    relative = _is_relative(looked, sizes)
    if relative:
        notes.found.append("starts do not rise, so they count from the end of the run before")
        looked = [(path, _absolute(numbers)) for path, numbers in looked]
    base, told = _base(looked, sizes)
    if not told:
        notes.unsure.append(
            f"the number of the first pixel: {base} is usual, and nothing in the runs speaks against it"
        )
    order, how = _order(looked, sizes, base, pixels)
    if how.startswith("guess"):
        notes.unsure.append(f"whether runs go down columns or along rows: {how}")
    told_by = "as runs at the rim tell" if told else "usual; the runs do not tell"
    return _layout(order, base, relative, (how, told_by, "starts do not rise"))


def _layout(order: str, base: int, relative: bool, why: tuple[str, str, str]) -> list[OptionChoice]:
    start = "competition.labels."
    return [
        *choice_if(relative, start + "relative", True, why[2]),
        OptionChoice(start + "order", order, why[0]),
        OptionChoice(start + "base", base, why[1]),
    ]


def _as_masks(
    looked: list[tuple[Path, np.ndarray]], mask_of: Callable[[Path], np.ndarray | None]
) -> tuple[str, int, bool] | None:
    """(order, base, relative) that decodes the runs to the masks; None where none does."""
    pairs = [(numbers, mask) for path, numbers in looked if (mask := mask_of(path)) is not None and mask.any()]
    best, most = None, ALIKE
    for order, base, relative in itertools.product(("column", "row"), (0, 1), (False, True)) if pairs else ():
        agree = np.mean([_agreement(numbers, mask, order, base, relative) for numbers, mask in pairs])
        if agree > most:
            best, most = (order, base, relative), agree
    return best


def _agreement(numbers: np.ndarray, mask: np.ndarray, order: str, base: int, relative: bool) -> float:
    """Intersection over union of decoded runs and a mask (H, W); 0 where the runs do not fit into it."""
    try:
        starts, lengths = rle.parse(" ".join(map(str, numbers)), mask.size, "", base, relative)
    except UserError:
        return 0.0
    seen = rle.window_of_runs(starts, lengths, mask.shape, order, (0, 0, *mask.shape)) > 0
    return float((seen & mask).sum() / (seen | mask).sum())


def _is_relative(looked: list[tuple[Path, np.ndarray]], sizes: dict[Path, tuple[int, int]]) -> bool:
    """Whether starts count from the end of the run before: some do not rise, and all runs together fit the image."""
    falling = any((np.diff(numbers[::2]) < 0).any() for _, numbers in looked)
    return falling and all(numbers.sum() <= np.prod(sizes[path]) + 1 for path, numbers in looked)


def _size(path: Path, pixels: Pixels) -> tuple[int, int]:
    with open_image(path, pixels) as reader:
        return reader.height, reader.width


def _absolute(numbers: np.ndarray) -> np.ndarray:
    lengths, out = numbers[1::2], numbers.copy()
    out[::2] += np.concatenate([[0], np.cumsum(numbers[:-2:2] + lengths[:-1])])
    return out


def _base(looked: list[tuple[Path, np.ndarray]], sizes: dict[Path, tuple[int, int]]) -> tuple[int, bool]:
    """(number of the first pixel, whether something tells): a start at 0, an end at the last pixel, or runs cut at
    the image's rim."""
    if any(numbers[0] == 0 for _, numbers in looked):
        return 0, True
    ends = [(numbers[-2] + numbers[-1], sizes[path][0] * sizes[path][1]) for path, numbers in looked]
    if any(end > pixels for end, pixels in ends):
        return 1, True
    at_rim = [0, 0]
    for path, numbers in looked:
        for line in set(sizes[path]):
            starts, stops = numbers[::2], numbers[::2] + numbers[1::2]
            for base in (0, 1):
                at_rim[base] += ((starts - base) % line == 0).sum() + ((stops - base) % line == 0).sum()
    if max(at_rim) > 4 and max(at_rim) > 3 * min(at_rim):
        return int(at_rim[1] >= at_rim[0]), True
    return 1, False


def _order(
    looked: list[tuple[Path, np.ndarray]], sizes: dict[Path, tuple[int, int]], base: int, pixels: Pixels
) -> tuple[str, str]:
    """(order, why). Neighbouring lines of a mask are alike; where height and width are equal, only the image tells."""
    alike = {"column": 0.0, "row": 0.0}
    for path, numbers in looked:
        height, width = sizes[path]
        if height != width:
            for order, line in (("column", height), ("row", width)):
                alike[order] += _overlap(numbers, line) / max(1, numbers[1::2].sum())
    best = max(alike, key=alike.get)
    if alike[best] > 1.1 * min(alike.values()):
        return best, "lines beside one another are alike only so"
    contrast = {order: _outline_contrast(looked, sizes, order, base, pixels) for order in alike}
    best = max(contrast, key=contrast.get)
    if contrast[best] > 1.1 * min(contrast.values()):
        return best, "the images have edges where its outlines are"
    return "column", "guessed: neither the runs nor the images' edges tell"


def _overlap(numbers: np.ndarray, line: int) -> int:
    """Pixels in a run whose neighbour one line on is in a run too."""
    starts, lengths = numbers[::2], numbers[1::2]
    ends = starts + lengths
    total = np.concatenate([[0], np.cumsum(lengths)])

    def before(places: np.ndarray) -> np.ndarray:
        """Pixels in runs before each place."""
        run = np.searchsorted(starts, places, side="right")
        inside = np.where(run > 0, np.minimum(places, ends[run - 1]) - starts[run - 1], 0)
        return total[np.maximum(run - 1, 0)] + inside

    return int((before(ends + line) - before(starts + line)).sum())


def _outline_contrast(
    looked: list[tuple[Path, np.ndarray]], sizes: dict[Path, tuple[int, int]], order: str, base: int, pixels: Pixels
) -> float:
    """Mean gradient of the images along the outlines of their masks, over that of everywhere."""
    ratios = []
    for path, numbers in looked:
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
