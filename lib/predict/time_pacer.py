"""Keeps a prediction to a time limit: one pass over all windows, then as many more passes as the time allows.

A pass is one network on one view. Each group of networks (lib/inference/multi_scale.py) has its passes in an order, the
most useful first (lib/predict/time_plan.py). `FirstPass` gives every window one pass before any window gets a second.
After that, `Pace` decides before each batch how many passes its windows get.
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

SAFETY_FACTOR = 1.03  # estimated times are multiplied by this
STEPS = 100  # so many sizes of a plan are tried, from all passes down to none
PRIOR_SHARE = 0.1  # the estimate from the first pass weighs like this share of all windows
Clock = Callable[[], float]


class TimeOver(Exception):
    """The time ended before a window could get more passes."""


@dataclass
class GroupWork:
    """The work of a group of networks: the windows that are left, and the seconds of each pass for one window."""

    windows: float
    seconds: list[float]


class Pace:
    """Divides the time until `until` (of `clock`) among the remaining windows.

    `shares`: the work of each group. `overhead`: seconds for reading, stitching and encoding all windows, as estimated
    in the first pass. `slowdown`: seconds that passes really took, divided by the seconds that were expected.
    """

    def __init__(
        self,
        until: float,
        shares: list[GroupWork],
        overhead: float = 0.0,
        slowdown: float = 1.0,
        clock: Clock = time.monotonic,
    ):
        self.until, self.shares, self.clock, self._slowdown = until, shares, clock, slowdown
        self._started: float | None = None
        self._forward = self._done = 0.0  # seconds in forward passes, windows done
        self._prior_seconds = PRIOR_SHARE * overhead
        self._prior_windows = PRIOR_SHARE * self._windows_left() if overhead else 0.0

    def over(self, group: int, windows: int) -> bool:
        """Whether the time is too short for one more pass of a group's next `windows`."""
        return self.clock() + self._slowdown * windows * self.shares[group].seconds[0] > self.until

    def plan(self) -> list[int]:
        """How many passes each group's next batch gets: at least one."""
        seconds_left = self.until - self.clock() - self.overhead_left()
        for step in range(STEPS, 0, -1):
            passes = [max(1, len(share.seconds) * step // STEPS) for share in self.shares]
            if self.cost(passes) * SAFETY_FACTOR <= seconds_left:
                return passes
        return [1] * len(self.shares)

    def expect(self, group: int, windows: int) -> None:
        """Raise a group's estimate of remaining windows to at least `windows`."""
        self.shares[group].windows = max(self.shares[group].windows, windows)

    def cost(self, passes: list[int]) -> float:
        """Seconds of forward passes for all remaining windows, with so many `passes` of each group."""
        pairs = zip(self.shares, passes, strict=True)
        return self._slowdown * sum(max(0.0, share.windows) * sum(share.seconds[:count]) for share, count in pairs)

    def overhead_left(self) -> float:
        """Seconds for reading, stitching and encoding the remaining windows, estimated from those that are done."""
        elapsed = 0.0 if self._started is None else self.clock() - self._started
        windows = self._prior_windows + self._done
        if not windows:
            return 0.0
        return (self._prior_seconds + max(0.0, elapsed - self._forward)) / windows * self._windows_left()

    def _windows_left(self) -> float:
        return sum(max(0.0, share.windows) for share in self.shares)

    def expected(self) -> float:
        """Seconds until the work ends: those of all passes, but not more than the time that is left."""
        everything = self.cost([len(share.seconds) for share in self.shares]) + self.overhead_left()
        return max(0.0, min(everything, self.until - self.clock()))

    def took(self, group: int, windows: int, passes: int, seconds: float) -> None:
        """Note that a batch of `windows` took so many `seconds` for its `passes`."""
        share = self.shares[group]
        expected = windows * sum(share.seconds[:passes])
        if expected:
            self._slowdown += 0.2 * (seconds / expected - self._slowdown)
        share.windows -= windows
        if self._started is None:  # files are opened before the first batch, which says nothing about a window
            self._started = self.clock()
            return
        self._forward += seconds
        self._done += windows


class FirstPass:
    """A window network that gives each window to one network of an ensemble, without augmentation.

    All `map_count` maps are that network's. Windows after the time `until` (of `clock`) are not computed: their
    probabilities are `outside` (K,), and `late` counts them.
    """

    def __init__(
        self, ensemble: Ensemble, network: int, map_count: int, outside: np.ndarray, until: float,
        clock: Clock = time.monotonic,
    ):  # fmt: skip
        self.ensemble, self.network, self.map_count, self.outside = ensemble, network, map_count, outside
        self.until, self._clock = until, clock
        self.runs, self.parameters = ensemble.runs, ensemble.parameters
        self.windows = self.late = 0
        self.seconds = 0.0
        # Without the first batch, before which files are opened.
        self._first_end = self._end = self._later_seconds = 0.0
        self._later_windows = 0

    def over(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self.until

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.windows += len(windows)
        if self.over():
            self.late += len(windows)
            outside = self.outside.astype(np.float32)[None, None, :, None, None]
            return np.broadcast_to(outside, (len(windows), self.map_count, len(self.outside), *windows.shape[1:3]))
        started = self._clock()
        images = as_images(windows, self.ensemble.device)
        maps = self.ensemble.member(self.network, images, [0])
        self.ensemble.check({self.network: maps})
        probs = maps.cpu().numpy()[:, None]
        self._end = self._clock()
        taken = self._end - started
        self.seconds += taken
        if self._first_end:
            self._later_seconds += taken
            self._later_windows += len(windows)
        else:
            self._first_end = self._end
        return np.broadcast_to(probs, (len(windows), self.map_count, *probs.shape[2:]))

    def seconds_per_window(self) -> tuple[float, float]:
        """Seconds that one window took: in the network, and outside of it (reading, stitching, encoding)."""
        overhead = 0.0
        if self._later_windows:
            overhead = (self._end - self._first_end - self._later_seconds) / self._later_windows
        return self.seconds / max(1, self.windows - self.late), max(0.0, overhead)


class PacedEnsemble:
    """An `Ensemble` whose windows get the first passes of `order`, (network, view), as many as `pace` allows.

    The map of a model of which no network had a pass is the mean of all networks that had one. Raises `TimeOver` where
    the time is over.
    """

    def __init__(self, ensemble: Ensemble, order: list[tuple[int, int]], pace: Pace, group: int):
        self.ensemble, self.order, self.pace, self.group = ensemble, order, pace, group
        self.runs, self.map_count, self.parameters = ensemble.runs, ensemble.map_count, ensemble.parameters
        self.windows_by_passes: Counter[int] = Counter()
        """Number of passes -> how many windows had so many."""
        self.seconds = 0.0

    @property
    def windows(self) -> int:
        return self.windows_by_passes.total()

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        if self.pace.over(self.group, len(windows)):
            raise TimeOver
        self.pace.expect(self.group, len(windows))
        count = self.pace.plan()[self.group]
        self.windows_by_passes[count] += len(windows)
        started = self.pace.clock()
        images, views = as_images(windows, self.ensemble.device), {}
        for network, view in self.order[:count]:
            views.setdefault(network, []).append(view)
        maps = {network: self.ensemble.member(network, images, chosen) for network, chosen in views.items()}
        self.ensemble.check(maps)
        groups = [[i for i in group if i in maps] or list(maps) for group in self.ensemble.groups]
        probs = torch.stack([torch.stack([maps[i] for i in group]).mean(0) for group in groups], dim=1).cpu().numpy()
        taken = self.pace.clock() - started
        self.seconds += taken
        self.pace.took(self.group, len(windows), count, taken)
        return probs
