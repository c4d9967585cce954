"""The built-in demo competition: writes slides, labels and tables in an organiser's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from lib.competition.demo_slides import PATIENTS, Scene, draw, draw_label, make_scene
from lib.competition.rle import BandEncoder
from lib.config import Config
from lib.system.parallel import parallel
from lib.workspace import replacing_dir

TILE_SIDE = 512
TEST_PATIENTS = ("P7", "P8")


def write_slide(path: Path, scene: Scene) -> str:
    """Write a tiled, JPEG-compressed TIFF, tile by tile. Returns the label's run-length."""
    encoder = BandEncoder(scene.height, scene.width)

    def tiles() -> Iterator[np.ndarray]:
        for y in range(0, scene.height, TILE_SIDE):
            for x in range(0, scene.width, TILE_SIDE):
                yield draw(scene, y, x, TILE_SIDE, TILE_SIDE)

    for y in range(0, scene.height, TILE_SIDE):
        encoder.push(y, draw_label(scene, y, 0, min(TILE_SIDE, scene.height - y), scene.width))
    tifffile.imwrite(
        path, tiles(), shape=(scene.height, scene.width, 3), dtype=np.uint8, tile=(TILE_SIDE, TILE_SIDE),
        photometric="rgb", compression="jpeg", compressionargs={"level": 90}, metadata=None,
        bigtiff=scene.height * scene.width > 2**30,
    )  # fmt: skip
    return encoder.finish()


@dataclass(frozen=True)
class SlidePlan:
    """A slide to be drawn; `height` and `width` in pixels."""

    image_id: str
    patient: str
    split: str
    height: int
    width: int
    seed: int


def make_demo(root: Path, seed: int = 3, per_patient: int = 2, sides: tuple[int, int] = (3000, 6000)) -> None:
    """Write the whole competition folder, atomically. `sides`: range of heights and widths in pixels."""
    rng = np.random.default_rng(seed)
    plans = []
    for patient in PATIENTS:
        split = "test" if patient in TEST_PATIENTS else "train"
        for number in range(per_patient):
            # Skewed to the small: mostly 3,000 to 4,000 pixels a side.
            height, width = (int(sides[0] + (sides[1] - sides[0]) * rng.random() ** 2.5) for _ in range(2))
            image_id = f"{patient.lower()}_{'abcdefgh'[number]}"
            plans.append(SlidePlan(image_id, patient, split, height, width, int(rng.integers(2**31))))
    with replacing_dir(root) as folder:
        for split in ("train", "test"):
            (folder / split).mkdir()
        texts = parallel(_write_planned, [(folder, plan) for plan in plans], 0, "demo slides", "slide")
        encodings = {plan.image_id: text for plan, text in zip(plans, texts, strict=True)}
        metadata = [(plan.image_id, plan.patient, plan.split, plan.height, plan.width) for plan in plans]
        pd.DataFrame(metadata, columns=["id", "patient", "split", "height", "width"]).to_csv(
            folder / "metadata.csv", index=False
        )
        for split, name in (("train", "train.csv"), ("test", "test_labels.csv")):
            rows = [(plan.image_id, encodings[plan.image_id]) for plan in plans if plan.split == split]
            pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(folder / name, index=False)
        sample = [(plan.image_id, "") for plan in plans if plan.split == "test"]
        pd.DataFrame(sample, columns=["id", "predicted"]).to_csv(folder / "sample_submission.csv", index=False)


def _write_planned(folder: Path, plan: SlidePlan) -> str:
    """Write one slide. Returns its label's run-length."""
    scene = make_scene(plan.height, plan.width, plan.patient, plan.seed)
    return write_slide(folder / plan.split / f"{plan.image_id}.tiff", scene)


def make_demo_of(config: Config) -> None:
    """`make_demo` where a configuration is about the demo, unless it exists already."""
    root = Path(config.competition.root)
    if config.competition.name == "demo" and not root.exists():
        make_demo(root)
