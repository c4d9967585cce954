"""Chooses the three channels that predict the labels best, for images with more than three."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from lib.competition.dataset import HOME, Competition, ImageInfo
from lib.config.competition import CompetitionSettings, Pixels
from lib.imaging.reader import AS_THEY_ARE, open_image
from lib.propose.folder import Folder
from lib.propose.found import OptionChoice, choice_if, evenly_spaced
from lib.propose.pixels.depth import EVERYTHING, TAIL, has_8_bits, middle, shown_range, span
from lib.propose.write import text_of
from lib.tables import IGNORE

LABELED_IMAGES = 12  # so many images are compared with their labels
RANGE_IMAGES = 4  # so many of them give the range of a channel's values
PIXELS = 1000  # sampled from the objects of an image, and as many from its background
MAX_COMPARED_CHANNELS = 128  # with more channels, none are chosen
MIN_RANGE_SHARE = 1 / 8  # share of the common range that a channel must fill; with less it would have few levels
ChannelName = tuple[str, int]
"""The ending of a file's name ("" where an image is one file), and the number of the channel in it."""


def band_choices(folder: Folder, channels: int) -> list[OptionChoice]:
    """The choices of `competition.pixels`. The first three channels are taken where there are many."""
    pixels = folder.pixels
    bands = list(pixels.bands) or [0, 1, 2] * (channels > 4 and not pixels.files)
    return [
        *choice_if(pixels.files, "competition.pixels.files", list(pixels.files), "red, green, blue"),
        *choice_if(pixels.range, "competition.pixels.range", list(pixels.range), "more than 8 bits"),
        *choice_if(bands, "competition.pixels.bands", bands, "counted from 0"),
    ]


def with_best(
    folder: Folder, channels: int, competition: list[OptionChoice], pixels: list[OptionChoice]
) -> list[OptionChoice]:
    """The choices with the three best channels, where there are more than three.

    `channels`: of an image, or of one file. `pixels`: the present choices of `competition.pixels`.
    """
    if folder.endings or channels > 4:
        settings = CompetitionSettings.model_validate(yaml.safe_load(text_of("", competition))["competition"])
        first = _images(settings)[0].path
        channels = channels_of(first)
        best = best_channels(settings, folder.endings, channels)
        if best:
            competition = _replaced(folder, channels, competition, pixels, (settings, best))
    return competition


def channels_of(path: Path) -> int:
    """The channels of one file."""
    with open_image(path, AS_THEY_ARE if has_8_bits(path, AS_THEY_ARE) else Pixels(range=EVERYTHING)) as reader:
        return reader.channels


def _replaced(
    folder: Folder,
    channels: int,
    competition: list[OptionChoice],
    pixels: list[OptionChoice],
    measured: tuple[CompetitionSettings, Pixels],
) -> list[OptionChoice]:
    """The choices with the best channels. Patterns and ids then name the file of the first of these.

    `measured`: the present settings, and the best channels.
    """
    settings, best = measured
    paths = [_path(image.path, settings, best.files[0] if best.files else "") for image in _images(settings)]
    black_white = shown_range(evenly_spaced(paths, LABELED_IMAGES), best) if settings.pixels.range else ()
    folder.pixels, first_file = best.model_copy(update={"range": black_white}), settings.pixels.files[:1]
    choices = [choice for choice in competition if choice not in pixels]
    place = min((competition.index(choice) for choice in pixels), default=len(choices))
    choices[place:place] = band_choices(folder, channels)
    if not first_file:
        return choices
    named = ("train_images", "test_images", "unlabeled_images", "image_ids")
    return [
        replace(choice, value=best.files[0].join(str(choice.value).rsplit(first_file[0], 1)))
        if choice.key.endswith(named)
        else choice
        for choice in choices
    ]


def _images(settings: CompetitionSettings) -> list[ImageInfo]:
    return [i for i in Competition(settings).images if (i.split, i.source) == ("train", HOME)]


def best_channels(settings: CompetitionSettings, endings: list[str], channels: int) -> Pixels | None:
    """The three channels from which a linear rule predicts objects best; None where there is nothing to choose.

    `endings`: how the names of an image's files end, where channels are separate files. `channels`: of each file.
    """
    candidates: list[ChannelName] = [(ending, i) for i in range(channels) for ending in endings or [""]]
    if not 3 < len(candidates) <= MAX_COMPARED_CHANNELS or not settings.background:
        return None
    images = evenly_spaced(_images(settings), LABELED_IMAGES)
    range_paths = [image.path for image in evenly_spaced(images, RANGE_IMAGES)]
    spans = {channel: _span(range_paths, settings, channel) for channel in candidates}
    values, target = _sampled(settings, images, spans)
    if not 0 < target.mean() < 1:
        return None
    places = _forward(values, target, list(spans.values()), candidates, bool(endings))
    if len(places) < 3:
        return None
    chosen = [candidates[i] for i in places]
    bands = tuple(index for _, index in chosen) if channels > 1 else ()
    return Pixels(files=tuple(ending for ending, _ in chosen) if endings else (), bands=bands)


def _one(settings: CompetitionSettings, channel: ChannelName) -> tuple[Pixels, str]:
    """(pixel options that show one channel three times, the ending of its file's name)."""
    ending, index = channel
    files = (ending,) * 3 if ending else ()
    return settings.pixels.model_copy(update={"files": files, "bands": (index,) * 3}), ending


def _path(path: Path, settings: CompetitionSettings, ending: str) -> Path:
    """The file of a channel. `path`: the file of the first channel, which the patterns of images match."""
    first = settings.pixels.files[0] if settings.pixels.files else ""
    return path.with_name(path.stem.removesuffix(first) + ending + path.suffix) if ending else path


def _span(paths: list[Path], settings: CompetitionSettings, channel: ChannelName) -> tuple[float, float]:
    """The lowest and the highest value of a channel in some images, extreme pixels left out."""
    pixels, ending = _one(settings, channel)
    pairs = [span(_path(path, settings, ending), pixels, TAIL) for path in paths]
    return min(low for low, _ in pairs), max(high for _, high in pairs)


def _sampled(
    settings: CompetitionSettings, images: list[ImageInfo], spans: dict[ChannelName, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """(values (N, channels), whether a pixel belongs to an object (N,)) of N sampled pixels."""
    competition, rng = Competition(settings), np.random.default_rng(0)
    values, target = [], []
    for image in images:
        with open_image(image.path, settings.pixels) as reader:
            height, width = reader.height, reader.width
        box = middle(height, width)
        label = painted_label(competition.open_label(image, height, width).read(*box)).ravel()
        groups = [np.flatnonzero((label > 0) & (label != IGNORE)), np.flatnonzero(label == 0)]
        places = np.concatenate([rng.permutation(group)[:PIXELS] for group in groups])
        columns = []
        for channel, (low, high) in spans.items():
            pixels, ending = _one(settings, channel)
            in_range = pixels.model_copy(update={"range": (low, max(high, low + 1e-6))})
            with open_image(_path(image.path, settings, ending), in_range) as reader:
                columns.append(reader.read(*box)[..., 0].ravel()[places])
        values.append(np.stack(columns, axis=1))
        target.append(label[places] > 0)
    return np.concatenate(values).astype(np.float64), np.concatenate(target)


def painted_label(label: np.ndarray) -> np.ndarray:
    """A label (h, w) that is above 0 where an object is, and `IGNORE` where that is unknown.

    `label`: indices (h, w), which are returned unchanged, or planes (K, h, w), which are joined.
    """
    if label.ndim == 2:
        return label
    return np.where((label == 1).any(0), 1, np.where((label == IGNORE).any(0), IGNORE, 0))


def _forward(
    values: np.ndarray,
    target: np.ndarray,
    spans: list[tuple[float, float]],
    candidates: list[ChannelName],
    files: bool,
) -> list[int]:
    """Forward selection: places in `candidates` of the three channels of the best linear rule.

    Fewer than three where no three channels share a range. With `files`, all three have the same number in their file.
    """
    best: tuple[float, list[int]] = (-1.0, [])
    firsts = sorted({index for _, index in candidates}) if files else [None]
    for number in firsts:
        free, chosen, score = [i for i, (_, index) in enumerate(candidates) if number in (None, index)], [], -1.0
        while len(chosen) < 3:
            fitting = [i for i in free if i not in chosen and _in_one_range([spans[k] for k in (*chosen, i)])]
            if not fitting:
                break
            score, pick = max((share_explained(values[:, [*chosen, i]], target), -i) for i in fitting)
            chosen.append(-pick)
        if len(chosen) == 3 and score > best[0]:
            best = score, chosen
    return best[1]


def _in_one_range(spans: list[tuple[float, float]]) -> bool:
    """Whether each channel fills enough of the range that all are shown in."""
    lowest, highest = min(low for low, _ in spans), max(high for _, high in spans)
    return all(high - low >= MIN_RANGE_SHARE * (highest - lowest) for low, high in spans)


def share_explained(values: np.ndarray, target: np.ndarray) -> float:
    """The share of the target's variance that a linear rule explains (R squared)."""
    design = np.column_stack([values, np.ones(len(values))])
    residual = target - design @ np.linalg.lstsq(design, target.astype(np.float64), rcond=None)[0]
    return 1 - float(residual.var() / target.var())
