"""Out-of-fold images predicted in several ways, one image after another, as long as there is time."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd

from lib import tables
from lib.imaging.geometry import Box
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import choose_engine, image_sources, load_checkpoint, scale_groups, trained_windows
from lib.inference.multi_scale import maps_of
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sources import limits_of
from lib.oof.evaluate import CountCollector, TrueLabels, evaluate
from lib.oof.evaluation import Evaluation
from lib.oof.score_images import in_turns
from lib.session import Session

REACH = 3  # side of a part of a large image, in windows as trained


@dataclass(frozen=True)
class Tried:
    """What a trial saw: an evaluation of the same N images, by the mean of all networks, and the seconds of the forward
    passes (V,), in each of V ways; the images' rows of folds.csv; whether some are parts of images."""

    evaluations: list[Evaluation]
    seconds: np.ndarray
    images: pd.DataFrame
    cut: bool


class Trial:
    """Predicts in the ways `variants`, sessions that differ in windows or views. An image meets all networks of
    its fold, and them alone. Of an image larger than `REACH` windows as trained a part is taken, where 01 kept a tile.
    """

    def __init__(self, variants: list[Session], parts: list[Checkpoint]):
        first, folds = variants[0], variants[0].folds
        self.parts, self.competition, self.workspace = parts, first.competition, first.workspace
        self.images = first.images.set_index("image_id")
        self.order = in_turns(folds[folds["fold"].isin({part.member.fold for part in parts})])
        # Networks are loaded and built once for all variants.
        self.load, self.variants = cache(partial(load_checkpoint, first)), variants
        engine = choose_engine(first, parts, self.load)
        self.engine = SimpleNamespace(backend=engine.backend, build=cache(engine.build))
        self.groups, self.met = cache(self.groups), {}

    def run(self, limit: float) -> Tried:
        """As many images as `limit` seconds are enough for. Where one is too much, it is tried in the first ways only,
        in one at least."""
        until, longest = time.monotonic() + limit, 0.0
        found: list[list[tuple[Evaluation, float]]] = []
        for row in self.order.itertuples():
            started, here = time.monotonic(), []
            if found and started + longest > until:
                break
            for variant in range(len(self.variants)):
                if here and time.monotonic() > until:
                    break
                here.append(self.image(row.image_id, row.fold, variant))
            if not found or len(here) == len(self.variants):
                found.append(here)
            if len(here) < len(self.variants):
                break
            longest = max(longest, time.monotonic() - started)
        evaluations = [Evaluation.concat(one for one, _ in column) for column in zip(*found, strict=True)]
        seconds = np.array([[each for _, each in here] for here in found]).sum(0)
        rows = self.order.head(len(found))
        return Tried(evaluations, seconds, rows, any(self.box_of(i) for i in rows["image_id"]))

    def image(self, image_id: str, fold: int, variant: int) -> tuple[Evaluation, float]:
        """An image's counts, and the seconds of its windows."""
        session, competition, box = self.variants[variant], self.competition, self.box_of(image_id)
        height, width = self.images.loc[image_id, ["height", "width"]]
        (source,), groups = image_sources(session, [image_id]), self.groups(fold, variant)
        label = competition.labels.open(image_id, int(height), int(width))
        if box:  # a CSV of boxes speaks of the whole image
            blank = source.roi != "none" and competition.settings.background  # is not computed
            source = replace(source, part=box, roi="content" if blank else "none")
            top, left = box[:2]
            whole, label = label, SimpleNamespace(read=lambda y, x, h, w: whole.read(top + y, left + x, h, w))
        before = sum(group.forward.seconds for group in groups)
        labels = replace(TrueLabels.of(competition, session.config.infer.gated), open=lambda *_: label)
        counts = CountCollector([image_id], labels, maps_of(groups))
        evaluate([source], groups, labels, limits_of(session.config), [counts])
        return counts.evaluation(), sum(group.forward.seconds for group in groups) - before

    def groups(self, fold: int, variant: int) -> list[ScaleGroup]:
        """A fold's networks in one of the ways."""
        own = [part for part in self.parts if part.member.fold == fold]
        groups = scale_groups(self.variants[variant], own, self.engine, load=self.load)
        clocked = [Clocked(group.forward, self.met.setdefault((fold, i), set())) for i, group in enumerate(groups)]
        return [replace(group, forward=forward) for group, forward in zip(groups, clocked, strict=True)]

    @cached_property
    def side(self) -> int:
        """Of parts, original pixels; 0 for whole images always."""
        grids = [trained_windows(self.variants[0], part) for part in self.parts]
        return (
            0 if any(grid.resized for grid in grids) else round(REACH * max(grid.size / grid.scale for grid in grids))
        )

    @cached_property
    def tiles(self) -> pd.DataFrame:
        return tables.read(self.workspace.tiles, tables.TILES, "01_preprocess.py")

    def box_of(self, image_id: str) -> Box | None:
        """The part (y, x, height, width) of a large image that is tried, around some tile of it."""
        size = self.images.loc[image_id, ["height", "width"]].to_numpy(int)
        if not self.side or (size <= self.side).all():
            return None
        tiles, middle, box = self.tiles[self.tiles["image_id"] == image_id], size / 2, np.minimum(size, self.side)
        if len(tiles):
            tile = tiles.iloc[zlib.crc32(image_id.encode()) % len(tiles)]
            middle = np.array([tile["y"] + tile["height"] / 2, tile["x"] + tile["width"] / 2])
        corner = np.clip(np.round(middle - box / 2), 0, size - box)
        return tuple(map(int, (*corner, *box)))


class Clocked:
    """An `Ensemble` that knows how long its windows take, by the fastest batch: what slows others is not their own.

    `met`: shapes of batches that its networks were built for; the first of another shape is computed twice.
    """

    def __init__(self, forward: Ensemble, met: set[tuple[int, ...]]):
        self.forward, self.runs, self.systems, self.met = forward, forward.runs, forward.systems, met
        self.windows, self.each = 0, []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        if windows.shape not in self.met:
            self.forward(windows)
            self.met.add(windows.shape)
        started = time.perf_counter()
        probs = self.forward(windows)
        self.each.append((time.perf_counter() - started) / len(windows))
        self.windows += len(windows)
        return probs

    @property
    def seconds(self) -> float:
        return self.windows * min(self.each, default=0.0)
