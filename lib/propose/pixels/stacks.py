"""Recognises images that are the slices of stacks, by their numbers and by how alike neighbours are."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from lib.competition.dataset import ImageInfo
from lib.config.competition import CompetitionSettings, Pixels
from lib.imaging.reader import open_image
from lib.imaging.readers.registry import open_stored
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, choice_if, evenly_spaced
from lib.propose.pixels.depth import middle

_MIN_SLICES = 3  # of every stack
_MAX_GAPS = 0.1  # share of the numbers of a stack that may be missing
_COMPARED_STACKS, _COMPARED_SLICES, _SMALL_SIDE = 4, 6, 96
_MIN_LIKENESS = 0.1  # by which the correlation of neighbours is above that of slices that are far apart
_MIN_SHARED_RANGE = 0.5  # of the ranges of two stacks; with less, each has a range of its own


def stack_choices(
    folder: Folder, settings: CompetitionSettings, images: list[ImageInfo], notes: Notes
) -> list[OptionChoice]:
    """The choices of slices, where all images are grey slices of stacks whose neighbours are alike; [] else."""
    template = settings.image_ids or "{id}"
    found = _stacks(template, images)
    if found is None or not _are_grey(images, settings.pixels):
        return []
    stacks, stack = found
    near, far = _likeness(stacks, settings.pixels)
    if near < far + _MIN_LIKENESS:
        return []
    gaps = any(_missing(sorted(numbers)) for numbers in stacks.values())
    notes.found.append(
        f"stacks: {len(stacks)} of {min(map(len, stacks.values()))} to {max(map(len, stacks.values()))} slices; "
        f"neighbours are alike (correlation {near:.2f}, far apart {far:.2f}), so networks see three slices"
    )
    own = _own_ranges(stacks, settings.pixels)
    start = "competition.pixels."
    return [
        OptionChoice(start + "slices", [-1, 0, 1], "neighbours of a slice show the same objects"),
        OptionChoice(start + "stack", stack, "how the end of a path names stack and slice"),
        *choice_if(gaps, start + "gaps", "nearest", "some numbers are missing"),
        *choice_if(own, start + "scaling", "stack", "stacks have ranges of their own"),
    ]


def _stacks(template: str, images: list[ImageInfo]) -> tuple[dict[tuple[str, ...], dict[int, Path]], str] | None:
    """(stack → number → image, `pixels.stack`); None where names are no numbers of slices without gaps."""
    holes = template.split("{id}")
    expression = "([^/]+)".join(re.escape(text).replace(r"\*", "[^/]*") for text in holes)
    depth = 1 + template.count("/")
    stacks: dict[tuple[str, ...], dict[int, Path]] = defaultdict(dict)
    heads = set()
    for image in images:
        parts = image.path.parts
        match = re.fullmatch(expression, "/".join([*parts[:-1], image.path.stem][-depth:]))
        last = re.fullmatch(r"(.*?)(\d+)", match.groups()[-1]) if match else None
        if not last:
            return None
        heads.add(last[1])
        stacks[*match.groups()[:-1], last[1], *map(str, parts[:-depth])][int(last[2])] = image.path
    if any(len(numbers) < _MIN_SLICES or _missing(sorted(numbers)) > _MAX_GAPS for numbers in stacks.values()):
        return None
    if (
        len({*map(len, stacks.values())}) == 1
        and len(stacks) > 1
        and all(len(n) < _MIN_SLICES for n in stacks.values())
    ):
        return None
    shown = "{stack}".join(holes[:-1])
    head = next(iter(heads)) if len(heads) == 1 else "{stack}" + _separator(heads)
    return dict(stacks), f"{shown}{head}{{number}}{holes[-1]}"


def _separator(heads: set[str]) -> str:
    """The separator that all heads end with."""
    ends = {head[-1:] for head in heads}
    return ends.pop() if len(ends) == 1 and not next(iter(heads))[-1:].isalnum() else ""


def _missing(numbers: list[int]) -> float:
    """The share of the numbers of a stack that are missing."""
    steps = [b - a for a, b in zip(numbers, numbers[1:], strict=False)]
    step = math.gcd(*steps) if steps else 1
    return 1 - len(numbers) / ((numbers[-1] - numbers[0]) // step + 1)


def _are_grey(images: list[ImageInfo], pixels: Pixels) -> bool:
    for image in evenly_spaced(images, _COMPARED_SLICES):
        with open_stored(image.path, pixels) as reader:
            if reader.channels > 1:
                return False
    return True


def _likeness(stacks: dict[tuple[str, ...], dict[int, Path]], pixels: Pixels) -> tuple[float, float]:
    """The mean correlation of neighbouring slices, and of slices that are far apart."""
    near, far = [], []
    for key in evenly_spaced(sorted(stacks), _COMPARED_STACKS):
        paths = [path for _, path in sorted(stacks[key].items())]
        distance = max(2, len(paths) // 2)
        for i in evenly_spaced(list(range(len(paths) - 1)), _COMPARED_SLICES):
            j = i + distance if i + distance < len(paths) else i - distance
            near.append(_correlation(paths[i], paths[i + 1], pixels))
            if j >= 0:
                far.append(_correlation(paths[i], paths[j], pixels))
    return float(np.mean(near)), float(np.mean(far)) if far else 1.0


def _correlation(one: Path, other: Path, pixels: Pixels) -> float:
    first, second = (_small(path, pixels).ravel() for path in (one, other))
    if first.shape != second.shape or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _small(path: Path, pixels: Pixels) -> np.ndarray:
    with open_image(path, pixels) as reader:
        return cv2.blur(reader.thumbnail(_SMALL_SIDE)[..., 0].astype(np.float32), (3, 3))


def _own_ranges(stacks: dict[tuple[str, ...], dict[int, Path]], pixels: Pixels) -> bool:
    """Whether the ranges of values of two stacks hardly overlap."""
    ranges = []
    for numbers in stacks.values():
        values = []
        for path in evenly_spaced(list(numbers.values()), 3):
            with open_stored(path, pixels) as reader:
                values.append(reader.read(*middle(reader.height, reader.width)).ravel())
        ranges.append(np.quantile(np.concatenate(values).astype(np.float64), (0.01, 0.99)))
    low, high = np.array(ranges).T
    shared = min(high) - max(low)
    return bool(shared < _MIN_SHARED_RANGE * np.median(high - low))
