"""The pace that a time limit sets: a first pass over all windows, then as many passes as the time that is left allows.

A pass is one network on one view. Each group of networks (lib/inference/multi_scale.py) has its passes in an order, the
most worthwhile first (lib/predict/time_plan.py). `FirstPass` gives every window one pass before any gets a second. How
many a window gets after that is decided anew before each batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lib.inference.backends.engines import as_images
from lib.inference.networks import Ensemble

UNSURE = 1.03  # a plan's time is taken for this much more
STEPS = 100  # how finely plans are tried
BEFORE = 0.1  # of all windows: what the first pass's pace counts for in that of the others
Clock = Callable[[], float]


class TimeOver(Exception):
    """A window was to get more passes after the end of the time."""


@dataclass
class GroupWork:
    """A group's work: windows left, and the seconds of each of its passes for one window, in their order."""

    windows: float
    seconds: list[float]


class Pace:
    """Shares the time until `until` (of `clock`) among the windows that are left.

    `rest`: seconds that reading, stitching and encoding all of them will take, as far as the first pass has told.
    `slower`: what passes took in it, over what was expected of them.
    """

    def __init__(
        self,
        until: float,
        shares: list[GroupWork],
        rest: float = 0.0,
        slower: float = 1.0,
        clock: Clock = time.monotonic,
    ):
        self.until, self.shares, self.clock, self._slower = until, shares, clock, slower
        self._started: float | None = None
        self._forward = self._done = 0.0  # seconds in forward passes, windows done
        self._rest, self._before = (BEFORE * rest, BEFORE * self._left()) if rest else (0.0, 0.0)

    def over(self, group: int, windows: int) -> bool:
        """Whether there is no time for one more pass of a group's next `windows`."""
        return self.clock() + self._slower * windows * self.shares[group].seconds[0] > self.until

    def plan(self) -> list[int]:
        """How many passes each group's next batch gets, one at least."""
        left = self.until - self.clock() - self.between()
        for step in range(STEPS, 0, -1):
            passes = [max(1, len(share.seconds) * step // STEPS) for share in self.shares]
            if self.cost(passes) * UNSURE <= left:
                return passes
        return [1] * len(self.shares)

    def expect(self, group: int, windows: int) -> None:
        """So many windows at least are left."""
        self.shares[group].windows = max(self.shares[group].windows, windows)

    def cost(self, passes: list[int]) -> float:
        """Seconds of forward passes for all windows that are left."""
        pairs = zip(self.shares, passes, strict=True)
        return self._slower * sum(max(0.0, share.windows) * sum(share.seconds[:count]) for share, count in pairs)

    def between(self) -> float:
        """Seconds that reading, stitching and encoding the rest will take, as far as seen."""
        gone = 0.0 if self._started is None else self.clock() - self._started
        known = self._before + self._done
        return (self._rest + max(0.0, gone - self._forward)) / known * self._left() if known else 0.0

    def _left(self) -> float:
        """Windows."""
        return sum(max(0.0, share.windows) for share in self.shares)

    def expected(self) -> float:
        """Seconds until the end: what all passes take, or, where that is too much, all that are left."""
        everything = self.cost([len(share.seconds) for share in self.shares]) + self.between()
        return max(0.0, min(everything, self.until - self.clock()))

    def took(self, group: int, windows: int, passes: int, seconds: float) -> None:
        """A batch was computed."""
        share = self.shares[group]
        expected = windows * sum(share.seconds[:passes])
        if expected:
            self._slower += 0.2 * (seconds / expected - self._slower)
        share.windows -= windows
        if self._started is None:  # what comes before the first batch, opening files, is no window's
            self._started = self.clock()
            return
        self._forward += seconds
        self._done += windows


class FirstPass:
    """One network's plain view of every window, told as each of `systems`.

    Windows that come after `until` (of `clock`) are left over: they are `fill` (K,), and `late` counts them.
    """

    def __init__(
        self, whole: Ensemble, network: int, systems: int, fill: np.ndarray, until: float,
        clock: Clock = time.monotonic,
    ):  # fmt: skip
        self.whole, self.network, self.systems, self.fill = whole, network, systems, fill
        self.until, self._clock = until, clock
        self.runs, self.parameters = whole.runs, whole.parameters
        self.windows = self.late = 0
        self.seconds = self._known = self._began = self._ended = 0.0
        self._after = 0

    def over(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self.until

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.windows += len(windows)
        if self.over():
            self.late += len(windows)
            fill = self.fill.astype(np.float32)[None, None, :, None, None]
            return np.broadcast_to(fill, (len(windows), self.systems, len(self.fill), *windows.shape[1:3]))
        started = self._clock()
        images = as_images(windows, self.whole.device)
        maps = self.whole.member(self.network, images, [0])
        self.whole.check({self.network: maps})
        probs = maps.cpu().numpy()[:, None]
        self._ended = self._clock()
        self.seconds += self._ended - started
        if self._began:
            self._known, self._after = self._known + self._ended - started, self._after + len(windows)
        else:  # what comes before the first batch, opening files, is no window's
            self._began = self._ended
        return np.broadcast_to(probs, (len(windows), self.systems, *probs.shape[2:]))

    def each(self) -> tuple[float, float]:
        """Seconds that one window took: in the network, and beside it."""
        beside = (self._ended - self._began - self._known) / self._after if self._after else 0.0
        return self.seconds / max(1, self.windows - self.late), max(0.0, beside)


class PacedEnsemble:
    """An `Ensemble` whose windows get the first passes of `order`, (network, view), as many as `pace` allows.

    A system none of whose networks had its turn is told as the mean of those that had. Raises `TimeOver` where the time
    is over.
    """

    def __init__(self, whole: Ensemble, order: list[tuple[int, int]], pace: Pace, group: int):
        self.whole, self.order, self.pace, self.group = whole, order, pace, group
        self.runs, self.systems, self.parameters = whole.runs, whole.systems, whole.parameters
        self.turns: Counter[int] = Counter()
        """Passes to how many windows had so many."""
        self.seconds = 0.0

    @property
    def windows(self) -> int:
        return self.turns.total()

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        if self.pace.over(self.group, len(windows)):
            raise TimeOver
        self.pace.expect(self.group, len(windows))
        count = self.pace.plan()[self.group]
        self.turns[count] += len(windows)
        started = self.pace.clock()
        images, views = as_images(windows, self.whole.device), {}
        for network, view in self.order[:count]:
            views.setdefault(network, []).append(view)
        maps = {network: self.whole.member(network, images, chosen) for network, chosen in views.items()}
        self.whole.check(maps)
        groups = [[i for i in group if i in maps] or list(maps) for group in self.whole.groups]
        systems = torch.stack([torch.stack([maps[i] for i in group]).mean(0) for group in groups], dim=1)
        probs = systems.cpu().numpy()
        taken = self.pace.clock() - started
        self.seconds += taken
        self.pace.took(self.group, len(windows), count, taken)
        return probs
