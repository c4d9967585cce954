"""Stage 4: predict images without labels, keep the confident tiles as labels for the next training.

    python 04_pseudo_label.py configs/retina.yaml --train.round 1    # then: 03_train.py … --train.round 1
    python 04_pseudo_label.py configs/retina.yaml --train.round 2 --pseudo.source ensemble
    python 04_pseudo_label.py configs/retina.yaml --clean            # then: 03_train.py … --clean.use true

Round r learns from the members of round r-1. With `pseudo.source per_fold` a fold's labels come only from
members that never saw its validation images, so the out-of-fold score stays honest; with `ensemble` it is
optimistic. Writes work/<name>/pseudo/round<r>/tiles.csv, tiles/ and, for the report, pictures/.

`--clean` predicts the training images instead, each by members that never saw it and by those of another fold, which
trained on it, and lists in work/<name>/clean/ (tiles.csv, images.csv, pictures of tiles; worst first) whose labels
agree with them far less than they expect; `clean.use` lets 03 drop or mend these tiles.
"""

import dataclasses
import zlib

import numpy as np
import pandas as pd

from lib import tables
from lib.competition.dataset import Competition
from lib.config import for_source, parse_command_line
from lib.config.load import workspace_of
from lib.errors import UserError, run_script
from lib.inference.backends.choose import infer_engine
from lib.inference.members import candidates_in_memory
from lib.inference.networks import Ensemble
from lib.inference.sliding_window import Windows, predict
from lib.inference.sources import limits_of, source_of, windows_of
from lib.label_cleaning.clean import Cleaner
from lib.models.weight_files import load_network
from lib.oof.score_images import images_of_fold
from lib.plugins import load_plugins
from lib.pseudo.agreement import Votes
from lib.pseudo.pictures import draw_kept
from lib.pseudo.select import select, unseen_fill
from lib.pseudo.store import check_tiles_fit, drop_unused, store_tiles
from lib.report.page import update_report
from lib.stages import clean_stage, pseudo_stage
from lib.system.device import pick_device
from lib.system.terminal import open_log
from lib.system.text_table import text_table
from lib.training.rounds import labelers
from lib.workspace import Workspace, replacing_dir, round_experiment, write_table


def main(argv: list[str]) -> None:
    config = parse_command_line([word for word in argv if word != "--clean"], "04_pseudo_label.py")
    open_log(config)
    load_plugins(config.plugins)
    if "--clean" in argv:
        clean(config)
        return
    round_, roi = config.train.round, config.infer.roi
    if round_ < 1:
        raise UserError("04_pseudo_label.py needs the round to make labels for (--train.round 1), or --clean")
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    device = pick_device(config.train.device, config.train.threads)
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    images = images[images["split"] != "train"]
    if images.empty:
        raise UserError("there is no test or unlabeled image to pseudo-label; set competition.unlabeled_images")
    members = workspace.members([round_experiment(config.train.experiment, round_ - 1)])
    stage = pseudo_stage(round_, config, workspace, members)
    if stage.up_to_date():
        return
    stage.begin()

    # One pass over the images: each fold's members are one system of the forward.
    nets = [load_network(member.path, "swa", device) for member in members]
    folds, groups = labelers([member.fold for member in members], config.pseudo.source)
    engine = infer_engine(candidates_in_memory(members, nets, config), config, workspace, device, images)
    forward = ensemble = Ensemble(nets, device, tta=config.infer.tta, engine=engine, groups=groups)
    del nets  # it has its own
    fill = unseen_fill(competition.channels, config.competition.background, roi)
    if config.pseudo.confidence == "agreement":
        forward, fill = Votes(ensemble), np.append(fill, np.float32(fill.min() > 0))
    check_tiles_fit(images, len(folds), competition.channels, config, workspace)

    folder, rows = workspace.pseudo_dir(round_), []
    with replacing_dir(folder / "tiles") as temporary:
        for source, own_images in images.groupby("source", sort=False):
            own, paths = for_source(config, source), dict(zip(own_images["image_id"], own_images["path"], strict=True))
            blocks = predict(
                [source_of(own, image_id, path) for image_id, path in paths.items()], forward, label_windows(own),
                fill, ensemble.systems, limits_of(own), f"04 round {round_}", restore=own.preprocess.mode == "tiles",
            )  # fmt: skip
            rows += store_tiles(blocks, paths, folds, temporary, own, competition.label_names)
        of_fold = {fold: [row for row in rows if row["fold"] == fold] for fold in folds}
        kept = {fold: kept_tiles(of_fold[fold], fold, config) for fold in folds}
        chosen = [row for fold in folds for row in kept[fold]]
        drop_unused(temporary, chosen)
    columns = [*tables.PSEUDO_TILES, *tables.class_columns(competition.label_names)]
    table = pd.DataFrame([{**row, "source": f"pseudo{round_}"} for row in chosen], columns=columns)
    with replacing_dir(folder / "pictures") as pictures:
        background, count = config.competition.background, config.report.pictures
        draw_kept(chosen, folder, pictures, competition.channels, background, count)
    write_table(folder / "tiles.csv", table)
    stage.finish([folder / "tiles.csv", folder / "tiles"], tiles=len(chosen))
    update_report(config)
    print(text_table([summary(fold, of_fold[fold], kept[fold]) for fold in folds]))
    if not chosen:
        print("04: no tile is confident enough; 03 will train without pseudo-labels (see pseudo.min_confidence)")
    print(f"04: {len(chosen)} of {len(rows)} tiles kept; see {folder / 'tiles.csv'}")


def label_windows(config) -> Windows:
    """The windows that labels are made of."""
    windows = windows_of(config)
    if not config.pseudo.center_only or windows.whole:
        return windows
    return dataclasses.replace(windows, blend="center", overlap=max(windows.overlap, 2 * windows.margin))


def clean(config) -> None:
    """Judge every training tile by the members that never saw its image, and by those of the next fold, which did."""
    competition, workspace = Competition(config.competition), Workspace(workspace_of(config))
    device = pick_device(config.train.device, config.train.threads)
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    tiles = tables.read(workspace.tiles, tables.TILES, "01_preprocess.py")
    folds = tables.read_folds(workspace.folds, images)
    group_of = dict(zip(folds["image_id"], folds["group"], strict=True))
    members = workspace.members([round_experiment(config.train.experiment, config.train.round)])
    stage = clean_stage(config, workspace, members)
    if stage.up_to_date():
        return
    stage.begin()
    folder = workspace.clean_dir
    trained = sorted({member.fold for member in members})
    confirm = config.clean.in_sample_weight > 0 and len(trained) > 1
    if config.clean.in_sample_weight and not confirm:
        print(f"04: only fold {trained[0]} has members, so none that trained on its labels judge them "
              "(clean.in_sample_weight); train another fold to find more, and fewer that are right")  # fmt: skip

    def ensemble(fold: int) -> Ensemble:
        own = [member for member in members if member.fold == fold]
        nets = [load_network(member.path, "swa", device) for member in own]
        candidates = candidates_in_memory(own, nets, config)
        engine = infer_engine(candidates, config, workspace, device, images)
        return Ensemble(nets, device, tta=config.infer.tta, engine=engine)

    with replacing_dir(folder) as temporary:
        cleaner = Cleaner(config, competition, temporary)
        for fold, following in zip(trained, trained[1:] + trained[:1], strict=True):
            images_of, familiar = images_of_fold(workspace, folds, fold), ensemble(following) if confirm else None
            cleaner.judge(images_of, group_of, ensemble(fold), tiles, f"04 clean, fold {fold}", familiar)
        table, whole = cleaner.finish()
    suspects = table[table["suspect"]]
    stage.finish([folder / "tiles.csv", folder / "images.csv"], suspects=len(suspects))
    update_report(config)
    print(text_table(suspects.head(10)[["tile_id", "miou", "seen_miou", "doubt", "action"]].to_dict("records")))
    counts = ", ".join(f"{n} {action}" for action, n in table["action"].value_counts().items())
    print(f"04: {len(suspects)} of {len(table)} tiles are suspects ({counts}); see {folder / 'tiles.csv'}")
    if whole["suspect"].any():
        print("04: the whole label looks wrong of", ", ".join(whole.loc[whole["suspect"], "image_id"].head(10)))


def kept_tiles(rows: list[dict], fold: int, config) -> list[dict]:
    seed = zlib.crc32(f"{fold} {config.train.round}".encode())
    return [rows[i] for i in select(rows, config.pseudo, config.competition.background, seed)]


def summary(fold: int, rows: list[dict], kept: list[dict]) -> dict:
    return {
        "for fold": "any" if fold < 0 else fold,
        "tiles": len(rows),
        "kept": len(kept),
        "with object": float(np.mean([row["has_object"] for row in kept])) if kept else None,
        "mean confidence": float(np.mean([row["confidence"] for row in rows])) if rows else None,
    }


if __name__ == "__main__":
    run_script(main)
