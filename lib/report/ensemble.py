"""What each member is worth, and what the ensemble adds."""

from __future__ import annotations

import numpy as np

from lib.competition import metrics
from lib.config import Config
from lib.inference.decision import Decision, best_threshold
from lib.inference.evaluate import HALF, Evaluation
from lib.inference.members import Part
from lib.workspace import read_json


def member_rows(parts: list[Part], systems: list[str], oof: Evaluation, config: Config) -> list[dict]:
    """Each system's out-of-fold score over all folds' images, by its own threshold, and its training time."""
    rows = []
    everything = np.ones(len(oof.image_ids), bool)
    search = oof.binary and config.infer.threshold == "fit"
    for i, system in enumerate(systems):
        threshold = best_threshold(oof, i, everything, config.competition) if search else HALF
        own = [part for part in parts if part.system == system]
        seconds = sum(read_json(part.member.path / "done.json", {})["seconds"] for part in own)
        score = metrics.score(config.competition, oof.confusions(i, threshold))
        rows.append({"member": system, "folds": len(own), "OOF score": score, "seconds": float(seconds)})
    return rows


def ensemble_rows(members: list[dict], decision: Decision) -> list[dict]:
    """Best and mean member against the ensemble."""
    scores = [row["OOF score"] for row in members]
    rows = [
        {"": "best member", "OOF score": max(scores)},
        {"": "mean member", "OOF score": sum(scores) / len(scores)},
        {"": "ensemble", "OOF score": decision.score},
    ]
    if decision.threshold is not None:
        rows += [
            {"": "ensemble, threshold fitted on other folds", "OOF score": decision.cross_score},
            {"": "ensemble, threshold 0.5", "OOF score": decision.half_score},
            {"": "threshold", "OOF score": decision.threshold / 255},
        ]
    return rows
