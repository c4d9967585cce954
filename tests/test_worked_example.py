"""The documentation's example of more data: what it says is what is run."""

import json
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import disc_image

from lib import tables
from lib.config import load
from lib.workspace import round_experiment

ROOT = Path(__file__).resolve().parents[1]


def documented_block() -> dict:
    """The YAML of docs/how-to/competitions.md that names an external source."""
    blocks = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/how-to/competitions.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (block,) = [yaml.safe_load(text) for text in blocks if "external:" in text]
    return block


@pytest.fixture
def retina(tiny):
    """configs/retina.yaml with the page's lines, a network for tests, and the tiny competition's images as vessels;
    beside them unlabeled ones, and a folder of half as large ones with masks of indices."""
    raw, web, rng = tiny.parent / "raw", tiny.parent / "web", np.random.default_rng(3)
    for folder in (raw / "unlabeled", web / "images", web / "masks"):
        folder.mkdir(parents=True)
    cv2.imwrite(str(raw / "unlabeled/u1.png"), disc_image(rng, 170, 180)[0])
    for name in ("a", "b"):
        image, mask = disc_image(rng, 90, 100)
        cv2.imwrite(str(web / f"images/{name}.png"), image)
        cv2.imwrite(str(web / f"masks/{name}.png"), mask)
    places = pd.read_csv(raw / "metadata.csv").rename(columns={"place": "diagnosis"})
    places.to_csv(raw / "metadata.csv", index=False)
    config = yaml.safe_load((ROOT / "configs/retina.yaml").read_text(encoding="utf-8"))
    for section, values in documented_block().items():
        config[section] |= values
    config["competition"] |= {"root": str(raw)}
    config["competition"]["external"][0] |= {"root": str(web)}
    config["preprocess"] |= {"scale": 1, "tile_size": 96}
    small = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    config |= {key: small[key] for key in ("model", "train", "infer", "report", "workspace", "jobs")}
    config["folds"] |= {"k": 2, "leak_check": False}
    config["pseudo"] = {**small["pseudo"], **config["pseudo"]}
    path = tiny.parent / "retina.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_the_documented_example_of_external_and_unlabeled_images_runs_to_a_submission(retina):
    assert load(retina).pseudo.rounds == 1
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(retina)])
    for stage in ("04_pseudo_label", "03_train"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(retina), "--train.round", "1"])
    runpy.run_path(str(ROOT / "05_infer_ensemble.py"))["main"]([str(retina)])
    work = retina.parent / "work"
    tiles = tables.read(work / "tiles.csv", tables.TILES, "01")
    web = tiles[tiles["source"] == "web"]
    assert set(web["image_id"]) == {"web_a", "web_b"} and set(web["height"]) == {48}, "cut at half the scale"
    assert web["px_vessel"].sum() > 0, "its veins are our vessels"
    folds = tables.read(work / "folds.csv", tables.FOLDS, "02")
    assert set(folds.loc[folds["fold"] == -1, "image_id"]) == {"web_a", "web_b"}
    labeled = tables.read(work / "pseudo/round1/tiles.csv", tables.PSEUDO_TILES, "04")
    assert set(labeled["image_id"]) == {"u1", "im6", "im7"}
    for fold in (0, 1):
        done = json.loads((work / f"runs/{round_experiment('base', 1)}/fold{fold}_seed42/done.json").read_text())
        assert done["images"] and all(name.startswith("im") for name in done["images"]), "validated on our own alone"
    assert list(pd.read_csv(work / "submission.csv")["id"]) == ["im6", "im7"]
