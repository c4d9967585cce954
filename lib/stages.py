"""What every stage is made from: the options that say so (lib/config/affects.py), tables, and the content of files.

organiser's images, labels, plugins -> 01 -> images.csv, tiles.csv (with hashes of what was read and cut)
images.csv, metadata                -> 02 -> folds.csv
tiles.csv, folds.csv, local weights -> 03 -> runs/<experiment>/<member>/trained.json; its scores -> done.json
images.csv, trained.json            -> 04 -> pseudo/round<r>/tiles.csv
images.csv, folds.csv, trained.json -> 05 -> the answers; its report has a manifest of its own
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib import tables
from lib.competition.dataset import Competition, ImageInfo
from lib.competition.labels.sources import label_sources
from lib.competition.metadata import metadata_files, pixel_size_files
from lib.config import Config, saved_values
from lib.config.affects import settings_of
from lib.imaging.reader import files_of
from lib.imaging.roi import boxes_file
from lib.plugins import plugins_of
from lib.stage import Stage, differences, jsonable
from lib.workspace import Member, Workspace, file_fingerprint, member_at, short_hash

ANSWERS = "05_infer_ensemble"


def tiles_stage(config: Config, workspace: Workspace, competition: Competition, images: list[ImageInfo]) -> Stage:
    """01."""
    splits = short_hash([(image.image_id, image.split) for image in images])
    contents = {
        "images": [file for image in images for file in files_of(image.path, config.competition.pixels)],
        "labels": label_sources(config.competition),
        "plugins": plugins_of(config.plugins, "tiles"),
    }
    settings = {**settings_of(config, "tiles"), "the images' splits": splits}
    return workspace.stage(
        "01_preprocess",
        settings,
        [*boxes_file(config.preprocess.roi), *pixel_size_files(config)],
        contents,
        lambda: options_then(workspace),
    )


def folds_stage(config: Config, workspace: Workspace, competition: Competition) -> Stage:
    """02."""
    metadata = metadata_files(config.competition)
    settings = {**settings_of(config, "folds"), "columns of folds.csv": list(tables.FOLDS)}
    contents = {"plugins": plugins_of(config.plugins, "folds")}
    return workspace.stage(
        "02_make_folds", settings, [workspace.images, *metadata], contents, lambda: options_then(workspace)
    )


def member_stage(member: Member, config: Config, workspace: Workspace, inputs: Iterable[Path]) -> Stage:
    """The training of a member of 03. `inputs`: the tables that it reads."""
    weights = Path(config.model.weights)
    contents = {
        "plugins": plugins_of(config.plugins, "member"),
        "model.weights": [weights] if weights.is_file() else [],
    }
    name = f"03_{member.name.replace('/', '_')}"
    return workspace.stage(name, settings_of(config, "member"), inputs, contents, lambda: options_of(member.path))


def score_stage(member: Member, config: Config, workspace: Workspace, images: pd.DataFrame) -> Stage:
    """A trained member's scores. `images`: its fold's rows of images.csv."""
    settings = {**settings_of(config, "score"), "the fold's images": short_hash(images.to_csv())}
    contents = {"plugins": plugins_of(config.plugins, "score")}
    inputs = [member.trained, *boxes_file(config.infer.roi), *pixel_size_files(config)]
    return workspace.stage(f"scores/{member.name.replace('/', '_')}", settings, inputs, contents)


def pseudo_stage(round_: int, config: Config, workspace: Workspace, members: list[Member]) -> Stage:
    """A round of 04."""
    files = [*boxes_file(config.infer.roi), *pixel_size_files(config)]
    inputs = [workspace.images, *(member.trained for member in members), *files]
    contents = {"plugins": plugins_of(config.plugins, "pseudo")}
    return workspace.stage(
        f"04_pseudo_label_round{round_}",
        settings_of(config, "pseudo"),
        inputs,
        contents,
        lambda: options_then(workspace),
    )


def clean_stage(config: Config, workspace: Workspace, members: list[Member]) -> Stage:
    """04 --clean."""
    files = [*boxes_file(config.infer.roi), *pixel_size_files(config)]
    inputs = [workspace.tiles, workspace.folds, *(member.trained for member in members), *files]
    contents = {"plugins": plugins_of(config.plugins, "clean")}
    return workspace.stage("04_clean", settings_of(config, "clean"), inputs, contents, lambda: options_then(workspace))


def answer_stage(config: Config, workspace: Workspace, competition: Competition, members: list[Member]) -> Stage:
    """05: out-of-fold maps, decision and answers."""
    sample = config.competition.submission.sample
    rows = [competition.root / sample] if sample else []
    trained = dict.fromkeys(member.trained for member in members)
    files = [*boxes_file(config.infer.roi), *pixel_size_files(config)]
    inputs = [workspace.images, workspace.folds, *rows, *trained, *files]
    contents = {"plugins": plugins_of(config.plugins, "answer")}
    return workspace.stage(ANSWERS, settings_of(config, "answer"), inputs, contents, lambda: options_then(workspace))


def report_stage(config: Config, workspace: Workspace) -> Stage:
    """05's tables, curves and pictures for the report, of the answers that its manifest tells of."""
    return workspace.stage("05_report", settings_of(config, "report"), [workspace.root / f"manifests/{ANSWERS}.json"])


def adopt_report(stage: Stage, answers: Stage, oof: Path) -> None:
    """A version whose 05 had one manifest made the report with the answers: note it, where it is as it would be."""
    pictures = answers.record.get("made_from", {}).get("option report.pictures")
    made = answers.record.get("format", 1) == 1 and not answers.changes() and oof.is_file()
    if made and not stage.record and pictures == stage.now["option report.pictures"]:
        answers.up_to_date(silent=True)  # which writes it anew
        stage.now[f"file {stage.places.named(answers.path)}"] = file_fingerprint(answers.path)
        stage.finish([oof])


def options_then(workspace: Workspace) -> dict[str, object]:
    """The options of the newest training, which stand for those of the stages around it."""
    trained = [path.parent for path in workspace.runs.glob("*/*_seed*/resolved.yaml") if member_at(path.parent)]
    newest = max(trained, key=lambda folder: (folder / "resolved.yaml").stat().st_mtime_ns, default=None)
    return options_of(newest) if newest else {}


def options_of(folder: Path) -> dict[str, object]:
    """The options that a member was trained with, by dotted name, as its folder says."""
    path = folder / "resolved.yaml"
    values = saved_values(path) if path.exists() else {}
    options: dict[str, object] = {}

    def add(section: dict, prefix: str) -> None:
        for name, value in section.items():
            options[prefix + name] = value
            if isinstance(value, dict):
                add(value, f"{prefix}{name}.")

    add(values, "")
    return options


def scored_alike(member: Member, config: Config) -> bool:
    """Whether a member was scored with today's options, as far as its saved options say."""
    then, now = options_of(member.path), settings_of(config, "score")
    made_from = {f"option {key}": jsonable(value) for key, value in then.items()}
    today = {f"option {key}": jsonable(value) for key, value in now.items()}
    return not list(differences(made_from, today, 1, {}))
