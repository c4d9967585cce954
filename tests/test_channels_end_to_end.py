"""Six channels of 16 bits, from the organiser's folder to answers, pictures, pseudo-labels, a package, predictions."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import make_tiny

from lib.__main__ import main as lib_main
from lib.config import load
from lib.errors import UserError
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sliding_window import first_windows
from lib.inference.sources import windows_of
from lib.inference.windows import Source
from lib.models.inputs import inputs_of
from lib.models.network import build_network
from lib.predict.workload import enough_images
from lib.preflight.forecast import time_network
from lib.workspace import read_json

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["blue", "green", "red", "nir", "swir", "thermal"]


def make_deep(folder: Path) -> Path:
    """The tiny competition with images of six bands, whose objects show in the thermal one alone. Returns its YAML."""
    path = make_tiny(folder)
    rng = np.random.default_rng(7)
    for file in sorted((folder / "raw").glob("t*/im*.png")):
        seen = cv2.imread(str(file)).mean(2)
        deep = rng.integers(2000, 4000, (*seen.shape, 6)).astype(np.uint16)
        deep[..., 5] = 1000 + 30 * seen
        np.save(file.with_suffix(".npy"), deep)
        file.unlink()
    config = yaml.safe_load(path.read_text())
    channels = [{"name": name, "band": band, "range": [0, 10000]} for band, name in enumerate(NAMES)]
    for fitted in (1, 4):
        del channels[fitted]["range"]
    config["competition"] |= {
        "pixels": {"channels": channels, "colours": ["red", "green", "blue"], "show": ["thermal", "nir", "red"]},
        "answers": "train.csv",
    }
    config["train"] |= {"epochs": 6, "lr": 0.1, "batch_size": 8, "seeds": [42]}
    config["infer"] |= {"backend": "eager", "overlap": 0.0}
    config["augment"] = {"preset": "medium", "gain": 0.02, "channel_dropout": 0.02}
    path.write_text(yaml.safe_dump(config))
    return path


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = make_deep(tmp_path_factory.mktemp("deep"))
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, path)
    return path


def test_objects_of_the_sixth_channel_are_found(trained):
    work = trained.parent / "work"
    assert read_json(work / "decision.json", {})["score"] > 0.85
    tile = np.load(next((work / "tiles").glob("*.npy")))
    assert tile.shape == (96, 96, 6) and tile.dtype == np.uint16
    fingerprint = json.loads((work / "fingerprint.json").read_text())
    assert len(fingerprint["mean"]) == len(fingerprint["std"]) == 6
    assert fingerprint["mean"][0] == pytest.approx(3000 / 10000 * 255, abs=2)
    described = yaml.safe_load(next((work / "runs/base").glob("*/network.yaml")).read_text())
    assert described["inputs"]["colours"] == [2, 1, 0] and len(described["inputs"]["mean"]) == 6
    weights = torch.load(next((work / "runs/base").glob("*/swa_weights.pt")), weights_only=True)
    assert weights["body.0.weight"].shape[1] == 6


def test_people_see_the_channels_that_show_names(trained, capsys):
    work = trained.parent / "work"
    picture = cv2.imread(str(work / "report/images/im6.jpg"))[..., ::-1].astype(int)
    deep = np.load(trained.parent / "raw/test/im6.npy")
    red, green, blue = (picture[..., i].mean() for i in range(3))
    for found, channel in ((red, 5), (green, 3), (blue, 2)):
        assert found == pytest.approx(deep[..., channel].mean() / 10000 * 255, abs=4)
    lib_main(["look", str(trained), "im2"])
    lib_main(["check", str(trained)])
    assert (work / "look/im2.jpg").is_file() and "as the organiser asks" in capsys.readouterr().out


def test_own_images_are_predicted_and_others_are_one_sentence(trained, tmp_path):
    folder = trained.parent
    out = tmp_path / "out"
    lib_main(["predict", str(trained), str(folder / "raw/test"), "--out", str(out), "--overlay"])
    assert len(list(out.glob("im*.tif"))) == 2 and len(list(out.glob("*.jpg"))) == 2
    np.save(tmp_path / "few.npy", np.zeros((40, 40, 4), np.uint16))
    with pytest.raises(UserError, match=r"few\.npy lacks the channel swir"):
        lib_main(["predict", str(trained), str(tmp_path / "few.npy"), "--out", str(tmp_path / "other")])


def test_pseudo_labels_and_cleaning_store_all_channels(trained):
    work = trained.parent / "work"
    run("04_pseudo_label", trained, "--train.round", "1")
    tile = np.load(next((work / "pseudo/round1/tiles").glob("*.npy")))
    assert tile.shape == (96, 96, 6) and tile.dtype == np.uint16
    assert next((work / "pseudo/round1/pictures").glob("*.jpg")).is_file()
    run("04_pseudo_label", trained, "--clean", "--clean.list_below", "-1", "--clean.pictures", "2")
    assert len(list((work / "clean").glob("**/*.jpg"))) == 2


def test_a_package_answers_with_the_same_bytes(trained, tmp_path):
    raw, package, out = trained.parent / "raw", tmp_path / "package", tmp_path / "answer.csv"
    lib_main(["package", str(trained), str(package), "--package.wheels", "false"])
    fitted = read_json(trained.parent / "work/scaling.json", {})
    packed = yaml.safe_load((package / "config.yaml").read_text())["competition"]["pixels"]["channels"]
    assert {one["name"]: one["fitted"] for one in packed if one["fitted"]} == {k: v["range"] for k, v in fitted.items()}
    assert sorted(fitted) == ["green", "swir"] and 1990 < fitted["swir"]["range"][0] < 2020
    command = [sys.executable, str(package / "infer.py"), "--images", str(raw / "test"), "--out", str(out)]
    command += ["--sample", str(raw / "sample_submission.csv"), "--train.device", "cpu", "--infer.backend", "eager"]
    subprocess.run(command, check=True, capture_output=True)
    assert out.read_bytes() == (trained.parent / "work/submission.csv").read_bytes()


def test_time_is_forecast_and_kept(trained, capsys):
    run("05_infer_ensemble", trained, "--infer.time_limit", "60s")
    assert "time" in capsys.readouterr().out
    config = load(trained)
    seconds = time_network(config, 1, {"train": "fp32", "infer": "fp32"})
    assert min(seconds) > 0
    pixels = config.competition.pixels
    network = build_network(config.model, 1, inputs=inputs_of(pixels)).eval()
    group = ScaleGroup(windows_of(config), Ensemble([network], torch.device("cpu")))
    images = pd.read_csv(trained.parent / "work/images.csv")
    turns = images[["image_id"]].assign(turn=range(len(images)))
    assert enough_images(turns, images, [group], ["a"], config, 1e9) == len(images)
    nothing = first_windows([Source("a", Path("a"), pixels=pixels)][:0], windows_of(config), 2)
    assert nothing.shape[-1] == 3, "without an image, nobody says what it has"
    flat = trained.parent / "flat.npy"
    np.save(flat, np.zeros((96, 96, 6), np.uint16))
    blank = first_windows([Source("a", flat, "content", 6.0, pixels)], windows_of(config), 2)
    assert blank.shape == (2, 96, 96, 6) and blank.dtype == np.uint16


def test_members_of_other_channels_are_one_sentence(trained):
    text = yaml.safe_load(trained.read_text())
    text["competition"]["pixels"]["channels"].pop()
    text["competition"]["pixels"]["show"] = []
    other = trained.with_name("five.yaml")
    other.write_text(yaml.safe_dump(text))
    with pytest.raises(UserError, match="sees 6 channels, and competition.pixels makes 5"):
        lib_main(["look", str(other), "im2"])


@pytest.mark.parametrize(
    "flags", [["--preprocess.scale", "2", "--train.scale", "0.5"], ["--preprocess.mode", "resize"]], ids=lambda f: f[1]
)
def test_enlarged_and_resized_images_have_all_channels(trained, flags, tmp_path):
    flags = [*flags, "--workspace", str(tmp_path / "work"), "--train.epochs", "1", "--train.crop", "0"]
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, trained, *flags, "--infer.window", "64", "--infer.tta", "hflip")
    assert np.load(next((tmp_path / "work/tiles").glob("*.npy"))).shape == (96, 96, 6)
    assert (tmp_path / "work/submission.csv").is_file()
