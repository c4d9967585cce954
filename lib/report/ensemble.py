"""Tables of the ensemble: the scores of its models, and the gain of each step of the decision."""

from __future__ import annotations

import numpy as np

from lib.competition import metrics
from lib.competition.metrics.bootstrap import paired_gain
from lib.config import Config
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import EnsembleWeights, equal, leave_one_out_gain
from lib.decision.fit import Fitted, mixture_scorer
from lib.decision.thresholds import EMPTY_THRESHOLD, cross_parts, fitted_thresholds
from lib.inference.checkpoints import Checkpoint
from lib.oof.evaluation import Evaluation
from lib.workspace import read_json


def member_rows(
    parts: list[Checkpoint], models: list[str], oof: Evaluation, fitted: Fitted, config: Config
) -> list[dict]:
    """A row for each model: its out-of-fold score over all folds' images with its own threshold, its weight, how much
    the ensemble loses without it (on a sample of pixels), and its training time."""
    rows = []
    everything = np.ones(len(oof.image_ids), bool)
    search = oof.binary and config.infer.threshold == "fit"
    mix = fitted.decision.mix or EnsembleWeights(equal(len(models)))
    added_by = leave_one_out_gain(mixture_scorer(oof, fitted, config), mix.weights)
    for i, (model, added) in enumerate(zip(models, added_by, strict=True)):
        thresholds = fitted_thresholds(oof, i, everything, config.competition) if search else None
        networks = [part for part in parts if part.model == model]
        seconds = sum(read_json(part.member.path / "done.json", {})["seconds"] for part in networks)
        score = metrics.score(config.competition, oof.class_counts(i, thresholds))
        rows.append(
            {
                "member": model, "folds": len(networks), "OOF score": score, "weight": float(mix.weights[i]),
                "adds": added, "seconds": float(seconds),
            }
        )  # fmt: skip
    return rows


def all_images_note(judged: list[Checkpoint], predicting: list[Checkpoint]) -> str:
    """Says whose scores the tables show, where other networks predict the test images."""
    folds = len({part.member.fold for part in judged})
    return (
        f"test images are predicted by {', '.join(part.name for part in predicting)}, trained on all images, of which "
        f"there can be no out-of-fold score; the scores above are of the members of {folds} fold(s) that were trained "
        "alike on the other images"
    )


def ensemble_rows(
    members: list[dict], oof: Evaluation, fitted: Fitted, folds: np.ndarray, config: Config
) -> list[dict]:
    """The ensemble beside its best and mean member, and what each step gains on images that neither the step was fitted
    on nor the best member chosen on. There are no gains where all images are of one group."""
    scores, competition = [row["OOF score"] for row in members], config.competition
    decision, groups = fitted.decision, oof.groups
    search = oof.binary and config.infer.threshold == "fit"
    crossed = fitted.crossed

    def row(name: str, score: float, gain: object = None) -> dict:
        return {"": name, "OOF score": score, f"gain (95 % over {len(set(groups))} groups)": gain}

    def against(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict:
        return row(name, metrics.score(competition, ours), paired_gain(competition, ours, theirs, groups))

    rows = [
        row("best member", max(scores)),
        row("mean member", sum(scores) / len(scores)),
        row("ensemble", decision.score),
    ]
    if crossed is None:
        rows.append(row("all images are of one group: on others nothing was tried", None))
        return rows + _decided(decision, config)
    alone = crossed_best_model(oof, len(members), folds, config)
    rows += [
        row(f"fitted on {crossed.by}:", None),
        row("best member, chosen there", metrics.score(competition, alone)),
        against("ensemble, over the best member", crossed.decided, alone),
    ]
    if decision.mix is not None:
        rows.append(against("its mean and weights, over equal ones", crossed.mixed, crossed.equal))
    if decision.gates is not None:
        rows.append(against("its class gate, over none", crossed.gated, crossed.mixed))
    if search or config.infer.postprocess or config.infer.gated or decision.left_out:
        rows.append(against("its decision, over 0.5 or argmax", crossed.decided, crossed.mixed_half))
    if search and config.infer.postprocess:
        rows.append(against("the same, over a threshold", crossed.decided, crossed.mixed))
    return rows + _decided(fitted.decision, config)


def crossed_best_model(oof: Evaluation, models: int, folds: np.ndarray, config: Config) -> np.ndarray:
    """Counts (N, C, 3) of images, each predicted by the model, and its threshold, that score best on other groups'
    images (`cross_parts`)."""
    found, search = oof.class_counts(0).copy(), oof.binary and config.infer.threshold == "fit"
    for images, others in cross_parts(folds, oof.groups):
        decided = [
            oof.class_counts(i, fitted_thresholds(oof, i, others, config.competition) if search else None)
            for i in range(models)
        ]
        best = max(decided, key=lambda counts: metrics.score(config.competition, counts[others]))
        found[images] = best[images]
    return found


def _decided(decision: Decision, config: Config) -> list[dict]:
    """Rows of the decision's thresholds, rules, gates and factors."""
    numbers: dict[str, object] = {}
    thresholds = decision.thresholds if decision.rules is None else None
    for name, threshold in zip(config.competition.classes, thresholds or (), strict=False):
        title = f"{name}: threshold" if len(thresholds) > 1 else "threshold"
        numbers[title] = "none: answers are empty" if threshold == EMPTY_THRESHOLD else threshold / 255
    rules = [rule for rule in decision.rules or () if rule is not None]
    for name, rule in zip(config.competition.classes, rules, strict=False):
        of = f"{name}: " if len(rules) > 1 else ""
        numbers |= {
            f"{of}drawn from": rule.low / 255, f"{of}accepted from": max(rule.low, rule.high) / 255,
            f"{of}smallest object, pixels": rule.area,
        }  # fmt: skip
        if decision.thresholds is not None:
            numbers[f"{of}largest hole filled, pixels"] = rule.hole
        numbers[f"{of}only the largest object"] = str(rule.largest).lower()
    for name, values in (("gates of the classes", decision.gates), ("factors of the classes", decision.factors)):
        if values is not None:
            numbers[name] = " ".join(f"{value:.2f}" for value in values)
    if decision.left_out:  # label 0 is background
        numbers["classes never answered"] = ", ".join(config.competition.classes[i - 1] for i in decision.left_out)
    return [{"": name, "OOF score": value} for name, value in numbers.items()]
