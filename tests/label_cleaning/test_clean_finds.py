"""Of labels that were corrupted on purpose `--clean` finds the most, and little else."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from lib.competition import rle

ROOT = Path(__file__).resolve().parents[2]
IMAGES, SIDE = 60, 64
KINDS = ("missing", "shifted", "swapped", "extra", "missing", "shifted")  # a tenth of the images


def field(rng):
    """(image, mask): three discs on noise, and three dark ones that are none."""
    image, mask = rng.integers(60, 120, (SIDE, SIDE, 3)).astype(np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    places = rng.permutation([(y, x) for y in (12, 32, 52) for x in (12, 32, 52)])[:6]
    for number, (y, x) in enumerate(places.tolist()):
        disc = cv2.circle(np.zeros_like(mask), (x, y), int(rng.integers(6, 10)), 1, -1)
        image[disc > 0] = np.clip(image[disc > 0].astype(int) + (90 if number < 3 else -50), 0, 255)
        mask |= disc * np.uint8(number < 3)
    return image, mask


def corrupted(mask, other, kind):
    if kind == "missing":
        return np.zeros_like(mask)
    if kind == "shifted":
        return np.roll(mask, (10, 10), (0, 1))
    if kind == "swapped":
        return other
    free = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    y, x = np.unravel_index(free.argmax(), free.shape)
    return cv2.circle(mask.copy(), (int(x), int(y)), 14, 1, -1)


@pytest.fixture
def noisy(tmp_path):
    """(YAML, ids of the images with a corrupt label)."""
    rng, raw = np.random.default_rng(11), tmp_path / "raw"
    for folder in ("train", "test"):
        (raw / folder).mkdir(parents=True)
    fields = [field(rng) for _ in range(IMAGES)]
    bad = dict(zip(rng.permutation(IMAGES).tolist(), KINDS, strict=False))
    rows = []
    for number, (image, mask) in enumerate(fields):
        cv2.imwrite(str(raw / f"train/a{number}.png"), image[:, :, ::-1])
        if number in bad:
            mask = corrupted(mask, fields[number - 1][1], bad[number])
        rows.append((f"a{number}", rle.encode(mask)))
    cv2.imwrite(str(raw / "test/t.png"), field(rng)[0][:, :, ::-1])
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(raw / "train.csv", index=False)
    pd.DataFrame({"id": ["t"], "predicted": [""]}).to_csv(raw / "sample_submission.csv", index=False)
    config = {
        "competition": {"name": "noisy", "root": str(raw), "classes": ["disc"]},
        "preprocess": {"tile_size": SIDE, "background_keep": 1}, "folds": {"k": 2, "leak_check": False},
        "model": {"architecture": "tiny"},
        "train": {"epochs": 16, "batch_size": 4, "lr": 0.02, "workers": 0, "evaluations": 0, "precision": "fp32",
                  "swa": {"start": 1}},
        "augment": {"preset": "light"}, "infer": {"precision": "fp32", "backend": "eager"},
        "workspace": str(tmp_path / "work"), "jobs": 1,
    }  # fmt: skip
    path = tmp_path / "noisy.yaml"
    path.write_text(yaml.safe_dump(config))
    return path, {f"a{number}" for number in bad}


def test_four_fifths_of_the_corrupt_labels_are_found_and_few_others(noisy):
    config, bad = noisy

    def run(stage, *flags):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])

    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage)
    run("04_pseudo_label", "--clean")
    table = pd.read_csv(config.parent / "work/clean/tiles.csv")
    assert len(table) == IMAGES and len(bad) == IMAGES / 10
    suspects = set(table.loc[table["suspect"], "image_id"])
    found = suspects & bad
    assert len(found) >= 0.8 * len(bad) and len(found) >= 0.8 * len(suspects), (suspects, bad)
