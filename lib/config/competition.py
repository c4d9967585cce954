"""What the organiser gives and wants."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from pydantic import StringConstraints, model_validator

from lib.config.affects import Affects
from lib.config.answer_palette import check_answer_palette
from lib.config.multilabel import check_multilabel
from lib.config.pixels import Pixels
from lib.config.presets import COMPETITIONS
from lib.config.reserved import MOST_LABELS, check_class_names
from lib.config.section import Section
from lib.config.submission import Submission
from lib.config.templates import check_template
from lib.config.units import Colour, Column, FileName


class Labels(Section):
    """How the training labels are written."""

    affects = ("tiles",)

    format: str = "rle_csv"
    """Form of the training labels: `rle_csv`, `mask_images`, `coco`, `labelme` (a JSON of polygons per image, also
    Cityscapes'), `polygons` (GeoJSON, or WKT in a CSV), or the name of a reader that a plugin registers."""
    path: str = "train.csv"
    """Where the labels are, relative to `competition.root`: the CSV of run-lengths, the folder of mask images or of
    labelme's JSONs, or the JSON of COCO."""
    id_column: Column = "id"
    """CSV column with the image id."""
    id_template: str = "{id}"
    """How that column names an image, and perhaps a class: `{id}.jpg`, `{id}.jpg_{class}`. A `*` stands for any text.
    `{number}` is the last whole number in an id, with or without zeros before it. `{path}` is the image's path from the
    first wildcard of `competition.train_images` on, without suffix: `batch_01/0003` of `data/batch_*/*.jpg`."""
    rle_column: Column = "encoding"
    """CSV column with the run-length, or with the polygon (WKT). An empty cell, `-1`, `-`, `1 0` and `0 0` mean that
    there is no object."""
    class_column: Column = ""
    """CSV column, or property of polygons, with the class name, where each holds one class; else empty. Classes are
    painted in the order of `competition.classes`, so that a later one lies on top."""
    order: Literal["column", "row"] = "column"
    """Order of the run-length: `column` runs from top to bottom first, `row` from left to right first."""
    base: Annotated[int, Ge(0)] = 1
    """Number of the first pixel."""
    relative: bool = False
    """Whether a start counts from the end of the run before it."""
    suffix: str = ".png"
    """Text that follows the image id in the name of a mask file, where each file is the label of one image."""
    files: str = ""
    """Where mask images are below `path`, when an image has several or they lie in folders: `{class}/{id}.png`,
    `{id}_{class}.png`, `{id}/masks/*.png`. `{id}` stands for the id, or for each of its parts as in
    `competition.image_ids`; `{path}` and `{number}` are those of `id_template`; `*` stands for any text. With
    `{class}`, or several files per image, every mask is of one class."""
    annotators: Literal["", "mean", "majority", "union"] = ""
    """How several masks of one image and class are combined. Empty: each mask shows other objects. Otherwise each mask
    shows what one person sees, as in `files: "*/{id}.png"`. An object pixel is one that more than half of them see
    (`majority`), or any of them (`union`). `mean` trains on the share of people who see it, and scores against the
    majority. The last axis of an array may also be the people."""
    threshold: Annotated[float, Ge(0)] | None = None
    """Value above which a pixel of a mask of one class is object (`0`; `127` for JPEG). Left out, values are class
    indices; with `{class}` or `*` in `files`, values above 0 are object."""
    palette: str | dict[str, Colour | Annotated[int, Ge(0)]] = ""
    """What the colours or values of mask images mean: a CSV with columns `index,name,r,g,b` or `name,r,g,b`, or the
    colours themselves: `{road: [110, 193, 228], background: [0, 0, 0]}`, or stored values: `{road: 7, car: 26,
    background: 0}`. Empty: masks hold class indices (0 is background when `competition.background`)."""
    other: Literal["ignore", "background", "error"] = "error"
    """What a colour, index or category that is not a class means: not scored (`ignore`), `background`, or an `error`.
    In any mask, values below 0, NaN and "nodata" mean the same."""
    missing: Literal["error", "empty", "unlabeled"] = "error"
    """What it means that a training image has no label: a mistake (`error`), an image without object (`empty`), or an
    image that only pseudo-labeling may use (`unlabeled`)."""
    surplus: Literal["error", "skip"] = "error"
    """What it means that a mask, or a row of run-lengths, belongs to no training image: a mistake (`error`), or nothing
    (`skip`)."""
    crowd: Literal["ignore", "class"] = "ignore"
    """COCO: a region of many objects (`iscrowd`) is not scored (`ignore`), or counts as its category (`class`)."""
    polygon_fill: Literal["coco", "fillpoly"] = "coco"
    """COCO, `polygons`: which pixels a polygon covers. `coco`: those of pycocotools' `annToMask`, which organisers
    score with. `fillpoly`: those of `cv2.fillPoly` at rounded corners, which also fills the outline; choose it where
    the organiser draws masks with OpenCV. (labelme's own tool fills it too, so format `labelme` always does.)"""
    paint: Literal["file", "area"] = "file"
    """COCO, labelme, `polygons`: which of two overlapping objects lies on top: the later one of the file (`file`), or
    the one of smaller area (`area`)."""
    crs: str = ""
    """`polygons`: their coordinates: `pixels`, `image` (the map of the image), or a system such as `EPSG:4326`. Empty:
    the system that their file names, else pixels."""
    dataset: str = ""
    """Name of the dataset in HDF5 masks; empty where there is only one."""

    @model_validator(mode="after")
    def _consistent(self):
        check_template("competition.labels.id_template", self.id_template)
        if self.files:
            check_template("competition.labels.files", self.files)
        return self


class External(Section):
    """One source of further images, with labels of its own kind or with none."""

    affects = ("tiles",)

    name: Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]
    """Name of the source, in the column `source` of all tables; an image's id is `<name>_<stem of its file>`."""
    root: Annotated[str, Affects()]
    """Folder of the source. It is only read. The content of its files counts, so that it may be moved."""
    images: str = "images/*"
    """Glob of the source's images, relative to its `root`."""
    labels: Labels | None = None
    """How its labels are written, as in `competition.labels`, relative to its `root`. Left out for images without
    labels, which only 04 uses."""
    classes: dict[str, str] = {}
    """Its class names, in the order of their index → the competition's classes, `background`, or `ignore`. The key
    `background` says what its pixels of no class are; without it they are background, or ignored where the competition
    has none. Empty: its classes are the competition's."""
    scale: Annotated[float, Gt(0), Affects("tiles", "pseudo")] = 1.0
    """How many of its pixels are as long as one pixel of the competition's images: 2 where it shows things twice as
    large."""
    weight: Annotated[float, Ge(0), Affects("member")] = 1.0
    """Weight of its tiles in the loss of 03."""


class Scoring(Section):
    """Rules of the metric."""

    affects = ("score", "answer")

    classes: list[str] = []
    """Classes that are scored; empty for all."""
    empty: Literal["", "one", "zero", "skip", "skip_truth"] = ""
    """What a class counts in an image where neither truth nor prediction has it: `one`, `zero`, or nothing at all
    (`skip`). With `skip_truth`, images without it in the truth are not scored. Empty for the metric's own rule: `one`
    for Dice, F-beta and `iou_precision`, `skip` for IoU. For metrics of pooled pixels, it is about classes that no
    image has."""
    beta: Annotated[float, Gt(0)] = 1
    """F-beta: how many times as much recall weighs as precision."""


class CompetitionSettings(Section):
    """What the organiser gives and wants: images, labels, answers, metric."""

    affects = ("tiles",)

    name: Annotated[FileName, Affects()] = "demo"
    """Name of the competition; the workspace is `work/<name>`."""
    root: Annotated[str, Affects()] = "data/demo"
    """The organiser's folder. It is only read. The content of its files counts, so that it may be moved."""
    train_images: str = "train/*"
    """Glob of the training images, relative to `root`: `train/*.tif`, `{train,val}/*/images/*`."""
    test_images: str = "test/*"
    """Glob of the test images, relative to `root`; empty where there are none. An image that both globs match is a test
    image if the sample submission, or `test_list`, asks for it, else a training image. Where test images are hidden
    until a notebook is scored, the glob may match nothing if the sample submission has no row; `package` then finds
    them by this glob."""
    test_list: str = ""
    """Names of the test images, where there is no sample submission: a text with a name per line, or a CSV with names
    in its first column."""
    unlabeled_images: str = ""
    """Glob of images without labels that pseudo-labeling may use; empty for none."""
    image_ids: str = ""
    """How the end of a path, without suffix, names an image: `{id}_leftImg8bit`, `{id}/images/{id}`. `{id}` stands for
    the id or, several times, for its parts, which are joined by `_`; `*` stands for any other text. Empty: an image's
    id is its file name's stem."""
    classes: Annotated[list[str], Affects("tiles", "pseudo", "clean")] = ["object"]
    """Names of the classes to segment, without background, in the order of their index. Labels may also name
    `background` and `ignore` (`_background_`, `__ignore__`): these are never classes where `background` is true."""
    background: Annotated[bool, Affects("tiles", "pseudo", "clean")] = True
    """Whether a pixel may belong to no class. One class implies it, and so does `multilabel`."""
    multilabel: Annotated[bool, Affects("tiles", "pseudo", "clean")] = False
    """Set it to `true` where classes overlap, so that a pixel may belong to several. Every class then has a sigmoid,
    threshold and post-processing of its own. 01 warns where labels overlap and this is `false`."""
    pixels: Pixels = Pixels()
    labels: Labels = Labels()
    submission: Submission = Submission()
    external: list[External] = []
    """Further sources of images. Labeled ones are trained on in every fold and never validated on."""
    metadata: Annotated[str, Affects("folds")] = ""
    """CSV with one row per image (patient, place, …), or a glob of several: `{train,test}.csv`; empty for none."""
    metadata_id: Annotated[Column, Affects("folds")] = "id"
    """Column of `metadata` with the image id."""
    metadata_template: Annotated[str, Affects("folds")] = "{id}"
    """How that column names an image, as `labels.id_template`."""
    metric: Annotated[str, Affects("score", "answer")] = "mean_dice"
    """The competition's metric. Means over images and classes: `mean_dice` (also Severstal's and Clouds'), `image_iou`,
    `image_f_beta`, `iou_precision` (TGS: the share of the thresholds 0.5, 0.55, … 0.95 that the IoU exceeds). Of the
    pooled pixels of all images: `dice`, `iou` (or `mean_iou`), `f_beta`, `pixel_accuracy`. Of objects: `airbus_f2`. Of
    stacks of slices: `surface_dice`. Or the name of one that a plugin registers."""
    scoring: Scoring = Scoring()
    score_background: Annotated[bool, Affects("score", "answer")] = False
    """Whether the background counts as a class in a mean over classes."""
    answers: Annotated[str, Affects()] = ""
    """Withheld test labels, where they are known: the path of a file or folder in the form of `labels`. Only `score`
    and `compare` read it."""
    kaggle: Annotated[str, Affects()] = ""
    """Kaggle's name of the competition, the last part of its address, for `python -m lib submit` and `package`; empty
    for none."""

    @property
    def label_names(self) -> list[str]:
        """Names of the label indices, `background` first where there is one. Classes that overlap have none."""
        return ["background"] * self.first_class + list(self.classes)

    @property
    def first_class(self) -> int:
        """Label index of the first class: 1 beside background, else 0. Classes that overlap count from 0."""
        return int(self.background and not self.multilabel)

    @property
    def channels(self) -> int:
        """Outputs of the network: 1 for one class, else one for each label index."""
        return 1 if len(self.classes) == 1 else len(self.label_names)

    @property
    def planes(self) -> int:
        """Planes of a label: one for each class where classes overlap, else one."""
        return len(self.classes) if self.multilabel else 1

    @property
    def binary(self) -> bool:
        """Whether every output of the network tells one class from the rest: one class, or classes that overlap."""
        return self.channels == 1 or self.multilabel

    @model_validator(mode="before")
    @classmethod
    def _as_the_preset(cls, values: object):
        submission = values.get("submission") if isinstance(values, dict) else None
        name = submission.get("preset") if isinstance(submission, dict) else getattr(submission, "preset", "")
        preset = COMPETITIONS.get(name) if isinstance(name, str) else None
        if not preset:  # Submission tells of a wrong one
            return values
        rules = values.get("scoring", {})
        rules = {**preset.scoring, **rules} if isinstance(rules, dict) else rules
        own = {name: getattr(preset, name) for name in ("metric", "score_background", "multilabel")}
        return {**own, **values, "scoring": rules}

    @model_validator(mode="after")
    def _consistent(self):
        check_template("competition.metadata_template", self.metadata_template)
        check_class_names(self.classes, self.background)
        if len(self.classes) == 1 and not self.background:
            raise ValueError("one class needs background: true, or every pixel would be that class")
        check_multilabel(self)
        check_answer_palette(self)
        unknown = [name for name in self.scoring.classes if name not in self.classes]
        if unknown:
            raise ValueError(
                f"competition.scoring.classes: {unknown[0]!r} is not one of competition.classes {self.classes}"
            )
        names = ["competition", *(source.name for source in self.external)]
        if len(set(names)) != len(names):
            raise ValueError(f"competition.external: names must differ, also from 'competition'; found {names[1:]}")
        legal = [*self.classes, "background", "ignore"] if self.background else [*self.classes, "ignore"]
        for source in self.external:
            if len(source.classes) > MOST_LABELS:
                raise ValueError(f"competition.external {source.name}: more than {MOST_LABELS} classes; leave some out")
            unknown = [name for name in source.classes.values() if name not in legal]
            if unknown:
                raise ValueError(
                    f"competition.external {source.name}: classes names {unknown[0]!r}; expected one of {legal}"
                )
        return self
