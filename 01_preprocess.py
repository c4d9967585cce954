"""Stage 1: cut huge images into tiles, drop most of the background, describe the data.

    python 01_preprocess.py configs/aerial.yaml
    python 01_preprocess.py configs/aerial.yaml --preprocess.tile_size 768 --preprocess.stride 512

Reads the organiser's folder (read-only). Writes work/<name>/images.csv, tiles.csv, tiles/ and
fingerprint.json; columns are described in lib/tables.py. Runs on all cores (`--jobs 4` for fewer).
"""

import pandas as pd

from lib.competition.dataset import Competition, check_class_pixels
from lib.config import parse_command_line
from lib.config.load import workspace_of
from lib.data.pictures import write_objects
from lib.data.preprocess import class_pixels, cut_band, describe, pick_images, survey_image
from lib.data.warnings import concerns
from lib.digests import content_of
from lib.errors import UserError, run_script
from lib.imaging.readers.planes import files_of
from lib.imaging.roi import check_boxes
from lib.plugins import load_plugins
from lib.report.page import update_report
from lib.report.sections.data import split_rows
from lib.stages import tiles_stage
from lib.system.parallel import parallel
from lib.system.terminal import begin
from lib.system.text_table import text_table
from lib.workspace import Workspace, replacing_dir, short_hash, stamp, write_json, write_table


def main(argv: list[str]) -> None:
    config = parse_command_line(argv, "01_preprocess.py")
    begin(config)
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    images = pick_images(competition, config.preprocess.max_images)
    stage = tiles_stage(config, workspace, competition, images)
    if stage.up_to_date():
        return
    competition.check()
    check_boxes("preprocess.roi", config.preprocess.roi, "training", competition.ids("train"))
    stage.begin()

    spool, pictures = workspace.root / "spool", workspace.report / "images"
    # First look at every image (a thumbnail and the label), then read only the tiles that are kept.
    looks = [(image, config, spool, pictures) for image in images]
    surveys = parallel(
        survey_image, looks, config.jobs, "01 look", "image", work=[stamp(image.path)[0] for image in images]
    )
    if len(images) == len(competition.images):  # a few images may lack a class
        check_class_pixels(competition.label_names, class_pixels(surveys, competition.label_names))
    with replacing_dir(workspace.tiles_dir) as folder:
        bands = [(survey.image, band, config, folder) for survey in surveys for band in survey.bands()]
        if not bands:
            raise UserError("01 keeps no tile: check preprocess.roi and preprocess.min_object_pixels")
        cuts = parallel(cut_band, bands, config.jobs, "01 cut", "band", work=[len(spots) for _, spots, *_ in bands])
    tiles = pd.DataFrame([row for rows, _ in cuts for row in rows])

    summary = describe(surveys, tiles, sum(sums for _, sums in cuts), competition.label_names)
    used = {survey.row["path"] for survey in surveys}
    for path in spool.glob("*"):  # of files that have changed, or are gone
        if str(path) not in used:
            path.unlink()
    digests = stage.now["content images"]
    for survey, image in zip(surveys, images, strict=True):
        own = [content_of(digests[str(path)]) for path in files_of(image.path, config.competition.pixels)]
        survey.row["content"] = short_hash([survey.row["content"], own])
    table = pd.DataFrame([survey.row for survey in surveys])
    write_table(workspace.images, table)
    write_table(workspace.tiles, tiles)
    write_json(workspace.fingerprint, summary)
    write_objects(workspace, (survey.sizes for survey in surveys), competition.label_names)
    stage.finish([workspace.images, workspace.tiles, workspace.fingerprint, workspace.tiles_dir])
    vanished, objects = sum(s.vanished for s in surveys), sum(s.objects for s in surveys)
    if vanished:
        print(
            f"warning: at {config.preprocess.tile_size} pixels {vanished} of {objects} objects have no pixel left; "
            "raise preprocess.tile_size, or set preprocess.mode tiles"
        )
    for sentence in concerns(surveys, config):
        print(f"warning: {sentence}")
    update_report(config)
    print(text_table(split_rows(table)))
    print(
        f"01: {len(surveys)} images, {len(tiles)} tiles kept ({summary['tiles_with_object']} with object), "
        f"{sum(s.row['n_dropped'] for s in surveys)} dropped; see {workspace.tiles}"
    )


if __name__ == "__main__":
    run_script(main)
