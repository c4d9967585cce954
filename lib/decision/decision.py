"""The decision: how the models' probability maps become labels.

A decision is fitted on out-of-fold maps, saved as decision.json, and applied unchanged to test images. There are two
kinds. Thresholds decide one class, or each of several classes that overlap. Argmax decides among classes that exclude
one another. Both make label planes of codes, band by band:

    models (S + 1, K, h, w) -> to_codes -> codes (C, h, w) uint8 -> labels, bands -> label planes (T, h, w) uint8

With thresholds, a code is a probability in 1/255, and there is a code and a plane of 0 and 1 for each class: C = T = K.
With argmax, there is one plane of label indices, and one code, the label; or, where labels have rules of objects, the
three of `label_candidates`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from lib.decision.ensemble_weights import EnsembleWeights
from lib.decision.objects.postprocess import Rule, draw_labels, label_candidates
from lib.decision.presence_gate import gated, with_presence
from lib.errors import UserError
from lib.oof.codes import BINS, to_codes
from lib.oof.map_files import Bands
from lib.workspace import read_json, write_json


@dataclass(frozen=True)
class Decision:
    """How probability maps become labels, and the out-of-fold scores of doing so.

    Arguments:
        thresholds: (K,) of each class that is decided for itself, in 1/255; None for argmax among several classes.
        score, half_score: of all images, with this decision and at one half (argmax).
        cross_score: of all images, each decided by what was fitted on images of other groups (`cross_parts`), so that
            it does not flatter the fit; None where all images are of one group.
        mix: weights of the models in the ensemble; None for the mean of all networks.
        gates: (K,) presence below which a class is left out, 0 for never; None where maps have no presence.
        factors: (K,) by which the classes' probabilities are multiplied before argmax.
        rules: of each label's objects (lib/decision/objects/postprocess.py), instead of threshold or argmax; None for
            background.
        left_out: label indices that are never answered, because that scores better; their pixels become background.
            Among thresholds, `EMPTY_THRESHOLD` does the same.

    >>> probs = np.array([[[0.2, 0.6, 0.9]]], np.float32)  # one class, one row of three pixels
    >>> decision = Decision(thresholds=(128,))
    >>> decision.labels(decision.to_codes(probs[None])).tolist()
    [[[0, 1, 1]]]
    """

    thresholds: tuple[int, ...] | None
    score: float = np.nan
    half_score: float = np.nan
    cross_score: float | None = None
    mix: EnsembleWeights | None = None
    gates: tuple[float, ...] | None = None
    factors: tuple[float, ...] | None = None
    rules: tuple[Rule | None, ...] | None = None
    left_out: tuple[int, ...] = ()

    def to_codes(self, models: np.ndarray) -> np.ndarray:
        """The models' probabilities (S + 1, K, h, w), last the mean of all networks → codes (C, h, w) from which
        `labels` follow. With gates the input is (S + 1, 2K, h, w): presences stand behind the masks."""
        probs, presence = blended(models, self.mix, self.gates is not None)
        if self.gates is not None:
            probs = gated(probs, presence, self.gates)
        if self.factors is not None:
            probs = probs * np.array(self.factors, np.float32)[:, None, None]
        if self.thresholds is None and self.rules is not None:
            return label_candidates(probs, self.rules[0] is None)
        return to_codes(probs, self.thresholds is not None)

    def labels(self, codes: np.ndarray) -> np.ndarray:
        """Codes (C, h, w) → label planes (T, h, w) uint8, each pixel on its own (without rules of objects)."""
        if self.thresholds is not None:
            return (codes >= np.array(self.lows)[:, None, None]).astype(np.uint8)
        if len(codes) > 1:
            first, other, probs_u8 = codes
            lows = np.array([BINS if rule is None else rule.low for rule in self.rules])
            return np.where(probs_u8 >= lows[first], first, other)[None]
        return np.where(np.isin(codes, self.left_out), np.uint8(0), codes) if self.left_out else codes

    @property
    def lows(self) -> tuple[int, ...]:
        """(K,) of each class that is decided for itself: the code from which on a pixel may be an object."""
        return self.thresholds if self.rules is None else tuple(rule.low for rule in self._class_rules)

    @property
    def _class_rules(self) -> tuple[Rule, ...]:
        """(K,) the rules without that of background."""
        return self.rules[-len(self.thresholds) :]

    @property
    def by_pixel(self) -> bool:
        """Whether every pixel is decided on its own."""
        return all(rule is None or rule.by_pixel for rule in self.rules or ())

    def bands(self, rows: Iterable[np.ndarray], folder: Path | None = None) -> Iterator[np.ndarray]:
        """Decide an image band by band: codes (C, h, W) from the top down → label planes (T, h, W).

        Rules of objects need several passes over the bands, which are then kept in a file in `folder`.
        """
        if self.by_pixel:
            return (self.labels(row) for row in rows)
        bands = Bands(rows, folder)
        if self.thresholds is None:
            return (labels[None] for labels in draw_labels(bands, self.rules))
        masks = [rule.masks(bands.plane(k)) for k, rule in enumerate(self._class_rules)]
        return (np.stack(planes).view(np.uint8) for planes in zip(*masks, strict=True))

    def shrunken(self, step: int) -> Decision:
        """The same decision for maps of every `step`th row and column."""
        return replace(self, rules=self.rules and tuple(rule and rule.shrunken(step) for rule in self.rules))

    def save(self, path: Path, models: list[str]) -> dict:
        """Write the decision as JSON, and return what was written. `models`: their names, to label the weights.

        A single threshold is written as a number, several as a list.
        """
        weights = {} if self.mix is None else dict(zip(models, self.mix.weights, strict=True))
        several = self.thresholds is None or len(self.thresholds) > 1
        values = {"threshold": self.thresholds if several else self.thresholds[0], **asdict(self), "weights": weights}
        del values["thresholds"]
        written = json.loads(json.dumps(values, default=str))
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
        threshold = saved.pop("threshold")
        saved["thresholds"] = (threshold,) if isinstance(threshold, int) else threshold and tuple(threshold)
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
