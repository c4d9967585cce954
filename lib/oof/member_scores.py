"""A member's out-of-fold scores, by each kind of its weights, and anew where the metric or the windows have changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from torch import nn

from lib import tables
from lib.inference.checkpoints import checkpoints_of
from lib.inference.members import load_checkpoint
from lib.models.weight_files import LAST_AS_FALLBACK
from lib.oof.score_images import Scored, images_of_fold, score_images
from lib.session import Session
from lib.stage import Stage
from lib.stages import score_stage, scored_alike
from lib.workspace import Member, read_json, write_json

KINDS = ("swa", "ema", "best", "last", "mean", "soup", "epochs")


def scores_of(session: Session, member: Member, score: Callable[[list[nn.Module]], Scored]) -> dict[str, Scored]:
    """Kind of weights -> their scores: of `swa`, and of those that `infer.checkpoints` names and the member has."""
    config, results = session.config, {}
    for which in KINDS:
        exists = which in LAST_AS_FALLBACK or (member.path / f"{which}_weights.pt").is_file()
        exists = exists or (which == "epochs" and config.train.checkpoints)
        if which == "swa" or (which in config.infer.checkpoints and exists):
            networks = [load_checkpoint(session, checkpoint) for checkpoint in checkpoints_of([member], [which])]
            results[which] = score(networks)
    return results


def as_json(results: dict[str, Scored]) -> dict:
    """Entries of done.json."""
    return {
        "score": results["swa"].score if results else None,
        "scores": {kind: found.score for kind, found in results.items()},
        "images": results["swa"].images if results else {},
    }


def score_again(session: Session, member: Member) -> None:
    """Score a finished member again where something that scores depend on has changed.

    Its networks stay, and so does what was made with them.
    """
    validation = images_of_fold(session, member.fold)
    done = read_json(member.path / "done.json", {})
    if not validation or not done:
        return
    stage = _stage(session, member, validation)
    if stage.up_to_date(silent=True):
        return
    if not stage.record and scored_alike(member, session.config):  # by a version that kept no manifest of scores
        stage.finish([member.path / "done.json"])
        return
    stage.up_to_date()  # says why
    if not (member.path / "trained.json").is_file():  # of such a version: its identity must not change with its scores
        shutil.copyfile(member.path / "done.json", member.path / "trained.json")
    precision = done["precision"]
    results = scores_of(session, member, lambda networks: score_images(session, networks, validation, precision))
    write_json(member.path / "done.json", {**done, **as_json(results)})
    _stage(session, member, validation).finish([member.path / "done.json"])
    print(f"03: {member.name}: OOF {results['swa'].score:.4f}, scored again")


def note_scores(session: Session, member: Member) -> None:
    """Write the manifest of the scores that a training has just made."""
    validation = images_of_fold(session, member.fold)
    if validation:
        _stage(session, member, validation).finish([member.path / "done.json"])


def _stage(session: Session, member: Member, validation: list[tuple[str, str]]) -> Stage:
    ids = [image_id for image_id, _ in validation]
    images = tables.read(session.workspace.images, tables.IMAGES, "01_preprocess.py")  # with the paths that 01 noted
    rows = images[images["image_id"].isin(ids)]
    return score_stage(member, session.config, session.workspace, rows)
