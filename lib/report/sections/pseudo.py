"""Pseudo-label rounds, and labels that may be wrong: what 04 made."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import tables
from lib.config import Config
from lib.report.charts import Line, line_chart, scatter
from lib.report.sections.blocks import Chart, Gallery, Section, Shown, Table, beside
from lib.training.rounds import round_scores
from lib.workspace import Workspace

SUSPECTS = 200  # rows of a table
SHOWN = 1000  # points of a chart
NUMBERS = ["miou", "short", "seen_miou", "seen_short", "doubt", "object_pixels"]  # of a suspect


def rounds(workspace: Workspace, config: Config) -> Section | None:
    paths = sorted(workspace.root.glob("pseudo/round*/tiles.csv"), key=lambda path: int(path.parent.name[5:]))
    if not paths:
        return None
    whole = config.model_copy(update={"train": config.train.model_copy(update={"round": 0})})
    scores = round_scores(whole, workspace)
    rows, galleries = [], []
    for path in paths:
        tiles = tables.read(path, tables.PSEUDO_TILES, "04_pseudo_label.py")
        pixels = tiles.filter(regex="^px_(?!(background|ignore)$)").sum(axis=1)
        for fold, own in tiles.groupby("fold"):
            rows.append(
                {
                    "round": int(path.parent.name[5:]), "for fold": "any" if fold < 0 else int(fold),
                    "images": own["image_id"].nunique(), "tiles kept": len(own),
                    "with object": float((pixels[own.index] > 0).mean()),
                    "mean confidence": float(own["confidence"].mean()),
                }
            )  # fmt: skip
        galleries.append(_kept(workspace, path.parent, tiles))
    points = list(enumerate(scores))
    note = (
        "" if config.pseudo.source == "per_fold" else "Labels are of the whole ensemble: later rounds' scores flatter."
    )
    return Section(
        "pseudo", "Pseudo-labels",
        [
            Chart("Mean member by round", line_chart([Line("members", points, dots=True)], "round", "OOF score"), note),
            Table("Tiles kept", rows), *galleries,
        ],
        made_by="04_pseudo_label_round*",
    )  # fmt: skip


def _kept(workspace: Workspace, folder: Path, tiles: pd.DataFrame) -> Gallery:
    """What a round learns from: its pictures (lib/pseudo/pictures.py), the surest first."""
    drawn = {path.stem: path for path in (folder / "pictures").glob("*.jpg")}
    shown = tiles[tiles["tile_id"].isin(drawn)].sort_values("confidence", ascending=False, kind="stable")
    items = [
        Shown(f"{name}: {confidence:.4f}", [beside(workspace, drawn[name], f"pseudo_{folder.name}", name)])
        for name, confidence in zip(shown["tile_id"], shown["confidence"], strict=True)
    ]
    note = "Image, label, its probability, and how confident the tile is; of those kept, the surest and the least sure."
    return Gallery(f"Tiles of round {folder.name[5:]}", items, note)


def suspects(workspace: Workspace, config: Config) -> Section | None:
    folder = workspace.clean_dir
    if not (folder / "tiles.csv").is_file():
        return None
    tiles = tables.read(folder / "tiles.csv", tables.CLEAN_TILES, "04_pseudo_label.py --clean")
    images = tables.read(folder / "images.csv", tables.CLEAN_IMAGES, "04_pseudo_label.py --clean")
    found = tiles[tiles["suspect"]]
    shown = found.head(SUSPECTS)[["tile_id", "image_id", *NUMBERS, "action"]]
    pictures = [
        Shown(path.stem, [beside(workspace, path, "clean", path.stem)]) for path in sorted(folder.glob("*.jpg"))
    ]
    points = list(zip(tiles["miou"], tiles["doubt"], tiles["tile_id"], strict=True))
    return Section(
        "suspects", "Label suspects",
        [
            Table("Suspects, worst first", shown.to_dict("records")),
            Gallery("Pictures", pictures, "Image, label, out-of-fold prediction."),
            Chart("Agreement of all tiles", scatter(points[:SHOWN], "mean IoU", "short of expectation", named=False),
                  "Low agreement where members expected none better proves nothing: what lies high is listed."),
            Table("Images, worst first", images.head(SUSPECTS).to_dict("records")),
        ],
        [("tiles judged", len(tiles)), ("suspects", len(found)), ("whole images", int(images["suspect"].sum()))]
        + [(action, int(n)) for action, n in found["action"].value_counts().items()],
        "Tiles whose label members agree with far less than they expect of themselves: those that never saw it and, "
        "where another fold has any, those that trained on it (seen).",
        made_by="04_clean",
    )  # fmt: skip
