"""The base class of submission codecs: the pixels of an answer, names of rows and files, limits of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.labels.template import last_number
from lib.config.competition import CompetitionSettings, Submission
from lib.errors import UserError
from lib.imaging.geometry import LabelBands
from lib.imaging.resize import resized
from lib.tables import IGNORE

Name = tuple[str, str]
"""What stands in a row's id column and in its class column, if it has one."""


class Codec:
    """Base class of submission formats, registered under a name: `@register("codec", "mine")`.

    `suffix`: of the files that the codec writes. `paths`: the value of `{path}` in `id_template`, by image id.
    `images`: the files of images, by id, where `submission.georeference` needs them. A subclass has

    - `add(image_id, height, width, bands)`: take the label of an image, see `LabelBands`;
    - `write(path)`: write the submission;
    - `check(path, sizes)`: pixels of object of each image, by id; raises UserError on a wrong file;
    - `read(path, sizes)`: the `Label` of each image, by id, where `sizes` has (height, width) in pixels.

    >>> from lib.competition.codecs.rle_rows import RleRows
    >>> sample = pd.DataFrame({"id": ["a"], "predicted": [""]})
    >>> settings = CompetitionSettings(classes=["cell"], submission={"id_column": "id", "rle_column": "predicted"})
    >>> codec = RleRows(settings, sample, ["background", "cell"])
    >>> codec.add("a", 2, 2, [(0, np.array([[0, 1]])), (1, np.array([[1, 1]]))])
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     codec.write(Path(folder, "submission.csv"))
    ...     print(Path(folder, "submission.csv").read_text())
    id,predicted
    a,2 3
    <BLANKLINE>
    """

    suffix = ".csv"
    paths: Mapping[str, str] = {}
    images: Mapping[str, Path] = {}

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        self.config, self.sample = config, sample
        self.n_labels = len(config.label_names)
        self.indices = {name: i + config.first_class for i, name in enumerate(config.classes)}

    def answer_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of the answer for an image."""
        return self.config.submission.size or (height, width)

    def format_id(self, image_id: str, class_name: str = "", y: int = 0, x: int = 0) -> str:
        """The id of an image, class and patch: `submission.id_template` with its fields filled in."""
        return format_id(self.config.submission, (image_id, self.paths.get(image_id, image_id)), class_name, y, x)

    def names_of(self, image_id: str) -> dict[Name, str]:
        """The rows that an image has, by name, each with its class."""
        return names_of(self.config, image_id, self.paths.get(image_id, image_id))

    def seen(self, height: int, width: int, bands: LabelBands) -> Iterator[tuple[int, np.ndarray]]:
        """Bands of an image's label (prediction or truth), resized to pixels of the answer, planes one by one."""
        size = self.answer_size(height, width)
        if size == (height, width):
            return iter(bands)
        values = [0, 1] if self.config.multilabel else [*range(self.n_labels)]
        return resized(bands, (height, width), size, self.config.submission.resize, [*values, IGNORE])

    def unanswered(self) -> list[str]:
        """Names in the sample submission that no image has answered."""
        return []

    def check_file(self, path: Path) -> None:
        """Raises UserError when there is no file."""
        if not path.is_file():
            raise UserError(f"there is no file {path}")


def check_file_size(path: Path, settings: Submission) -> None:
    """Raises UserError when a file is larger than the competition takes."""
    megabytes = path.stat().st_size / 1e6 if path.is_file() else 0
    if settings.max_mb and megabytes > settings.max_mb:
        raise UserError(
            f"{path} has {megabytes:.4g} MB; the competition takes at most {settings.max_mb:g} "
            "(competition.submission.max_mb)"
        )


def names_of(config: CompetitionSettings, image_id: str, path: str) -> dict[Name, str]:
    """The rows that an image has, by name, each with its class; of patches, the row of the first one.

    `path`: what `{path}` of `id_template` is.
    """
    s = config.submission
    by_class = bool(s.class_column) or "{class" in s.id_template
    classes = config.classes if by_class else config.classes[:1]
    return {(format_id(s, (image_id, path), name), name if s.class_column else ""): name for name in classes}


def format_id(settings: Submission, image: tuple[str, str], class_name: str = "", y: int = 0, x: int = 0) -> str:
    """The id of an image (id, path), class and patch: `submission.id_template` with its fields filled in.

    Raises UserError where the template needs a number, and the image id has none.

    >>> format_id(Submission(id_template="{id}.jpg_{class}"), ("a7", "a7"), "Fish")
    'a7.jpg_Fish'
    >>> format_id(Submission(codec="patches", id_template="{number:03}_{x}_{y}"), ("test_7", "test_7"), y=16)
    '007_0_16'
    """
    image_id, path = image
    number = last_number(image_id)
    if "{number" in settings.id_template and number is None:
        raise UserError(
            f"competition.submission.id_template is {settings.id_template!r}, but there is no number in {image_id!r}"
        )
    values = {"id": image_id, "path": path, "number": number or 0, "class": class_name, "y": y, "x": x}
    return settings.id_template.format(**values)
