"""The ensemble and decision that 05 chose last, or those of a package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lib.artifacts.read import read_json
from lib.config import Config, load
from lib.config.command_line import given_options
from lib.config.load import saved_config, workspace_of
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.files import file_fingerprint, short_hash
from lib.imaging.roi import boxes_file, check_boxes, read_boxes
from lib.inference.checkpoints import Checkpoint, named_checkpoints
from lib.inference.members import check_crops
from lib.inference.sources import roi_of
from lib.package.layout import BOXES, MEMBERS, check_package
from lib.submissions.ledger import path_of, read_ledger
from lib.workspace import Workspace

FIXED_OPTIONS = (
    "infer.experiments", "infer.checkpoints", "infer.folds", "infer.ensemble_weights", "infer.averaging",
    "infer.power", "infer.gate", "infer.threshold", "infer.postprocess", "infer.coarse", "infer.time_limit",
)  # fmt: skip
"""What the members and the decision were chosen with. Another value would be ignored."""
CACHE = ".predict"  # in the folder of outputs: choices that are measured for a package


@dataclass(frozen=True)
class TrainedEnsemble:
    """Checkpoints and the decision that was fitted for them, with the options that they predict with.

    `workspace`: where measured choices are kept.
    """

    config: Config
    workspace: Workspace
    checkpoints: list[Checkpoint]
    decision: Decision

    @property
    def digest(self) -> str:
        """Changes where labels or probabilities may change."""
        boxes = [file_fingerprint(file) for file in boxes_file(self.config.infer.roi)]
        infer = self.config.infer.model_dump(exclude={"max_gib"})
        stamps = [checkpoint.stamp for checkpoint in self.checkpoints]
        settings = self.config.competition
        pixels = [settings.pixels.model_dump(), settings.classes, settings.background]
        return short_hash([stamps, repr(self.decision), infer, boxes, pixels, self.config.preprocess.blank_tolerance])


def open_ensemble(source: Path, options: list[str], out: Path) -> TrainedEnsemble:
    """The ensemble of a configuration's workspace, or of a package's folder.

    The options are those that 05 answered with, and over them `options` of the command line. Raises UserError where
    nothing was trained or answered yet, where members changed since, and for options that cannot be changed.
    """
    for option in given_options(options):
        if option in FIXED_OPTIONS:
            raise UserError(
                f"--{option} is part of what 05 chose or fitted, so predict cannot change it; run "
                "05_infer_ensemble.py with it, or leave it out"
            )
    found = _of_package(source, options, out) if source.is_dir() else _of_workspace(source, options)
    for option in ("window", "tta"):
        if getattr(found.config.infer, option) == "auto":
            raise UserError(f"infer.{option} auto is chosen by 05 on training images; leave it out, or give a value")
    return found


def _of_workspace(path: Path, options: list[str]) -> TrainedEnsemble:
    asked = load(path, options)
    workspace = Workspace(workspace_of(asked))
    submission = _newest_submission(workspace, path)
    about = read_json(submission.with_suffix(".json"), {})
    if _text(about["decision"]) != _text(read_json(workspace.decision, {})):
        raise UserError(f"{workspace.decision} does not belong to {submission}; run 05_infer_ensemble.py again")
    checkpoints = named_checkpoints(about["members"], workspace)
    for member in {checkpoint.member.name: checkpoint.member for checkpoint in checkpoints}.values():
        if about["made_from"][member.name] != file_fingerprint(member.trained):
            raise UserError(f"{member.name} was trained again since {submission} was made; run 05_infer_ensemble.py")
    config = saved_config(submission.with_suffix(".yaml"), options)
    train = config.train.model_copy(update={"device": asked.train.device, "threads": asked.train.threads})
    config = config.model_copy(update={"plugins": asked.plugins, "workspace": asked.workspace, "train": train})
    return _with_decision(config, workspace, checkpoints, workspace.decision)


def _newest_submission(workspace: Workspace, config: Path) -> Path:
    """The newest one that 05 made: others, which were only uploaded, have no JSON and YAML beside them."""
    for file in reversed(list(read_ledger(workspace)["file"])):
        path = path_of(workspace, file)
        if path.with_suffix(".json").is_file() and path.with_suffix(".yaml").is_file():
            return path
    raise UserError(
        f"{workspace.submissions} has no answer of 05, which chooses the members and fits the decision; run "
        f"03_train.py and 05_infer_ensemble.py with {config} first"
    )


def _of_package(folder: Path, options: list[str], out: Path) -> TrainedEnsemble:
    home = Workspace(folder)
    check_package(folder)
    config = saved_config(folder / "config.yaml", options)
    plugins = [str(folder / name) for name in config.plugins]
    if config.infer.roi == BOXES:
        config = config.model_copy(update={"infer": config.infer.model_copy(update={"roi": str(folder / BOXES)})})
    config = config.model_copy(update={"workspace": str(out / CACHE), "plugins": plugins})
    checkpoints = named_checkpoints(read_json(folder / MEMBERS, {})["members"], home)
    return _with_decision(config, Workspace(out / CACHE), checkpoints, home.decision)


def _with_decision(
    config: Config, workspace: Workspace, checkpoints: list[Checkpoint], decision_file: Path
) -> TrainedEnsemble:
    decision = Decision.load(decision_file)
    # Networks are asked for presence where the decision looks at it.
    fitted = {"gate": "fit" if decision.gates is not None else 0.0, "time_limit": 0, "roi": roi_of(config)}
    config = config.model_copy(update={"infer": config.infer.model_copy(update=fitted)})
    return TrainedEnsemble(config, workspace, checkpoints, decision)


def check_regions(ensemble: TrainedEnsemble, names: list[str], roi_is_given: bool) -> None:
    """Raises UserError where `infer.roi` names boxes of other images, or networks would see another kind of crops.

    `names`: the images. `roi_is_given`: the user named the CSV in this call, so that images without a box are meant.
    """
    roi = ensemble.config.infer.roi
    check_crops(ensemble.checkpoints, ensemble.config)
    missing = [name for file in boxes_file(roi) for name in names if name not in read_boxes(file)]
    if missing and not roi_is_given:
        everywhere = (
            ", or look everywhere with --infer.roi content" if ensemble.config.preprocess.mode == "tiles" else ""
        )
        raise UserError(
            f"the answers of 05 looked at boxes ({roi}), and {missing[0]!r} has none ({len(missing)} such images); "
            f"give boxes of these images with --infer.roi FILE{everywhere}"
        )
    check_boxes("infer.roi", roi, "given", names)


def _text(value: object) -> str:
    """Equal for equal values, NaN too."""
    return json.dumps(value, sort_keys=True)
