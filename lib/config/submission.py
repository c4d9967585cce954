"""How the answer is written."""

from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt
from pydantic import model_validator

from lib.config.affects import Affects
from lib.config.presets import PRESETS
from lib.config.section import Section
from lib.config.units import Column, Stored

FILE_CODECS = ("files", "tif", "png")  # a ZIP with a file for each image


class Submission(Section):
    """How the answer is written."""

    affects = ("answer",)

    preset: Annotated[str, Affects()] = ""
    """Name of a known competition: `hubmap2021`, `severstal`, `airbus`, … (all are in lib/config/presets.py); empty for
    none. Its form of answers, and its `metric`, `scoring`, `score_background` and `multilabel`, become the defaults."""
    codec: str = "rle"
    """Form of the answers: `rle`, `pixels` (a label index for each pixel), `patches` (0 or 1 for each square patch),
    `files` (a ZIP with a file for each image, of the form that the suffix in `id_template` says: `.tif`, `.png`, `.h5`,
    `.npy`, `.geojson`), `tif` or `png` (the same, with this form), or the name of one that a plugin registers."""
    sample: str = "sample_submission.csv"
    """The organiser's sample submission, relative to `competition.root`; it gives the ids, their order and the names of
    the columns. For `files`, a ZIP or a folder of sample files: the answer's files must have their names, sizes
    and types. Empty where there is none: answers are then written for all test images, in the order of their ids."""
    id_column: Column = "id"
    """Column with the image id."""
    id_template: str = "{id}"
    """How that column, or a file's name in a ZIP, names an image: `{id}.jpg`, `images/{id}.jpg`, `{id}.jpg_{class}`.
    `{number}` is the last whole number in an id (`{number:03}`: three digits). `{path}` is the image's path from the
    first wildcard of `competition.test_images` on, without suffix: `{path}.jpg`. `patches` also have `{x}` and `{y}`,
    in pixels."""
    class_column: Column = ""
    """Column with the class name, where there is one row per image and class; else empty."""
    rle_column: Column = "predicted"
    """Column with the answer."""
    order: Literal["column", "row"] = "column"
    """Order of the run-length: `column` runs from top to bottom first, `row` from left to right first."""
    base: Annotated[int, Ge(0)] = 1
    """Number of the first pixel."""
    relative: bool = False
    """Whether a start counts from the end of the run before it."""
    empty: str = ""
    """Text that is written for an image without object."""
    instances: bool = False
    """Write one row of run-lengths per object, that is, per connected component of a class (pixels that touch at a
    corner are connected)."""
    overlap: bool = False
    """Whether the competition allows rows of run-lengths of one image to share pixels. With `competition.multilabel`
    rows of two classes may do so anyway. Without it, answers that are written here never do."""
    size: tuple[Annotated[int, Ge(1)], ...] = ()
    """Height and width of the answer where they differ from the image's: decided labels are resized, not
    probabilities."""
    resize: Literal["nearest", "center", "majority"] = "nearest"
    """Which label a pixel of another `size` gets: `nearest` (that of pixel floor(y H / h), as OpenCV), `center` (of
    floor((y + 0.5) H / h), as PIL), or `majority` (the label that covers most of its area; of equal ones the
    lowest)."""
    patch: Annotated[int, Ge(1)] = 16
    """Side of a patch in pixels (`patches`)."""
    patch_share: Annotated[float, Ge(0), Lt(1)] = 0.25
    """Share of object pixels above which a patch is 1 (`patches`)."""
    object_value: Annotated[int, Ge(1), Le(255)] = 1
    """Value of object pixels where there is one class (`files`); with several classes, pixels hold the label index."""
    palette: dict[str, Stored] | Literal["", "labels"] = ""
    """What pixels of `files` hold instead, by the name of the class: numbers (`{building: 0, road: 1}`), or colours
    (`{background: [0, 0, 0], road: [255, 0, 0]}`). `labels`: those of the training masks, as `labels.palette` says."""
    dataset: str = "mask"
    """Name of the dataset in HDF5 files."""
    georeference: bool = False
    """Whether TIFFs get the place on Earth of their image, and polygons (`.geojson`) the coordinates of its map.
    Without it, polygons are in pixels."""
    max_mb: Annotated[float, Ge(0), Affects()] = 0
    """Largest file that the competition takes, in megabytes of 1,000,000 bytes; `python -m lib check` warns above it. 0
    for no limit."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: object):
        name = values.get("preset") if isinstance(values, dict) else ""
        if not name or not isinstance(name, str):  # the field's own check tells of another type
            return values
        if name not in PRESETS:
            raise ValueError(f"competition.submission.preset: {name!r} is not known; there are {', '.join(PRESETS)}")
        return {**PRESETS[name], **values}

    @model_validator(mode="after")
    def _fits_together(self):
        here, template = "competition.submission", self.id_template
        known = {"id": "a", "path": "a", "number": 1, "class": "b"} | (
            {"x": 0, "y": 0} if self.codec == "patches" else {}
        )
        try:
            template.format(**known)
        except (KeyError, ValueError, IndexError) as error:
            names = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(
                f"{here}.id_template: {template!r} cannot be filled in ({error!r}); it may hold {names}"
            ) from None
        files = self.codec in FILE_CODECS
        whole = files or self.codec in ("pixels", "patches")  # one answer for all classes and objects
        mistakes = {
            f"id_template is {template!r}; it must hold {{id}} or {{number}}, or {{path}}": not any(
                hole in template for hole in ("{id", "{path", "{number")
            ),
            "id_template names the class, and class_column too; keep one": "{class" in template and self.class_column,
            f"codec {self.codec} tells all classes at once; take the class out of class_column and id_template": whole
            and ("{class" in template or self.class_column),
            f"codec {self.codec} has no rows of objects; unset {here}.instances": whole and self.instances,
            f"codec patches gives the answer's size; unset {here}.size": self.codec == "patches" and self.size,
            f"size is {list(self.size)}; height and width are expected: [256, 256]": len(self.size) not in (0, 2),
            f"codec pixels writes a number for each pixel; set {here}.size, as in [256, 256]": self.codec == "pixels"
            and not self.size,
            "palette is for codec files; unset it, or name that codec": self.palette and not files,
            "georeference is for codec files; unset it, or name that codec": self.georeference and not files,
            "georeference needs answers as large as their images; unset size": self.georeference and self.size,
            "sample is empty; codec patches needs the organiser's sample submission": not self.sample
            and self.codec == "patches",
        }
        for sentence, made in mistakes.items():
            if made:
                raise ValueError(f"{here}.{sentence}")
        return self
