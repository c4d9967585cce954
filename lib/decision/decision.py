"""What turns systems' maps into labels. Fitted on out-of-fold counts, saved, applied unchanged to test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.decision.ensemble_weights import Mix
from lib.decision.postprocess import Rule, candidates, draw_labels
from lib.decision.presence_gate import gated, with_presence
from lib.oof.evaluate import BINS, HALF, Evaluation, quantised
from lib.oof.map_files import Bands
from lib.workspace import read_json, write_json

BLOCKS = 10  # of groups of images, one of which is left out at a time
CROSSED = 5  # parts of one fold's groups: each is decided by what was fitted on the rest
DOUBT = 0.5  # of the standard error of what a threshold gains
FIRST, LAST, STEP = 5, 250, 5  # bins that may be thresholds
NOTHING = BINS  # the threshold that no pixel reaches
GAIN = 1e-9  # of a score, that is no chance of rounding


@dataclass(frozen=True)
class Decision:
    """`threshold` in bins of 1/255 for one class; None for argmax. Scores are out-of-fold.

    `cross_score`: each image decided by what was fitted on images of other groups (`cross_parts`), so that the gain
    over 0.5 is not the fit's own; None where all images are of one group. `mix`: how systems are averaged; None for the
    mean of all networks. `gates` (K,): presence below which a class is left out, 0 for never; None where maps tell no
    presence. `factors` (K,): of several classes' probabilities, before argmax. `rules`: of each label's objects, None
    for background's, in place of threshold or argmax. `left_out`: label indices that are never answered, because that
    scores better; their pixels become background.
    """

    threshold: int | None
    score: float = np.nan
    half_score: float = np.nan
    cross_score: float | None = None
    mix: Mix | None = None
    gates: tuple[float, ...] | None = None
    factors: tuple[float, ...] | None = None
    rules: tuple[Rule | None, ...] | None = None
    left_out: tuple[int, ...] = ()

    def quantised(self, systems: np.ndarray) -> np.ndarray:
        """Probabilities (S + 1, K, h, w), last the mean of all networks; where there are gates, (S + 1, 2K, h, w) with
        presences → bins or label indices (h, w) uint8; for rules of several classes, `candidates` (3, h, w).
        """
        probs, seen = blended(systems, self.mix, self.gates is not None)
        if self.gates is not None:
            probs = gated(probs, seen, self.gates)
        if self.factors is not None:
            probs = probs * np.array(self.factors, np.float32)[:, None, None]
        if self.rules is not None and self.threshold is None:
            return candidates(probs, self.rules[0] is None)
        return quantised(probs)

    def labels(self, map_: np.ndarray) -> np.ndarray:
        """What is `quantised`, or label indices (h, w) → label indices (h, w) uint8, each pixel alone."""
        if map_.ndim == 3:
            first, other, bins = map_
            lows = np.array([BINS if rule is None else rule.low for rule in self.rules])
            return np.where(bins >= lows[first], first, other)
        if self.threshold is None:
            return np.where(np.isin(map_, self.left_out), np.uint8(0), map_) if self.left_out else map_
        return (map_ >= (self.threshold if self.rules is None else self.rules[1].low)).astype(np.uint8)

    @property
    def by_pixel(self) -> bool:
        """Every pixel is decided alone."""
        return all(rule is None or rule.by_pixel for rule in self.rules or ())

    def bands(self, rows: Iterable[np.ndarray], folder: Path | None = None) -> Iterator[np.ndarray]:
        """An image's `quantised` rows (…, h, W) from the top down → label indices (h, W). Objects wait in a file of
        `folder`.
        """
        if self.by_pixel:
            return (self.labels(row) for row in rows)
        bands = Bands(rows, folder)
        if self.threshold is None:
            return draw_labels(bands, self.rules)
        return (mask.view(np.uint8) for mask in self.rules[1].masks(bands))

    def shrunken(self, step: int) -> Decision:
        """The same for maps of every `step`th row and column."""
        return replace(self, rules=self.rules and tuple(rule and rule.shrunken(step) for rule in self.rules))

    def save(self, path: Path, systems: list[str]) -> dict:
        """Write the decision as JSON; returns what was written. `systems`: names, for the mixture's weights."""
        weights = {} if self.mix is None else dict(zip(systems, self.mix.weights, strict=True))
        written = json.loads(json.dumps({**asdict(self), "weights": weights}, default=str))
        write_json(path, written)
        return written

    @staticmethod
    def load(path: Path) -> Decision:
        """What `save` wrote."""
        saved = {key: value for key, value in read_json(path, {}).items() if key != "weights"}
        if saved["mix"]:
            saved["mix"] = Mix(**{**saved["mix"], "weights": tuple(saved["mix"]["weights"])})
        if saved["rules"]:
            saved["rules"] = tuple(rule and Rule(**rule) for rule in saved["rules"])
        for name in ("gates", "factors"):
            saved[name] = saved[name] and tuple(saved[name])
        saved["left_out"] = tuple(saved.get("left_out", ()))
        return Decision(**saved)


def blended(systems: np.ndarray, mix: Mix | None, told: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (S + 1, K, …), last the mean of all networks, or with the presences that are `told` (S + 1, 2K, …)
    → probabilities (K, …) of the mixture, and presences (K, …)."""
    systems, presence = with_presence(systems, told)
    probs = systems[-1] if mix is None else mix(systems[:-1])
    if presence is None:
        return probs, None
    return probs, presence[-1] if mix is None else np.tensordot(mix.weights, presence[:-1], 1)


def crossed_by_threshold(
    evaluation: Evaluation, system: int, folds: np.ndarray, config: Competition
) -> np.ndarray | None:
    """Counts (N, C, 3): each image decided by the threshold fitted on images of other groups, as `cross_parts` splits
    them; None where it cannot."""
    crossed, parts = evaluation.class_counts(system).copy(), cross_parts(folds, evaluation.groups)
    for here, others in parts:
        crossed[here] = evaluation.class_counts(system, fitted_threshold(evaluation, system, others, config))[here]
    return crossed if parts else None


def cross_parts(folds: np.ndarray, groups: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(images decided, images fitted on), (N,) bool each, which have no image and no group in common.

    Several folds: each fold's images, and those of the others. One fold (a hold-out): its groups (N,), in an order that
    is always the same, are split into `CROSSED` parts at most. None for one group: every decision would be judged on
    images like those that it was fitted on. Where `groups` is None, each image is a group.
    """
    names, part = np.unique(folds, return_inverse=True)
    if len(names) < 2:
        names, group = np.unique(np.arange(len(folds)) if groups is None else groups, return_inverse=True)
        order = np.random.default_rng(0).permutation(len(names))
        part = (order % CROSSED)[group]
    found = [(part == i, part != i) for i in range(part.max(initial=-1) + 1)]
    return found if len(found) > 1 else []


def crossed_by(folds: np.ndarray) -> str:
    """What `cross_parts` fits on, in words."""
    return "other folds" if len(np.unique(folds)) > 1 else "other groups of the fold"


def fitted_threshold(evaluation: Evaluation, system: int, images: np.ndarray, config: Competition) -> int:
    """The bin of the greatest gain over one half on the chosen images, as far as it is sure (`sure_gains`); the middle
    of a plateau. Where few groups of images decide, the very best bin is mostly chance.

    Every `STEP`th bin is tried, then those between, at last `NOTHING`: an empty answer, if there is any object.
    """
    counts = evaluation.counts[images, system]
    below, samples = np.cumsum(counts, axis=-1), jackknife(evaluation, images)

    def scores(threshold: int) -> np.ndarray:
        """Of all chosen images, and without each block."""
        found = np.stack([below[..., threshold - 1], below[..., -1] - below[..., threshold - 1]], axis=-1)
        return metrics.resampled(config, metrics.counts_of(found), samples)

    def best(candidates: np.ndarray) -> int:
        worth = sure_gains(np.stack([scores(int(threshold)) for threshold in candidates]) - half)
        top = candidates[worth >= worth.max() - GAIN]
        return int(top[len(top) // 2])

    half = scores(HALF)
    near = best(np.arange(FIRST, LAST + 1, STEP))
    near = best(np.arange(max(FIRST, near - STEP + 1), min(LAST, near + STEP - 1) + 1))
    return best(np.array([NOTHING, near])) if counts[:, 1].any() else near  # of equals the last one


def jackknife(evaluation: Evaluation, images: np.ndarray) -> np.ndarray:
    """Samples (D, M) bool of the M chosen images: all of them, then without each block of their groups, of at most
    `BLOCKS`. Of one group alone there is no block."""
    groups = np.arange(len(images)) if evaluation.groups is None else evaluation.groups
    block = np.unique(groups[images], return_inverse=True)[1] % BLOCKS
    rests = [block != i for i in range(block.max() + 1)] if block.max() else []
    return np.stack([np.ones(len(block), bool), *rests])


def sure_gains(gains: np.ndarray) -> np.ndarray:
    """Gains (C, D) of C choices on the samples of `jackknife` → (C,): of all images, less `DOUBT` standard errors."""
    rests = gains.shape[1] - 1
    return gains[:, 0] - (DOUBT * np.sqrt((rests - 1) * gains[:, 1:].var(1)) if rests else 0)


def fitted_left_out(evaluation: Evaluation, images: np.ndarray, config: Competition) -> tuple[int, ...]:
    """Of several classes and background, the labels that score better on the chosen images if they are never answered,
    as far as that is sure (`sure_gains`): each one that gains alone, or all, which is an empty answer.

    Many metrics give a class 1 in an image where neither truth nor answer has it, so that a few invented pixels cost
    more than hits are worth. Nothing is known of a class that no truth has, so that it stays.
    """
    samples, held = jackknife(evaluation, images), evaluation.counts[images, 0, :, 1].any(0)

    def scores(labels: tuple[int, ...]) -> np.ndarray:
        return metrics.resampled(config, evaluation.leaving_out(labels).class_counts(0)[images], samples)

    labels, plain = range(1, evaluation.counts.shape[2]), scores(())
    alone = sure_gains(np.stack([scores((label,)) for label in labels]) - plain)
    better = [label for label, gain in zip(labels, alone, strict=True) if gain > GAIN and held[label]]
    choices = [(), tuple(better), *[tuple(labels)] * bool(held[1:].all())]
    worth = sure_gains(np.stack([scores(choice) for choice in choices]) - plain)
    return choices[int(np.argmax(worth > worth.max() - GAIN))]  # of equals the first one
