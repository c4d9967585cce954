"""The decision: how the models' probability maps become labels. Also thresholds, and how they are cross-fitted.

A decision is fitted on out-of-fold maps, saved as decision.json, and applied unchanged to test images.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.ensemble_weights import EnsembleWeights
from lib.decision.postprocess import Rule, draw_labels, label_candidates
from lib.decision.presence_gate import gated, with_presence
from lib.errors import UserError
from lib.oof.codes import BINS, HALF, to_label_codes
from lib.oof.evaluate import Evaluation
from lib.oof.map_files import Bands
from lib.workspace import read_json, write_json

JACKKNIFE_BLOCKS = 10  # of groups of images, one of which is left out at a time
HOLD_OUT_PARTS = 5  # parts of one fold's groups: each is decided by what was fitted on the rest
STANDARD_ERRORS = 0.5  # that are subtracted from what a threshold gains
FIRST_THRESHOLD, LAST_THRESHOLD, THRESHOLD_STEP = 5, 250, 5  # in 1/255
EMPTY_THRESHOLD = BINS  # the threshold that no pixel reaches, so that the answer is empty
SCORE_ROUNDING = 1e-9  # smaller differences between scores are rounding


@dataclass(frozen=True)
class Decision:
    """How probability maps become labels, and the out-of-fold scores of doing so.

    Arguments:
        threshold: for one class, in 1/255; None for argmax over several classes.
        score, half_score: of all images, with this decision and at one half (argmax).
        cross_score: of all images, each decided by what was fitted on images of other groups (`cross_parts`), so that
            it does not flatter the fit; None where all images are of one group.
        mix: weights of the models in the ensemble; None for the mean of all networks.
        gates: (K,) presence below which a class is left out, 0 for never; None where maps have no presence.
        factors: (K,) by which the classes' probabilities are multiplied before argmax.
        rules: of each label's objects (lib/decision/postprocess.py), instead of threshold or argmax; None for
            background.
        left_out: label indices that are never answered, because that scores better; their pixels become background.

    >>> probs = np.array([[[0.2, 0.6, 0.9]]], np.float32)  # one class, one row of three pixels
    >>> decision = Decision(threshold=128)
    >>> decision.labels(decision.to_label_codes(probs[None])).tolist()
    [[0, 1, 1]]
    """

    threshold: int | None
    score: float = np.nan
    half_score: float = np.nan
    cross_score: float | None = None
    mix: EnsembleWeights | None = None
    gates: tuple[float, ...] | None = None
    factors: tuple[float, ...] | None = None
    rules: tuple[Rule | None, ...] | None = None
    left_out: tuple[int, ...] = ()

    def to_label_codes(self, models: np.ndarray) -> np.ndarray:
        """The models' probabilities (S + 1, K, h, w), last the mean of all networks → codes from which `labels` follow.

        With gates the input is (S + 1, 2K, h, w): presences stand behind the masks. The codes are uint8: probabilities
        (h, w) in 1/255 for one class, label indices (h, w) for several, and `label_candidates` (3, h, w) where several
        classes have rules.
        """
        probs, presence = blended(models, self.mix, self.gates is not None)
        if self.gates is not None:
            probs = gated(probs, presence, self.gates)
        if self.factors is not None:
            probs = probs * np.array(self.factors, np.float32)[:, None, None]
        if self.rules is not None and self.threshold is None:
            return label_candidates(probs, self.rules[0] is None)
        return to_label_codes(probs)

    def labels(self, codes: np.ndarray) -> np.ndarray:
        """Label codes → label indices (h, w) uint8, each pixel on its own (without rules of objects)."""
        if codes.ndim == 3:
            first, other, probs_u8 = codes
            lows = np.array([BINS if rule is None else rule.low for rule in self.rules])
            return np.where(probs_u8 >= lows[first], first, other)
        if self.threshold is None:
            return np.where(np.isin(codes, self.left_out), np.uint8(0), codes) if self.left_out else codes
        return (codes >= (self.threshold if self.rules is None else self.rules[1].low)).astype(np.uint8)

    @property
    def by_pixel(self) -> bool:
        """Whether every pixel is decided on its own."""
        return all(rule is None or rule.by_pixel for rule in self.rules or ())

    def bands(self, rows: Iterable[np.ndarray], folder: Path | None = None) -> Iterator[np.ndarray]:
        """Decide an image band by band: label codes (…, h, W) from the top down → label indices (h, W).

        Rules of objects need several passes over the bands, which are then kept in a file in `folder`.
        """
        if self.by_pixel:
            return (self.labels(row) for row in rows)
        bands = Bands(rows, folder)
        if self.threshold is None:
            return draw_labels(bands, self.rules)
        return (mask.view(np.uint8) for mask in self.rules[1].masks(bands))

    def shrunken(self, step: int) -> Decision:
        """The same decision for maps of every `step`th row and column."""
        return replace(self, rules=self.rules and tuple(rule and rule.shrunken(step) for rule in self.rules))

    def save(self, path: Path, models: list[str]) -> dict:
        """Write the decision as JSON, and return what was written. `models`: their names, to label the weights."""
        weights = {} if self.mix is None else dict(zip(models, self.mix.weights, strict=True))
        written = json.loads(json.dumps({**asdict(self), "weights": weights}, default=str))
        write_json(path, written)
        return written

    @staticmethod
    def load(path: Path) -> Decision:
        """Read what `save` wrote.

        Raises UserError where there is no such file, where it is damaged, and where an earlier version decided with a
        mean that is gone.
        """
        read = read_json(path, None)
        if read is None:
            raise UserError(f"{path} does not exist yet; run 05_infer_ensemble.py first")
        saved = {key: value for key, value in read.items() if key != "weights"}
        if saved["mix"]:
            if saved["mix"]["mean"] == "power":
                raise UserError(f"{path} uses infer.averaging power, which is gone; run 05_infer_ensemble.py again")
            saved["mix"] = EnsembleWeights(tuple(saved["mix"]["weights"]), saved["mix"]["mean"])
        if saved["rules"]:
            saved["rules"] = tuple(rule and Rule(**rule) for rule in saved["rules"])
        for name in ("gates", "factors"):
            saved[name] = saved[name] and tuple(saved[name])
        saved["left_out"] = tuple(saved.get("left_out", ()))
        strange = saved.keys() - {field.name for field in fields(Decision)}
        if strange:
            raise UserError(
                f"{path} holds {min(strange)}, which this version does not know; run 05_infer_ensemble.py again"
            )
        return Decision(**saved)


def blended(
    models: np.ndarray, mix: EnsembleWeights | None, has_presence: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (K, …) and presences (K, …) of the ensemble.

    `models`: probabilities (S + 1, K, …), last the mean of all networks; with presences (S + 1, 2K, …).
    """
    masks, presence = with_presence(models, has_presence)
    probs = masks[-1] if mix is None else mix(masks[:-1])
    if presence is None:
        return probs, None
    return probs, presence[-1] if mix is None else np.tensordot(mix.weights, presence[:-1], 1)


def crossed_by_threshold(
    evaluation: Evaluation, model: int, folds: np.ndarray, config: CompetitionSettings
) -> np.ndarray | None:
    """Counts (N, C, 3) of one model, each image decided by the threshold fitted on images of other groups.

    `folds` (N,): each image's fold. None where `cross_parts` cannot split the images.
    """
    crossed, parts = evaluation.class_counts(model).copy(), cross_parts(folds, evaluation.groups)
    for decided, others in parts:
        threshold = fitted_threshold(evaluation, model, others, config)
        crossed[decided] = evaluation.class_counts(model, threshold)[decided]
    return crossed if parts else None


def cross_parts(folds: np.ndarray, groups: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits for cross-fitting: (images decided, images fitted on), (N,) bool each, with no group in common.

    Several folds: each fold's images are decided by the others. One fold (a hold-out): its `groups` (N,) are split into
    at most `HOLD_OUT_PARTS` parts, always in the same way. There is no split for a single group, since every decision
    would then be scored on images like those that it was fitted on. Without `groups`, each image is a group.
    """
    names, part = np.unique(folds, return_inverse=True)
    if len(names) < 2:
        names, group = np.unique(np.arange(len(folds)) if groups is None else groups, return_inverse=True)
        order = np.random.default_rng(0).permutation(len(names))
        part = (order % HOLD_OUT_PARTS)[group]
    splits = [(part == i, part != i) for i in range(part.max(initial=-1) + 1)]
    return splits if len(splits) > 1 else []


def crossed_by(folds: np.ndarray) -> str:
    """What `cross_parts` fits on, in words."""
    return "other folds" if len(np.unique(folds)) > 1 else "other groups of the fold"


def fitted_threshold(evaluation: Evaluation, model: int, images: np.ndarray, config: CompetitionSettings) -> int:
    """The threshold, in 1/255, with the largest certain gain (`sure_gains`) over one half on the chosen images (N,).

    Of equally good thresholds the middle one is taken. Where few groups of images decide, the very best threshold is
    mostly chance. First every `THRESHOLD_STEP`th value is tried, then those between. Last comes `EMPTY_THRESHOLD`, an
    empty answer, if there is any object.
    """
    counts = evaluation.counts[images, model]
    below, samples = np.cumsum(counts, axis=-1), jackknife(evaluation, images)

    def scores(threshold: int) -> np.ndarray:
        """Of all chosen images, and without each block."""
        found = np.stack([below[..., threshold - 1], below[..., -1] - below[..., threshold - 1]], axis=-1)
        return metrics.resampled(config, metrics.counts_of(found), samples)

    def best(thresholds: np.ndarray) -> int:
        gains = sure_gains(np.stack([scores(int(threshold)) for threshold in thresholds]) - half)
        top = thresholds[gains >= gains.max() - SCORE_ROUNDING]
        return int(top[len(top) // 2])

    half = scores(HALF)
    near = best(np.arange(FIRST_THRESHOLD, LAST_THRESHOLD + 1, THRESHOLD_STEP))
    first, last = near - THRESHOLD_STEP + 1, near + THRESHOLD_STEP - 1
    near = best(np.arange(max(FIRST_THRESHOLD, first), min(LAST_THRESHOLD, last) + 1))
    return best(np.array([EMPTY_THRESHOLD, near])) if counts[:, 1].any() else near  # of equals the last one


def jackknife(evaluation: Evaluation, images: np.ndarray) -> np.ndarray:
    """Jackknife samples (D, M) bool of the M chosen images: all of them, then all but each block of groups.

    There are at most `JACKKNIFE_BLOCKS` blocks, and none where all images are of one group.
    """
    groups = np.arange(len(images)) if evaluation.groups is None else evaluation.groups
    block = np.unique(groups[images], return_inverse=True)[1] % JACKKNIFE_BLOCKS
    rests = [block != i for i in range(block.max() + 1)] if block.max() else []
    return np.stack([np.ones(len(block), bool), *rests])


def sure_gains(gains: np.ndarray) -> np.ndarray:
    """Gains (C, D) of C choices on the samples of `jackknife` → gains on all images (C,), minus `STANDARD_ERRORS` times
    the jackknife's standard error."""
    rests = gains.shape[1] - 1
    return gains[:, 0] - (STANDARD_ERRORS * np.sqrt((rests - 1) * gains[:, 1:].var(1)) if rests else 0)


def fitted_left_out(evaluation: Evaluation, images: np.ndarray, config: CompetitionSettings) -> tuple[int, ...]:
    """Of several classes with background: the labels that `sure_gains` says are better never answered.

    These are all labels that gain on their own, or all labels, which is an empty answer. Many metrics give a class 1 in
    an image where neither truth nor answer has it, so that a few false pixels can cost more than hits gain. A label
    that occurs in no truth stays, since nothing is known about it.
    """
    samples, occurs = jackknife(evaluation, images), evaluation.counts[images, 0, :, 1].any(0)

    def scores(labels: tuple[int, ...]) -> np.ndarray:
        return metrics.resampled(config, evaluation.leaving_out(labels).class_counts(0)[images], samples)

    labels, plain = range(1, evaluation.counts.shape[2]), scores(())
    single = sure_gains(np.stack([scores((label,)) for label in labels]) - plain)
    better = [label for label, gain in zip(labels, single, strict=True) if gain > SCORE_ROUNDING and occurs[label]]
    choices = [(), tuple(better), *[tuple(labels)] * bool(occurs[1:].all())]
    gains = sure_gains(np.stack([scores(choice) for choice in choices]) - plain)
    return choices[int(np.argmax(gains > gains.max() - SCORE_ROUNDING))]  # of equally good choices the first
