"""Where a run's numbers, pictures and tables go besides the workspace: Weights & Biases, TensorBoard, or a plugin's."""

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
class Picture:
    """An image (h, w, 3) with its label and out-of-fold prediction, both indices (h, w), and its score."""

    image_id: str
    image: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    score: float


class Tracker:
    """One member's training, or one ensemble, watched; this one watches nothing."""

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Loss, score, learning rate and whatever else is numbers."""

    def pictures(self, step: int, pictures: list[Picture]) -> None:
        """The worst images so far."""

    def table(self, name: str, rows: pd.DataFrame) -> None:
        """The ledger."""

    def finish(self) -> None:
        """No more will come."""


def open_tracker(config: Config, run: str, folder: Path, names: list[str]) -> Tracker:
    """The tracker of `report.tracker` for a member or submission; where it cannot be had, a sentence, and none: work
    goes on.

    `names`: of the label indices. `folder`: where files go.
    """
    if config.report.tracker == "none":
        return Tracker()
    build: Callable = find("tracker", config.report.tracker, "report.tracker")
    try:
        return build(config, run, folder, names)
    except Exception as error:  # a package that is missing, no key, no network: nothing that a training should end for
        reason = " ".join(str(error).split())[:200]
        print(f"report.tracker: {config.report.tracker} cannot be had ({reason}); all goes on without it")
        return Tracker()


@register("tracker", "wandb")
class Wandb(Tracker):
    """Weights & Biases, with masks as overlays that can be switched on and off (`pip install wandb`)."""

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

    def pictures(self, step: int, pictures: list[Picture]) -> None:
        def masks(picture: Picture) -> dict:
            both = {"label": picture.truth, "prediction": picture.guess}
            return {name: {"mask_data": mask, "class_labels": self._names} for name, mask in both.items()}

        # One key for each: what stands under one key is shown at one size.
        shown = [self._image(p.image, masks=masks(p), caption=f"{p.image_id} {p.score:.4f}") for p in pictures]
        self._run.log({f"worst/{number}": image for number, image in enumerate(shown)}, step=step)

    def table(self, name: str, rows: pd.DataFrame) -> None:
        self._run.log({name: self._table(dataframe=rows.astype(object).where(rows.notna(), None))})

    def finish(self) -> None:
        self._run.finish()


@register("tracker", "tensorboard")
class TensorBoard(Tracker):
    """TensorBoard's files in the member's folder (`pip install tensorboard`)."""

    def __init__(self, config: Config, run: str, folder: Path, names: list[str]):
        from torch.utils.tensorboard import SummaryWriter

        self._background = config.competition.background
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", _markdown(pd.DataFrame(flat(config).items(), columns=["option", "value"])))

    def numbers(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: list[Picture]) -> None:
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
