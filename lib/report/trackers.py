"""Experiment trackers: Weights & Biases, TensorBoard, or a plugin's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.config import Config, flat
from lib.imaging.draw import overlay
from lib.plugins import find, register
from lib.tables import IGNORE


@dataclass(frozen=True)
class TrackedImage:
    """An image (h, w, 3) uint8 with its label and out-of-fold prediction, and its score.

    Both are label indices (h, w), or planes (K, h, w) of classes that overlap.
    """

    image_id: str
    image: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    score: float


class Tracker:
    """Records one member's training, or one ensemble. This base class records nothing; a tracker overrides its methods.

    >>> class Printer(Tracker):
    ...     def numbers(self, step, values):
    ...         print(step, values)
    >>> Printer().numbers(20, {"loss": 0.5})
    20 {'loss': 0.5}
    """

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Record loss, score, learning rate and other numbers by name, at a training step."""

    def pictures(self, step: int, pictures: list[TrackedImage]) -> None:
        """Record the images with the lowest scores so far."""

    def table(self, name: str, rows: pd.DataFrame) -> None:
        """Record a table, such as the ledger."""

    def finish(self) -> None:
        """Close the run; nothing more is recorded."""


def open_tracker(config: Config, run: str, folder: Path, names: list[str]) -> Tracker:
    """The tracker that `report.tracker` names, for a member or submission.

    Where it cannot be opened, a sentence is printed and nothing is tracked. `run`: its name. `folder`: for its files.
    `names`: of the label indices.
    """
    if config.report.tracker == "none":
        return Tracker()
    build: Callable = find("tracker", config.report.tracker, "report.tracker")
    try:
        return build(config, run, folder, names)
    except Exception as error:  # a missing package, key or network must not end a training
        reason = " ".join(str(error).split())[:200]
        print(f"report.tracker: {config.report.tracker} cannot be opened ({reason}); the run continues without it")
        return Tracker()


@register("tracker", "wandb")
class Wandb(Tracker):
    """Weights & Biases, with masks as overlays (`pip install wandb`)."""

    def __init__(self, config: Config, run: str, folder: Path, names: list[str]):
        import wandb

        self._image, self._table = wandb.Image, wandb.Table
        self._names = {**dict(enumerate(names)), IGNORE: "ignored"}
        self._run = wandb.init(
            project=config.competition.name, name=run, group=run.partition("/")[0], dir=str(folder),
            config=json.loads(json.dumps(flat(config), default=str)), mode=config.report.tracker_mode,
            reinit="finish_previous",
        )  # fmt: skip

    def numbers(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def pictures(self, step: int, pictures: list[TrackedImage]) -> None:
        def masks(picture: TrackedImage) -> dict:
            both = {"label": picture.truth, "prediction": picture.guess}
            return {name: mask for side, labels in both.items() for name, mask in self._masks(side, labels).items()}

        # A key for each image, since all images of one key are shown at the same size.
        shown = [self._image(p.image, masks=masks(p), caption=f"{p.image_id} {p.score:.4f}") for p in pictures]
        self._run.log({f"worst/{number}": image for number, image in enumerate(shown)}, step=step)

    def _masks(self, side: str, labels: np.ndarray) -> dict:
        """The overlay of one side, or one for each class that overlaps."""
        if labels.ndim == 2:
            return {side: {"mask_data": labels, "class_labels": self._names}}
        return {
            f"{side} {self._names[k]}": {"mask_data": plane, "class_labels": {1: self._names[k], IGNORE: "ignored"}}
            for k, plane in enumerate(labels)
        }

    def table(self, name: str, rows: pd.DataFrame) -> None:
        self._run.log({name: self._table(dataframe=rows.astype(object).where(rows.notna(), None))})

    def finish(self) -> None:
        self._run.finish()


@register("tracker", "tensorboard")
class TensorBoard(Tracker):
    """TensorBoard, with its files in the member's folder (`pip install tensorboard`)."""

    def __init__(self, config: Config, run: str, folder: Path, names: list[str]):
        from torch.utils.tensorboard import SummaryWriter

        self._background = config.competition.background
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", _markdown(pd.DataFrame(flat(config).items(), columns=["option", "value"])))

    def numbers(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: list[TrackedImage]) -> None:
        for number, p in enumerate(pictures):
            sides = [p.image, *(overlay(p.image, labels, self._background) for labels in (p.truth, p.guess))]
            self._writer.add_image(f"worst/{number}", np.hstack(sides), step, dataformats="HWC")

    def table(self, name: str, rows: pd.DataFrame) -> None:
        self._writer.add_text(name, _markdown(rows))

    def finish(self) -> None:
        self._writer.close()


def _markdown(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)
