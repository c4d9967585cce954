"""Scores submissions of a competition whose answers are known (the demo). Only this code reads the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

import lib.competition.codecs  # noqa: F401  (registers the codecs)
from lib.competition import metrics, rle
from lib.competition.dataset import Competition
from lib.competition.labels.common import Label
from lib.competition.labels.planes import class_mask, label_of_array
from lib.competition.labels.rle_csv import RleCsv
from lib.competition.metrics.objects_and_surfaces import Case, Object
from lib.config import Config
from lib.config.competition import CompetitionSettings
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.imaging.components import Components
from lib.imaging.reader import open_image
from lib.plugins import find, load_plugins
from lib.tables import IGNORE
from lib.workspace import Workspace

LABEL_ROWS = 1024  # rows of both labels in memory


def count_classes(truth: np.ndarray, guess: np.ndarray, n: int) -> np.ndarray:
    """Pixel counts (n, 3) of n label indices (lib/competition/metrics/pixels.py), where the truth is not `IGNORE`.

    A prediction that is not a label index counts as a miss. Both sides may be n planes (n, h, w) of 0, 1 and `IGNORE`.

    >>> count_classes(np.array([0, 1, 1, 255, 1]), np.array([0, 1, 0, 1, 255]), 2).tolist()
    [[1, 1, 2], [1, 3, 1]]
    >>> count_classes(np.array([[[0, 1, 1]], [[1, 1, 255]]]), np.array([[[1, 1, 1]], [[1, 0, 1]]]), 2).tolist()
    [[2, 2, 3], [1, 2, 1]]
    """
    if truth.ndim == 3:
        return np.stack([count_classes(*planes, 2)[1] for planes in zip(truth, guess, strict=True)])
    known = truth != IGNORE
    truth, guess = truth[known], guess[known]
    sides = truth[truth == guess], truth, guess[guess < n]
    return np.stack([np.bincount(side, minlength=n) for side in sides], -1)


def score_submission(competition: Competition, path: Path) -> float:
    """Score a submission against `competition.answers`. Raises UserError where the answers are not known."""
    settings = competition.settings
    if not settings.answers:
        raise UserError(f"the answers of {settings.name} are not known here; upload {path} to its leaderboard")
    answers = settings.model_copy(update={"labels": settings.labels.model_copy(update={"path": settings.answers})})
    reader = find("labels", settings.labels.format, "competition.labels.format")(answers, set(competition.ids("test")))
    sizes, codec, metric = test_sizes(competition), open_codec(competition), metrics.metric_of(settings)
    guesses = codec.read(path, sizes)
    if hasattr(metric, "needs"):
        rows = dict(codec.runs(path, sizes)) if settings.submission.instances else {}

        def open_case(image_id: str) -> Case:
            return case_of(reader, codec, image_id, sizes[image_id], guesses[image_id], rows.get(image_id))

        return metric.score(list(guesses), open_case, metrics.scored_classes(settings), settings.scoring)
    n = len(competition.label_names)
    counts = np.zeros((len(guesses), n, 3), np.int64)
    for i, (image_id, guess) in enumerate(guesses.items()):
        size = sizes[image_id]
        for y, truth in codec.seen(*size, label_bands(reader.open(image_id, *size), *size)):
            counts[i] += count_classes(truth, guess.read(y, 0, *truth.shape[-2:]), n)
    return metrics.score(settings, counts)


def print_score(config: Config, file: str = "") -> None:
    """Print the score of a submission: `file`, or that of stage 05."""
    load_plugins(config.plugins)
    print(f"{score_submission(Competition(config.competition), submission_path(config, file)):.4f}")


def submission_path(config: Config, file: str = "") -> Path:
    """`file`, or where stage 05 writes the submission."""
    return Path(file) if file else with_codecs_suffix(Workspace(workspace_of(config)).submission, config.competition)


def label_bands(label: Label, height: int, width: int) -> Iterator[tuple[int, np.ndarray]]:
    """(y0, label indices (h, width), or planes (K, h, width)) from the top, few rows at a time."""
    rows = max(1, LABEL_ROWS // len(label.planes))
    for y in range(0, height, rows):
        yield y, label.read(y, 0, min(rows, height - y), width)


def case_of(reader, codec, image_id: str, size: tuple[int, int], guess: Label, rows: list[Object] | None) -> Case:
    """An image for a metric that needs more than counts. `rows`: the answer's objects, when its rows are objects."""
    s, labels = codec.config.submission, codec.config.labels
    truth, (height, width) = reader.open(image_id, *size), codec.answer_size(*size)
    if (height, width) != size:
        bands = codec.seen(*size, label_bands(truth, *size))
        truth = label_of_array(np.concatenate([band for _, band in bands], axis=-2))

    def objects() -> tuple[list[Object], list[Object]]:
        if isinstance(reader, RleCsv) and (height, width) == size and labels.order == s.order:
            where = f"{reader.path}, {image_id}"
            shift = codec.config.first_class - int(codec.config.background)  # from what is painted to a label index
            known = [
                (i + shift, *rle.parse(text, height * width, where, labels.base, labels.relative))
                for i, text in reader.rows.get(image_id, [])
            ]
            known = [one for one in known if len(one[1])]
        else:
            known = components_of(truth, height, width, s.order, codec.indices.values())
        return known, components_of(guess, height, width, s.order, codec.indices.values()) if rows is None else rows

    return Case(height, width, truth, guess, objects)


def components_of(label: Label, height: int, width: int, order: str, indices: Iterable[int]) -> list[Object]:
    """The connected components of each label index, as runs in `order`."""
    found = {index: Components(height, width, order) for index in indices}
    for y, band in label_bands(label, height, width):
        for index, components in found.items():
            components.push(y, class_mask(band, index))
    return [(i, ends[::2], ends[1::2] - ends[::2]) for i, components in found.items() for ends in components.finish()]


def open_codec(competition: Competition):
    """The competition's submission codec, empty."""
    settings = competition.settings
    build = find("codec", settings.submission.codec, "competition.submission.codec")
    codec = build(settings, competition.sample, competition.label_names)
    if "{path}" in settings.submission.id_template:
        codec.paths = competition.paths
    if settings.submission.georeference:
        codec.images = {image.image_id: image.path for image in competition.images}
    return codec


def with_codecs_suffix(path: Path, settings: CompetitionSettings) -> Path:
    """A submission's path with the suffix that the competition's codec gives it."""
    codec = find("codec", settings.submission.codec, "competition.submission.codec")
    return path.with_suffix(getattr(codec, "suffix", ".csv"))


def test_sizes(competition: Competition) -> dict[str, tuple[int, int]]:
    """(height, width) of every test image, from the files' heads."""
    sizes = {}
    for image in competition.images:
        if image.split == "test":
            with open_image(image.path, competition.settings.pixels) as reader:
                sizes[image.image_id] = (reader.height, reader.width)
    return sizes
