"""The pace that a time limit sets: as many networks and views for each window as the time that is left allows.

A pass is one network on one view. Each group of networks (lib/inference/together.py) has its passes in an order, the
most worthwhile first (lib/inference/plan.py); how many are made is decided anew before each batch. Nothing is ever left
without an answer: when the time is over, the windows that are left get background.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lib.inference.backends import as_images
from lib.inference.forward import Ensemble

UNSURE = 1.03  # a plan's time is taken for this much more
STEPS = 100  # how finely plans are tried
BEFORE = 0.1  # of all windows: what an earlier run's pace counts for; and so many tell this run's


@dataclass
class Share:
    """A group's work: windows left, and the seconds of each of its passes for one window, in their order."""

    windows: float
    seconds: list[float]


class Pace:
    """Shares the time until `until` (of `clock`) among the windows that are left.

    `rest`: seconds that reading, stitching and encoding all of them took before; 0 where nobody knows.
    """

    def __init__(
        self, until: float, shares: list[Share], rest: float = 0.0, clock: Callable[[], float] = time.monotonic
    ):
        self.until, self.shares, self._clock = until, shares, clock
        self._started: float | None = None
        self._forward = self._done = 0.0  # seconds in forward passes, windows done
        self._slower = 1.0  # measured over expected seconds of passes
        self._windows = self._left()
        self._rest, self._before = (BEFORE * rest, BEFORE * self._windows) if rest else (0.0, 0.0)

    def plan(self) -> list[int]:
        """How many passes each group's next batch gets."""
        until_end = self.until - self._clock()
        left = until_end - self.between()
        for step in range(STEPS, -1, -1):
            passes = [max(1, len(share.seconds) * step // STEPS) for share in self.shares]
            if self.cost(passes) * UNSURE <= left:
                return passes
        return [int(until_end > self.between(least=True))] * len(self.shares)

    def cost(self, passes: list[int]) -> float:
        """Seconds of forward passes for all windows that are left."""
        pairs = zip(self.shares, passes, strict=True)
        return self._slower * sum(max(0.0, share.windows) * sum(share.seconds[:count]) for share, count in pairs)

    def between(self, least: bool = False) -> float:
        """Seconds that reading, stitching and encoding the rest will take, as far as seen; or what is sure of it."""
        gone = 0.0 if self._started is None else self._clock() - self._started
        seen, known = max(0.0, gone - self._forward), self._before + self._done
        if not known or (least and self._done < BEFORE * self._windows):
            return 0.0
        each = (self._rest + seen) / known
        if least and self._before:
            each = min(self._rest / self._before, seen / self._done)
        return each * self._left()

    def _left(self) -> float:
        """Windows."""
        return sum(max(0.0, share.windows) for share in self.shares)

    def expected(self) -> float:
        """Seconds until the end: what all passes take, or, where that is too much, all that are left."""
        everything = self.cost([len(share.seconds) for share in self.shares]) + self.between()
        return max(0.0, min(everything, self.until - self._clock()))

    def took(self, group: int, windows: int, passes: int, seconds: float) -> None:
        """A batch was computed."""
        share = self.shares[group]
        expected = windows * sum(share.seconds[:passes])
        if expected:
            self._slower += 0.2 * (seconds / expected - self._slower)
        share.windows -= windows
        if self._started is None:  # what comes before the first batch, opening files, is no window's
            self._started = self._clock()
            return
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
        self.runs, self.systems, self.parameters = whole.runs, whole.systems, whole.parameters
        self.turns: Counter[int] = Counter()
        """Passes to how many windows had so many."""
        self.seconds = 0.0

    @property
    def windows(self) -> int:
        return self.turns.total()

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        count = self.pace.plan()[self.group]
        self.turns[count] += len(windows)
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
        taken = time.monotonic() - started
        self.seconds += taken
        self.pace.took(self.group, len(windows), count, taken)
        return probs
