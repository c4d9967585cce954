"""Stage 2: split the training images into folds that do not leak.

    python 02_make_folds.py configs/aerial.yaml
    python 02_make_folds.py configs/aerial.yaml --folds.k 5 --folds.leak_check false

Images of one group (from a metadata column, or a regular expression) stay in one fold. Images that are copies of one
another, or share ground, are merged into one group. External images are in no fold. An external image that shares
ground with a training image is not used by members that validate on that image. With a single group, every image gets
fold -1.

Writes work/<name>/folds.csv and, in work/<name>/leaks/, leaks.csv and pictures of the first 200 leaks. The leak check
compares all pairs of up to 60 images. Of more images, it compares those that share most features, and says how many.
"""

from lib.config import flat
from lib.data.fold_table import class_pixel_columns, fold_table, own_images
from lib.data.folds import imbalance, name_groups
from lib.data.leaks.report import report_leaks
from lib.errors import run_script
from lib.report.page import update_report
from lib.session import Session
from lib.stages import folds_stage
from lib.tables import check_folds
from lib.workspace import write_table


def main(argv: list[str]) -> None:
    session = Session.open(argv, "02_make_folds.py")
    config, competition, workspace = session.config, session.competition, session.workspace
    images = own_images(session.images)
    stage = folds_stage(config, workspace, competition)
    if stage.up_to_date(check=lambda: session.folds):
        return
    stage.begin()
    ids = list(images["image_id"])
    groups = name_groups(ids, competition.metadata, config.folds, competition.files)
    leaks = report_leaks(session, dict(zip(ids, groups, strict=True)))
    table = fold_table(session, groups, leaks)
    check_folds(table)
    options = {key: value for key, value in flat(config.folds, "").items() if value != ""}
    write_table(workspace.folds, table, ", ".join(f"{key}={value}" for key, value in options.items()))
    stage.finish([workspace.folds], kept=[workspace.leaks_dir])  # users may edit the table
    update_report(config)
    print(imbalance(table, class_pixel_columns(images)).to_string())
    external = f", {len(table) - len(ids)} external images in none" if len(table) > len(ids) else ""
    merged = table.loc[table["image_id"].isin(ids), "group"].nunique()
    print(f"02: {len(ids)} images in {merged} groups{external}; see {workspace.folds}")


if __name__ == "__main__":
    run_script(main)
