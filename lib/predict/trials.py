"""Predicts out-of-fold images with several variants of windows or views, image by image, until a time limit."""

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

TRIAL_SIDE = 3  # side of the part of a large image that is tried, in trained windows


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial of V variants on N images.

    `evaluations`: one for each variant, of the mean of all networks. `seconds` (V,): of the forward passes. `images`:
    rows of folds.csv. `cut`: whether only parts of some images were tried.
    """

    evaluations: list[Evaluation]
    seconds: np.ndarray
    images: pd.DataFrame
    cut: bool


class Trial:
    """A trial of `variants`, which are sessions that differ in windows or views.

    Only the networks of its own fold predict an image. Of an image larger than `TRIAL_SIDE` trained windows, only a
    part is predicted, around a tile that 01 kept.
    """

    def __init__(self, variants: list[Session], checkpoints: list[Checkpoint]):
        first, folds = variants[0], variants[0].folds
        self.checkpoints, self.competition, self.workspace = checkpoints, first.competition, first.workspace
        self.images = first.images.set_index("image_id")
        self.order = in_turns(folds[folds["fold"].isin({checkpoint.member.fold for checkpoint in checkpoints})])
        # Networks are loaded and built once for all variants.
        self.load, self.variants = cache(partial(load_checkpoint, first)), variants
        engine = choose_engine(first, checkpoints, self.load)
        self.engine = SimpleNamespace(backend=engine.backend, build=cache(engine.build))
        self.groups, self.built_shapes = cache(self.groups), {}

    def run(self, limit: float) -> TrialResult:
        """Predict as many images as possible in `limit` seconds.

        If the time is too short for one image, the result has the first variants only, at least one.
        """
        until, longest = time.monotonic() + limit, 0.0
        images: list[list[tuple[Evaluation, float]]] = []
        for row in self.order.itertuples():
            started, variants = time.monotonic(), []
            if images and started + longest > until:
                break
            for variant in range(len(self.variants)):
                if variants and time.monotonic() > until:
                    break
                variants.append(self.image(row.image_id, row.fold, variant))
            if not images or len(variants) == len(self.variants):
                images.append(variants)
            if len(variants) < len(self.variants):
                break
            longest = max(longest, time.monotonic() - started)
        evaluations = [Evaluation.concat(one for one, _ in column) for column in zip(*images, strict=True)]
        seconds = np.array([[seconds for _, seconds in variants] for variants in images]).sum(0)
        rows = self.order.head(len(images))
        return TrialResult(evaluations, seconds, rows, any(self.box_of(i) for i in rows["image_id"]))

    def image(self, image_id: str, fold: int, variant: int) -> tuple[Evaluation, float]:
        """The counts of an image, and the seconds of its windows."""
        session, competition, box = self.variants[variant], self.competition, self.box_of(image_id)
        height, width = self.images.loc[image_id, ["height", "width"]]
        (source,), groups = image_sources(session, [image_id]), self.groups(fold, variant)
        label = competition.labels.open(image_id, int(height), int(width))
        if box:  # boxes of a CSV do not apply, because they are in coordinates of the whole image
            skip_blank = source.roi != "none" and competition.settings.background
            source = replace(source, part=box, roi="content" if skip_blank else "none")
            top, left = box[:2]
            whole, label = label, SimpleNamespace(read=lambda y, x, h, w: whole.read(top + y, left + x, h, w))
        before = sum(group.forward.seconds for group in groups)
        labels = replace(TrueLabels.of(competition, session.config.infer.gated), open=lambda *_: label)
        counts = CountCollector([image_id], labels, maps_of(groups))
        evaluate([source], groups, labels, limits_of(session.config), [counts])
        return counts.evaluation(), sum(group.forward.seconds for group in groups) - before

    def groups(self, fold: int, variant: int) -> list[ScaleGroup]:
        """The networks of a fold, timed, in one of the variants."""
        checkpoints = [checkpoint for checkpoint in self.checkpoints if checkpoint.member.fold == fold]
        groups = scale_groups(self.variants[variant], checkpoints, self.engine, load=self.load)
        return [
            replace(group, forward=TimedEnsemble(group.forward, self.built_shapes.setdefault((fold, i), set())))
            for i, group in enumerate(groups)
        ]

    @cached_property
    def side(self) -> int:
        """The side of a part in original pixels; 0 where images are always predicted whole."""
        windows = [trained_windows(self.variants[0], checkpoint) for checkpoint in self.checkpoints]
        if any(one.resized for one in windows):
            return 0
        return round(TRIAL_SIDE * max(one.size / one.scale for one in windows))

    @cached_property
    def tiles(self) -> pd.DataFrame:
        return tables.read(self.workspace.tiles, tables.TILES, "01_preprocess.py")

    def box_of(self, image_id: str) -> Box | None:
        """The part (y, x, height, width) of a large image that is tried; None for an image that is tried whole.

        It lies around a tile that is chosen by the image's id, or in the middle where 01 kept no tile.
        """
        size = self.images.loc[image_id, ["height", "width"]].to_numpy(int)
        if not self.side or (size <= self.side).all():
            return None
        tiles, centre, box = self.tiles[self.tiles["image_id"] == image_id], size / 2, np.minimum(size, self.side)
        if len(tiles):
            tile = tiles.iloc[zlib.crc32(image_id.encode()) % len(tiles)]
            centre = np.array([tile["y"] + tile["height"] / 2, tile["x"] + tile["width"] / 2])
        corner = np.clip(np.round(centre - box / 2), 0, size - box)
        return tuple(map(int, (*corner, *box)))


class TimedEnsemble:
    """An `Ensemble` that measures the seconds of its windows.

    The fastest batch counts, because others may be slowed down by other programs. `built_shapes`: shapes of batches
    that the networks were built for. The first batch of a new shape is computed twice, so that no time of building is
    measured.
    """

    def __init__(self, forward: Ensemble, built_shapes: set[tuple[int, ...]]):
        self.forward, self.runs, self.map_count = forward, forward.runs, forward.map_count
        self.built_shapes = built_shapes
        self.windows, self.per_window = 0, []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        if windows.shape not in self.built_shapes:
            self.forward(windows)
            self.built_shapes.add(windows.shape)
        started = time.perf_counter()
        probs = self.forward(windows)
        self.per_window.append((time.perf_counter() - started) / len(windows))
        self.windows += len(windows)
        return probs

    @property
    def seconds(self) -> float:
        return self.windows * min(self.per_window, default=0.0)
