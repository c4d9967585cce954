"""Checks a submission before its upload, and draws its masks over their images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lib.competition.codecs.common import check_file_size
from lib.competition.dataset import Competition
from lib.competition.labels.common import Label
from lib.competition.scoring import open_codec, submission_path, test_sizes
from lib.config import Config
from lib.config.load import workspace_of
from lib.data.preprocess.tile_labels import subsampled_label
from lib.imaging.draw import as_picture, captioned, overlay, save_picture, sheet
from lib.imaging.reader import open_image
from lib.plugins import load_plugins
from lib.submissions.kaggle import submit
from lib.workspace import Workspace

ANSWERS_SHOWN = 10  # images in the picture
ANSWER_SIDE = 480  # longer side of an image in the picture, pixels


def check_submission(config: Config, file: str = "") -> None:
    """Check a submission, `file` or that of stage 05, against what the organiser asks for; draw some of its masks.

    Raises UserError with the first thing that is wrong.
    """
    load_plugins(config.plugins)
    path, competition = submission_path(config, file), Competition(config.competition)
    competition.check_sample()
    check_file_size(path, config.competition.submission)
    codec, sizes = open_codec(competition), test_sizes(competition)
    objects = codec.check(path, sizes)
    if objects is None or not hasattr(codec, "read"):  # a plugin's codec that shows nothing
        print(f"{path}: as the organiser asks")
        return
    picture = Workspace(workspace_of(config)).report / f"check_{path.stem}.jpg"
    show_answers(codec, path, objects, sizes, competition, picture)
    with_object = sum(1 for pixels in objects.values() if pixels)
    print(f"{path}: as the organiser asks; {with_object} of {len(objects)} images hold an object")
    print(f"{picture}: masks of the file over their images; check that they lie where they should")


def check_and_submit(config: Config, file: str = "", message: str = "") -> None:
    """Check a submission, upload it to Kaggle, and put its public score into the ledger."""
    check_submission(config, file)
    submit(Workspace(workspace_of(config)), config.competition.kaggle, submission_path(config, file), message)


def show_answers(
    codec, file: Path, objects: dict[str, int], sizes: dict[str, tuple[int, int]], competition: Competition, out: Path
) -> None:
    """Save a picture of `ANSWERS_SHOWN` images, each beside its mask in the submission `file`.

    `objects`: how many pixels of each image are an object. Images with objects are preferred, spread evenly over all.
    """
    shown = spread(list(objects), objects)
    paths = {image.image_id: image.path for image in competition.images}
    labels = codec.read(file, {image_id: sizes[image_id] for image_id in shown})
    save_picture(out, sheet(list(_tiles(codec, labels, shown, sizes, paths, competition))))


def spread(image_ids: list[str], objects: dict[str, int], count: int = ANSWERS_SHOWN) -> list[str]:
    """`count` images in their order, evenly taken from those with an object, and filled up with empty ones.

    >>> spread(["a", "b", "c", "d", "e"], {"a": 0, "b": 3, "c": 0, "d": 1, "e": 2}, 2)
    ['b', 'e']
    """
    full = [i for i in image_ids if objects[i]]
    chosen = {full[i] for i in np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int)}
    chosen.update([i for i in image_ids if not objects[i]][: count - len(chosen)])
    return [i for i in image_ids if i in chosen]


def _tiles(
    codec, labels: dict[str, Label], shown: list[str], sizes: dict[str, tuple[int, int]], paths: dict[str, Path],
    competition: Competition,
) -> Iterator[np.ndarray]:  # fmt: skip
    background = competition.settings.background
    for image_id in shown:
        with open_image(paths[image_id], competition.settings.pixels) as reader:
            image = as_picture(reader.thumbnail(ANSWER_SIDE), competition.settings.pixels)
        mask = at_size(labels[image_id], codec.answer_size(*sizes[image_id]), image.shape[:2])
        yield captioned(np.hstack([image, overlay(image, mask, background)]), image_id)


def at_size(label: Label, size: tuple[int, int], out: tuple[int, int]) -> np.ndarray:
    """The label, or planes, of `size` (height, width) resized to `out` (h, w) by nearest neighbours, uint8."""
    steps = tuple(max(1, length // shown) for length, shown in zip(size, out, strict=True))
    labels = subsampled_label(label, *size, steps)
    planes = [
        cv2.resize(plane, out[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        for plane in labels.reshape(-1, *labels.shape[-2:])
    ]
    return np.stack(planes) if labels.ndim == 3 else planes[0]
