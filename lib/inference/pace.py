"""Test images inside a time limit: as many networks and views for each window as the time that is left allows.

A pass is one network on one view. Each group of networks (lib/inference/together.py) has its passes in an order, the
most worthwhile first; what is planned before the first batch is planned again before each. Nothing is ever left
without an answer: when the time is over, the windows that are left get background.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from lib.config import Config
from lib.config.units import duration
from lib.imaging.roi import read_boxes
from lib.inference.backends import as_images
from lib.inference.coarse import share_looked_at
from lib.inference.forward import Ensemble
from lib.inference.members import Part, roi_file
from lib.inference.mix import Judge
from lib.inference.predictor import Source, Windows, count_windows, first_windows
from lib.inference.together import Group
from lib.precision import finished

RESERVE = 0.1  # of the limit: for the answers' encoding and check
OOF_SHARE = 0.4  # of the limit at most, for out-of-fold maps that are not there yet
OVERLAPS = (0.25, 0.0)  # tried where not every network would get its turn
UNSURE = 1.03  # a plan's time is taken for this much more
STEPS = 100  # how finely plans are tried


@dataclass
class Share:
    """A group's work: windows left, and the seconds of each of its passes for one window, in their order."""

    windows: float
    seconds: list[float]


class Pace:
    """Shares the time until `until` (of `clock`) among the windows that are left."""

    def __init__(self, until: float, shares: list[Share], clock: Callable[[], float] = time.monotonic):
        self.until, self.shares, self._clock = until, shares, clock
        self._started = clock()
        self._forward = self._done = 0.0  # seconds in forward passes, windows done
        self._slower = 1.0  # measured over expected seconds of passes

    def plan(self) -> list[int]:
        """How many passes each group's next batch gets."""
        left = self.until - self._clock() - self._between()
        for step in range(STEPS, -1, -1):
            passes = [max(1, len(share.seconds) * step // STEPS) for share in self.shares]
            if self.cost(passes) * UNSURE <= left:
                return passes
        return [int(left > 0)] * len(self.shares)

    def cost(self, passes: list[int]) -> float:
        """Seconds of forward passes for all windows that are left."""
        pairs = zip(self.shares, passes, strict=True)
        return self._slower * sum(max(0.0, share.windows) * sum(share.seconds[:count]) for share, count in pairs)

    def _between(self) -> float:
        """Seconds that reading, stitching and encoding the rest will take, as far as seen."""
        if not self._done:
            return 0.0
        each = max(0.0, self._clock() - self._started - self._forward) / self._done
        return each * sum(max(0.0, share.windows) for share in self.shares)

    def took(self, group: int, windows: int, passes: int, seconds: float) -> None:
        """A batch was computed."""
        share = self.shares[group]
        expected = windows * sum(share.seconds[:passes])
        if expected:
            self._slower += 0.2 * (seconds / expected - self._slower)
        share.windows -= windows
        self._forward += seconds
        self._done += windows


class PacedEnsemble:
    """An `Ensemble` whose windows get the first passes of `order`, (network, view), as many as `pace` allows.

    A system none of whose networks had its turn is told as the mean of those that had.
    """

    def __init__(
        self, whole: Ensemble, order: list[tuple[int, int]], pace: Pace, group: int, fill: np.ndarray
    ):  # fmt: skip
        self.whole, self.order, self.pace, self.group, self.fill = whole, order, pace, group, fill
        self.runs, self.systems = whole.runs, whole.systems
        self.turns: list[tuple[int, int]] = []
        """Windows and passes of every batch so far."""

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        count = self.pace.plan()[self.group]
        self.turns.append((len(windows), count))
        started = time.monotonic()
        if not count:
            self.pace.took(self.group, len(windows), 0, 0.0)
            size = windows.shape[1:3]
            fill = self.fill.astype(np.float32)[None, None, :, None, None]
            return np.broadcast_to(fill, (len(windows), self.systems, len(self.fill), *size))
        images, views = as_images(windows, self.whole.device), {}
        for network, view in self.order[:count]:
            views.setdefault(network, []).append(view)
        maps = {network: self.whole.member(network, images, chosen) for network, chosen in views.items()}
        groups = [[i for i in group if i in maps] or list(maps) for group in self.whole.groups]
        systems = torch.stack([torch.stack([maps[i] for i in group]).mean(0) for group in groups], dim=1)
        probs = systems.cpu().numpy()
        self.pace.took(self.group, len(windows), count, time.monotonic() - started)
        return probs


def worth(judge: Judge, seconds: dict[int, float]) -> list[int]:
    """Places of systems, the best one first, then by what each adds to the mean of those before it, for its seconds."""
    one, order = np.eye(len(judge.lifted)), []
    while len(order) < len(seconds):
        here = one[order].sum(0)
        before = judge.score(here) if order else 0.0
        gain = {i: judge.score(here + one[i]) - before for i in seconds if i not in order}
        order.append(max(gain, key=lambda i: gain[i] / seconds[i] if order and gain[i] > 0 else gain[i]))
    return order


def measured(forward: Ensemble, windows: np.ndarray) -> list[list[float]]:
    """Seconds for one window of every network's every view, on windows (B, h, w, 3)."""
    images = as_images(windows, forward.device)

    @torch.inference_mode()
    def once(network: int, view: int) -> float:
        started = time.perf_counter()
        forward.member(network, images, [view])
        finished(images.device)
        return (time.perf_counter() - started) / len(windows)

    views = range(len(forward.views))
    plain = [min(once(network, 0) for _ in range(2 + (network == 0))) for network in range(len(forward.runs))]
    relative = [1.0, *(min(once(0, view) for _ in range(2)) / plain[0] for view in views[1:])]
    return [[seconds * share for share in relative] for seconds in plain]


def expected_windows(images: pd.DataFrame, windows: Windows, config: Config) -> float:
    """How many windows some images will have: those on blank areas, or outside of boxes, are not computed."""
    boxes = roi_file(config)
    if boxes and read_boxes(boxes[0]):
        seen = pd.Series(share_looked_at(boxes[0], images, windows), images.index)
    else:
        seen = 1 - images["blank_share"] * (config.infer.roi != "none")
    counts = [count_windows(image.height, image.width, windows) for image in images.itertuples()]
    return float((np.array(counts) * seen).sum())


def paced(
    groups: list[Group], parts: list[Part], systems: list[str], judge: Judge, config: Config, images: pd.DataFrame,
    sources: list[Source], fill: np.ndarray, until: float,
) -> list[Group]:  # fmt: skip
    """The groups made of `parts`, kept to the time `until`; says what is planned.

    `judge` knows the worth of `systems`. Windows overlap less where that lets every network have its turn. One fold's
    networks come before the next fold's, views after all networks.
    """
    batch = config.infer.batch_size
    seconds = [measured(group.forward, first_windows(sources, group.windows, batch)) for group in groups]
    plain = dict(zip((part.system for part in parts), (times[0] for own in seconds for times in own), strict=True))
    order = [systems[i] for i in worth(judge, {systems.index(name): each for name, each in plain.items()})]
    overlaps = [config.infer.overlap, *(overlap for overlap in OVERLAPS if overlap < config.infer.overlap)]
    for overlap in overlaps:
        grids = [group.windows if group.windows.whole else replace(group.windows, overlap=overlap) for group in groups]
        orders, shares, start = [], [], 0
        for group, grid, times in zip(groups, grids, seconds, strict=True):
            own = parts[start : start + len(group.forward.runs)]
            start += len(own)
            passes = _passes(own, order, len(group.forward.views))
            orders.append(passes)
            shares.append(Share(expected_windows(images, grid, config), [times[i][view] for i, view in passes]))
        pace = Pace(until, shares)
        every = pace.cost([len(group.forward.runs) for group in groups])
        if every * UNSURE <= until - time.monotonic():
            break
    counts = pace.plan()
    told = " + ".join(f"{count} of {len(passes)}" for count, passes in zip(counts, orders, strict=True))
    print(f"05: planned are {told} passes of networks and views, windows overlapping by {overlap:g}, "
          f"{duration(pace.cost(counts))} of {duration(max(0.0, until - time.monotonic()))}")  # fmt: skip
    return [
        Group(grid, PacedEnsemble(group.forward, passes, pace, i, fill))
        for i, (group, grid, passes) in enumerate(zip(groups, grids, orders, strict=True))
    ]


def _ratio(windows: Windows, other: Windows) -> float:
    """How many of `windows` an image has for one of another kind."""
    if windows.whole:
        return 1.0
    return (windows.scale / windows.stride * other.stride / other.scale) ** 2


def _passes(parts: list[Part], order: list[str], views: int) -> list[tuple[int, int]]:
    """(network, view) of a group's parts."""
    folds = sorted({part.member.fold for part in parts})
    turns = [(folds.index(part.member.fold), order.index(part.system)) for part in parts]
    networks = sorted(range(len(parts)), key=turns.__getitem__)
    return [(network, view) for view in range(views) for network in networks]


def fewer_images(
    folds: pd.DataFrame, images: pd.DataFrame, groups: list[Group], config: Config, limit: float
) -> pd.DataFrame:
    """Rows of folds.csv whose out-of-fold maps, by one fold's `groups`, take `limit` seconds at most.

    A seeded choice of whole images, one of each fold at least.
    """
    rows, windows, each = images.set_index("image_id", drop=False), groups[0].windows, 0.0
    for group in groups:
        batch = np.random.default_rng(0).integers(0, 255, (config.infer.batch_size, *[group.windows.size] * 2, 3))
        each += sum(map(sum, measured(group.forward, batch.astype(np.uint8)))) * _ratio(group.windows, windows)
    shuffled = folds[folds["fold"] >= 0].sample(frac=1, random_state=0)
    shuffled = shuffled.assign(turn=shuffled.groupby("fold").cumcount()).sort_values(["turn", "fold"], kind="stable")
    cost = [expected_windows(rows.loc[[i]], windows, config) * each for i in shuffled["image_id"]]
    kept = (np.cumsum(cost) <= limit) | (shuffled["turn"].to_numpy() == 0)
    if kept.all():
        return folds
    print(f"05: out-of-fold maps are made of {kept.sum()} of {len(kept)} images, for the time limit's sake")
    return folds[folds["image_id"].isin(shuffled.loc[kept, "image_id"])]
