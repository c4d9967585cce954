"""Where a training's numbers and pictures go besides metrics.jsonl: Weights & Biases, TensorBoard, or a plugin's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.config import Config, flat
from lib.plugins import find, register
from lib.report.figures import overlay
from lib.tables import IGNORE


@dataclass(frozen=True)
class Picture:
    """An image (h, w, 3) with its label and out-of-fold prediction, both indices (h, w), and its score."""

    image_id: str
    image: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    score: float


class Tracker:
    """One member's training, watched; this one watches nothing."""

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Loss, score, learning rate and whatever else is numbers."""

    def pictures(self, step: int, pictures: list[Picture]) -> None:
        """The worst images so far."""

    def finish(self) -> None:
        """No more will come."""


def open_tracker(config: Config, member: str, folder: Path, names: list[str]) -> Tracker:
    """The tracker of `report.tracker` for a member; where it cannot be had, a sentence, and none: training goes on.

    `names`: of the label indices. `folder`: the member's, where files go.
    """
    if config.report.tracker == "none":
        return Tracker()
    build: Callable = find("tracker", config.report.tracker, "report.tracker")
    try:
        return build(config, member, folder, names)
    except Exception as error:  # a package that is missing, no key, no network: nothing that a training should end for
        reason = " ".join(str(error).split())[:200]
        print(f"report.tracker: {config.report.tracker} cannot be had ({reason}); training goes on without it")
        return Tracker()


@register("tracker", "wandb")
class Wandb(Tracker):
    """Weights & Biases, with masks as overlays that can be switched on and off (`pip install wandb`)."""

    def __init__(self, config: Config, member: str, folder: Path, names: list[str]):
        import wandb

        self._image = wandb.Image
        self._names = {**dict(enumerate(names)), IGNORE: "ignored"}
        self._run = wandb.init(
            project=config.competition.name, name=member, dir=str(folder), config=flat(config),
            mode=config.report.tracker_mode, reinit="finish_previous",
        )  # fmt: skip

    def numbers(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def pictures(self, step: int, pictures: list[Picture]) -> None:
        def masks(picture: Picture) -> dict:
            both = {"label": picture.truth, "prediction": picture.guess}
            return {name: {"mask_data": mask, "class_labels": self._names} for name, mask in both.items()}

        shown = [self._image(p.image, masks=masks(p), caption=f"{p.image_id} {p.score:.4f}") for p in pictures]
        self._run.log({"worst images": shown}, step=step)

    def finish(self) -> None:
        self._run.finish()


@register("tracker", "tensorboard")
class TensorBoard(Tracker):
    """TensorBoard's files in the member's folder (`pip install tensorboard`)."""

    def __init__(self, config: Config, member: str, folder: Path, names: list[str]):
        from torch.utils.tensorboard import SummaryWriter

        self._background = config.competition.background
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def numbers(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: list[Picture]) -> None:
        for number, p in enumerate(pictures):
            sides = [p.image, *(overlay(p.image, labels, self._background) for labels in (p.truth, p.guess))]
            self._writer.add_image(f"worst/{number}", np.hstack(sides), step, dataformats="HWC")

    def finish(self) -> None:
        self._writer.close()
