"""Labels of external data: read in the format of their source, translated to the competition's label indices."""

from __future__ import annotations

import numpy as np

from lib.competition.labels.common import INDICES, Label
from lib.competition.labels.planes import Planes
from lib.config.competition import CompetitionSettings, External
from lib.errors import UserError
from lib.plugins import find
from lib.tables import IGNORE


class ExternalLabels:
    """The label reader of one source. Raises UserError, naming the source, on labels that do not fit its images."""

    def __init__(self, source: External, competition: CompetitionSettings, known_ids: set[str]):
        """`known_ids`: ids of the source's images, which start with its name."""
        self.prefix = f"{source.name}_"
        names = theirs(source, competition)
        settings = competition.model_copy(
            update={
                "root": source.root,
                "train_images": source.images,
                "image_ids": "",
                "labels": source.labels,
                "classes": [name for name in names if name != "background"],
                "background": "background" in names,
            }
        )
        if competition.multilabel and source.labels.annotators == "mean":
            raise UserError(
                f"competition.external {source.name}: labels.annotators mean is not for sources whose classes overlap; "
                "set majority"
            )
        stems = {image_id.removeprefix(self.prefix) for image_id in known_ids}
        try:
            self.reader = find("labels", source.labels.format, "labels.format")(settings, stems)
        except UserError as error:
            raise UserError(f"competition.external {source.name}: {error}") from None
        bare = sorted(stems - self.reader.image_ids)
        if bare:
            raise UserError(
                f"competition.external {source.name}: image {bare[0]!r} has no label ({len(bare)} such images); "
                "leave it out of images, or add an empty label when it holds no object"
            )
        self.names, self.competition = names, competition

    def open(self, image_id: str, height: int, width: int) -> Label:
        """As `open` of the readers in lib/competition/labels."""
        label = self.reader.open(image_id.removeprefix(self.prefix), height, width)
        if self.competition.multilabel:
            return translated_planes(label, self.names, self.competition.classes)
        return translated(label, translation(self.names, self.competition))


def theirs(source: External, competition: CompetitionSettings) -> dict[str, str]:
    """The competition's class of each class of a source, by its name in the source.

    >>> theirs(External(name="web", root=".", classes={"glomerulus": "tuft"}), CompetitionSettings(classes=["tuft"]))
    {'background': 'background', 'glomerulus': 'tuft'}
    """
    named = source.classes or {name: name for name in competition.classes}
    background = {"background": "background" if competition.background else "ignore"}
    # A file of indices has no 0 for "no class" where the competition has none, unless the source says so.
    known = background if competition.background or "background" in source.classes else {}
    return {**known, **named}


def translation(names: dict[str, str], competition: CompetitionSettings) -> np.ndarray:
    """(256,) uint8: the competition's label index of each label index of a source; `IGNORE` where there is none."""
    ours = (["background"] if competition.background else []) + competition.classes
    out = np.full(INDICES, IGNORE, np.uint8)
    for index, name in enumerate(names.values()):
        out[index] = ours.index(name) if name in ours else IGNORE
    return out


def translated(label: Label, index_of: np.ndarray) -> Label:
    """A source's label in the competition's label indices. `index_of`: as `translation` returns it."""

    def counts(*box: int) -> np.ndarray:
        return np.bincount(index_of, label.counts(*box), INDICES).astype(np.int64)

    out = Label(lambda *box: index_of[label.read(*box)], counts, label.unused)
    out.opinions = [translated(opinion, index_of) for opinion in label.opinions]
    return out


def translated_planes(label: Label, names: dict[str, str], classes: list[str]) -> Planes:
    """A source's planes as those of the competition's `classes`. `names`: as `theirs` returns them.

    Several of its classes may be one of ours. What it calls `ignore` is not scored for any class. A class that it does
    not know is nowhere.
    """
    own = [ours for name, ours in names.items() if name != "background"]
    nothing = names.get("background") == "ignore"

    def plane_of(name: str) -> Label:
        def read(*box: int) -> np.ndarray:
            planes = label.read(*box)
            mine = planes[[ours == name for ours in own]]
            unscored = (planes[[ours == "ignore" for ours in own]] == 1).any(0) | (mine == IGNORE).any(0)
            if nothing:
                unscored |= (planes != 1).all(0)
            return np.where((mine == 1).any(0), 1, np.where(unscored, IGNORE, 0)).astype(np.uint8)

        return Label(read, unused=label.unused)

    return Planes([plane_of(name) for name in classes])
