"""What a pixel of an answer's files holds for each label: a number, or a colour."""

from __future__ import annotations

import numpy as np

from lib.competition.labels.mask_file import codes_of
from lib.competition.labels.mask_images import stored_colours
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.tables import IGNORE


class FileValues:
    """Label indices as an answer writes them, and back. `samples`: 3 for colours, else 1.

    Without `submission.palette`, an object of the only class is `object_value`, and several classes are their indices.

    >>> colours = {"background": [0, 0, 0], "road": [9, 0, 0]}
    >>> values = FileValues(CompetitionSettings(classes=["road"], submission={"codec": "png", "palette": colours}))
    >>> values.pixels(np.array([[0, 1]])).tolist()
    [[[0, 0, 0], [9, 0, 0]]]
    >>> values.labels("a.png", np.array([[[9, 0, 0], [0, 0, 0]]], np.uint8)).tolist()
    [[1, 0]]
    """

    def __init__(self, config: CompetitionSettings):
        """Raises UserError where `palette` is `labels`, and the labels have no values for all classes."""
        settings, names = config.submission, config.label_names
        palette = _of_labels(config) if settings.palette == "labels" else settings.palette
        self.sentence = ""
        if palette:
            stored = [palette[name] for name in names]
            self.sentence = f"one of competition.submission.palette ({', '.join(map(str, stored))})"
        elif len(config.classes) == 1:
            stored = [0, settings.object_value]
            self.sentence = f"0 or {settings.object_value}"
        else:
            stored = [*range(len(names))]
            self.sentence = f"0 to {len(names) - 1}"
        self.table = np.array(stored, np.uint8)
        self.samples = 1 if self.table.ndim == 1 else 3
        self._lookup = np.full(256, IGNORE, np.uint8)  # of numbers
        if self.samples == 1:
            self._lookup[self.table] = np.arange(len(self.table))

    def pixels(self, labels: np.ndarray) -> np.ndarray:
        """Label indices (h, w) as stored values (h, w), or colours (h, w, 3), uint8."""
        return self.table[labels]

    def labels(self, where: str, pixels: np.ndarray) -> np.ndarray:
        """Stored values or colours as label indices (h, w) uint8. Raises UserError for those of no label."""
        if self.samples == 1:
            labels = self._lookup[pixels]
        else:
            labels, codes = np.full(pixels.shape[:2], IGNORE, np.uint8), codes_of(pixels)
            for index, code in enumerate(codes_of(self.table[None])[0]):
                labels[codes == code] = index
        strange = labels == IGNORE
        if strange.any():
            y, x = np.argwhere(strange)[0]
            raise UserError(f"{where} holds {pixels[y, x].tolist()}; expected {self.sentence}")
        return labels


def _of_labels(config: CompetitionSettings) -> dict[str, object]:
    """The values or colours of the training masks, by the name of a label."""
    if not config.labels.palette:
        return {}
    named = stored_colours(config)
    missing = [name for name in config.label_names if name not in named]
    if missing:
        raise UserError(
            "competition.submission.palette is labels, but competition.labels.palette has no value for "
            f"{missing[0]!r}; write the answer's values there, as in {{{missing[0]}: 0}}"
        )
    return named
