"""`python -m lib predict CONFIG PATH… --out DIR`: predict images that belong to no competition."""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.apart import check_out_of_reach
from lib.competition.metadata import zoom_of
from lib.config import Config
from lib.config.command_line import given_options
from lib.decision.decision import blended
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.inference.members import choose_engine, scale_groups
from lib.inference.multi_scale import predict_multi_scale
from lib.inference.sliding_window import full_rows
from lib.inference.sources import limits_of
from lib.inference.windows import Source
from lib.oof.codes import to_probs_u8
from lib.oof.evaluate import outside_values
from lib.own_images.ensemble import TrainedEnsemble, check_regions, open_ensemble
from lib.own_images.find import OwnImage, check_output_folder, find_images, state_of
from lib.own_images.outputs import FORMATS, LabeledRows, OutputFolder, write_prediction
from lib.plugins import load_plugins
from lib.session import Session
from lib.system.terminal import open_log

USAGE = "python -m lib predict CONFIG PATH… --out DIR [--format tif|png|probabilities] [--overlay]"


def predict(source: str, *paths: str, flags: list[str]) -> None:
    """Predict every image that `paths` (files and folders) name, and write one result each.

    `source`: a configuration, whose workspace has an answer of 05, or a package's folder. `flags`: those of `USAGE`,
    and options as every script takes them. Images that were finished in an earlier call are skipped. Raises UserError
    where nothing was trained, no image is found, or an output would overwrite an image or become one.
    """
    arguments, options = _parsed(flags)
    out, places = Path(arguments.out), [Path(path) for path in paths]
    check_output_folder(out, places)
    ensemble = open_ensemble(Path(source), options, out)
    check_out_of_reach("--out", out, ensemble.config.competition)
    open_log(ensemble.config)
    load_plugins(ensemble.config.plugins)
    pixels = ensemble.config.competition.pixels
    images = find_images(places, pixels)
    if arguments.format == "png" and ensemble.config.competition.multilabel:
        raise UserError(
            "--format png holds one label for each pixel, and the classes overlap; give tif, a band for each"
        )
    outputs = OutputFolder(out, arguments.format, arguments.overlay)
    outputs.check(images)
    check_regions(ensemble, [image.name for image in images], "infer.roi" in given_options(options))
    made_from = {
        image.name: {"image": str(image.path), "state": state_of(image, pixels), "ensemble": ensemble.digest}
        for image in images
    }
    pending = [image for image in images if not outputs.finished(image.name, made_from[image.name])]
    if pending:
        predict_images(ensemble, pending, outputs, made_from)
    finished = f", {len(images) - len(pending)} finished before" if len(pending) < len(images) else ""
    print(f"predict: {len(pending)} images predicted{finished}; {out}")


def _parsed(flags: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own flags, and the other options."""
    parser = argparse.ArgumentParser(USAGE, allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--out", default="")
    parser.add_argument("--format", default="tif")
    parser.add_argument("--overlay", action="store_true")
    try:
        arguments, options = parser.parse_known_args(flags)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; expected {USAGE}") from None
    if not arguments.out:
        raise UserError("predict needs --out DIR, the folder that the results go to")
    if arguments.format not in FORMATS:
        raise UserError(f"--format {arguments.format}: expected one of {', '.join(FORMATS)}")
    return arguments, options


def predict_images(
    ensemble: TrainedEnsemble, images: list[OwnImage], outputs: OutputFolder, made_from: dict[str, dict]
) -> None:
    """Predict some images together, so that batches fill across them, and write each one as it is finished.

    `made_from`: by image name, what its manifest tells it by. Neither maps nor labels are ever held whole.
    """
    config, decision = ensemble.config, ensemble.decision
    settings, has_presence = config.competition, ensemble.decision.gates is not None
    sources = {image.name: _source(image, config) for image in images}
    rows = [(source.image_id, str(source.path), *source.size, 0.0) for source in sources.values()]
    table = pd.DataFrame(rows, columns=["image_id", "path", "height", "width", "blank_share"])
    session = Session(config, ensemble.workspace, table, folds=pd.DataFrame())
    engine = choose_engine(session, ensemble.checkpoints)
    groups = scale_groups(session, ensemble.checkpoints, engine, per_model=decision.mix is not None)
    outputs.folder.mkdir(parents=True, exist_ok=True)
    classes = settings.channels if outputs.format == "probabilities" else 0

    def label_codes_and_probs(probs: np.ndarray) -> np.ndarray:
        """Probabilities of all models → uint8 (C, h, w): label codes, and the ensemble's probabilities if wanted."""
        codes = decision.to_codes(probs)
        if not classes:
            return codes
        return np.concatenate([codes, to_probs_u8(blended(probs, decision.mix, has_presence)[0])])

    fill = outside_values(settings, has_presence)
    limits = replace(limits_of(config), folder=outputs.folder)
    blocks = predict_multi_scale(list(sources.values()), groups, fill, limits, "predict")
    by_name = {image.name: image for image in images}
    for name, rows in groupby(full_rows(blocks, label_codes_and_probs), key=lambda row: row[0].image_id):
        source = sources[name]
        predicted = LabeledRows(*source.size, ((y, codes) for _, y, codes in rows), classes)
        members = [checkpoint.name for checkpoint in ensemble.checkpoints]
        about = {"made_from": made_from[name], "labels": settings.label_names, "members": members}
        about |= {"multilabel": True} if settings.multilabel else {}
        write_prediction(by_name[name], source, predicted, decision, outputs, about)


def _source(image: OwnImage, config: Config) -> Source:
    """The image with its size. Raises UserError where it cannot be read."""
    pixels = config.competition.pixels
    with open_image(image.path, pixels) as reader:
        size = reader.height, reader.width
    tolerance, zoom = config.preprocess.blank_tolerance, zoom_of(config, image.name)
    return Source(image.name, image.path, config.infer.roi, tolerance, pixels, size, zoom=zoom)
