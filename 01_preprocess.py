"""Stage 1: cut huge images into tiles, drop most of the background, and describe the data.

    python 01_preprocess.py configs/aerial.yaml
    python 01_preprocess.py configs/aerial.yaml --preprocess.tile_size 768 --preprocess.stride 512

First every image is surveyed: a thumbnail and the label show which tiles to keep. Then these tiles are read at full
resolution and stored. (Before that, the ranges of `competition.pixels.channels` are fitted on the training images.)
Images and labels that may be wrong are reported as warnings.

Reads the organiser's folder and never changes it. Writes work/<name>/images.csv, tiles.csv, tiles/ and
fingerprint.json; lib/tables.py describes the columns. Runs on all cores (`--jobs 4` for fewer).
"""

from lib.data.preprocess.cut_tiles import cut_tiles
from lib.data.preprocess.outputs import write_outputs
from lib.data.preprocess.pick_images import pick_images
from lib.data.preprocess.scaling import fit_scaling
from lib.data.preprocess.survey import survey_images
from lib.data.preprocess.warnings import concerns
from lib.errors import run_script
from lib.imaging.roi import check_boxes
from lib.report.page import update_report
from lib.report.sections.data import split_rows
from lib.session import Session
from lib.stages import tiles_stage
from lib.system.text_table import text_table


def main(argv: list[str]) -> None:
    session = Session.open(argv, "01_preprocess.py")
    config, competition, workspace = session.config, session.competition, session.workspace
    selected = pick_images(competition, config.preprocess.max_images)
    stage = tiles_stage(config, workspace, competition, selected)
    if stage.up_to_date():
        return
    competition.check()
    check_boxes("preprocess.roi", config.preprocess.roi, "training", competition.ids("train"))
    stage.begin()
    session, fitted = fit_scaling(session, selected)
    surveys = survey_images(session, selected)
    tiles, color_sums = cut_tiles(session, surveys)
    images, fingerprint = write_outputs(session, stage, surveys, tiles, color_sums)
    stage.finish([workspace.images, workspace.tiles, workspace.fingerprint, workspace.tiles_dir, *fitted])
    for sentence in concerns(surveys, config):
        print(f"warning: {sentence}")
    update_report(config)
    print(text_table(split_rows(images)))
    print(
        f"01: {len(surveys)} images, {len(tiles)} tiles kept ({fingerprint['tiles_with_object']} with object), "
        f"{images['n_dropped'].sum()} dropped; see {workspace.tiles}"
    )


if __name__ == "__main__":
    run_script(main)
