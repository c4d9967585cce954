"""External data: other folders, with labels in another form, other names and another scale, or with none."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lib import tables
from lib.competition.dataset import Competition
from lib.competition.external import translation
from lib.config import for_source, load
from lib.config.competition import CompetitionSettings
from lib.data.preprocess.pick_images import pick_images
from lib.errors import UserError
from lib.preflight.forecast import image_sizes
from lib.training.member import make_data, training_tiles
from lib.workspace import Workspace
from tests.conftest import disc_image

ROOT = Path(__file__).resolve().parents[2]
WEB = {
    "name": "web", "images": "pictures/*.png", "scale": 2.0, "weight": 0.5,
    "labels": {"format": "mask_images", "path": "masks", "suffix": "_mask.png", "palette": "colours.csv"},
    "classes": {"smudge": "ignore", "ball": "disc"},
}  # fmt: skip
GREY = {"background": 0, "smudge": 90, "ball": 200}


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture
def mixed(tiny):
    """The tiny competition (run-lengths) beside two sources: `web`, twice as large with coloured masks, and `bare`.

    Of web's discs the left half is a smudge. web/copy shows what im0 shows.
    """
    rng, raw = np.random.default_rng(8), tiny.parent / "raw"
    web, bare = tiny.parent / "web", tiny.parent / "bare"
    for folder in (web / "pictures", web / "masks", bare):
        folder.mkdir(parents=True)
    colours = pd.DataFrame([(name, g, g, g) for name, g in GREY.items()], columns=["name", "r", "g", "b"])
    colours.to_csv(web / "colours.csv", index=False)
    for name in ("a", "im1", "copy"):  # im1: as a training image is called
        image, mask = disc_image(rng, 160, 170)
        if name == "copy":
            image = cv2.imread(str(raw / "train/im0.png"))[:, :, ::-1]
            mask = (cv2.blur(image.mean(2), (9, 9)) > 135).astype(np.uint8)
        grey = mask * np.uint8(GREY["ball"])
        left = grey[:, : grey.shape[1] // 2]
        left[left > 0] = GREY["smudge"]
        for folder, pixels, suffix in (("pictures", image, ""), ("masks", np.stack([grey] * 3, -1), "_mask")):
            cv2.imwrite(str(web / folder / f"{name}{suffix}.png"), pixels.repeat(2, 0).repeat(2, 1)[:, :, ::-1])
    cv2.imwrite(str(bare / "x.png"), disc_image(rng, 200, 140)[0].repeat(2, 0).repeat(2, 1))
    config = yaml.safe_load(tiny.read_text())
    sources = [{**WEB, "root": str(web)}, {"name": "bare", "root": str(bare), "images": "*.png", "scale": 2.0}]
    config["competition"]["external"] = sources
    tiny.write_text(yaml.safe_dump(config))
    return tiny


def test_external_labels_are_told_in_the_competitions_classes(mixed):
    competition = Competition(load(mixed).competition)
    competition.check()
    assert competition.ids("train", "web") == ["web_a", "web_copy", "web_im1"]
    assert competition.ids("unlabeled", "bare") == ["bare_x"] and len(competition.ids("train")) == 6
    (image,) = [image for image in competition.images if image.image_id == "web_a"]
    label = competition.open_label(image, 320, 340)
    pixels = label.read(0, 0, 320, 340)
    grey = cv2.imread(str(mixed.parent / "web/masks/a_mask.png"), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(grey)) == {0, 90, 200}, "the fixture is degenerate"
    assert ((pixels == 1) == (grey == 200)).all() and ((pixels == tables.IGNORE) == (grey == 90)).all()
    assert (label.counts(3, 5, 200, 300) == np.bincount(pixels[3:203, 5:305].ravel(), minlength=256)).all()


def test_external_images_are_cut_at_their_scale_and_trained_on_in_every_fold_with_their_weight(mixed):
    run("01_preprocess", mixed)
    run("02_make_folds", mixed)
    config = load(mixed)
    workspace = Workspace(config.workspace)
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    assert set(folds.loc[folds["image_id"].str.startswith("web_"), "fold"]) == {-1}
    assert "bare_x" not in set(folds["image_id"])
    for fold in (0, 1):
        tiles = training_tiles(workspace, folds, fold, config)
        web = tiles[tiles["source"] == "web"]
        assert set(web["image_id"]) == {"web_a", "web_im1", "web_copy"} and set(web["weight"]) == {0.5}
        assert set(tiles.loc[tiles["source"] == "competition", "weight"]) == {1.0}
        assert set(web["height"]) == {192} and len(tiles) > len(web)
        files = make_data(tiles, config, 1, 0).dataset.tiles
        at = tiles.reset_index().query("image_id == 'web_a' and px_disc > 0").index[0]
        mask, row = cv2.imread(str(files[at].label), cv2.IMREAD_GRAYSCALE), tiles.iloc[at]
        grey = cv2.imread(str(mixed.parent / "web/masks/a_mask.png"), cv2.IMREAD_GRAYSCALE)
        grey = grey[row.y : row.y + 192 : 2, row.x : row.x + 192 : 2]
        assert mask.shape == (96, 96) and ((mask == tables.FULL) == (grey == 200)).all() and files[at].weight == 0.5
    done = [tuple(image) for image in folds.loc[folds["fold"] >= 0, ["image_id", "kept_from"]].to_numpy()]
    assert done == [(f"im{i}", "") for i in range(6)]


def test_a_copy_of_a_training_image_is_kept_from_the_members_that_validate_on_it(mixed, capsys, monkeypatch):
    from lib.data.leaks.find import Leak

    def found(paths, pixels, jobs, **_):  # noise and discs have no features to find
        at = {path.name: i for i, path in enumerate(paths)}
        pairs = [(at["copy.png"], at["im0.png"]), (at["copy.png"], at["a.png"]), (at["im6.png"], at["a.png"])]
        return [Leak(min(pair), max(pair), "copy", 0.99) for pair in pairs]

    monkeypatch.setattr("lib.data.leaks.report.find_leaks", found)
    run("01_preprocess", mixed)
    run("02_make_folds", mixed, "--folds.leak_check", "true")
    out = capsys.readouterr().out
    assert "web_copy is not trained on where im0 is validated on" in out
    assert out.count("leak:") == 2 and "im6" in out.partition("not both training images")[0]
    config = load(mixed)
    workspace = Workspace(config.workspace)
    folds = tables.read(workspace.folds, tables.FOLDS, "02").set_index("image_id")
    assert folds["kept_from"].to_dict()["web_copy"] == str(folds.loc["im0", "fold"])
    for fold in (0, 1):
        tiles = training_tiles(workspace, folds.reset_index(), fold, config)
        assert ("web_copy" in set(tiles["image_id"])) == (fold != folds.loc["im0", "fold"])
        assert "web_a" in set(tiles["image_id"])


def test_all_stages_take_external_data_and_a_weight_trains_again_alone(mixed, capsys):
    for number, stage in enumerate(("01_preprocess", "02_make_folds", "03_train", "04_pseudo_label", "03_train")):
        run(stage, mixed, *(["--train.round", "1"] if number > 2 else []))
    run("05_infer_ensemble", mixed)
    done = json.loads((mixed.parent / "work/runs/base/fold0_seed42/done.json").read_text())
    assert all(not name.startswith("web") for name in done["images"]), "none is validated on"
    tiles = tables.read(mixed.parent / "work/pseudo/round1/tiles.csv", tables.PSEUDO_TILES, "04")
    assert set(tiles["image_id"]) == {"im6", "im7", "bare_x"}
    assert tiles.groupby("image_id")["height"].max().to_dict() == {"im6": 96, "im7": 96, "bare_x": 192}
    mixed.write_text(mixed.read_text().replace("weight: 0.5", "weight: 0.25"))
    capsys.readouterr()
    run("01_preprocess", mixed)
    run("03_train", mixed)
    out = capsys.readouterr().out
    assert "01_preprocess: up to date" in out and "weight of web changed from 0.5 to 0.25" in out


def test_a_sliver_and_a_forecast_know_all_sources(mixed):
    config = load(mixed)
    competition = Competition(config.competition)
    picked = [(image.split, image.source) for image in pick_images(competition, 2)]
    assert picked.count(("train", "competition")) == 2 and picked.count(("train", "web")) == 2
    sizes = image_sizes(competition, config)
    assert (160, 170) in sizes["external"] and len(sizes["external"]) == 3 and sizes["unlabeled"] == [(200, 140)]
    assert for_source(config, "web").preprocess.scale == 0.5 and for_source(config, "competition") is config


def test_what_a_sources_pixels_of_no_class_are_may_be_said():
    ours = CompetitionSettings(classes=["road", "tree"])
    names = {"background": "ignore", "street": "road", "wood": "tree", "oak": "tree"}
    assert translation(names, ours)[:5].tolist() == [255, 1, 2, 2, 255]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"classes": {"ball": "disk"}}, "external web: classes names 'disk'; expected one of .*'disc'"),
        ({"name": "competition"}, "must differ"),
        ({"name": "a/b"}, r"competition\.external\.0\.name"),
        ({"root": "/no/such"}, "external web: there is no folder /no/such"),
        ({"images": "*.jpg"}, "external web: .* matches no image"),
        ({"images": "pictures/a.png"}, "external web: .*is a mask without image"),
        ({"classes": {"ball": "disc"}}, "external web: .*|colour 90,90,90, which is not a class"),
        ({"labels": {"format": "mask"}}, "external web: labels.format: no labels is called 'mask'"),
    ],
)
def test_a_mistake_names_the_source(mixed, change, what):
    config = yaml.safe_load(mixed.read_text())
    config["competition"]["external"][0] |= change
    mixed.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=what):
        run("01_preprocess", mixed)
