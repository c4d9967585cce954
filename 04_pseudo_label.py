"""Stage 4: predict images without labels, and keep the confident tiles as labels for the next training.

    python 04_pseudo_label.py configs/retina.yaml --train.round 1    # then: 03_train.py … --train.round 1
    python 04_pseudo_label.py configs/retina.yaml --train.round 2 --pseudo.source ensemble
    python 04_pseudo_label.py configs/retina.yaml --clean            # then: 03_train.py … --clean.use true

Round r learns from the members of round r-1. With `pseudo.source per_fold` the labels of a fold come only from members
that never saw its validation images, so the out-of-fold score stays honest. With `ensemble` it is optimistic. Writes
work/<name>/pseudo/round<r>/tiles.csv, tiles/ and, for the report, pictures/.

`--clean` predicts the training images instead: each one by members that never saw it, and by members of another fold,
which were trained on it. It lists tiles and images whose labels agree with the predictions far less than expected, in
work/<name>/clean/ (tiles.csv, images.csv, pictures; worst first). With `clean.use`, 03 drops or relabels these tiles.
"""

from lib.errors import run_script
from lib.label_cleaning.judge_folds import judge_folds, print_suspects
from lib.pseudo.label_images import fold_summary, images_to_label, label_tiles, last_round, open_labelers, write_round
from lib.pseudo.store import check_tiles_fit
from lib.report.page import update_report
from lib.session import Session
from lib.stages import clean_stage, pseudo_stage
from lib.system.text_table import text_table
from lib.workspace import round_experiment


def main(argv: list[str]) -> None:
    session = Session.open([word for word in argv if word != "--clean"], "04_pseudo_label.py")
    if "--clean" in argv:
        clean(session)
        return
    config, workspace = session.config, session.workspace
    images, members = images_to_label(session), last_round(session)
    stage = pseudo_stage(config.train.round, config, workspace, members)
    if stage.up_to_date():
        return
    stage.begin()
    labelers = open_labelers(session, members, images)
    check_tiles_fit(images, len(labelers.folds), session.competition.channels, config, workspace)
    predicted, kept = label_tiles(session, labelers, images)
    table = write_round(session, kept)
    stage.finish([table, table.parent / "tiles"], tiles=len(kept))
    update_report(config)
    print(text_table([fold_summary(fold, predicted, kept) for fold in labelers.folds]))
    if not kept:
        print("04: no tile is confident enough; 03 will train without pseudo-labels (see pseudo.min_confidence)")
    print(f"04: {len(kept)} of {len(predicted)} tiles kept; see {table}")


def clean(session: Session) -> None:
    """List the training tiles whose labels look wrong."""
    config, workspace = session.config, session.workspace
    members = workspace.members([round_experiment(config.train.experiment, config.train.round)])
    stage = clean_stage(config, workspace, members)
    if stage.up_to_date():
        return
    stage.begin()
    tiles, images = judge_folds(session, members)
    outputs = [workspace.clean_dir / "tiles.csv", workspace.clean_dir / "images.csv"]
    stage.finish(outputs, kept=[*outputs, workspace.clean_dir / "tiles"], suspects=int(tiles["suspect"].sum()))
    update_report(config)
    print_suspects(tiles, images, str(outputs[0]))


if __name__ == "__main__":
    run_script(main)
