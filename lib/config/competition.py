"""What the organiser gives and wants."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from pydantic import StringConstraints, model_validator

from lib.config.section import Section


class Labels(Section):
    """How the training labels are written."""

    format: str = "rle_csv"
    """Label reader: `rle_csv`, `mask_images`, or the name of one that a plugin registers."""
    path: str = "train.csv"
    """The CSV of run-lengths, or the folder of mask images; relative to `competition.root`."""
    id_column: str = "id"
    """CSV column with the image id."""
    rle_column: str = "encoding"
    """CSV column with the run-length."""
    class_column: str = ""
    """CSV column with the class name, when there is one row per image and class; else empty."""
    order: Literal["column", "row"] = "column"
    """Order of the run-length: `column` runs top to bottom first, `row` left to right first."""
    base: Annotated[int, Ge(0)] = 1
    """Number of the first pixel."""
    suffix: str = ".png"
    """Mask images: what follows the image id in the file name."""
    palette: str = ""
    """Mask images in colours: a CSV with columns `index,name,r,g,b` or `name,r,g,b`.
    Empty: the mask holds class indices (0 is background when `competition.background`)."""
    other: Literal["ignore", "background", "error"] = "error"
    """Mask images: what a colour or index that is no class means."""


class External(Section):
    """One source of further images, with labels of its own kind or with none."""

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
    scale: Annotated[float, Gt(0)] = 1.0
    """How many of its pixels are as long as one pixel of the competition's: 2 where it shows things twice as large."""
    weight: Annotated[float, Ge(0)] = 1.0
    """Weight of its tiles in the loss of 03."""


class Pixels(Section):
    """How a file's pixels become the red, green and blue of 8 bits that networks see."""

    range: tuple[float, ...] = ()
    """The two values that become 0 and 255; what lies outside is clipped. Needed for more than 8 bits a channel."""
    bands: tuple[Annotated[int, Ge(0)], ...] = ()
    """The three channels to show as red, green and blue, counted from 0; empty for the first three (or grey)."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.range and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise ValueError(
                f"competition.pixels.range is {list(self.range)}; two rising values are expected: [0, 4095]"
            )
        if self.bands and len(self.bands) != 3:
            raise ValueError(f"competition.pixels.bands names {len(self.bands)} channels; 3 are expected: [3, 2, 1]")
        return self


class Submission(Section):
    """How the answer is written."""

    codec: str = "rle"
    """Submission codec: `rle`, or the name of one that a plugin registers."""
    sample: str = "sample_submission.csv"
    """The organiser's sample; gives ids, their order, and the column names."""
    id_column: str = "id"
    """Column with the image id."""
    class_column: str = ""
    """Column with the class name, when there is one row per image and class; else empty."""
    rle_column: str = "predicted"
    """Column with the answer."""
    order: Literal["column", "row"] = "column"
    """Order of the run-length: `column` runs top to bottom first, `row` left to right first."""
    base: Annotated[int, Ge(0)] = 1
    """Number of the first pixel."""
    empty: str = ""
    """What is written for an image without object."""


class Competition(Section):
    """The outside world."""

    name: str = "demo"
    """Name of the competition; the workspace is `work/<name>`."""
    root: str = "data/demo"
    """The organiser's folder. It is only read."""
    train_images: str = "train/*"
    """Glob of the training images, relative to `root`. An image's id is its file name's stem."""
    test_images: str = "test/*"
    """Glob of the test images."""
    unlabeled_images: str = ""
    """Glob of images without labels that pseudo-labeling may use; empty for none."""
    classes: list[str] = ["object"]
    """Names of the classes to segment, without background, in the order of their index."""
    background: bool = True
    """Whether a pixel may belong to no class. One class implies it."""
    pixels: Pixels = Pixels()
    labels: Labels = Labels()
    submission: Submission = Submission()
    external: list[External] = []
    """Further sources of images. Labeled ones are trained on in every fold and never validated on."""
    metadata: str = ""
    """CSV with one row per image (patient, place, …); empty for none."""
    metadata_id: str = "id"
    """Its column with the image id."""
    metric: str = "mean_dice"
    """`mean_dice` (mean over images; foreground classes), `dice`, `mean_iou` (one confusion matrix
    over all scored pixels), `iou`, or the name of one that a plugin registers."""
    score_background: bool = False
    """Whether the background counts as a class in a mean over classes."""
    answers: str = ""
    """Withheld test labels, where they are known (the demo): a CSV in the form of `labels`.
    Only the final scoring reads it."""

    @model_validator(mode="after")
    def _consistent(self):
        if not self.classes:
            raise ValueError("competition.classes is empty; name at least one class")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"competition.classes names a class twice: {self.classes}")
        if len(self.classes) == 1 and not self.background:
            raise ValueError("one class needs background: true, or every pixel would be that class")
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
