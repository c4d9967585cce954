"""The data: sizes, classes, objects, tiles, and near-duplicates."""

from __future__ import annotations

import pandas as pd

from lib import tables
from lib.config import Config
from lib.report.charts import bars, histogram
from lib.report.sections.blocks import Chart, ReportSection, Table, copied_picture, picture, stage_facts
from lib.workspace import Workspace, read_json


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    if not workspace.images.is_file():
        return None
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    groups = _groups(workspace)
    summary = read_json(workspace.fingerprint, {})
    shares, objects = summary.get("share", {}), stage_facts(workspace, "objects")
    train = images[images["split"] == "train"]
    blocks = [
        Table("Splits", split_rows(images)),
        Chart("Share of labeled pixels", bars([(name, 100 * v) for name, v in shares.items() if v], "%")),
        Chart(
            "Sizes of objects", histogram(objects["edges"], objects["counts"], "pixels", "objects"),
            "Connected components of the labels, counted on maps of at most 900 pixels.",
        ) if objects.get("edges") else None,
        Table("Images", [_image_row(workspace, row, groups) for row in images.to_dict("records")],
              "Full colour: kept tiles. Orange: only dropped tiles. Pale: no tile. Thin lines: labels."),
        Table("Near-duplicates", _leak_rows(workspace), "Found by content. Training images are put into one group."),
    ]  # fmt: skip
    return ReportSection(
        "data", "Data", blocks,
        [
            ("training images", len(train)), ("test images", int((images["split"] == "test").sum())),
            ("tiles kept", int(train["n_tiles"].sum())), ("tiles dropped", int(train["n_dropped"].sum())),
            ("largest image", "{} × {}".format(*max(zip(images["height"], images["width"], strict=True), key=_area))),
        ],
        made_by="01_preprocess",
    )  # fmt: skip


def split_rows(images: pd.DataFrame) -> list[dict]:
    """A row for each split and source of images.csv."""
    rows = []
    for (split, source), subset in images.groupby(["split", "source"], sort=False):
        pixels = subset["height"] * subset["width"]
        rows.append(
            {
                "split": split if source == "competition" else f"{split} ({source})", "images": len(subset),
                "height": _span(subset["height"]), "width": _span(subset["width"]),
                "megapixels": float(pixels.sum() / 1e6),
                "blank": float((subset["blank_share"] * pixels).sum() / pixels.sum()),
                "tiles kept": int(subset["n_tiles"].sum()), "dropped": int(subset["n_dropped"].sum()),
            }
        )  # fmt: skip
    return rows


def _image_row(workspace: Workspace, row: dict, groups: dict[str, str]) -> dict:
    pixels = {key[3:]: n for key, n in row.items() if key.startswith("px_") and key != "px_ignore"}
    total = max(1, sum(pixels.values()))
    return {
        "": picture(workspace, workspace.report / f"images/{row['image_id']}.jpg", row["image_id"]),
        "image": row["image_id"], "split": row["split"], **({"group": groups.get(row["image_id"])} if groups else {}),
        "height": row["height"], "width": row["width"], "blank": row["blank_share"],
        "kept": row["n_tiles"], "dropped": row["n_dropped"],
        **{name: n / total if row["split"] == "train" else None for name, n in pixels.items() if name != "background"},
    }  # fmt: skip


def _groups(workspace: Workspace) -> dict[str, str]:
    if not workspace.folds.is_file():
        return {}
    folds = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
    return dict(zip(folds["image_id"], folds["group"], strict=True))


def _leak_rows(workspace: Workspace) -> list[dict]:
    found = read_json(workspace.leaks_dir / "leaks.json", [])
    return [
        {
            "": copied_picture(
                workspace, workspace.leaks_dir / leak.pop("picture"), "leaks", f"{leak['a']}, {leak['b']}"
            ),
            **leak,
        }
        for leak in found
    ]


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
