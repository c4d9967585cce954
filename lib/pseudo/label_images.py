"""One pseudo-label round: the members of the last round predict images, and confident tiles become labels."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib import tables
from lib.competition.metadata import zoom_of, zoomed
from lib.config import Config, for_source
from lib.errors import UserError
from lib.execution.executor import compute_each, executor
from lib.inference.backends.choose import infer_engine
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import candidates_in_memory, load_checkpoint
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sliding_window import predict_windows
from lib.inference.sources import limits_of, source_of, windows_of
from lib.inference.windows import Windows
from lib.pseudo.agreement import Votes
from lib.pseudo.pictures import draw_kept
from lib.pseudo.select import outside_probs, select
from lib.pseudo.store import TileStore, drop_unused, store_tiles
from lib.session import Session
from lib.training.rounds import labelers
from lib.workspace import Member, replacing_dir, round_experiment, write_table


@dataclass(frozen=True)
class Labelers:
    """The networks that make labels, and for which folds.

    `predict`: windows (B, h, w, C) → (B, folds, K, h, w) float32. `outside`: values (K,) of pixels that no window
    covers. With `pseudo.confidence agreement`, K counts one more plane: the spread of the votes.
    """

    folds: list[int]
    predict: Callable[[np.ndarray], np.ndarray]
    outside: np.ndarray


def images_to_label(session: Session) -> pd.DataFrame:
    """Rows of images.csv without a label. Raises UserError if there are none, or if no round is given."""
    if session.config.train.round < 1:
        raise UserError("04_pseudo_label.py needs the round to make labels for (--train.round 1), or --clean")
    images = session.images[session.images["split"] != "train"]
    if images.empty:
        raise UserError("there is no test or unlabeled image to pseudo-label; set competition.unlabeled_images")
    return images


def last_round(session: Session) -> list[Member]:
    """The members that the round before `train.round` has trained."""
    train = session.config.train
    return session.workspace.members([round_experiment(train.experiment, train.round - 1)])


def open_labelers(session: Session, members: list[Member], images: pd.DataFrame) -> Labelers:
    """Load the networks. One pass over the images predicts for all folds, each by its own members."""
    config = session.config
    networks = [load_checkpoint(session, Checkpoint(member, "swa")) for member in members]
    folds, groups = labelers([member.fold for member in members], config.pseudo.source)
    candidates = candidates_in_memory(members, networks, config)
    chosen = infer_engine(candidates, config, session.workspace, session.device, images)
    ensemble = Ensemble(networks, session.device, tta=config.infer.tta, engine=chosen, groups=groups)
    outside = outside_probs(config.competition, config.infer.roi)
    if config.pseudo.confidence == "agreement":
        return Labelers(folds, Votes(ensemble), np.append(outside, np.float32(outside.min() > 0)))
    return Labelers(folds, ensemble, outside)


def label_windows(config: Config) -> Windows:
    """The windows that labels are made with; with `pseudo.center_only` their centers must cover everything."""
    windows = windows_of(config)
    if not config.pseudo.center_only or windows.resized:
        return windows
    return replace(windows, blend="center", overlap=max(windows.overlap, 2 * windows.margin))


def label_tiles(session: Session, labelers: Labelers, images: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Predict `images` (rows of images.csv) and store the confident tiles in the folder of the round.

    Returns (rows of all predicted tiles, rows of the tiles that are kept).
    """
    config = session.config
    with replacing_dir(session.workspace.pseudo_dir(config.train.round) / "tiles") as folder:
        rows = []
        zooms = images["image_id"].map(lambda image_id: zoom_of(config, image_id))
        predict = _predict_tiles if executor() is None else _predict_apart
        for (source, zoom), same_zoom in images.groupby([images["source"], zooms], sort=False):
            rows += predict(session, labelers, for_source(config, source), zoom, same_zoom, folder)
        kept = [row for fold in labelers.folds for row in confident_tiles(rows, fold, session.config)]
        drop_unused(folder, kept)
    return rows, kept


def _predict_tiles(
    session: Session, labelers: Labelers, config: Config, zoom: float, images: pd.DataFrame, folder: Path
) -> list[dict]:
    """Rows of all tiles of the `images` of one source, whose options `config` has, and of one `zoom`."""
    paths = dict(zip(images["image_id"], images["path"], strict=True))
    blocks = predict_windows(
        [source_of(config, image_id, path) for image_id, path in paths.items()],
        ScaleGroup(label_windows(config), labelers.predict), labelers.outside, limits_of(config),
        f"04 round {config.train.round}", restore=config.preprocess.mode == "tiles",
    )  # fmt: skip
    store = TileStore(folder, labelers.folds, zoomed(config, zoom), session.competition.label_names)
    return store_tiles(blocks, paths, store)


def _predict_apart(
    session: Session, labelers: Labelers, config: Config, zoom: float, images: pd.DataFrame, folder: Path
) -> list[dict]:
    """As `_predict_tiles`, an image at a time on the workers of a cluster; the quota is applied here."""
    tasks = [(session, images.iloc[[place]], folder) for place in range(len(images))]
    store = TileStore(folder, labelers.folds, zoomed(config, zoom), session.competition.label_names)
    each = compute_each(_label_image, tasks, f"04 round {config.train.round}", "image")
    return [row for rows in each for row in store.admit_again(rows)]


def _label_image(session: Session, image: pd.DataFrame, folder: Path) -> list[dict]:
    labelers, row = open_labelers(session, last_round(session), images_to_label(session)), image.iloc[0]
    config, zoom = for_source(session.config, row["source"]), zoom_of(session.config, row["image_id"])
    return _predict_tiles(session, labelers, config, zoom, image, folder)


def confident_tiles(rows: list[dict], fold: int, config: Config) -> list[dict]:
    """The rows of one fold that are kept."""
    rows = [row for row in rows if row["fold"] == fold]
    seed = zlib.crc32(f"{fold} {config.train.round}".encode())
    return [rows[i] for i in select(rows, config.pseudo, config.competition.background, seed)]


def write_round(session: Session, kept: list[dict]) -> Path:
    """Write the table of the tiles that are kept, and draw some of them. Returns the table's path."""
    config, competition = session.config, session.competition
    folder = session.workspace.pseudo_dir(config.train.round)
    columns = [*tables.PSEUDO_TILES, *tables.class_columns(competition.label_names)]
    rows = [{**row, "source": f"pseudo{config.train.round}"} for row in kept]
    with replacing_dir(folder / "pictures") as pictures:
        draw_kept(kept, folder, pictures, config.competition, config.report.pictures)
    write_table(folder / "tiles.csv", pd.DataFrame(rows, columns=columns))
    return folder / "tiles.csv"


def fold_summary(fold: int, rows: list[dict], kept: list[dict]) -> dict:
    """A line of 04's printed table: how many tiles of one fold were predicted and kept."""
    rows, kept = ([row for row in table if row["fold"] == fold] for table in (rows, kept))
    return {
        "for fold": "any" if fold < 0 else fold,
        "tiles": len(rows),
        "kept": len(kept),
        "with object": float(np.mean([row["has_object"] for row in kept])) if kept else None,
        "mean confidence": float(np.mean([row["confidence"] for row in rows])) if rows else None,
    }
