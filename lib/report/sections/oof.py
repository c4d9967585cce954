"""Out-of-fold scores of the ensemble, and galleries of its errors. 05 makes all of it."""

from __future__ import annotations

from lib.config import Config
from lib.report.charts import Line, line_chart, matrix, scatter
from lib.report.sections.blocks import Chart, Gallery, GalleryLine, Picture, ReportSection, Table, picture, stage_facts
from lib.workspace import Workspace

GALLERY_KINDS = {
    "worst": ("Worst", "By the image's own score."),
    "uncertain": (
        "Most uncertain",
        "Pixels are near the threshold; with several classes, the likeliest one is near the second.",
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
        Chart("Confusion", matrix(oof["names"], oof["names"], _row_shares(oof["confusion"]), "truth \\ decision"),
              "Share of each true class's pixels; the diagonal is recall."),
        _calibration(oof), _thresholds(oof),
        Table("Folds", oof["folds"]), Table("Groups", oof["groups"]),
        Table("Images, worst first", [_image_row(workspace, row) for row in oof["images"]]),
    ]  # fmt: skip
    return ReportSection(
        "oof", "Out-of-fold", blocks,
        [
            (oof["metric"].replace("_", " "), oof["score"]),
            *([(f"decision fitted on {oof['crossed_by']}", oof["cross_score"])]
              if oof.get("crossed_by") else []),
            *([("threshold 0.5", oof["half_score"])] if oof["threshold"] is not None else []),
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
        blocks.append(Gallery(title, [shown for item in items for shown in _shown(workspace, item)], note))
    note = "Error map: green is right, red is a false positive, blue is missed. Of several classes, red is a wrong one."
    return ReportSection("galleries", "Galleries", blocks, (), note, "05_infer_ensemble") if drawn else None


def _shown(workspace: Workspace, item: dict) -> list[GalleryLine]:
    name = item["image_id"]
    lines = [GalleryLine(f"{name}: {item['score']:.4f}, fold {item['fold']}", _panels(workspace, name, name))]
    if item["spot"]:
        lines.append(
            GalleryLine(item["spot"], _panels(workspace, f"{name}_spot", f"{name}, {item['spot']}"), small=True)
        )
    return lines


def _panels(workspace: Workspace, stem: str, words: str) -> list[Picture]:
    panels = [
        picture(workspace, workspace.report / f"gallery/{stem}_{kind}.jpg", f"{words}: {text}", text)
        for kind, text in PANEL_CAPTIONS.items()
    ]
    return [panel for panel in panels if panel is not None]


def _image_row(workspace: Workspace, row: dict) -> dict:
    small = picture(workspace, workspace.report / f"images/{row['image']}.jpg", row["image"])
    return {"": small, **row}


def _row_shares(confusion: list[list[int]]) -> list[list[float]]:
    return [[n / max(1, sum(row)) for n in row] for row in confusion]


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
