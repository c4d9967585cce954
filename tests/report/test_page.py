"""The report: whatever has run is on the page, every picture is beside it, and odd names do no harm."""

import json
import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import cv2
import numpy as np
import pandas as pd
import pytest
from many import many_images
from PIL import Image
from records import done

from lib import tables
from lib.config import load
from lib.data.preprocess.pictures import Overlay, draw_survey
from lib.decision.decision import Decision
from lib.imaging.reader import AS_THEY_ARE
from lib.oof.codes import to_probs_u8
from lib.oof.evaluation import Evaluation
from lib.oof.pixel_sample import PixelSample
from lib.oof.previews import PreviewMaker
from lib.report import page
from lib.report.charts import LIBRARY, Line, bars, histogram, line_chart, matrix, scatter
from lib.report.findings import correlation, curves, draw_panels, object_points, uncertainty
from lib.report.sections import folds, overview, pseudo, submissions
from lib.workspace import Workspace, write_json, write_table

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = [
    "overview",
    "data",
    "folds",
    "training",
    "oof",
    "galleries",
    "pseudo",
    "suspects",
    "ensemble",
    "submissions",
    "costs",
]
ODD = "im 1 #<b>&%20"


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def anchors(path):
    return re.findall(r'<section id="(\w+)">', path.read_text(encoding="utf-8"))


def linked_csvs(path):
    return re.findall(r'href="(csv/[^"]+)"', path.read_text(encoding="utf-8"))


def pictures(path):
    return [unquote(url) for url in re.findall(r'<img src="([^"]+)"', path.read_text(encoding="utf-8"))]


def test_the_page_grows_with_every_stage_and_is_rewritten_only_when_it_changes(tiny, capsys):
    raw, index = tiny.parent / "raw", tiny.parent / "work/report/index.html"
    for name in ("train.csv", "metadata.csv"):
        pd.read_csv(raw / name).replace("im1", ODD).to_csv(raw / name, index=False)
    (raw / "train/im1.png").rename(raw / f"train/{ODD}.png")
    flags = ["--report.pictures", "2", "--train.seeds", "42", "43", "--clean.list_below", "-1", "--clean.pictures", "2"]
    flags += ["--pseudo.min_confidence", "0"]
    for stage, more, expected in [
        ("01_preprocess", [], {"data", "costs"}),
        ("02_make_folds", [], {"folds"}),
        ("03_train", [], {"training", "overview"}),
        ("04_pseudo_label", ["--train.round", "1"], {"pseudo"}),
        ("04_pseudo_label", ["--clean"], {"suspects"}),
        ("05_infer_ensemble", [], {"oof", "galleries", "ensemble", "submissions"}),
    ]:
        before = set(anchors(index)) if index.is_file() else set()
        run(stage, tiny, *flags, *more)
        assert set(anchors(index)) == before | expected, stage
    assert anchors(index) == SECTIONS
    assert "could not be drawn" not in capsys.readouterr().out

    shown = pictures(index)
    assert len(shown) >= 8 + 6 + 2 * 3, "each image in tables, galleries and suspects"
    assert [path for path in shown if ODD in path]
    assert len([path for path in shown if path.startswith("pseudo_round1/")]) == 4, "the surest two and the least sure"
    assert not [path for path in shown if not (index.parent / path).is_file()]
    text = index.read_text(encoding="utf-8")
    assert "Speed of 05" in text and "seconds per megapixel" in text and "parameters of all, millions" in text
    assert "<b>&%20" not in text and "http" not in text, "names are escaped, and nothing is fetched"

    made = index.stat().st_mtime_ns
    page.render_page(load(tiny, flags))
    assert index.stat().st_mtime_ns == made
    moved = tiny.parent / "elsewhere"
    shutil.copytree(index.parent, moved)
    assert all((moved / path).is_file() for path in [*shown, *linked_csvs(index), LIBRARY])


def test_five_hundred_images_make_a_small_page_soon(tmp_path):
    index = page.render_page(many_images(tmp_path, 500))
    assert len(pictures(index)) == 1000 and index.stat().st_size < 700_000, "the library lies beside the page"
    assert index.read_text(encoding="utf-8").count('loading="lazy"') == 1000, "none is fetched before it is seen"


def test_findings_are_what_the_counts_say(tiny):
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, tiny)
    workspace = Workspace(tiny.parent / "work")
    oof = json.loads((workspace.report / "oof.json").read_text())
    about = json.loads(next(workspace.submissions.glob("*.json")).read_text())
    assert oof["score"] == about["oof_score"]
    curve = dict(map(tuple, oof["thresholds"]))
    near = [value for t, value in curve.items() if abs(t - oof["threshold"]) < 0.01]
    assert min(near) - 1e-9 <= oof["score"] <= max(near) + 1e-9
    images = [row["score"] for row in oof["images"]]
    assert images == sorted(images) and sum(images) / len(images) == pytest.approx(oof["score"])  # mean Dice
    sizes = pd.read_csv(workspace.images).query("split == 'train'")
    assert np.sum(oof["confusion"]) == (sizes["height"] * sizes["width"]).sum(), "every pixel is counted once"
    assert sum(row["images"] for row in oof["groups"]) == sum(row["images"] for row in oof["folds"]) == 6
    objects = json.loads((workspace.report / "objects.json").read_text())
    assert sum(objects["counts"]["disc"]) == sum(row["count"] for row in oof["sizes"]) >= 6, "all images' objects"
    ids, places = [row["image"] for row in oof["images"]], {}
    for item in oof["gallery"]:
        places |= dict.fromkeys(item["places"].items(), item["image_id"])
    assert places["worst", 0] == ids[0] and places["best", 0] == ids[-1]


def test_a_ledger_is_drawn_against_the_leaderboard(tmp_path):
    config = load(None, ["--workspace", str(tmp_path)])
    ledger = pd.DataFrame(
        {
            "time": ["a", "b", "c"], "file": ["one.csv", "two.csv", "three.csv"], "config": "x", "members": 4,
            "oof": [0.7, 0.8, 0.9], "cross": 0.7, "public": [0.6, 0.65, 0.61], "private": np.nan, "seconds": 9,
            "version": "1",
        }
    )  # fmt: skip
    (tmp_path / "submissions").mkdir()
    ledger.to_csv(tmp_path / "submissions/ledger.csv", index=False)
    text = page.render_page(config).read_text()
    assert "rank correlation, public" in text and "0.5000" in text and "three.csv" in text
    assert "private leaderboard" not in text, "no private score is known"
    texts = {"message": ["NA", "", "ok"], "version": ["5470153", "12e4567", "1"], "decision": "{}"}
    ledger.assign(**texts).to_csv(tmp_path / "submissions/ledger.csv", index=False)
    listed = submissions.section(Workspace(tmp_path), config).blocks[0].rows
    assert [row["message"] for row in listed] == ["ok", "", "NA"]
    assert [row["version"] for row in listed] == ["1", "12e4567", "5470153"]


def test_submissions_are_counted_whatever_their_suffix(tmp_path):
    workspace = Workspace(tmp_path)
    write_json(workspace.runs / "base/fold0_seed42/done.json", done())
    for name in ("1_ensemble.zip", "1_ensemble.json", "2_ensemble.csv", "2_ensemble.json", "submission.csv"):
        write_json(workspace.submissions / name, {})
    numbers = dict(overview.section(workspace, load(None, ["--workspace", str(tmp_path)])).numbers)
    assert numbers["submissions written"] == 2


def test_classes_whose_names_begin_with_background_or_ignore_are_classes(tmp_path):
    workspace, config = Workspace(tmp_path), load(None, ["--workspace", str(tmp_path)])
    pixels = {"px_background": 9, "px_background_tissue": 5, "px_ignored_zone": 3, "px_ignore": 1}

    def write(path, columns, **more):
        row = {name: 0 if kind != "str" else "a" for name, (kind, _) in columns.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, pd.DataFrame([{**row, **more}]))

    write(workspace.images, tables.IMAGES, **pixels)
    write(workspace.folds, tables.FOLDS)
    (balance,) = folds.section(workspace, config).blocks[0].rows
    assert {"background", "background_tissue", "ignored_zone"} < set(balance) and "ignore" not in balance
    write(tmp_path / "pseudo/round1/tiles.csv", tables.PSEUDO_TILES, **pixels)
    kept = pseudo.rounds(workspace, config).blocks[1].rows
    assert kept[0]["with object"] == 1


def test_a_fault_in_the_page_stops_no_stage_but_is_told(tmp_path, monkeypatch, capsys):
    def broken(workspace, config):
        raise ValueError("no such column")

    monkeypatch.setattr(page, "SECTIONS", (broken,))
    page.update_report(load(None, ["--workspace", str(tmp_path)]))
    assert capsys.readouterr().out.startswith("warning: the report could not be drawn (ValueError: no such column)")


def test_several_classes_are_each_calibrated_by_their_pixels(tmp_path):
    rng, names = np.random.default_rng(0), ["background", "road", "pond"]
    right = rng.dirichlet([1, 1, 1], 20_000)
    truth = np.array([rng.choice(3, p=probs) for probs in right]).astype(np.uint8)
    pixels = rng.integers(1, 9, len(truth))  # that each stands for
    for probs in (right, right**3 / (right**3).sum(1, keepdims=True)):
        bins = np.repeat(to_probs_u8(probs)[:, None], 2, axis=1)  # of two members
        points = PixelSample(np.zeros(len(truth), int), bins, bins[:, :, :0], truth, pixels)
        oof = Evaluation(["a"], np.zeros((1, 3, 3, 3), np.int64), points)
        rows = curves(oof, Decision(None), SimpleNamespace(label_names=names))
        assert {row["class"] for row in rows} == set(names)
        ponds = [row for row in rows if row["class"] == "pond"]
        assert sum(row["pixels"] for row in ponds) == pixels.sum()
        assert sum(row["pixels"] * row["true"] for row in ponds) == pytest.approx(pixels[truth == 2].sum())
        gap = max(abs(row["true"] - row["predicted"]) for row in ponds if row["pixels"] > 1500)
        assert gap < 0.06 if probs is right else gap > 0.15, "who is too sure is far from the diagonal"


def test_of_several_classes_the_image_is_uncertain_whose_likeliest_ones_are_alike():
    bins = np.array([[250, 3, 2], [130, 120, 5], [90, 85, 80], [250, 3, 2]], np.uint8)[:, None]
    points = PixelSample(np.array([0, 1, 1, 2]), bins, bins[:, :, :0], np.zeros(4, np.uint8), np.array([4, 9, 1, 4]))
    oof = Evaluation(["sure", "unsure", "surely wrong"], np.zeros((3, 2, 3, 3), np.int64), points)
    sure, unsure, wrong = uncertainty(oof, Decision(None))
    assert sure == wrong == pytest.approx(8 / 255, abs=1e-6) and unsure == pytest.approx(1 - (9 * 10 + 5) / 2550)


def test_members_that_fail_on_the_same_images_are_alike():
    values = correlation(np.array([[0.1, 0.5, 0.9], [0.2, 0.6, 1.0], [0.9, 0.5, 0.1], [1.0, 1.0, 1.0]]))
    assert values[0][1] == pytest.approx(1) and values[0][2] == pytest.approx(-1) and values[3][0] is None
    many = pd.DataFrame({"pixels": np.arange(1, 1001) ** 2, "hit": 0.5})
    points = object_points(many)
    assert len(points) == 400 and points[0] == (1, 0.5) and points[-1] == (1000, 0.5)


def test_everything_that_is_drawn_is_a_csv_too(tmp_path):
    config = many_images(tmp_path, 20)
    (tmp_path / "report/csv").mkdir()
    (tmp_path / "report/csv/of_an_earlier_page.csv").touch()
    index = page.render_page(config)
    text, found = index.read_text(encoding="utf-8"), linked_csvs(index)
    drawn = text.count('class="block chart') + text.count('class="block table')
    assert drawn > 8 and len(set(found)) == drawn
    assert {path.name for path in index.parent.glob("csv/*")} == {Path(name).name for name in found}
    images = pd.read_csv(index.parent / "csv/oof_images_worst_first.csv")
    assert list(images)[:2] == ["image", "score"] and len(images) == 20, "the column of pictures is left out"
    confusion = pd.read_csv(index.parent / "csv/oof_confusion.csv", index_col=0)
    assert confusion.loc["ring", "disc"] == pytest.approx(1 / 3)
    made = (index.parent / "csv/oof_confusion.csv").stat().st_mtime_ns
    page.render_page(config)
    assert (index.parent / "csv/oof_confusion.csv").stat().st_mtime_ns == made


def test_charts_hold_every_point_and_escape_names():
    points = [(0, 1.0), (10, float("nan")), (20, 2.0)]
    figure = line_chart([Line("none", []), Line("</script><i>", points, dots=True)], "step", "loss", [(5, "here")])
    none, line = figure.traces
    assert (line["x"], line["y"], none["x"]) == ([0, 20], [1, 2], []) and not none["showlegend"]
    assert "<" not in figure.json and json.loads(figure.json)["data"][1]["name"] == "&lt;/script&gt;&lt;i&gt;"
    assert figure.layout["annotations"][0]["text"] == "here"
    assert figure.rows == [
        {"line": "</script><i>", "step": 0, "loss": 1.0},
        {"line": "</script><i>", "step": 20, "loss": 2.0},
    ]
    assert line_chart([Line("none", [])], "step", "loss") is scatter([(1, None, "a")], "x", "y") is None
    long = line_chart([Line("a", [(i, i) for i in range(1000)])], "step", "loss")
    assert len(long.traces[0]["x"]) == 240 and len(long.rows) == 1000, "the CSV has them all"


def test_charts_are_what_plotly_takes():
    graphs = pytest.importorskip("plotly.graph_objects")
    figures = [
        line_chart([Line("a", [(0, 1), (1, 2)])], "round", "score", [(1, "chosen")], diagonal=True),
        scatter([(1, 2, "a"), (2, 3, "b")], "x", "y"), scatter([(1, 2, "a")], "x", "y", named=False),
        histogram([1, 10, 100], {"disc": [3, 4], "ring": [0, 1]}, "pixels", "objects"), bars([("a" * 40, 2.5)], "%"),
        matrix(["a", "b"], ["1", "2"], [[1, None], [-0.5, 1]]),
    ]  # fmt: skip
    for figure in figures:
        graphs.Figure(json.loads(figure.json))  # raises ValueError at a name or value that it does not know
    with pytest.raises(ValueError, match="Invalid property"):
        graphs.Figure({"data": [{"type": "scatter", "colour": "red"}]})


def test_the_worst_spot_of_a_huge_image_is_shown_at_full_resolution(tmp_path):
    truth = np.zeros((2000, 1500), np.uint8)
    truth[900:1000, 700:800] = 1
    image = np.full((2000, 1500, 3), 90, np.uint8)
    image[truth > 0] = 200
    guess = np.zeros((2000, 1500), np.uint8)
    guess[1810:1931, 1320:1441] = 255  # invented: larger than what is missed
    Image.fromarray(image).save(tmp_path / "a.png")
    competition = SimpleNamespace(
        settings=SimpleNamespace(pixels=AS_THEY_ARE, background=True, multilabel=False),
        labels=SimpleNamespace(open=lambda image_id, height, width: MaskReader(truth)),
    )
    row = pd.Series({"path": str(tmp_path / "a.png"), "height": 2000, "width": 1500})
    maker = PreviewMaker(2000, 1500)
    maker.add(0, 0, guess[None], (guess > 0) != truth)
    found = draw_panels("a", row, maker.preview(), Decision((99,)), competition, tmp_path)
    assert list(found) == ["spot"] and found["spot"] == "worst spot at full resolution: y 1536, x 988", (
        "as near to the error as the image's end allows"
    )
    error = cv2.imread(str(tmp_path / "a_spot_error.jpg"))
    red = (error[..., 2] > 180) & (error[..., 1] < 120)
    assert error.shape == (464, 512, 3) and red.sum() == pytest.approx(121**2, rel=0.02)
    whole = cv2.imread(str(tmp_path / "a_truth.jpg"))
    assert whole.shape == (667, 500, 3)


def test_thumbnails_tell_kept_dropped_and_uncut_ground_apart(tmp_path):
    image, labels = np.full((300, 600, 3), 100, np.uint8), np.zeros((150, 300), np.uint8)
    labels[20:60, 20:60] = 1
    tiles = [(0, 0, 600, 400)], [(0, 300, 600, 400)]
    draw_survey(tmp_path / "a.png", image, (600, 1200), Overlay(*tiles, labels, 1))
    drawn = cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1].astype(int)
    kept, dropped, uncut = drawn[150, 100], drawn[150, 300], drawn[150, 500]
    assert kept.tolist() == [100, 100, 100] and uncut.min() == uncut.max() > 190
    assert dropped[0] > dropped[1] > dropped[2] > 100, "orange"
    assert (drawn[40:120, 38:44] != 100).any(), "the label's outline"
    draw_survey(tmp_path / "b.png", image, (600, 1200))
    assert (cv2.imread(str(tmp_path / "b.png")) == 100).all(), "an image to predict is left as it is"


class MaskReader:
    """A label reader of one mask."""

    def __init__(self, mask):
        self.mask = mask

    def read(self, y, x, h, w):
        return self.mask[y : y + h, x : x + w]
