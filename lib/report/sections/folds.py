"""The folds: balance and groups."""

from __future__ import annotations

from lib import tables
from lib.config import Config
from lib.data.folds import imbalance
from lib.report.sections.blocks import ReportSection, Table
from lib.workspace import Workspace


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    if not (workspace.folds.is_file() and workspace.images.is_file()):
        return None
    folds = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py").set_index("image_id")
    folds = folds[folds["image_id"].isin(images.index)]
    pixels = images.filter(regex="^px_(?!ignore$)")
    balance = imbalance(folds, pixels).reset_index()
    groups = [
        {"group": name, "fold": int(rows["fold"].iloc[0]), "images": len(rows), "ids": ", ".join(rows["image_id"][:12])}
        for name, rows in folds.groupby("group")
    ]
    return ReportSection(
        "folds", "Folds",
        [
            Table("Balance", balance.to_dict("records"), "Classes: each fold's share of all pixels of the class."),
            Table("Groups", groups, "Images of one group stay in one fold.") if len(groups) < len(folds) else None,
        ],
        [("folds", int(folds["fold"].max()) + 1), ("groups", len(groups))],
        made_by="02_make_folds",
    )  # fmt: skip
