"""Pseudo-label rounds, and labels that may be wrong. 04 makes both."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import tables
from lib.config import Config
from lib.report.charts import Line, line_chart, scatter
from lib.report.sections.blocks import Chart, Gallery, GalleryLine, ReportSection, Table, copied_picture
from lib.training.rounds import round_scores
from lib.workspace import Workspace

MAX_SUSPECT_ROWS = 200  # rows of the table
MAX_CHART_TILES = 1000  # points of the chart
SUSPECT_COLUMNS = ["miou", "short", "seen_miou", "seen_short", "doubt", "object_pixels"]  # columns of a suspect


def rounds(workspace: Workspace, config: Config) -> ReportSection | None:
    paths = sorted(workspace.root.glob("pseudo/round*/tiles.csv"), key=lambda path: int(path.parent.name[5:]))
    if not paths:
        return None
    whole = config.model_copy(update={"train": config.train.model_copy(update={"round": 0})})
    scores = round_scores(whole, workspace)
    rows, galleries = [], []
    for path in paths:
        tiles = tables.read(path, tables.PSEUDO_TILES, "04_pseudo_label.py")
        pixels = tiles.filter(regex="^px_(?!(background|ignore)$)").sum(axis=1)
        for fold, of_fold in tiles.groupby("fold"):
            rows.append(
                {
                    "round": int(path.parent.name[5:]), "for fold": "any" if fold < 0 else int(fold),
                    "images": of_fold["image_id"].nunique(), "tiles kept": len(of_fold),
                    "with object": float((pixels[of_fold.index] > 0).mean()),
                    "mean confidence": float(of_fold["confidence"].mean()),
                }
            )  # fmt: skip
        galleries.append(_kept(workspace, path.parent, tiles))
    points = list(enumerate(scores))
    flattered = "The labels come from the whole ensemble, so scores of later rounds are too high."
    note = "" if config.pseudo.source == "per_fold" else flattered
    return ReportSection(
        "pseudo", "Pseudo-labels",
        [
            Chart("Mean member by round", line_chart([Line("members", points, dots=True)], "round", "OOF score"), note),
            Table("Tiles kept", rows), *galleries,
        ],
        made_by="04_pseudo_label_round*",
    )  # fmt: skip


def _kept(workspace: Workspace, folder: Path, tiles: pd.DataFrame) -> Gallery:
    """The pictures of a round's tiles (lib/pseudo/pictures.py), the most confident first."""
    drawn = {path.stem: path for path in (folder / "pictures").glob("*.jpg")}
    shown = tiles[tiles["tile_id"].isin(drawn)].sort_values("confidence", ascending=False, kind="stable")
    items = [
        GalleryLine(
            f"{name}: {confidence:.4f}", [copied_picture(workspace, drawn[name], f"pseudo_{folder.name}", name)]
        )
        for name, confidence in zip(shown["tile_id"], shown["confidence"], strict=True)
    ]
    note = "Image, label, probability and confidence of the most and the least confident tiles that are kept."
    return Gallery(f"Tiles of round {folder.name[5:]}", items, note)


def suspects(workspace: Workspace, config: Config) -> ReportSection | None:
    folder = workspace.clean_dir
    if not (folder / "tiles.csv").is_file():
        return None
    tiles = tables.read(folder / "tiles.csv", tables.CLEAN_TILES, "04_pseudo_label.py --clean")
    images = tables.read(folder / "images.csv", tables.CLEAN_IMAGES, "04_pseudo_label.py --clean")
    found = tiles[tiles["suspect"]]
    shown = found.head(MAX_SUSPECT_ROWS)[["tile_id", "image_id", *SUSPECT_COLUMNS, "action"]]
    pictures = [
        GalleryLine(path.stem, [copied_picture(workspace, path, "clean", path.stem)])
        for path in sorted(folder.glob("*.jpg"))
    ]
    points = list(zip(tiles["miou"], tiles["doubt"], tiles["tile_id"], strict=True))
    return ReportSection(
        "suspects", "Label suspects",
        [
            Table("Suspects, worst first", shown.to_dict("records")),
            Gallery("Pictures", pictures, "Image, label, out-of-fold prediction."),
            Chart("Agreement of all tiles",
                  scatter(points[:MAX_CHART_TILES], "mean IoU", "short of expectation", named=False),
                  "Low agreement proves nothing where members expected no better. Tiles that lie high are suspects."),
            Table("Images, worst first", images.head(MAX_SUSPECT_ROWS).to_dict("records")),
        ],
        [("tiles judged", len(tiles)), ("suspects", len(found)), ("whole images", int(images["suspect"].sum()))]
        + [(action, int(n)) for action, n in found["action"].value_counts().items()],
        "Tiles whose label agrees with members far less than the members expect. Two kinds of members are asked: those "
        "that never saw the tile and, where there are any, those that trained on it (seen).",
        made_by="04_clean",
    )  # fmt: skip
