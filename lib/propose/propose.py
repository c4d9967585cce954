"""`python -m lib init FOLDER [--name NAME]`: print what was found, and write `configs/<name>.yaml`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from lib.competition.dataset import Competition
from lib.config.competition import CompetitionSettings
from lib.config.presets import COMPETITIONS, Preset
from lib.errors import UserError
from lib.propose import choose, groups, submission
from lib.propose.folder import Folder, read_folder
from lib.propose.found import Notes, OptionChoice, abbreviated, choice_if
from lib.propose.labels import found as labels
from lib.propose.labels import jsons as label_jsons
from lib.propose.labels import masks as label_masks
from lib.propose.labels import polygons as label_polygons
from lib.propose.labels import tables as label_tables
from lib.propose.pixels import bands, channels, measure
from lib.propose.pixels.overlap import overlap_choices
from lib.propose.splits import split_choices, training_images, unlabeled_choices
from lib.propose.trial import first_error
from lib.propose.write import text_of
from lib.workspace import replacing

UNIQUE_COLUMNS = {"severstal", "clouds", "airbus", "carvana", "contrails", "epfl_roads", "tgs", "uw_madison",
                  "boostcamp_handbone"}  # fmt: skip
"""Presets whose columns no other competition has, so that their metric is certain."""


def propose_config(path: str, flags: list[str]) -> None:
    """Propose `configs/NAME.yaml` for a folder. `flags`: `--name NAME`, or nothing for the name of the folder."""
    if flags and (flags[0] != "--name" or len(flags) != 2):
        raise UserError("expected python -m lib init FOLDER [--name NAME]")
    name = flags[1] if flags else re.sub(r"[^a-z0-9]+", "_", Path(path).resolve().name.lower()).strip("_")
    if not re.fullmatch(r"\w[\w-]{0,99}", name):
        raise UserError(f"{name!r} cannot name a configuration; give up to 100 letters, digits, _ and -: --name NAME")
    propose(Path(path), name, Path("configs") / f"{name}.yaml")


def propose(root: Path, name: str, target: Path) -> None:
    """Print what was found and what could not be determined, and write a configuration that loads and fits the folder.

    The configuration is tried first: labels are decoded, groups are named and folds are made as the stages do it.
    Raises UserError when `target` exists, or when a trial fails. In that case the proposal is written beside `target`
    as `<name>.draft`, which no script takes for a configuration.
    """
    if target.exists():
        raise UserError(f"{target} exists already; give another name with --name, or remove the file")
    notes = Notes()
    try:
        choices = _Proposal(root, notes).choices(name)
    finally:
        _print(notes)
    title = f"Proposed by `python -m lib init {root}` from what the folder shows. Could not be determined from it:"
    text = text_of("\n".join([title, *(f"- {line}" for line in dict.fromkeys(notes.unsure))]), choices)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
        problem = next(iter(notes.problems), "") or first_error(temporary)
        if problem:
            draft = target.with_suffix(".draft")
            draft.write_text(f"# Mend this before you use the file: {problem}\n{text}", encoding="utf-8")
            raise UserError(f"no configuration is written: {problem} (the proposal so far is in {draft})")
    print(f"\nwritten: {target}; next: python -m lib preflight {target}")


class _Proposal:
    """Everything that was recognised in a folder; all options follow from it. Adds to `notes`."""

    def __init__(self, root: Path, notes: Notes):
        self.notes, self.folder = notes, read_folder(root)
        self.images = self.folder.images()
        self.sizes = _sizes(self.folder, self.images, notes)
        wanted = submission.wanted_answers(self.folder, notes)
        if wanted is None:
            raise UserError(
                f"{root} holds no sample submission that names its images (a CSV with sample or submission in its "
                "name), and no folder or list called test; add one of them"
            )
        self.labels, wanted = _labels_and_answers(self.folder, wanted, notes)
        notes.found.append(f"labels: {self.labels.kind}; {len(self.labels.ids)} images")
        self.train, self.unlabeled = training_images(self.images, self.labels.ids, wanted.ids)
        self.classes = _classes(self.labels, wanted, notes)
        self.splits = split_choices(self.folder, self.images, self.train, wanted, set(self.labels.files), notes)
        tests = next((choice.value for choice in self.splits if choice.key == "competition.test_images"), "")
        self.wanted = submission.with_fixed_folders(wanted, tests, self.folder.image_ids)
        measure.physical_scale(self.folder, list(self.images.values()), notes)
        # Images without a label are in no fold where they are left to pseudo-labeling.
        self.in_folds = self.train - self.unlabeled if self.labels.whole else self.train
        self.grouping = groups.find_groups(self.folder, self.in_folds, wanted.ids, set(_samples(self.folder)), notes)

    def competition(self, name: str) -> list[OptionChoice]:
        """The section `competition`."""
        folder, labels, notes, wanted = self.folder, self.labels, self.notes, self.wanted.choices
        pixels = bands.band_choices(folder, self.sizes.channels)
        choices = [
            OptionChoice("competition.name", name),
            OptionChoice("competition.root", str(folder.root)),
            *self.splits,
            *[choice for choice in wanted if choice.key == "competition.test_list"],
            *choice_if(folder.image_ids, "competition.image_ids", folder.image_ids, f"such as {min(self.images)}"),
            OptionChoice("competition.classes", self.classes),
            *choice_if(not labels.background, "competition.background", False, "every scored pixel belongs to a class"),
            *choice_if(_preset_of(wanted).multilabel, "competition.multilabel", False, "a pixel has one class at most"),
            *pixels,
            *labels.choices,
            *unlabeled_choices(self.unlabeled, labels, notes),
            *[choice for choice in wanted if choice.key != "competition.test_list"],
            *[choice for choice in self.grouping.choices if choice.key.startswith("competition.")],
        ]
        return bands.with_best(folder, self.sizes.channels, choices, pixels)

    def choices(self, name: str) -> list[OptionChoice]:
        """All options, in the order of the sections."""
        competition, settings, objects = _measured(self.competition(name), self.labels, self.notes)
        competition += _metric(settings, self.wanted, self.notes)
        competition = channels.channel_choices(self.folder, settings, competition, self.notes)
        coloured = all(choice.key != "competition.pixels.channels" for choice in competition)
        scale, why = choose.scale_of(self.sizes, objects, min(self.wanted.options.get("size") or (0,)))
        windows = choose.windows(self.sizes, objects, scale, coloured)
        crop = next(choice.value for choice in windows if choice.key == "train.crop")
        others = [
            OptionChoice("preprocess.scale", scale, why),
            choose.background_keep(_share_with_object(settings, windows, scale, self.notes)),
            *windows,
            *choose.folds(self.grouping.groups, len(self.in_folds)),
            *[choice for choice in self.grouping.choices if choice.key.startswith("folds.")],
            *choose.training(settings, self.sizes, objects, crop, coloured),
        ]
        order = ["preprocess", "folds", "model", "train", "pseudo", "infer"]
        return competition + sorted(others, key=lambda choice: order.index(choice.key.split(".")[0]))


def _sizes(folder: Folder, images: dict[str, str], notes: Notes) -> measure.PictureSizes:
    """The sizes of the pictures. Notes the kinds of files, and sets the range of values of deep images."""
    tables = abbreviated(list(folder.tables))
    notes.found.append(f"{len(images)} pictures, {len(folder.masks)} files that may be masks, tables {tables}")
    if folder.broken:
        left, why = sorted(folder.broken), next(iter(folder.broken.values()))
        notes.found.append(f"{len(left)} files are left out ({abbreviated(left, 2)}): {why}")
    notes.found += folder.kinds_unread()
    sizes = measure.picture_sizes(folder.root, [images[i] for i in sorted(images)], folder.pixels)
    notes.found.append(
        f"sizes: {min(sizes.heights)} x {min(sizes.widths)} to {max(sizes.heights)} x {max(sizes.widths)} (height x "
        f"width), {sizes.channels} channels"
    )
    notes.unsure += sizes.doubts()
    folder.pixels = folder.pixels.model_copy(update={"range": sizes.range})
    if folder.image_ids:
        notes.found.append(f"ids: {folder.image_ids}, such as {min(images)} of {images[min(images)]}")
    return sizes


def _labels_and_answers(
    folder: Folder, wanted: submission.Wanted, notes: Notes
) -> tuple[labels.FoundLabels, submission.Wanted]:
    """The labels of the first format that the folder has, and how answers are written.

    Formats that need the fewest guesses come first.
    """
    masks = label_masks.from_masks(folder, notes)
    coco = label_jsons.from_coco(folder, wanted.ids, notes)
    runs = label_tables.from_tables(folder, wanted.ids, notes, masks)
    labelme = label_jsons.from_labelme(folder, wanted.ids, notes)
    formats = [one for one in (masks, coco, runs, labelme) if one]
    if not formats and (polygons := label_polygons.from_polygons(folder, wanted.ids, notes)):
        formats = [polygons]
    if not formats:
        others = "; ".join(folder.kinds_unread())
        raise UserError(
            f"{folder.root} holds no labels of a known format (masks, COCO or labelme JSON, run-lengths, polygons)"
            + (f"; {others}" if others else "")
            + "; read the notes above, copy configs/demo.yaml, and write competition.labels by hand as "
            "docs/reference/options.md explains"
        )
    for other in formats[1:]:
        notes.found.append(f"labels too, not used: {other.kind}")
    return formats[0], submission.answer_form(wanted, formats[0], runs, notes)


def _classes(found: labels.FoundLabels, wanted: submission.Wanted, notes: Notes) -> list[str]:
    """Class names from the labels, or from the sample where the labels have as many classes but no names."""
    nameless = all(re.fullmatch(r"object|class\d+", name) for name in found.classes) and not _has_palette(found)
    if nameless and len(wanted.classes) == len(found.classes):
        return wanted.classes
    sampled = all(choice.value for choice in wanted.choices if choice.key.endswith(".sample"))
    if len(found.classes) > 1 and not wanted.classes and wanted.options["codec"] == "rle" and sampled:
        notes.unsure.append(
            f"which class the sample's rows ask for: they name none, so only {found.classes[0]} is "
            "written; for another form write a codec as a plugin"
        )
    strangers = set(wanted.classes) - set(found.classes)
    if strangers:
        notes.unsure.append(
            f"what the sample's classes {abbreviated(strangers)} are: the labels have {abbreviated(found.classes)}; "
            "give them the sample's names in classes" + (" and labels.palette" if _has_palette(found) else "")
        )
    if found.classes == ["object"]:
        notes.unsure.append("the name of the only class; it is called object (competition.classes)")
    notes.found.append(f"classes: {abbreviated(found.classes, 20)}")
    return found.classes


def _has_palette(found: labels.FoundLabels) -> bool:
    return any(choice.key.endswith(".palette") for choice in found.choices)


def _samples(folder: Folder) -> list[str]:
    return [name for name in folder.tables if "submission" in name.lower() or "sample" in name.lower()]


def _preset_of(choices: list[OptionChoice]) -> Preset:
    """The preset of the answers; one that says nothing where there is none."""
    name = next((choice.value for choice in choices if choice.key.endswith(".preset")), "")
    return COMPETITIONS.get(name, Preset("", "", ""))


def _metric(settings: CompetitionSettings, wanted: submission.Wanted, notes: Notes) -> list[OptionChoice]:
    preset = next((choice.value for choice in wanted.choices if choice.key.endswith(".preset")), "")
    if preset:  # it sets the organiser's metric and its rules
        metric = COMPETITIONS[preset].metric
        notes.found.append(f"answers are scored as {preset}'s were: {metric}")
        if preset not in UNIQUE_COLUMNS:
            notes.unsure.append(
                f"the metric: {metric} is that of {preset}; other competitions have these columns too, so compare it "
                "with the competition's page (competition.metric, scoring)"
            )
        return []
    metric = "mean_dice" if settings.binary else "mean_iou"
    notes.unsure.append(
        f"the metric: {metric} is a guess; compare it with the competition's page (competition.metric, scoring)"
    )
    every_pixel = wanted.options["codec"] == "pixels"
    return [
        OptionChoice("competition.metric", metric, "a guess: compare it with the competition's page"),
        *choice_if(every_pixel, "competition.score_background", True, "answers name the background's pixels too"),
    ]


def _share_with_object(settings: CompetitionSettings, windows: list[OptionChoice], scale: float, notes: Notes) -> float:
    """The share of the proposed tiles that hold an object; 1.0 where labels cannot be read yet."""
    tile = next(choice.value for choice in windows if choice.key == "preprocess.tile_size")
    try:
        return measure.share_with_object(Competition(settings), round(tile / scale))
    except UserError as error:
        notes.problems.append(str(error))
        return 1.0


def _measured(
    competition: list[OptionChoice], found: labels.FoundLabels, notes: Notes
) -> tuple[list[OptionChoice], CompetitionSettings, measure.ObjectSizes]:
    """Measure the objects. Returns (the choices, with those for classes that overlap; as settings; objects' sizes)."""
    settings = CompetitionSettings.model_validate(yaml.safe_load(text_of("", competition))["competition"])
    try:
        if found.painted and len(settings.classes) > 1:
            competition, settings = overlap_choices(competition, settings, notes)
        objects = measure.measure_objects(Competition(settings), notes)
        if objects.share > 0.5 and any(choice.key.endswith(".threshold") for choice in found.choices):
            notes.unsure.append(
                f"whether the bright part of the masks, {objects.share:.0%} of their pixels, is the object; if the "
                f"dark part is, replace threshold by palette: {{{settings.classes[0]}: 0, background: 255}}"
            )
        return competition, settings, objects
    except UserError as error:
        notes.problems.append(str(error))
        return competition, settings, measure.UNKNOWN_OBJECTS


def _print(notes: Notes) -> None:
    for title, lines in (("found", notes.found), ("could not be determined from the folder", notes.unsure)):
        if lines:
            print(f"{title}:")
        for line in lines:
            print(f"  {line}")
