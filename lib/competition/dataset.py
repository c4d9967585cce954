"""A competition folder: its images, labels, metadata, and whether they fit together."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

import lib.competition.labels  # noqa: F401  (registers the readers)
from lib.competition.codecs.common import names_of
from lib.competition.codecs.sample_files import names_of_files
from lib.competition.external import ExternalLabels
from lib.competition.image_files import HOME, ImageInfo, external_images, image_files, listed_names, own_image, tails
from lib.competition.labels.common import Label, WrongSize
from lib.competition.labels.mask_images import reader_of_names
from lib.competition.labels.planes import Planes
from lib.competition.metadata import read_metadata
from lib.competition.unmeasured import scored_labels
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.imaging.readers.base import SIDEWAYS
from lib.imaging.readers.tiff import TIFF_SUFFIXES
from lib.organiser_text import same_form, tidy
from lib.plugins import find
from lib.user_tables import read_csv

__all__ = ["HOME", "Competition", "ImageInfo", "check_class_pixels"]


class Competition:
    """The organiser's folder: images, labels, metadata, sample submission. Raises UserError where they do not fit."""

    def __init__(self, settings: CompetitionSettings, only_test: bool = False):
        """`only_test`: the folder may hold nothing but test images and the file that lists them, as in a notebook."""
        self.settings = settings
        self.root = Path(settings.root)
        if not self.root.is_dir():
            raise UserError(
                f"competition.root: there is no folder {self.root}; give the organiser's, for example "
                f"--competition.root ../data/{settings.name}"
            )
        self.images = self._find("test", settings.test_images)
        if only_test and (settings.submission.sample or settings.test_list):
            asked = self._asked(self.images)
            if self.images and not asked and not self._asks_for_nothing():
                raise UserError(
                    f"{self.root} holds {len(self.images)} images, {self.images[0].path.name} for one, and "
                    f"{settings.submission.sample or settings.test_list} names none of them; give the folder of the "
                    "test images, or check competition.submission.id_template"
                )
            self.images = [image for image in self.images if image.path in asked]
        elif not only_test:
            train, test = self._parted(self._find("train", settings.train_images), self.images)
            unlabeled = self._find("unlabeled", settings.unlabeled_images) if settings.unlabeled_images else []
            external = [image for source in settings.external for image in external_images(source, settings.pixels)]
            self.images = [*train, *test, *unlabeled, *external]
        ids = [image.image_id for image in self.images]
        twice = [i for i in ids if ids.count(i) > 1] if len(set(ids)) != len(ids) else []
        if twice:
            raise UserError(
                f"{self.root} has two images with the id {twice[0]!r}; ids must be unique over all splits: say in "
                "competition.image_ids how folders tell them apart, as in {id}/images/{id}"
            )
        if settings.labels.missing == "unlabeled" and not only_test:
            bare = set(self.ids("train")) - self.labels.image_ids
            self.images = [replace(i, split="unlabeled") if i.image_id in bare else i for i in self.images]

    @property
    def label_names(self) -> list[str]:
        return self.settings.label_names

    @property
    def channels(self) -> int:
        return self.settings.channels

    def ids(self, split: str, source: str = HOME) -> list[str]:
        return [image.image_id for image in self.images if (image.split, image.source) == (split, source)]

    @cached_property
    def paths(self) -> dict[str, str]:
        """Value of `{path}` in templates, by image id."""
        return {image.image_id: image.below for image in self.images}

    @cached_property
    def files(self) -> dict[str, str]:
        """Path of each of the organiser's images below `root`, by image id."""
        own = [image for image in self.images if image.source == HOME]
        return {image.image_id: image.path.relative_to(self.root).as_posix() for image in own}

    def open_label(self, image: ImageInfo, height: int, width: int) -> Label:
        """The label of any training image, in the competition's label indices, or planes where classes overlap."""
        reader = self.labels if image.source == HOME else self.external_labels[image.source]
        try:
            label = reader.open(image.image_id, height, width)
        except WrongSize as error:
            raise UserError(f"{error}{self._turning(image.image_id)}") from None
        if self.settings.multilabel and not isinstance(label, Planes):
            raise UserError(
                f"competition.labels.format {self.settings.labels.format} gives one label for each pixel, but with "
                "competition.multilabel planes are expected: make them with label_of_objects of "
                "lib/competition/labels/planes.py"
            )
        return label

    def _turning(self, image_id: str) -> str:
        """Advice where the image's orientation may explain a label of another size; else empty."""
        path, pixels = next(i.path for i in self.images if i.image_id == image_id), self.settings.pixels
        with open_image(path, pixels) as reader:
            orientation = reader.orientation
        if orientation not in SIDEWAYS:
            return ""
        if path.suffix.lower() in TIFF_SUFFIXES:
            return f"; tag 274 of {path.name} says to turn it ({orientation}), which is not done: turn the file"
        if pixels.exif:
            return f"; {path.name} is turned as its EXIF says ({orientation}): set competition.pixels.exif to false"
        return f"; EXIF says to turn {path.name} ({orientation}), but competition.pixels.exif is false: set it to true"

    @cached_property
    def external_labels(self) -> dict[str, ExternalLabels]:
        """The label reader of each external source that has labels."""
        return {
            source.name: scored_labels(ExternalLabels(source, self.settings, known), self.images, self.settings.pixels)
            for source in self.settings.external
            for known in [set(self.ids("train", source.name))]
            if source.labels
        }

    @cached_property
    def labels(self):
        """The label reader of the organiser's images; every training image has a label."""
        known = set(self.ids("train"))
        reader = find("labels", self.settings.labels.format, "competition.labels.format")(self.settings, known)
        bare = sorted(known - reader.image_ids)
        if bare and self.settings.labels.missing == "error":
            raise UserError(
                f"training image {bare[0]!r} has no label in {self.root / self.settings.labels.path} "
                f"({len(bare)} such images); add an empty one when it holds no object, or, when that goes for all of "
                "them, set competition.labels.missing to empty"
            )
        return scored_labels(reader, self.images, self.settings.pixels)

    @cached_property
    def metadata(self) -> pd.DataFrame:
        """The metadata table indexed by image id, as text; empty when there is none."""
        known = {image.image_id for image in self.images}
        return read_metadata(self.settings, known, self._ids_by_path(self.settings.metadata_template))

    def _ids_by_path(self, template: str) -> dict[str, str]:
        """Image id by `{path}`, where a template has it. Raises UserError when two images share one."""
        found: dict[str, str] = {}
        for image in self.images if "{path}" in template else ():
            if image.source == HOME and found.setdefault(image.below, image.image_id) != image.image_id:
                raise UserError(
                    f"competition.metadata_template {template}: {image.below!r} may be the image "
                    f"{found[image.below]!r} or {image.image_id!r}; use {{id}} in it"
                )
        return found

    @cached_property
    def sample(self) -> pd.DataFrame:
        """The sample submission as text, with its cells unchanged. A ZIP or folder has a row for each file.

        Without sample submission, there is a row for each answer.
        """
        s = self.settings.submission
        if not s.sample:
            test = sorted((image_id, self.paths[image_id]) for image_id in self.ids("test"))
            rows = [(*name, "") for image in test for name in names_of(self.settings, *image)]
            table = pd.DataFrame(rows, columns=[s.id_column, s.class_column, s.rle_column])
            return table if s.class_column else table[[s.id_column, s.rle_column]]
        names = names_of_files(self.root / s.sample)
        if names is not None:
            return pd.DataFrame({s.id_column: names, s.rle_column: ""})
        return read_csv(self.root / s.sample, [s.id_column, s.class_column, s.rle_column], raw=True)

    def check(self) -> None:
        """Check that labels, metadata and sample submission fit together. Raises UserError."""
        _ = self.labels, self.external_labels, self.metadata
        self.check_sample()

    def check_sample(self) -> None:
        """Raises UserError unless the sample submission asks for all test images, and no others."""
        s = self.settings.submission
        if not s.sample:
            return
        path = self.root / s.sample
        self._check_rows(path)
        known: dict[str, str] = {}
        for image_id in self.ids("test"):
            for name, _ in names_of(self.settings, image_id, self.paths[image_id]):
                if known.setdefault(name, image_id) != image_id:
                    raise UserError(
                        f"competition.submission.id_template {s.id_template} makes {name!r} of two images, "
                        f"{known[name]!r} and {image_id!r}"
                    )
        if not self.ids("test"):  # test images are hidden; existing rows are answered as empty
            return
        wanted = set(self.sample[s.id_column].map(tidy))
        strangers = (
            sorted(wanted - set(known)) if s.codec != "patches" else []
        )  # names of patches depend on image sizes
        silent = sorted(set(self.ids("test")) - {known[name] for name in wanted & set(known)})
        if strangers:
            raise UserError(
                f"{path} asks for {strangers[0]!r}, but there is no such test image in {self.settings.test_images}; "
                f"check competition.submission.id_template, {s.id_template}"
            )
        if silent:
            raise UserError(f"test image {silent[0]!r} does not occur in {path} as {s.id_template}")

    def _check_rows(self, path: Path) -> None:
        """Raises UserError when two rows of run-lengths ask for the same, or when a row names an unknown class."""
        s = self.settings.submission
        if s.codec != "rle":  # a plugin's rows may mean something else
            return
        key = [s.id_column, s.class_column] if s.class_column else [s.id_column]
        twice = self.sample[key].map(tidy).duplicated()
        if twice.any() and not s.instances:
            row = ", ".join(self.sample.loc[twice, key].iloc[0])
            raise UserError(f"{path} has two rows for {row}; check competition.submission.class_column")
        names = self.sample[s.class_column].map(tidy) if s.class_column else []
        unknown = [name for name in names if name not in self.settings.classes]
        if unknown:
            raise UserError(
                f"{path} asks for the class {unknown[0]!r}; competition.classes has {', '.join(self.settings.classes)}"
            )

    def _parted(self, train: list[ImageInfo], test: list[ImageInfo]) -> tuple[list[ImageInfo], list[ImageInfo]]:
        """Where both patterns match an image, it is a test image if the sample submission or the list names it."""
        both = {image.path for image in train} & {image.path for image in test}
        if not both or not (self.settings.submission.sample or self.settings.test_list):
            return train, test
        asked = self._asked(test)
        return (
            [image for image in train if image.path not in both & asked],
            [image for image in test if image.path not in both - asked],
        )

    def _asked(self, images: list[ImageInfo]) -> set[Path]:
        """Paths of the images that the sample submission, or else the list, names."""
        s = self.settings.submission
        if s.sample:
            rows = set(self.sample[s.id_column].map(tidy))
            names = {i.path: names_of(self.settings, i.image_id, i.below) for i in images}
            return {path for path, own in names.items() if any(name in rows for name, _ in own)}
        rows = listed_names(self.root / self.settings.test_list)
        return {image.path for image in images if rows & {image.image_id, *map(same_form, tails(image.path))}}

    def _asks_for_nothing(self) -> bool:
        """Whether the sample submission has a header and no rows, as in competitions with hidden test images."""
        sample = self.settings.submission.sample
        return bool(sample) and (self.root / sample).exists() and self.sample.empty

    def _find(self, split: str, pattern: str) -> list[ImageInfo]:
        if split == "test" and not pattern:
            return []
        if not pattern or Path(pattern).is_absolute():
            raise UserError(
                f"competition.{split}_images: {pattern!r} is not a pattern; give one that is relative to "
                f"competition.root ({self.root}), for example {split}/*"
            )
        try:
            files = image_files(self.root, pattern, f"competition.{split}_images", self.settings.pixels)
        except UserError as error:
            if split != "test":
                raise
            if self._asks_for_nothing():
                return []
            raise UserError(
                f"{error}; where the test images are put in when a notebook is scored, the sample submission has no "
                "row, or competition.test_images is empty"
            ) from None
        if self.settings.labels.format == "mask_images":  # masks may lie beside their images
            label_of = reader_of_names(self.settings)
            files = [path for path in files if not label_of(path)]
        template = self.settings.image_ids
        return [own_image(path, split, self.root, pattern, template) for path in files]


def check_class_pixels(label_names: list[str], pixels: dict[str, int]) -> None:
    """Raises UserError when a class has no pixel at all. `pixels`: label name → count over all images."""
    empty = [name for name in label_names if name != "background" and not pixels.get(name, 0)]
    if empty:
        raise UserError(
            f"class {empty[0]!r} has not a single labeled pixel; check competition.classes and "
            "competition.labels, or remove the class"
        )
