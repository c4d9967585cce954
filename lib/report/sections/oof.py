"""Out-of-fold scores of the ensemble, and galleries of its errors. 05 makes all of it."""

from __future__ import annotations

from dataclasses import replace

from lib.config import Config
from lib.imaging.draw import colour_of_class
from lib.report.charts import Line, line_chart, matrix, scatter
from lib.report.sections.blocks import (
    Chart,
    Gallery,
    GalleryLine,
    Layer,
    Picture,
    ReportSection,
    Table,
    picture,
    stage_facts,
)
from lib.workspace import Workspace

GALLERY_KINDS = {
    "worst": ("Worst", "By the image's own score."),
    "uncertain": (
        "Most uncertain",
        "Pixels are near the threshold; or, of classes that exclude one another, the likeliest is near the second.",
    ),
    "best": ("Best", ""),
}
PANEL_CAPTIONS = {"image": "image", "truth": "truth", "prediction": "prediction", "error": "error map"}


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    oof = stage_facts(workspace, "oof")
    if not oof:
        return None
    blocks = [
        Table("Classes", oof["classes"]),
        Table("Found, by size of object", oof["sizes"],
              "Thirds of the objects. Found: at least half of its pixels. On maps of at most 900 pixels."),
        _size_chart(oof["objects"]),
        _confusion(oof), _calibration(oof), _thresholds(oof),
        Table("Folds", oof["folds"]), Table("Groups", oof["groups"]),
        Table("Images, worst first", [_image_row(workspace, row) for row in oof["images"]]),
    ]  # fmt: skip
    return ReportSection(
        "oof", "Out-of-fold", blocks,
        [
            (oof["metric"].replace("_", " "), oof["score"]),
            *([(f"decision fitted on {oof['crossed_by']}", oof["cross_score"])]
              if oof.get("crossed_by") else []),
            *([("threshold 0.5", oof["half_score"])] if oof["threshold"] is not None or not oof["confusion"] else []),
            ("threshold", oof["threshold"]), ("images", len(oof["images"])),
        ],
        "The ensemble on whole training images. Each is predicted only by members that never saw its group.",
        made_by="05_infer_ensemble",
    )  # fmt: skip


def galleries(workspace: Workspace, config: Config) -> ReportSection | None:
    drawn = stage_facts(workspace, "oof").get("gallery", [])
    blocks = []
    for kind, (title, note) in GALLERY_KINDS.items():
        items = sorted((item for item in drawn if kind in item["places"]), key=lambda item: item["places"][kind])
        lines = [shown for item in items for shown in _shown(workspace, item, stage_facts(workspace, "oof")["names"])]
        blocks.append(Gallery(title, lines, note))
    note = "Error map: green is right, red is a false positive, blue is missed. Of several classes, red is a wrong one."
    return ReportSection("galleries", "Galleries", blocks, (), note, "05_infer_ensemble") if drawn else None


def _shown(workspace: Workspace, item: dict, names: list[str]) -> list[GalleryLine]:
    """`names`: of the labels."""
    name, spot = item["image_id"], item["spot"]
    title = f"{name}: {item['score']:.4f}, fold {item['fold']}"
    lines = [(title, name, name, False)] + [(spot, f"{name}_spot", f"{name}, {spot}", True)] * bool(spot)
    shown = []
    for title, stem, words, small in lines:
        panels = _panels(workspace, stem, words)
        layers = item.get("layers", {}).get(stem)
        shown.append(GalleryLine(title, _layered(panels, layers, names) if layers else panels, small))
    return shown


def _panels(workspace: Workspace, stem: str, words: str) -> list[Picture]:
    panels = [
        picture(workspace, workspace.report / f"gallery/{stem}_{kind}.jpg", f"{words}: {text}", text)
        for kind, text in PANEL_CAPTIONS.items()
    ]
    return [panel for panel in panels if panel is not None]


def _layered(panels: list[Picture], layers: dict, names: list[str]) -> list[Picture]:
    """The same, where truth and prediction are layers of classes that overlap, over the image."""
    image = panels[0].path
    found = []
    for panel in panels:
        paths = layers.get(panel.caption, [])
        own = [Layer(name, _colour(k), path) for k, (name, path) in enumerate(zip(names, paths, strict=False))]
        over = {"path": image, "layers": own, "size": tuple(layers["size"]), "whole": panel.path}
        found.append(replace(panel, **over) if own else panel)
    return found


def _colour(k: int) -> str:
    """The colour of the k-th class that overlaps others, as pictures have it."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of_class(k).tolist())


def _image_row(workspace: Workspace, row: dict) -> dict:
    small = picture(workspace, workspace.report / f"images/{row['image']}.jpg", row["image"])
    return {"": small, **row}


def _row_shares(confusion: list[list[int]]) -> list[list[float]]:
    return [[n / max(1, sum(row)) for n in row] for row in confusion]


def _confusion(oof: dict) -> Chart | None:
    """Of classes that exclude one another."""
    if not oof["confusion"]:
        return None
    drawing = matrix(oof["names"], oof["names"], _row_shares(oof["confusion"]), "truth \\ decision")
    return Chart("Confusion", drawing, "Share of each true class's pixels; the diagonal is recall.")


def _size_chart(objects: list[list[float]]) -> Chart | None:
    if not objects:
        return None
    points = [(size, share, f"{share:.0%} of an object of {size:,.0f} pixels") for size, share in objects]
    drawing = scatter(points, "side of a square of the object's area, pixels", "share found", named=False)
    return Chart("How much of each object is found", drawing, "At most 400 objects, evenly taken by size.")


def _calibration(oof: dict) -> Chart | None:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in oof["calibration"]:
        points.setdefault(row.get("class", "ensemble"), []).append((row["predicted"], row["true"]))
    if not points:
        return None
    lines = [Line(name, curve, dots=True) for name, curve in points.items()]
    note = "The true share of the class in each twentieth of its probability. The diagonal is perfect calibration."
    return Chart("Calibration", line_chart(lines, "predicted probability", "true share", diagonal=True), note)


def _thresholds(oof: dict) -> Chart | None:
    curve = oof.get("thresholds", [])
    if not curve:
        return None
    chosen = (oof["threshold"], f"chosen {oof['threshold']:.2f}")
    return Chart(
        "Threshold", line_chart([Line("ensemble", curve)], "threshold", oof["metric"].replace("_", " "), [chosen])
    )
