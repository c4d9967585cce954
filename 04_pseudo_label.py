"""Stage 4: predict images without labels, keep the confident tiles as labels for the next training.

    python 04_pseudo_label.py configs/retina.yaml --train.round 1    # then: 03_train.py … --train.round 1
    python 04_pseudo_label.py configs/retina.yaml --train.round 2 --pseudo.source ensemble

Round r learns from the members of round r-1. With `pseudo.source per_fold` a fold's labels come only from
members that never saw its validation images, so the out-of-fold score stays honest; with `ensemble` it is
optimistic. Writes work/<name>/pseudo/round<r>/tiles.csv and tiles/.
"""

import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib import tables
from lib.competition.dataset import Competition
from lib.config import flat, parse_command_line
from lib.config.load import workspace_of
from lib.data.tiling import pad
from lib.errors import UserError, run_script
from lib.imaging.grid import window_starts
from lib.imaging.reader import Scaled, open_image
from lib.inference.evaluate import background_fill
from lib.inference.forward import Ensemble
from lib.inference.members import infer_precision, source_of, windows_of
from lib.inference.predictor import predict
from lib.plugins import load_plugins
from lib.pseudo.cut import rows_of_tiles
from lib.pseudo.rounds import round_experiment
from lib.pseudo.select import select, sure_share, to_planes
from lib.report.tables import text_table
from lib.training.checkpoint import load_network
from lib.training.device import pick_device
from lib.workspace import Workspace, replacing_dir, write_table


def main(argv: list[str]) -> None:
    config = parse_command_line(argv, "04_pseudo_label.py")
    load_plugins(config.plugins)
    round_ = config.train.round
    if round_ < 1:
        raise UserError("04_pseudo_label.py needs the round to make labels for, for example --train.round 1")
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    device = pick_device(config.train.device)
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    images = images[images["split"] != "train"]
    if images.empty:
        raise UserError("there is no test or unlabeled image to pseudo-label; set competition.unlabeled_images")
    members = workspace.members([round_experiment(config.train.experiment, round_ - 1)])
    inputs = [workspace.images, *(member.path / "done.json" for member in members)]
    settings = {**flat(config.pseudo, "pseudo."), **flat(config.infer, "infer."), "size": config.preprocess.tile_size}
    stage = workspace.stage(f"04_pseudo_label_round{round_}", settings, inputs)
    if stage.up_to_date():
        return
    stage.begin()
    nets = [load_network(member.path, "swa", device) for member in members]
    if config.pseudo.source == "per_fold":
        folds = sorted({member.fold for member in members})
        groups = [[i for i, member in enumerate(members) if member.fold == fold] for fold in folds]
    else:
        folds, groups = [-1], [list(range(len(members)))]
    precision = infer_precision(config, workspace, nets[0], device)
    forward = Ensemble(nets, device, tta=config.infer.tta, precision=precision, groups=groups)
    folder = workspace.pseudo_dir(round_)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing_dir(folder / "tiles") as temporary:
        rows = [
            row
            for image in images.itertuples()
            for row in one_image(image, forward, folds, temporary, config, competition)
        ]
        kept = [i for fold in folds for i in _of_fold(rows, fold, config, round_)]
        for i in set(range(len(rows))) - set(kept):
            (temporary / Path(rows[i]["mask_path"]).name).unlink()
    columns = [*tables.PSEUDO_TILES, *tables.class_columns(competition.label_names)]
    table = pd.DataFrame([rows[i] for i in kept], columns=columns).fillna(0)
    write_table(folder / "tiles.csv", table.assign(source=f"pseudo{round_}"))
    stage.finish([folder / "tiles.csv", folder / "tiles"])
    print(text_table([summary(fold, rows, kept, config) for fold in folds]))
    if not len(kept):
        print("04: no tile is confident enough; round trains without pseudo-labels (see pseudo.sure, pseudo.min_sure)")
    print(f"04: {len(kept)} of {len(rows)} tiles kept; see {folder / 'tiles.csv'}")


def one_image(image, forward, folds: list[int], folder: Path, config, competition: Competition) -> list[dict]:
    """Predict one image and store its tiles; returns a row per tile and fold."""
    tile = round(config.preprocess.tile_size / config.preprocess.scale)
    fill = background_fill(competition.channels, len(competition.label_names))
    bands = predict(
        [source_of(config, image.image_id, image.path)], forward, windows_of(config), fill, forward.systems,
        config.infer.batch_size, config.infer.max_gib, description=f"04 {image.image_id}",
    )  # fmt: skip
    rows = []
    with open_image(image.path) as reader:
        scaled = Scaled(reader, config.preprocess.scale)
        for image_id, y, probs in rows_of_tiles(bands, tile):
            for x in window_starts(image.width, tile, tile):
                piece = probs[:, :, :, x : x + tile]
                box = (y, x, piece.shape[2], piece.shape[3])
                for system, fold in enumerate(folds):
                    rows.append(write_tile(image_id, box, piece[system], fold, scaled, folder, config, competition))
    return rows


def write_tile(
    image_id: str, box: tuple, probs: np.ndarray, fold: int, scaled: Scaled, folder: Path, config, competition
) -> dict:
    """Store a tile (once) and one fold's soft label of it, at the size of training tiles."""
    y, x, h, w = box
    size, scale = config.preprocess.tile_size, config.preprocess.scale
    small = min(size, max(1, round(h * scale))), min(size, max(1, round(w * scale)))
    name = f"{image_id}_y{y}_x{x}"
    image_path, mask_path = folder / f"{name}.png", folder / f"{name}_fold{fold}.png"
    soft = np.stack([cv2.resize(plane, small[::-1], interpolation=cv2.INTER_AREA) for plane in probs])
    if not image_path.exists():
        pixels = cv2.resize(scaled.inner.read(y, x, h, w), small[::-1], interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(image_path), pad(pixels, size, mirror=True)[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    grown = np.stack([pad(plane, size, mirror=True) for plane in soft])
    cv2.imwrite(str(mask_path), to_planes(grown, config.pseudo.hard), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    labels = (soft[0] >= 0.5).astype(int) if len(soft) == 1 else soft.argmax(0)
    pixels = np.bincount(labels.ravel(), minlength=len(competition.label_names))
    counts = {f"px_{label}": int(n) for label, n in zip(competition.label_names, pixels, strict=True)}
    return {
        "tile_id": f"{name}_fold{fold}", "image_id": image_id, "y": y, "x": x, "height": h, "width": w,
        "image_path": f"tiles/{image_path.name}", "mask_path": f"tiles/{mask_path.name}", "fold": fold,
        "sure_share": round(sure_share(probs, config.pseudo.sure), 4), "blank_share": 0.0, "contrast": 0.0, **counts,
        "has_object": any(n for label, n in zip(competition.label_names, pixels, strict=True) if label != "background"),
    }  # fmt: skip


def _of_fold(rows: list[dict], fold: int, config, round_: int) -> list[int]:
    here = [i for i, row in enumerate(rows) if row["fold"] == fold]
    seed = zlib.crc32(f"{fold} {round_}".encode())
    chosen = select([rows[i] for i in here], config.pseudo, config.competition.background, seed)
    return [here[i] for i in chosen]


def summary(fold: int, rows: list[dict], kept: list[int], config) -> dict:
    mine = [rows[i] for i in kept if rows[i]["fold"] == fold]
    every = [row for row in rows if row["fold"] == fold]
    return {
        "for fold": "any" if fold < 0 else fold,
        "tiles": len(every),
        "kept": len(mine),
        "with object": sum(row["has_object"] for row in mine),
        "mean sure share": float(np.mean([row["sure_share"] for row in every])),
    }


if __name__ == "__main__":
    run_script(main)
