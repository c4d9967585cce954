"""Pseudo-label rounds, and labels that may be wrong: what 04 made."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib import tables
from lib.config import Config
from lib.pseudo.rounds import round_scores
from lib.report.charts import Line, line_chart
from lib.report.sections.blocks import Chart, Gallery, Section, Shown, Table, beside
from lib.workspace import Workspace

SUSPECTS = 200  # rows of the table


def rounds(workspace: Workspace, config: Config) -> Section | None:
    paths = sorted(workspace.root.glob("pseudo/round*/tiles.csv"), key=lambda path: int(path.parent.name[5:]))
    if not paths:
        return None
    whole = config.model_copy(update={"train": config.train.model_copy(update={"round": 0})})
    scores = round_scores(whole, workspace)
    rows = []
    for path in paths:
        tiles = tables.read(path, tables.PSEUDO_TILES, "04_pseudo_label.py")
        pixels = tiles.filter(regex="^px_(?!background|ignore)").sum(axis=1)
        for fold, own in tiles.groupby("fold"):
            rows.append(
                {
                    "round": int(path.parent.name[5:]), "for fold": "any" if fold < 0 else int(fold),
                    "images": own["image_id"].nunique(), "tiles kept": len(own),
                    "with object": float((pixels[own.index] > 0).mean()),
                    "mean confidence": float(own["confidence"].mean()),
                }
            )  # fmt: skip
    points = list(enumerate(scores))
    note = (
        "" if config.pseudo.source == "per_fold" else "Labels are of the whole ensemble: later rounds' scores flatter."
    )
    return Section(
        "pseudo", "Pseudo-labels",
        [
            Chart("Mean member by round", line_chart([Line("members", points, dots=True)], "round", "OOF score"), note),
            Table("Tiles kept", rows),
        ],
        made_by="04_pseudo_label_round*",
    )  # fmt: skip


def suspects(workspace: Workspace, config: Config) -> Section | None:
    path = workspace.clean_dir / "tiles.csv"
    if not path.is_file():
        return None
    table = tables.read(path, tables.CLEAN_TILES, "04_pseudo_label.py --clean")
    found = table[table["suspect"]]
    shown = found.head(SUSPECTS)[["tile_id", "image_id", "miou", "surely_wrong", "object_pixels", "action"]]
    pictures = [
        Shown(path.stem, [beside(workspace, path, "clean", path.stem)])
        for path in sorted(workspace.clean_dir.glob("*.jpg"))
    ]
    return Section(
        "suspects", "Label suspects",
        [
            Table("Suspects, worst first", shown.to_dict("records")),
            Gallery("Pictures", pictures, "Image, label, out-of-fold prediction."),
            Chart("Agreement of all tiles", _agreement(table), "Share of the tiles that agree less with their label."),
        ],
        [("tiles judged", len(table)), ("suspects", len(found))]
        + [(action, int(n)) for action, n in found["action"].value_counts().items()],
        "Tiles whose labels are contradicted by members that never saw them.",
        made_by="04_clean",
    )  # fmt: skip


def _agreement(table: pd.DataFrame):
    values = np.sort(table["miou"].to_numpy(float))
    points = list(zip(values.tolist(), (np.arange(1, len(values) + 1) / len(values)).tolist(), strict=True))
    return line_chart([Line("tiles", points)], "mean IoU", "share of tiles")
