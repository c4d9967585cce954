"""Metrics that need more than pixel counts: of objects, and of surfaces through a stack of slices."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np

from lib.competition.labels.common import Label
from lib.config.competition import Scoring
from lib.errors import UserError
from lib.plugins import register

Object = tuple[int, np.ndarray, np.ndarray]
"""Label index, starts of runs, their lengths."""
THRESHOLDS = np.arange(0.5, 1.0, 0.05).round(2)
SURFACE_ROWS = 512  # of a slice looked at together


@dataclass(frozen=True)
class Case:
    """One image: truth and answer in the pixels of the answer, (height, width) of them, and the objects of both."""

    height: int
    width: int
    truth: Label
    guess: Label
    objects: Callable[[], tuple[list[Object], list[Object]]]
    """(truth's, answer's), runs of both in the same order."""


@register("metric", "airbus_f2")
class AirbusF2:
    """F2 of objects at IoU above 0.50, 0.55, … 0.95, averaged over these, then over images (Airbus Ship Detection).

    An image without object scores 1 when none is found, else 0. Objects are rows: of the answer with
    `submission.instances`, of run-length labels in the same order and size; else connected components. Those of one
    image and class do not overlap.
    """

    needs = "objects"
    stand_in = "mean_dice"

    @staticmethod
    def score(ids: Sequence[str], open_case: Callable[[str], Case], classes: Sequence[int], rules: Scoring) -> float:
        return float(np.mean([_f2(image_id, *open_case(image_id).objects(), classes) for image_id in ids]))


def _f2(image_id: str, truth: list[Object], guess: list[Object], classes: Sequence[int]) -> float:
    truth, guess = ([one for one in objects if one[0] in classes] for objects in (truth, guess))
    if not truth or not guess:
        return float(not truth and not guess)
    best, kinds = np.zeros(len(truth)), np.array([index for index, _, _ in truth])
    for kind in np.unique(kinds):  # objects of two classes may overlap
        places, others = np.flatnonzero(kinds == kind), [one for one in guess if one[0] == kind]
        if others:
            mine, _, ious = object_ious(image_id, [truth[i] for i in places], others)
            np.maximum.at(best, places[mine], ious)
    hits = (best[:, None] > THRESHOLDS).sum(0)  # of two disjoint objects only one can have more than half an IoU
    return float((5 * hits / (5 * hits + 4 * (len(truth) - hits) + (len(guess) - hits))).mean())


def object_ious(image_id: str, truth: list[Object], guess: list[Object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index in truth, index in guess, IoU) of the pairs of one class that share a pixel; all others have IoU 0.

    Made from runs. Memory grows with the number of runs, never with truths x guesses. Raises UserError where objects of
    one side overlap.

    >>> runs = lambda *pairs: (1, *np.array(pairs).T)
    >>> [part.round(2).tolist() for part in object_ious("a", [runs((0, 4), (8, 4))], [runs((2, 4)), runs((8, 4))])]
    [[0, 0], [0, 1], [0.2, 0.5]]
    """
    (starts, ends, whose), (first, last, by) = (_runs(image_id, objects) for objects in (truth, guess))
    low, high = np.searchsorted(ends, first, "right"), np.searchsorted(starts, last, "left")
    count = np.maximum(high - low, 0)
    other = np.repeat(np.arange(len(first)), count)
    one = np.arange(len(other)) - np.repeat(np.cumsum(count) - count, count) + low[other]
    shared = np.minimum(ends[one], last[other]) - np.maximum(starts[one], first[other])
    pairs, place = np.unique(whose[one] * len(guess) + by[other], return_inverse=True)
    both = np.bincount(place, shared, len(pairs))
    mine, theirs = np.divmod(pairs, max(1, len(guess)))
    (kinds, sizes), (other_kinds, other_sizes) = (_kinds_and_sizes(objects) for objects in (truth, guess))
    same = kinds[mine] == other_kinds[theirs]
    mine, theirs, both = mine[same], theirs[same], both[same]
    return mine, theirs, both / (sizes[mine] + other_sizes[theirs] - both)


def _kinds_and_sizes(objects: list[Object]) -> tuple[np.ndarray, np.ndarray]:
    """Label index and number of pixels of each object."""
    return np.array([index for index, _, _ in objects]), np.array([lengths.sum() for _, _, lengths in objects])


def _runs(image_id: str, objects: list[Object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, ends, and which object's, of all runs in order."""
    starts = np.concatenate([starts for _, starts, _ in objects])
    ends = starts + np.concatenate([lengths for _, _, lengths in objects])
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    if (starts[1:] < ends[:-1]).any():
        raise UserError(f"objects of {image_id} overlap; competition.metric airbus_f2 is for disjoint ones only")
    return starts, ends, np.repeat(np.arange(len(objects)), [len(starts) for _, starts, _ in objects])[order]


@register("metric", "surface_dice")
class SurfaceDice:
    """Surface Dice at tolerance 0 of stacks of slices (SenNet + HOA), mean over stacks and classes.

    Images are slices: `kidney_5_0012` is slice 12 of the stack `kidney_5_`, and slices follow one another by that
    number. Each 2 x 2 x 2 cube of voxels that is neither full nor empty holds a piece of surface, whose area depends on
    which of them are set (marching cubes, as in DeepMind's `surface-distance`); outside of the stack nothing is. The
    score is the area, of both sides, of cubes where both have surface, among all area. Two slices are open at a time.
    """

    needs = "neighbouring slices"
    stand_in = "dice"

    @staticmethod
    def score(ids: Sequence[str], open_case: Callable[[str], Case], classes: Sequence[int], rules: Scoring) -> float:
        ordered = sorted(ids, key=stack_of)
        stacks = [list(stack) for _, stack in groupby(ordered, key=lambda image_id: stack_of(image_id)[0])]
        return float(np.mean([_surface_dice(stack, open_case, classes) for stack in stacks]))


def stack_of(image_id: str) -> tuple[str, int]:
    """(stack, number of the slice).

    >>> stack_of("kidney_5_0012")
    ('kidney_5_', 12)
    """
    found = re.fullmatch(r"(.*?)(\d+)", image_id)
    if not found:
        raise UserError(f"competition.metric surface_dice needs image ids that end in a slice's number: {image_id}")
    return found[1], int(found[2])


def _surface_dice(stack: list[str], open_case: Callable[[str], Case], classes: Sequence[int]) -> float:
    shared, total = np.zeros(len(classes)), np.zeros(len(classes))
    before = None
    for case in chain(map(open_case, stack), [None]):
        known = case or before
        if before and case and (before.height, before.width) != (case.height, case.width):
            raise UserError(f"slices of {stack[0]} differ in size; competition.metric surface_dice needs one size")
        for y in range(0, known.height + 1, SURFACE_ROWS):
            for i, label in enumerate(classes):
                truth, guess = (AREAS[_codes(before, case, side, label, y, known)] for side in ("truth", "guess"))
                area = truth + guess
                total[i] += area.sum()
                shared[i] += area[(truth > 0) & (guess > 0)].sum()
        before = case
    return float(np.where(total > 0, shared / np.maximum(total, 1e-9), 1.0).mean())


def _codes(before: Case | None, case: Case | None, side: str, label: int, y: int, known: Case) -> np.ndarray:
    """Which voxels of each cube are set, a bit for each, of cubes whose lower row is from `y` on."""
    stop = min(y + SURFACE_ROWS, known.height + 1)
    slices = []
    for one in (before, case):
        mask = np.zeros((stop - y + 1, known.width + 2), np.uint8)
        top, end = max(y - 1, 0), min(stop, known.height)
        if one:
            mask[top - y + 1 : end - y + 1, 1:-1] = getattr(one, side).mask(label, top, 0, end - top, known.width)
        slices.append(mask)
    corners = [m[dy : len(m) - 1 + dy, dx : m.shape[1] - 1 + dx] for m in slices for dy in (0, 1) for dx in (0, 1)]
    return sum(corner << bit for bit, corner in enumerate(corners))


# Area by how many of a cube's voxels are set (of more than four: are not), how many pairs of these share a face, and
# with how many others one of them does at most.
_AREA = {
    (0, 0, 0): 0.0, (1, 0, 0): 3**0.5 / 8,
    (2, 0, 0): 3**0.5 / 4, (2, 1, 1): 2**0.5 / 2,
    (3, 0, 0): 3 * 3**0.5 / 8, (3, 1, 1): 2**0.5 / 2 + 3**0.5 / 8, (3, 2, 2): 3 * 3**0.5 / 8 + 1 / 2,
    (4, 0, 0): 3**0.5 / 2, (4, 2, 1): 2**0.5, (4, 2, 2): 3**0.5 / 2 + 1 / 2,
    (4, 3, 2): 2**0.5 / 2 + 3**0.5 / 2, (4, 3, 3): 3 * 3**0.5 / 4, (4, 4, 2): 1.0,
}  # fmt: skip


def _area(code: int) -> float:
    """Of a cube whose voxels are set as the bits of `code`: bit 4 z + 2 y + x."""
    set_ = [bit for bit in range(8) if code >> bit & 1]
    if len(set_) > 4:
        set_ = [bit for bit in range(8) if bit not in set_]
    near = [sum((one ^ other).bit_count() == 1 for other in set_) for one in set_]
    return _AREA[len(set_), sum(near) // 2, max(near, default=0)]


AREAS = np.array([_area(code) for code in range(256)])
