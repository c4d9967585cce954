"""`python -m lib predict`: the labels of 05, on any images, from a workspace and from a package."""

import json
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from lib.__main__ import main
from lib.competition import rle
from lib.errors import UserError
from lib.own_images import predict
from tests.conftest import make_tiny

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"im6": (192, 170), "im7": (199, 165)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny competition with an answer of 05. Tests must not change it."""
    config = make_tiny(tmp_path_factory.mktemp("trained"))
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), "--train.epochs", "4"])
    return config


def submitted(config):
    """Label indices (h, w) of the test images, as 05 wrote them."""
    table = pd.read_csv(config.parent / "work/submission.csv", keep_default_na=False).set_index("id")["predicted"]
    labels = {name: rle.decode(table[name], *IMAGES[name]) for name in IMAGES}
    assert all(0 < found.mean() < 0.9 for found in labels.values()), "the answers are degenerate"
    return labels


def images_of(config):
    return str(config.parent / "raw/test")


def test_labels_are_those_that_05_submitted(trained, tmp_path, capsys):
    main(["predict", str(trained), images_of(trained), "--out", str(tmp_path), "--overlay"])
    assert "2 images predicted; " in capsys.readouterr().out
    for name, expected in submitted(trained).items():
        assert np.array_equal(tifffile.imread(tmp_path / f"{name}.tif"), expected)
        picture = cv2.imread(str(tmp_path / f"{name}.overlay.jpg"))
        image = cv2.imread(str(trained.parent / f"raw/test/{name}.png"))
        assert picture.shape == image.shape
        changed = np.abs(picture.astype(int) - image).sum(-1)
        assert changed[expected == 1].mean() > 2 * changed[expected == 0].mean(), "masks lie over the objects"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}{end}" for name in IMAGES for end in (".overlay.jpg", ".tif", ".tif.json")
    ]


def test_png_and_probabilities_say_the_same(trained, tmp_path):
    for kind in ("png", "probabilities"):
        main(["predict", str(trained), images_of(trained), "--out", str(tmp_path), "--format", kind])
    threshold = json.loads((trained.parent / "work/decision.json").read_text())["threshold"]
    for name, expected in submitted(trained).items():
        assert np.array_equal(cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_UNCHANGED), expected)
        probs = tifffile.imread(tmp_path / f"{name}.probabilities.tif")
        assert len(np.unique(probs)) > 20, "the probabilities are degenerate"
        assert np.array_equal(probs >= threshold, expected == 1)


def test_a_package_predicts_the_same(trained, tmp_path):
    package = tmp_path / "package"
    main(["package", str(trained), str(package), "--package.wheels", "false"])
    main(["predict", str(package), images_of(trained), "--out", str(tmp_path / "out")])
    for name, expected in submitted(trained).items():
        assert np.array_equal(tifffile.imread(tmp_path / f"out/{name}.tif"), expected)


def test_finished_images_are_skipped_until_something_changes(trained, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(images_of(trained), data)
    call = ["predict", str(trained), str(data), "--out", str(out)]

    def predicted(*more):
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tif")}
        main([*call, *more])
        return {path.stem for path in out.glob("*.tif") if path.stat().st_mtime_ns != before.get(path.name)}

    assert predicted() == {"im6", "im7"}
    assert predicted() == set()
    assert "0 images predicted, 2 finished before" in capsys.readouterr().out
    (out / "im6.tif").unlink()
    assert predicted() == {"im6"}
    image = cv2.imread(str(data / "im7.png"))
    cv2.imwrite(str(data / "im7.png"), 255 - image)
    assert predicted() == {"im7"}
    assert predicted("--infer.tta", "hflip") == {"im6", "im7"}
    assert predicted("--infer.tta", "hflip", "--overlay") == {"im6", "im7"}
    assert predicted() == {"im6", "im7"} and not list(out.glob("*.overlay.jpg")), "it would show other labels"


def test_a_call_that_was_killed_keeps_what_is_finished(trained, tmp_path, monkeypatch):
    call, write = ["predict", str(trained), images_of(trained), "--out", str(tmp_path)], predict.write_prediction

    def killed(image, *more):
        if image.name == "im7":
            raise KeyboardInterrupt
        write(image, *more)

    monkeypatch.setattr(predict, "write_prediction", killed)
    with pytest.raises(KeyboardInterrupt):
        main(call)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["im6.tif", "im6.tif.json"]
    monkeypatch.setattr(predict, "write_prediction", write)
    first = (tmp_path / "im6.tif").stat().st_mtime_ns
    main(call)
    assert (tmp_path / "im6.tif").stat().st_mtime_ns == first and (tmp_path / "im7.tif").is_file()


def test_images_of_one_name_do_not_overwrite_each_other(trained, tmp_path):
    for folder in ("a", "b/deep"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(trained.parent / "raw/test/im6.png", tmp_path / folder / "im.png")
    shutil.copy(trained.parent / "raw/test/im7.png", tmp_path / "a/im.jpeg")
    (tmp_path / "a/.hidden.png").write_bytes(b"")
    (tmp_path / "a/notes.txt").write_text("no image")
    main(["predict", str(trained), str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")])
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.tif"))
    assert found == ["a/im.jpeg.tif", "a/im.png.tif", "b/deep/im.tif"]
    sizes = [tifffile.imread(tmp_path / "out" / name).shape for name in found]
    assert sizes == [IMAGES["im7"], IMAGES["im6"], IMAGES["im6"]]


def test_the_place_on_earth_is_kept(trained, tmp_path):
    pixels = cv2.imread(str(trained.parent / "raw/test/im6.png"))[:, :, ::-1]
    tags = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 600.0, 900.0, 0.0), True)]
    tags += [(34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True), (34737, 2, 7, "WGS 84|", True)]
    tifffile.imwrite(tmp_path / "scene.tif", pixels, photometric="rgb", extratags=tags)
    main(["predict", str(trained), str(tmp_path / "scene.tif"), "--out", str(tmp_path / "out")])
    with tifffile.TiffFile(tmp_path / "out/scene.tif") as file:
        found = {code: file.pages.first.tags[code].value for code, *_ in tags}
        assert found == {33550: tags[0][3], 33922: tags[1][3], 34735: tags[2][3], 34737: "WGS 84|"}
        assert np.array_equal(file.asarray(), submitted(trained)["im6"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["IMAGES"], "needs --out DIR"),
        (["IMAGES", "--out", "OUT", "--format", "jpg"], "--format jpg: expected one of tif, png, probabilities"),
        (["nowhere", "--out", "OUT"], "no file or folder .*nowhere"),
        (["EMPTY", "--out", "OUT"], "holds no image"),
        (["IMAGES", "--out", "IMAGES/out"], "lies inside"),
        (["IMAGES/im6.png", "--out", "IMAGES", "--format", "png"], "test_images .* looks for images"),
        (["IMAGES", "--out", "OUT", "--infer.threshold", "half"], "--infer.threshold is part of what 05 chose"),
        (["IMAGES", "--out", "OUT", "--infer.window", "auto"], "infer.window auto is chosen by 05"),
        (["IMAGES", "--out", "OUT", "--infer.wimdow", "64"], "nearest legal name is infer.window"),
        (["IMAGES", "--out"], "expected one argument"),
        ([], "expected python -m lib predict CONFIG PATH …, then options"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(trained, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    places = {"IMAGES": images_of(trained), "OUT": str(tmp_path / "out"), "EMPTY": str(tmp_path / "empty")}
    for place, path in places.items():
        words = [word.replace(place, path) for word in words]
    with pytest.raises(UserError, match=message):
        main(["predict", str(trained), *words])
    assert not (tmp_path / "out").exists()


def test_nothing_is_trained_or_no_package(tiny, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="run 03_train.py and 05_infer_ensemble.py with .*tiny.yaml first"):
        main(["predict", str(tiny), images_of(tiny), *out])
    with pytest.raises(UserError, match="is not a package, because it has no config.yaml"):
        main(["predict", str(tmp_path), images_of(tiny), *out])


def test_boxes_of_other_images_are_refused(trained, tmp_path):
    boxes, call = tmp_path / "boxes.csv", ["predict", str(trained), images_of(trained), "--out", str(tmp_path / "out")]
    boxes.write_text("image_id,y,x,height,width\nim6,0,0,60,60\n")
    main([*call, "--infer.roi", str(boxes)])
    labels = tifffile.imread(tmp_path / "out/im6.tif")
    assert labels[:60, :60].any() and not labels[120:].any() and not tifffile.imread(tmp_path / "out/im7.tif").any()
    boxes.write_text("image_id,y,x,height,width\nim1,0,0,60,60\n")
    with pytest.raises(UserError, match="no box of any given image"):
        main([*call, "--infer.roi", str(boxes)])


SMALL_FPN = ["--model.architecture", "fpn", "--model.encoder", "tu-mobilenetv3_small_050", "--model.weights", "none"]
VARIANTS = {
    "objects": ["--infer.postprocess", "objects", "holes", "--infer.ensemble_weights", "greedy"],
    "auto": ["--infer.window", "auto", "--infer.tta", "auto", "--infer.trial_limit", "2"],
    "gates": ["--infer.gate", "fit", "--model.classifier", "true", *SMALL_FPN],
    "resized": ["--preprocess.mode", "resize", "--infer.window", "0", "--preprocess.tile_size", "96"],
    "all": ["--train.folds", "0", "1", "all", "--infer.folds", "all"],
}


SLOW = ("auto", "gates", "resized", "all")


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in VARIANTS]
)
def test_windows_gates_rules_and_resized_images_are_those_of_05(tiny, tmp_path, variant):
    flags = ["--train.epochs", "4", *VARIANTS[variant]]
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), *flags])
    main(["predict", str(tiny), images_of(tiny), "--out", str(tmp_path / "out")])  # without the options
    for name, expected in submitted(tiny).items():
        assert np.array_equal(tifffile.imread(tmp_path / f"out/{name}.tif"), expected)


def test_boxes_that_05_looked_at_are_of_its_own_images(tiny, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image_id,y,x,height,width\n" + "".join(f"im{i},0,0,90,90\n" for i in range(8)))
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), "--infer.roi", str(boxes)])
    shutil.copy(tiny.parent / "raw/test/im6.png", tmp_path / "other.png")
    call = ["predict", str(tiny), str(tmp_path / "other.png"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="'other' has none .* or look everywhere with --infer.roi content"):
        main(call)
    main([*call, "--infer.roi", "content"])
    assert (tmp_path / "out/other.tif").is_file()
