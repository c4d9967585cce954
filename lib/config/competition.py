"""What the organiser gives and wants."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import StringConstraints, model_validator

from lib.config.affects import Affects
from lib.config.presets import COMPETITIONS
from lib.config.reserved import meaning_of
from lib.config.section import Section
from lib.config.submission import Submission
from lib.config.templates import check_template
from lib.config.units import Column, FileName

Level = Annotated[int, Ge(0), Le(255)]


class Labels(Section):
    """How the training labels are written."""

    affects = ("tiles",)

    format: str = "rle_csv"
    """Label reader: `rle_csv`, `mask_images`, `coco`, `labelme` (a JSON of polygons per image, also Cityscapes'), or
    the name of one that a plugin registers."""
    path: str = "train.csv"
    """The CSV of run-lengths, the folder of mask images or of labelme's JSONs, or the JSON of COCO; relative to
    `competition.root`."""
    id_column: Column = "id"
    """CSV column with the image id."""
    id_template: str = "{id}"
    """How that column names an image, and perhaps a class: `{id}.jpg`, `{id}.jpg_{class}`. A `*` is any text;
    `{number}` is the last whole number in an id, with or without zeros before it. `{path}` is where the image lies from
    the first wildcard of `competition.train_images` on, without suffix: `batch_01/0003` of `data/batch_*/*.jpg`."""
    rle_column: Column = "encoding"
    """CSV column with the run-length. Besides an empty cell, `-1`, `-`, `1 0` and `0 0` mean that there is none."""
    class_column: Column = ""
    """CSV column with the class name, when rows are of one class each; else empty. Classes are painted in the order
    of `competition.classes`, so that a later one lies on top."""
    order: Literal["column", "row"] = "column"
    """Order of the run-length: `column` runs top to bottom first, `row` left to right first."""
    base: Annotated[int, Ge(0)] = 1
    """Number of the first pixel."""
    relative: bool = False
    """Whether a start counts from the end of the run before."""
    suffix: str = ".png"
    """Files of which each is one image's label: what follows the image id in the file name."""
    files: str = ""
    """Mask images of which an image has several, or that lie in folders: where they are below `path`, with `{id}` for
    the id, or for each of its parts as in `competition.image_ids`, `{path}` and `{number}` as in `id_template`,
    `{class}` and `*` for any other text: `{class}/{id}.png`, `{id}_{class}.png`, `{id}/masks/*.png`. With `{class}`, or
    several files per image, every mask is of one class."""
    threshold: Annotated[float, Ge(0)] | None = None
    """Mask images of one class: values above this are object (`0`; `127` for JPEG). Left out: values are indices;
    with `{class}` or `*` in `files`, those above 0 are object."""
    palette: str | dict[str, tuple[Level, Level, Level] | Level] = ""
    """Mask images in colours: a CSV with columns `index,name,r,g,b` or `name,r,g,b`, or the colours themselves:
    `{road: [110, 193, 228], background: [0, 0, 0]}`; or stored values: `{road: 7, car: 26, background: 0}`. Empty: the
    mask holds class indices (0 is background when `competition.background`)."""
    other: Literal["ignore", "background", "error"] = "error"
    """What a colour, index or category that is no class means, and in any mask a value below 0, NaN or "nodata"."""
    missing: Literal["error", "empty", "unlabeled"] = "error"
    """What a training image means that the labels do not name: a mistake, an image without object, or one that only
    pseudo-labeling may use."""
    surplus: Literal["error", "skip"] = "error"
    """What a mask, or a row of run-lengths, means whose image is no training image: a mistake, or nothing (`skip`)."""
    crowd: Literal["ignore", "class"] = "ignore"
    """COCO: whether a region of many objects (`iscrowd`) is not scored, or counts as its category."""
    polygon_fill: Literal["coco", "fillpoly"] = "coco"
    """COCO: which pixels a polygon covers. `coco`: those of pycocotools' `annToMask`, which organisers score with.
    `fillpoly`: those of `cv2.fillPoly` at rounded corners, which also fills the outline; choose it where the organiser
    draws masks with OpenCV. (labelme's own tool fills the outline too, so format `labelme` always does.)"""
    paint: Literal["file", "area"] = "file"
    """COCO, labelme: which object comes to lie on top: the later one of the file, or the one of smaller area."""

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
    """Stands in the column `source` of all tables; an image's id is `<name>_<stem of its file>`."""
    root: str
    """Its folder. It is only read."""
    images: str = "images/*"
    """Glob of its images, relative to its `root`."""
    labels: Labels | None = None
    """How its labels are written, as in `competition.labels`, relative to its `root`; left out for images without
    labels, which only 04 uses."""
    classes: dict[str, str] = {}
    """Its class names, in the order of their index → the competition's, `background`, or `ignore`. The key
    `background` says what its pixels of no class are: else background, or ignored where the competition has none.
    Empty: its classes are the competition's."""
    scale: Annotated[float, Gt(0), Affects("tiles", "pseudo")] = 1.0
    """How many of its pixels are as long as one pixel of the competition's: 2 where it shows things twice as large."""
    weight: Annotated[float, Ge(0), Affects("member")] = 1.0
    """Weight of its tiles in the loss of 03."""


class Pixels(Section):
    """How a file's pixels become the red, green and blue of 8 bits that networks see."""

    affects = ("tiles",)

    range: tuple[float, ...] = ()
    """The two values that become 0 and 255; what lies outside is clipped. Needed for more than 8 bits a channel. Pixels
    that a file calls "nodata" (GDAL's tag of TIFFs) and NaN become black. `[0, 65535]` is the whole range of each
    file's own type, so that 8-bit files among deeper ones are shown as they are."""
    bands: tuple[Annotated[int, Ge(0)], ...] = ()
    """The three channels to show as red, green and blue, counted from 0; empty for the first three (or grey)."""
    files: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Channels in files of their own: how the names of those for red, green and blue end, without suffix:
    `[B04, B03, B02]`. The globs of images match the first of them."""

    exif: bool = True
    """Turn photographs as their EXIF orientation says, as image viewers do. Set it to `false` where the labels were
    made on the stored pixels; 01 says how many images are turned. The orientation tag of a TIFF is never applied."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.range and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise ValueError(
                f"competition.pixels.range is {list(self.range)}; two rising values are expected: [0, 4095]"
            )
        if self.bands and len(self.bands) != 3:
            raise ValueError(f"competition.pixels.bands names {len(self.bands)} channels; 3 are expected: [3, 2, 1]")
        if self.files and len(self.files) != 3:
            raise ValueError(f"competition.pixels.files names {len(self.files)} files; 3 are expected: [B04, B03, B02]")
        return self


class Scoring(Section):
    """Rules of the metric."""

    affects = ("score", "answer")

    classes: list[str] = []
    """Classes that are scored; empty for all."""
    empty: Literal["", "one", "zero", "skip", "skip_truth"] = ""
    """What a class counts in an image where neither truth nor prediction has it: `one`, `zero`, or nothing at all
    (`skip`); `skip_truth`: images without it in the truth are not scored. Empty for the metric's own: Dice, F-beta
    and `iou_precision` `one`, IoU `skip`. (Of metrics of pooled pixels: where no image has it.)"""
    beta: Annotated[float, Gt(0)] = 1
    """F-beta: how many times as much recall weighs as precision."""


class Competition(Section):
    """The outside world."""

    affects = ("tiles",)

    name: Annotated[FileName, Affects()] = "demo"
    """Name of the competition; the workspace is `work/<name>`."""
    root: str = "data/demo"
    """The organiser's folder. It is only read."""
    train_images: str = "train/*"
    """Glob of the training images, relative to `root`: `train/*.tif`, `{train,val}/*/images/*`."""
    test_images: str = "test/*"
    """Glob of the test images. What both globs match is a test image if the sample submission, or `test_list`, asks for
    it, else a training image. Where test images are hidden until a notebook is scored, the glob may match nothing if
    the sample submission has no row; `package` then finds them by this glob. Empty: there are no test images."""
    test_list: str = ""
    """Where there is no sample submission: a text that names test images in its lines, or a CSV with these in its first
    column."""
    unlabeled_images: str = ""
    """Glob of images without labels that pseudo-labeling may use; empty for none."""
    image_ids: str = ""
    """How the end of a path, without suffix, names an image: `{id}` stands for the id or, several times, for its parts,
    which are joined by `_`; `*` for any other text: `{id}_leftImg8bit`, `{id}/images/{id}`. Empty: an image's id is its
    file name's stem."""
    classes: Annotated[list[str], Affects("tiles", "pseudo", "clean")] = ["object"]
    """Names of the classes to segment, without background, in the order of their index. Labels may name `background`
    and `ignore` too (also `_background_`, `__ignore__`): these are never classes where `background` is true."""
    background: Annotated[bool, Affects("tiles", "pseudo", "clean")] = True
    """Whether a pixel may belong to no class. One class implies it."""
    pixels: Pixels = Pixels()
    labels: Labels = Labels()
    submission: Submission = Submission()
    external: list[External] = []
    """Further sources of images. Labeled ones are trained on in every fold and never validated on."""
    metadata: Annotated[str, Affects("folds")] = ""
    """CSV with one row per image (patient, place, …); empty for none."""
    metadata_id: Annotated[Column, Affects("folds")] = "id"
    """Its column with the image id."""
    metadata_template: Annotated[str, Affects("folds")] = "{id}"
    """How that column names an image, as `labels.id_template`."""
    metric: Annotated[str, Affects("score", "answer")] = "mean_dice"
    """Means over images and classes: `mean_dice` (also Severstal's and Clouds'), `image_iou`, `image_f_beta`,
    `iou_precision` (TGS: the share of the thresholds 0.5, 0.55, … 0.95 that the IoU exceeds). Of the pooled pixels of
    all images: `dice`, `iou` (or `mean_iou`), `f_beta`, `pixel_accuracy`. Of objects: `airbus_f2`. Of stacks of slices:
    `surface_dice`. Or the name of one that a plugin registers."""
    scoring: Scoring = Scoring()
    score_background: Annotated[bool, Affects("score", "answer")] = False
    """Whether the background counts as a class in a mean over classes."""
    answers: Annotated[str, Affects()] = ""
    """Withheld test labels, where they are known (the demo): a CSV in the form of `labels`.
    Only the final scoring reads it."""
    kaggle: Annotated[str, Affects()] = ""
    """Kaggle's name of the competition, the last part of its address, for `python -m lib submit` and `package`; empty
    for none."""

    @model_validator(mode="before")
    @classmethod
    def _scored_as_the_preset(cls, values: object):
        submission = values.get("submission") if isinstance(values, dict) else None
        name = submission.get("preset") if isinstance(submission, dict) else getattr(submission, "preset", "")
        preset = COMPETITIONS.get(name) if isinstance(name, str) else None
        if not preset:  # Submission tells of a wrong one
            return values
        rules = values.get("scoring", {})
        rules = {**preset.scoring, **rules} if isinstance(rules, dict) else rules
        return {"metric": preset.metric, "score_background": preset.score_background, **values, "scoring": rules}

    @model_validator(mode="after")
    def _consistent(self):
        check_template("competition.metadata_template", self.metadata_template)
        if not self.classes:
            raise ValueError("competition.classes is empty; name at least one class")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"competition.classes names a class twice: {self.classes}")
        if len(self.classes) == 1 and not self.background:
            raise ValueError("one class needs background: true, or every pixel would be that class")
        reserved = ("background", "ignore") if self.background else ("ignore",)
        taken = [name for name in self.classes if meaning_of(name) in reserved]
        if taken:
            is_there = meaning_of(taken[0]) == "background"
            what = "background: true has it already" if is_there else "it names pixels that are not scored"
            raise ValueError(f"competition.classes names {taken[0]!r}, but {what}; take it out of classes")
        unknown = [name for name in self.scoring.classes if name not in self.classes]
        if unknown:
            raise ValueError(
                f"competition.scoring.classes: {unknown[0]!r} is none of competition.classes {self.classes}"
            )
        names = ["competition", *(source.name for source in self.external)]
        if len(set(names)) != len(names):
            raise ValueError(f"competition.external: names must differ, also from 'competition'; found {names[1:]}")
        legal = [*self.classes, "background", "ignore"] if self.background else [*self.classes, "ignore"]
        for source in self.external:
            unknown = [name for name in source.classes.values() if name not in legal]
            if unknown:
                raise ValueError(
                    f"competition.external {source.name}: classes names {unknown[0]!r}; expected one of {legal}"
                )
        return self
