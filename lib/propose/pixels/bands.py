"""Chooses the three of many channels that predict the labels best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from lib.competition.dataset import HOME, Competition, ImageInfo
from lib.config.competition import CompetitionSettings, Pixels
from lib.imaging.reader import AS_THEY_ARE, open_image
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, choice_if, evenly
from lib.propose.pixels.depth import EVERYTHING, TAIL, has_8_bits, middle, shown_range, span
from lib.propose.write import text_of
from lib.tables import IGNORE

COMPARED_LABELS, RANGED = 12, 4  # images whose labels are compared, and whose values tell a channel's range
PIXELS = 1000  # of an image, as many of object and of the rest
MOST_CHANNELS_COMPARED = 128  # channels that are compared
NARROW = 1 / 8  # share of the common range that a channel must fill, or it would be seen in a few levels
ChannelChoice = tuple[str, int]
"""How the name of the file ends ("" where there is one file), and the channel in it."""


def band_choices(folder: Folder, channels: int) -> list[OptionChoice]:
    """Choices of how pixels are shown; the first three channels where there are many."""
    pixels = folder.pixels
    bands = list(pixels.bands) or [0, 1, 2] * (channels > 4 and not pixels.files)
    return [
        *choice_if(pixels.files, "competition.pixels.files", list(pixels.files), "red, green, blue"),
        *choice_if(pixels.range, "competition.pixels.range", list(pixels.range), "more than 8 bits"),
        *choice_if(bands, "competition.pixels.bands", bands, "counted from 0"),
    ]


def with_best(
    folder: Folder, channels: int, competition: list[OptionChoice], pixels: list[OptionChoice], notes: Notes
) -> list[OptionChoice]:
    """The choices with the three channels that tell labels best, where there are more; notes say what is shown.

    `channels`: of an image, or of one file. `pixels`: the choices of how pixels are shown until now.
    """
    if folder.endings or channels > 4:
        settings = CompetitionSettings.model_validate(yaml.safe_load(text_of("", competition))["competition"])
        first = _images(settings)[0].path
        channels = channels_of(first)
        best = best_channels(settings, folder.endings, channels)
        if best:
            competition = _replaced(folder, channels, competition, pixels, (settings, best))
        what = f"files {', '.join(folder.pixels.files)}" if folder.pixels.files else ""
        what += f" channels {', '.join(map(str, folder.pixels.bands or (0, 1, 2)))}" if channels > 1 else ""
        notes.unsure.append(
            f"which channels networks should see as red, green and blue: {what.strip()} (competition.pixels); they see "
            f"three, {channels * max(1, len(folder.endings)) - 3} more are not used"
            + ("; these three tell the labels best" if best else "")
        )
    elif folder.pixels.files:
        notes.unsure.append(
            f"which channels networks should see as red, green and blue: files {', '.join(folder.pixels.files)} "
            "(competition.pixels); others are not used"
        )
    if folder.pixels.range:
        black, white = folder.pixels.range
        notes.unsure.append(
            f"which values are black and white in images of more than 8 bits: {black} and {white} "
            "(competition.pixels.range)"
        )
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
    found: tuple[CompetitionSettings, Pixels],
) -> list[OptionChoice]:
    """The choices with other channels; globs and ids name the file of the first one."""
    settings, best = found
    paths = [_path(image.path, settings, best.files[0] if best.files else "") for image in _images(settings)]
    black_white = shown_range(evenly(paths, COMPARED_LABELS), best) if settings.pixels.range else ()
    folder.pixels, before = best.model_copy(update={"range": black_white}), settings.pixels.files[:1]
    kept = [choice for choice in competition if choice not in pixels]
    place = min((competition.index(one) for one in pixels), default=len(kept))
    kept[place:place] = band_choices(folder, channels)
    if not before:
        return kept
    named = ("train_images", "test_images", "unlabeled_images", "image_ids")
    return [
        replace(one, value=best.files[0].join(str(one.value).rsplit(before[0], 1))) if one.key.endswith(named) else one
        for one in kept
    ]


def _images(settings: CompetitionSettings) -> list[ImageInfo]:
    return [i for i in Competition(settings).images if (i.split, i.source) == ("train", HOME)]


def best_channels(settings: CompetitionSettings, endings: list[str], channels: int) -> Pixels | None:
    """The three channels from which a linear rule tells object from the rest best; None where that cannot be told.

    `endings`: of the names of all files of an image, where channels have files of their own. `channels`: of each file.
    """
    candidates: list[ChannelChoice] = [(ending, i) for i in range(channels) for ending in endings or [""]]
    if not 3 < len(candidates) <= MOST_CHANNELS_COMPARED or not settings.background:
        return None
    looked = evenly(_images(settings), COMPARED_LABELS)
    spans = {one: _span([image.path for image in evenly(looked, RANGED)], settings, one) for one in candidates}
    values, target = _sampled(settings, looked, spans)
    if not 0 < target.mean() < 1:
        return None
    chosen = _forward(values, target, list(spans.values()), candidates, bool(endings))
    if len(chosen) < 3:
        return None
    picked = [candidates[i] for i in chosen]
    bands = tuple(index for _, index in picked) if channels > 1 else ()
    return Pixels(files=tuple(ending for ending, _ in picked) if endings else (), bands=bands)


def _one(settings: CompetitionSettings, channel: ChannelChoice) -> tuple[Pixels, str]:
    """(pixels that show a channel three times, how the name of its file ends)."""
    ending, index = channel
    files = (ending,) * 3 if ending else ()
    return settings.pixels.model_copy(update={"files": files, "bands": (index,) * 3}), ending


def _path(path: Path, settings: CompetitionSettings, ending: str) -> Path:
    """The file of a channel. `path`: of the first channel, as the globs of images match it."""
    first = settings.pixels.files[0] if settings.pixels.files else ""
    return path.with_name(path.stem.removesuffix(first) + ending + path.suffix) if ending else path


def _span(paths: list[Path], settings: CompetitionSettings, channel: ChannelChoice) -> tuple[float, float]:
    pixels, ending = _one(settings, channel)
    pairs = [span(_path(path, settings, ending), pixels, TAIL) for path in paths]
    return min(low for low, _ in pairs), max(high for _, high in pairs)


def _sampled(
    settings: CompetitionSettings, images: list[ImageInfo], spans: dict[ChannelChoice, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """(values (N, channels), whether a pixel is object (N,)) of pixels of a few images."""
    competition, rng = Competition(settings), np.random.default_rng(0)
    values, target = [], []
    for image in images:
        with open_image(image.path, settings.pixels) as reader:
            height, width = reader.height, reader.width
        box = middle(height, width)
        label = _painted(competition.open_label(image, height, width).read(*box)).ravel()
        groups = [np.flatnonzero((label > 0) & (label != IGNORE)), np.flatnonzero(label == 0)]
        picked = np.concatenate([rng.permutation(group)[:PIXELS] for group in groups])
        columns = []
        for channel, (low, high) in spans.items():
            pixels, ending = _one(settings, channel)
            in_range = pixels.model_copy(update={"range": (low, max(high, low + 1e-6))})
            with open_image(_path(image.path, settings, ending), in_range) as reader:
                columns.append(reader.read(*box)[..., 0].ravel()[picked])
        values.append(np.stack(columns, axis=1))
        target.append(label[picked] > 0)
    return np.concatenate(values).astype(np.float64), np.concatenate(target)


def _painted(label: np.ndarray) -> np.ndarray:
    """Where object is, (h, w): more than 0, or `IGNORE`; label indices as they are, planes (K, h, w) together."""
    if label.ndim == 2:
        return label
    return np.where((label == 1).any(0), 1, np.where((label == IGNORE).any(0), IGNORE, 0))


def _forward(
    values: np.ndarray,
    target: np.ndarray,
    spans: list[tuple[float, float]],
    candidates: list[ChannelChoice],
    files: bool,
) -> list[int]:
    """Places of the three channels of the best linear rule, added one by one; of `files` all have one channel number.

    Each channel fills its share of the range that all three are shown in.
    """
    best: tuple[float, list[int]] = (-1.0, [])
    firsts = sorted({index for _, index in candidates}) if files else [None]
    for number in firsts:
        free, chosen, score = [i for i, (_, index) in enumerate(candidates) if number in (None, index)], [], -1.0
        while len(chosen) < 3:
            fitting = [i for i in free if i not in chosen and _in_one_range([spans[k] for k in (*chosen, i)])]
            if not fitting:
                break
            score, pick = max((_explained(values[:, [*chosen, i]], target), -i) for i in fitting)
            chosen.append(-pick)
        if len(chosen) == 3 and score > best[0]:
            best = score, chosen
    return best[1]


def _in_one_range(spans: list[tuple[float, float]]) -> bool:
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return all(one[1] - one[0] >= NARROW * (high - low) for one in spans)


def _explained(values: np.ndarray, target: np.ndarray) -> float:
    """The share of the target's variance that a linear rule explains."""
    design = np.column_stack([values, np.ones(len(values))])
    rest = target - design @ np.linalg.lstsq(design, target.astype(np.float64), rcond=None)[0]
    return 1 - float(rest.var() / target.var())
