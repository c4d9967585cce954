"""A member's out-of-fold scores, by each kind of its weights, and anew where the metric or the windows have changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from lib.competition.dataset import Competition
from lib.config import Config
from lib.inference.checkpoints import checkpoints_of
from lib.models.weight_files import LAST_AS_FALLBACK, load_network
from lib.oof.score_images import Scored, images_of_fold, score
from lib.stages import score_stage, scored_alike
from lib.workspace import Member, Workspace, read_json, write_json

KINDS = ("swa", "ema", "best", "last", "mean", "soup", "epochs")


def scores_of(
    member: Member, config: Config, device: torch.device, scored: Callable[[list[nn.Module]], Scored]
) -> dict[str, Scored]:
    """Kind of weights -> their scores: of `swa`, and of those that `infer.checkpoints` names and the member has."""
    results: dict[str, Scored] = {}
    for which in KINDS:
        there = which in LAST_AS_FALLBACK or (member.path / f"{which}_weights.pt").is_file()
        kept = there or (which == "epochs" and config.train.checkpoints)
        if which == "swa" or (which in config.infer.checkpoints and kept):
            networks = [load_network(member.path, part.weights, device) for part in checkpoints_of([member], [which])]
            results[which] = scored(networks)
    return results


def as_json(results: dict[str, Scored]) -> dict:
    """Entries of done.json."""
    return {
        "score": results["swa"].score if results else None,
        "scores": {kind: found.score for kind, found in results.items()},
        "images": results["swa"].images if results else {},
    }


def score_again(
    member: Member, config: Config, competition: Competition, workspace: Workspace, folds: pd.DataFrame,
    images: pd.DataFrame, device: torch.device,
) -> None:  # fmt: skip
    """Score a finished member anew where what scores depend on has changed. Its networks stay, and so does what was
    made with them."""
    validation = images_of_fold(workspace, folds, member.fold)
    done = read_json(member.path / "done.json", {})
    if not validation or not done:
        return
    rows = images[images["image_id"].isin([image_id for image_id, _ in validation])]
    stage = score_stage(member, config, workspace, rows)
    if stage.up_to_date(silent=True):
        return
    if not stage.record and scored_alike(member, config):  # by a version that kept no manifest of scores
        stage.finish([member.path / "done.json"])
        return
    stage.up_to_date()  # says why
    if not (member.path / "trained.json").is_file():  # of such a version: its identity must not change with its scores
        shutil.copyfile(member.path / "done.json", member.path / "trained.json")
    precision = done["precision"]
    results = scores_of(
        member, config, device,
        lambda networks: score(networks, validation, config, competition, device, precision),
    )  # fmt: skip
    write_json(member.path / "done.json", {**done, **as_json(results)})
    score_stage(member, config, workspace, rows).finish([member.path / "done.json"])
    print(f"03: {member.name}: OOF {results['swa'].score:.4f}, scored again")


def note_scores(
    member: Member, config: Config, workspace: Workspace, folds: pd.DataFrame, images: pd.DataFrame
) -> None:
    """Write the manifest of scores that a training has just made."""
    ids = [image_id for image_id, _ in images_of_fold(workspace, folds, member.fold)]
    if ids:
        rows = images[images["image_id"].isin(ids)]
        score_stage(member, config, workspace, rows).finish([member.path / "done.json"])
