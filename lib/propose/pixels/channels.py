"""Proposes `competition.pixels.channels`: which bands, files and slices networks see, and how they are scaled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.competition.dataset import HOME, Competition, ImageInfo
from lib.config.competition import CompetitionSettings, Pixels
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, abbreviated, choice_if, evenly_spaced
from lib.propose.ids import CHANNEL_NAMES
from lib.propose.pixels.alpha import has_alpha
from lib.propose.pixels.bands import channels_of, painted_label, share_explained
from lib.propose.pixels.depth import middle
from lib.propose.pixels.stacks import stack_choices
from lib.tables import IGNORE

_MEASURED_IMAGES, _SIDE = 12, 512  # so many images, and pixels of a side of each
_PIXELS = 1000  # sampled from the objects of an image, as many from its background, and as many from anywhere
_MOST_CHANNELS = 16  # so many are taken all together; of more, those that tell the labels
_CHOSEN = 8  # so many of more at most
_MIN_GAIN = 0.005  # of the share of the labels that a rule explains, by which a further channel is worth it
_NO_DATA_GAP = 3  # a no-data value lies at least this many times the range of the others away from them
_MIN_NO_DATA = 0.001  # share of the pixels
_START = "competition.pixels."


@dataclass(frozen=True)
class ChannelCandidate:
    """A channel that an image has: `file`, how its file's name ends, or empty; `band`: in it, None for the only one."""

    file: str
    band: int | None

    @property
    def name(self) -> str:
        word = re.sub(r"[^\w.-]+", "_", self.file).strip("_.-") or "band"
        return word if self.band is None else f"{word}_{self.band}" if self.file else f"{word}{self.band}"

    @property
    def option(self) -> object:
        """As `competition.pixels.channels` lists it."""
        if self.band is None:
            return self.file if self.name == self.file else {"name": self.name, "file": self.file}
        return {"name": self.name, **({"file": self.file} if self.file else {}), "band": self.band}


@dataclass(frozen=True)
class SampledPixels:
    """Sampled pixels of all candidates. `everywhere` (N, C); `values` (M, C), of which `target` (M,) tells objects."""

    everywhere: np.ndarray
    values: np.ndarray
    target: np.ndarray


def candidates_of(folder: Folder, train: Sequence[str]) -> list[ChannelCandidate]:
    """The channels of an image, where there are more than red, green and blue; [] else. `train`: pictures."""
    first = folder.root / train[0]
    bands = channels_of(first)
    if folder.all_endings:
        files = _first_one_first(folder.all_endings, folder.pixels.files)
        return [ChannelCandidate(ending, band if bands > 1 else None) for ending in files for band in range(bands)]
    if bands > 4 or (bands in (2, 4) and not has_alpha(first)):
        return [ChannelCandidate("", band) for band in range(bands)]
    return []


def channel_choices(
    folder: Folder, settings: CompetitionSettings, competition: list[OptionChoice], notes: Notes
) -> list[OptionChoice]:
    """The choices of a competition with channels in place of three pictures; unchanged where three are all there is.

    `settings`: those of the present choices, with three channels.
    """
    images = [image for image in Competition(settings).images if image.source == HOME]
    train = [image for image in images if image.split == "train"]
    candidates = candidates_of(folder, [image.path.relative_to(folder.root).as_posix() for image in train])
    stack = stack_choices(folder, settings, [image for image in images if image.split in ("train", "test")], notes)
    if len(candidates) < 2 and not stack:
        _note_range(settings, notes)
        return competition
    if len(candidates) < 2:
        return _replaced(competition, [OptionChoice(_START + "channels", [{"name": "grey", "band": 0}])], stack)
    try:
        measured = _measured(settings, candidates, train)
    except UserError as error:
        notes.unsure.append(f"which channels networks should see, because these cannot be read together: {error}")
        _note_range(settings, notes)
        return competition
    picked = _chosen(candidates, measured, settings)
    return _replaced(competition, _choices(settings, candidates, picked, measured, notes), stack)


def _note_range(settings: CompetitionSettings, notes: Notes) -> None:
    if settings.pixels.range:
        black, white = settings.pixels.range
        notes.unsure.append(
            f"which values are black and white in images of more than 8 bits: {black:.7g} and {white:.7g} "
            "(competition.pixels.range)"
        )


def _three(settings: CompetitionSettings) -> list[str]:
    """The names of the three channels that would be red, green and blue."""
    pixels = settings.pixels
    bands = pixels.bands or ((None,) * 3 if pixels.files else (0, 1, 2))
    return [ChannelCandidate(file, band).name for file, band in zip(pixels.files or ("",) * 3, bands, strict=True)]


def _replaced(
    competition: list[OptionChoice], channels: list[OptionChoice], stack: list[OptionChoice]
) -> list[OptionChoice]:
    gone = {_START + key for key in ("range", "bands", "files")}
    place = next((i for i, one in enumerate(competition) if one.key in gone), None)
    kept = [choice for choice in competition if choice.key not in gone]
    keys = [choice.key for choice in kept]
    place = keys.index("competition.labels.format") if place is None else place
    kept[place:place] = channels + stack
    return kept


def _choices(
    settings: CompetitionSettings,
    candidates: list[ChannelCandidate],
    picked: tuple[list[int], bool],
    measured: SampledPixels,
    notes: Notes,
) -> list[OptionChoice]:
    (chosen, told), names = picked, [one.name for one in candidates]
    taken, left, three = [names[i] for i in chosen], len(candidates) - len(chosen), _three(settings)
    notes.found.append(
        f"channels: {abbreviated(taken, _MOST_CHANNELS)}"
        + f"; {left} of {len(candidates)} are left out: constant, repeated, or telling no more" * bool(left)
    )
    notes.unsure.append(
        f"which channels networks should see: {len(chosen)} are taken (competition.pixels.channels); if there were "
        f"only three, they would be {abbreviated(three)}" + ", from which the labels are told best" * told
    )
    three = [name for name in three if name in taken]
    colours = next((list(usual) for usual in CHANNEL_NAMES if set(usual) <= set(taken)), [])
    nodata = _no_data(measured.everywhere[:, chosen])
    shallow = _depths(settings, candidates) == {"uint8"}
    return [
        OptionChoice(
            _START + "channels", [candidates[i].option for i in chosen], f"{len(chosen)} of {len(candidates)}"
        ),
        *choice_if(shallow, _START + "depth", 8, "all files have 8 bits"),
        *choice_if(not shallow, _START + "scaling", "quantiles", "01 fits the range of each channel"),
        *choice_if(colours, _START + "colours", colours, "red, green, blue"),
        *choice_if(len(set(three)) == 3, _START + "show", three, "what people see as red, green and blue"),
        *choice_if(nodata is not None, _START + "nodata", nodata, "far from all other values"),
    ]


def _pixels(settings: CompetitionSettings, candidates: Sequence[ChannelCandidate]) -> Pixels:
    return Pixels(channels=[one.option for one in candidates], dataset=settings.pixels.dataset)


def _depths(settings: CompetitionSettings, candidates: list[ChannelCandidate]) -> set[str]:
    image = next(i for i in Competition(settings).images if (i.split, i.source) == ("train", HOME))
    with open_image(image.path, _pixels(settings, candidates)) as reader:
        return set(reader.depths)


def _measured(
    settings: CompetitionSettings, candidates: list[ChannelCandidate], train: list[ImageInfo]
) -> SampledPixels:
    """Sample pixels of some training images. Raises UserError where they lack a candidate."""
    competition, rng = Competition(settings), np.random.default_rng(0)
    everywhere, values, target = [], [], []
    for image in evenly_spaced(train, _MEASURED_IMAGES):
        with open_image(image.path, _pixels(settings, candidates)) as reader:
            box = middle(reader.height, reader.width, _SIDE)
            pixels = np.stack([one.ravel() for one in reader.stored(*box)], axis=1)
            size = reader.height, reader.width
        label = painted_label(competition.open_label(image, *size).read(*box)).ravel()
        groups = [np.flatnonzero((label > 0) & (label != IGNORE)), np.flatnonzero(label == 0)]
        places = np.concatenate([rng.permutation(group)[:_PIXELS] for group in groups])
        everywhere.append(pixels[rng.permutation(len(pixels))[: 2 * _PIXELS]])
        values.append(pixels[places])
        target.append(label[places] > 0)
    return SampledPixels(np.concatenate(everywhere), np.concatenate(values), np.concatenate(target))


def _chosen(
    candidates: list[ChannelCandidate], measured: SampledPixels, settings: CompetitionSettings
) -> tuple[list[int], bool]:
    """(places of the channels to take, whether labels tell them apart). The file that globs match stays the first."""
    useful, three = _useful(measured.everywhere), _three(settings)
    told = bool(0 < measured.target.mean() < 1)
    best = [i for i in useful if candidates[i].name in three]
    if len(useful) <= _MOST_CHANNELS:
        chosen = useful
    else:
        chosen = sorted({*(_ranked(measured, useful) if told else useful[:_CHOSEN]), *best})
    first = settings.pixels.files[0] if settings.pixels.files else ""
    if first and not any(candidates[i].file == first for i in chosen):
        chosen = [next(i for i, one in enumerate(candidates) if one.file == first), *chosen]
    return sorted(chosen, key=lambda i: candidates[i].file != first) if first else chosen, told


def _useful(values: np.ndarray) -> list[int]:
    """The channels that are not constant, and do not repeat another one."""
    out: list[int] = []
    for i, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        same = any(np.array_equal(column, values[:, k], equal_nan=True) for k in out)
        if len(known) and np.ptp(known) > 0 and not same:
            out.append(i)
    return out


def _ranked(measured: SampledPixels, useful: list[int]) -> list[int]:
    """Forward selection: the channels of the best linear rule, the most telling first, as long as more are worth it."""
    values = measured.values.astype(np.float64)
    void = _no_data(measured.everywhere)
    values[values == void] = np.nan
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    values = np.nan_to_num((values - mean) / np.where(deviation > 0, deviation, 1))
    chosen: list[int] = []
    score = 0.0
    while len(chosen) < min(_CHOSEN, len(useful)):
        gains = [(share_explained(values[:, [*chosen, i]], measured.target), -i) for i in useful if i not in chosen]
        best, place = max(gains)
        if len(chosen) >= 3 and best < score + _MIN_GAIN:
            break
        score = best
        chosen.append(-place)
    return chosen


def _no_data(values: np.ndarray) -> float | None:
    """A value at the end of the range of some channels that is far from all others, such as -32768; None for none."""
    for column in values.T:
        known = column[np.isfinite(column)]
        for end in (known.min(), known.max()) if len(known) else ():
            rest = known[known != end]
            if not len(rest) or np.mean(known == end) < _MIN_NO_DATA:
                continue
            low, high = np.quantile(rest, (0.001, 0.999))
            if high > low and min(abs(end - low), abs(end - high)) > _NO_DATA_GAP * (high - low):
                return int(end) if float(end).is_integer() else float(end)
    return None


def _first_one_first(endings: list[str], files: tuple[str, ...]) -> list[str]:
    """The endings of the present three files, then all others."""
    return list(dict.fromkeys([*files, *endings]))
