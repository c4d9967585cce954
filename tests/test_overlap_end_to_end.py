"""Two classes that overlap, from the organiser's folder to answers, a report, a package and predictions."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from conftest import make_tiny

from lib.__main__ import main as lib_main
from lib.competition import rle
from lib.competition.dataset import Competition
from lib.competition.scoring import score_submission
from lib.config import load
from lib.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ["red", "green"]


def make_overlapping(folder: Path) -> Path:
    """A tiny competition whose classes show in the red and in the green channel, and overlap. Returns its YAML."""
    path = make_tiny(folder)  # folders, folds and metadata are the same
    rng, rows, answers = np.random.default_rng(3), [], []
    for number in range(8):
        split, size = ("train", "test")[number > 5], (150 + 7 * number, 200 - 5 * number)
        planes = np.zeros((2, *size), np.uint8)
        for plane in planes:
            for _ in range(3):
                centre = (int(rng.integers(20, size[1] - 20)), int(rng.integers(20, size[0] - 20)))
                cv2.circle(plane, centre, int(rng.integers(18, 30)), 1, -1)
        image = rng.integers(60, 90, (*size, 3)).astype(np.uint8)
        image[..., 0] += planes[0] * 120
        image[..., 1] += planes[1] * 120
        cv2.imwrite(str(folder / f"raw/{split}/im{number}.png"), image[:, :, ::-1])
        assert planes.all(0).any() or number > 1, "the fixture does not overlap"
        for name, plane in zip(CLASSES, planes, strict=True):
            (rows if split == "train" else answers).append((f"im{number}", name, rle.encode(plane)))
    columns = ["id", "class", "encoding"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "raw/train.csv", index=False)
    pd.DataFrame(answers, columns=columns).to_csv(folder / "raw/answers.csv", index=False)
    sample = pd.DataFrame([(*row[:2], "") for row in answers], columns=["id", "class", "predicted"])
    sample.to_csv(folder / "raw/sample_submission.csv", index=False)
    config = yaml.safe_load(path.read_text())
    config["competition"] |= {
        "classes": CLASSES, "multilabel": True, "answers": "answers.csv", "labels": {"class_column": "class"},
        "submission": {"class_column": "class"},
    }  # fmt: skip
    config["train"] |= {"epochs": 8, "lr": 0.1, "batch_size": 8}
    config["infer"] |= {"backend": "eager", "overlap": 0.0}
    config["augment"] = {"preset": "none"}
    path.write_text(yaml.safe_dump(config))
    return path


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = make_overlapping(tmp_path_factory.mktemp("overlap"))
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, path)
    return path


def masks_of(file, folder):
    """Masks (2, h, w) of each test image in a submission."""
    table = pd.read_csv(file, keep_default_na=False)
    sizes = {image_id: cv2.imread(str(folder / f"raw/test/{image_id}.png")).shape[:2] for image_id in ("im6", "im7")}
    return {
        image_id: np.stack([rle.decode(text, *size) for text in table.loc[table["id"] == image_id, "predicted"]])
        for image_id, size in sizes.items()
    }


def test_answers_overlap_and_score_above_what_one_label_for_each_pixel_can(trained, capsys):
    folder, config = trained.parent, load(trained)
    answer = folder / "work/submission.csv"
    assert score_submission(Competition(config.competition), answer) > 0.9
    found = masks_of(answer, folder)
    assert all(planes.all(0).sum() > 50 for planes in found.values()), "no pixel has both classes"
    decision = json.loads((folder / "work/decision.json").read_text())
    assert len(decision["threshold"]) == 2 and decision["score"] > 0.9 and decision["left_out"] == []
    lib_main(["check", str(trained)])
    assert "as the organiser asks; 2 of 2 images hold an object" in capsys.readouterr().out
    run("05_infer_ensemble", trained)
    assert "05: " in capsys.readouterr().out and masks_of(answer, folder).keys() == found.keys()


def test_the_report_has_a_row_and_a_switch_for_each_class(trained):
    work = trained.parent / "work"
    oof = json.loads((work / "report/oof.json").read_text())
    assert [row["class"] for row in oof["classes"]] == CLASSES and oof["confusion"] == []
    assert (
        all(row["Dice"] > 0.9 for row in oof["classes"]) and sum(row["share of pixels"] for row in oof["classes"]) < 1
    )
    assert {row["class"] for row in oof["calibration"]} == set(CLASSES) and oof["sizes"]
    assert all(0 <= row["wrong pixels"] < 0.1 for row in oof["images"])
    (item, *_) = oof["gallery"]
    layers = item["layers"][item["image_id"]]
    assert len(layers["truth"]) == len(layers["prediction"]) == 2 and layers["truth"][0].startswith("M")
    page = (work / "report/index.html").read_text()
    assert page.count('<input type="checkbox"') == 2 * page.count('<fieldset class="switches">') > 0
    assert layers["truth"][1] in page


def test_one_image_is_looked_at_and_others_are_predicted(trained, tmp_path, capsys):
    folder = trained.parent
    lib_main(["look", str(trained), "im2"])
    assert "decision" in capsys.readouterr().out and (folder / "work/look/im2.jpg").is_file()
    lib_main(["predict", str(trained), str(folder / "raw/test"), "--out", str(tmp_path / "out"), "--overlay"])
    expected = masks_of(folder / "work/submission.csv", folder)
    for image_id, planes in expected.items():
        assert np.array_equal(tifffile.imread(tmp_path / f"out/{image_id}.tif"), planes)
        assert (tmp_path / f"out/{image_id}.overlay.jpg").is_file()
    with pytest.raises(UserError, match="--format png holds one label for each pixel"):
        lib_main(["predict", str(trained), str(folder / "raw/test"), "--out", str(tmp_path / "png"), "--format", "png"])


def test_a_package_answers_with_the_same_bytes(trained, tmp_path):
    folder, package = trained.parent, tmp_path / "package"
    lib_main(["package", str(trained), str(package), "--package.wheels", "false"])
    out = tmp_path / "answer.csv"
    command = [sys.executable, str(package / "infer.py"), "--images", str(folder / "raw/test"), "--out", str(out)]
    command += [
        "--sample",
        str(folder / "raw/sample_submission.csv"),
        "--train.device",
        "cpu",
        "--infer.backend",
        "eager",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert out.read_bytes() == (folder / "work/submission.csv").read_bytes()


@pytest.mark.parametrize("flags", [
    ["--infer.postprocess", "objects", "holes"],
    ["--infer.ensemble_weights", "greedy", "--infer.averaging", "geometric", "--infer.checkpoints", "swa", "last"],
    ["--infer.time_limit", "60s"],
], ids=lambda flags: flags[0])  # fmt: skip
def test_other_decisions_and_a_time_limit_answer_as_well(trained, flags):
    run("05_infer_ensemble", trained, *flags)
    folder = trained.parent
    assert score_submission(Competition(load(trained).competition), folder / "work/submission.csv") > 0.9


def test_factors_of_classes_are_refused(trained):
    with pytest.raises(UserError, match="each has a threshold of its own; leave it out"):
        run("05_infer_ensemble", trained, "--infer.postprocess", "priors")
