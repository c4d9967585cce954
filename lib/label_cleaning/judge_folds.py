"""`04 --clean`: judges the labels of every fold by its own members and by those of the next fold."""

from __future__ import annotations

import pandas as pd

from lib import tables
from lib.inference.backends.choose import infer_engine
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import candidates_in_memory, load_checkpoint
from lib.inference.networks import Ensemble
from lib.label_cleaning.judge import FoldImages, LabelJudge
from lib.oof.score_images import images_of_fold
from lib.session import Session
from lib.system.text_table import text_table
from lib.workspace import Member, replacing_dir


def judge_folds(session: Session, members: list[Member]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge all training images in folds that have members; returns (rows of tiles, rows of images), the worst first.

    The members of a fold never saw its images. Those of the next fold trained on them, and judge as well if
    `clean.in_sample_weight` is above 0 and several folds have members.
    """
    config, workspace = session.config, session.workspace
    tiles = tables.read(workspace.tiles, tables.TILES, "01_preprocess.py")
    group_of = dict(zip(session.folds["image_id"], session.folds["group"], strict=True))
    trained = sorted({member.fold for member in members})
    in_sample = config.clean.in_sample_weight > 0 and len(trained) > 1
    if config.clean.in_sample_weight and not in_sample:
        print(f"04: only fold {trained[0]} has members, so none that trained on its labels judge them "
              "(clean.in_sample_weight); train another fold to find more, and fewer that are right")  # fmt: skip
    with replacing_dir(workspace.clean_dir) as folder:
        judge = LabelJudge(config, session.competition, folder)
        for fold, following in zip(trained, trained[1:] + trained[:1], strict=True):
            images = FoldImages.of(images_of_fold(session, fold), group_of, tiles)
            others = _ensemble(session, members, following) if in_sample else None
            judge.judge(images, _ensemble(session, members, fold), others, f"04 clean, fold {fold}")
        return judge.finish()


def _ensemble(session: Session, members: list[Member], fold: int) -> Ensemble:
    """The members of one fold, with their SWA weights."""
    members = [member for member in members if member.fold == fold]
    networks = [load_checkpoint(session, Checkpoint(member, "swa")) for member in members]
    candidates = candidates_in_memory(members, networks, session.config)
    engine = infer_engine(candidates, session.config, session.workspace, session.device, session.images)
    return Ensemble(networks, session.device, tta=session.config.infer.tta, engine=engine)


def print_suspects(tiles: pd.DataFrame, images: pd.DataFrame, path: str) -> None:
    """Print the ten worst tiles, and how many are suspects. `path`: of the whole table."""
    suspects = tiles[tiles["suspect"]]
    columns = ["tile_id", "miou", "seen_miou", "doubt", "action"]
    print(text_table(suspects.head(10)[columns].to_dict("records")))
    actions = ", ".join(f"{n} {action}" for action, n in tiles["action"].value_counts().items())
    print(f"04: {len(suspects)} of {len(tiles)} tiles are suspects ({actions}); see {path}")
    if images["suspect"].any():
        print("04: the whole label looks wrong of", ", ".join(images.loc[images["suspect"], "image_id"].head(10)))
