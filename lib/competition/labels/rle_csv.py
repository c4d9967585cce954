"""Labels as run-lengths in a CSV: one row per image, per image and class, or per object."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from lib.competition import rle
from lib.competition.labels.common import Label, index_of
from lib.competition.labels.planes import label_of_class_runs
from lib.competition.labels.template import Names, ids_by_path
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.plugins import register
from lib.user_tables import read_csv

NOTHING = ("", "-1", "-", "1 0", "0 0", "nan", "none")  # words for empty; none of them could be a run
RESERVED = ("background", "_background_", "ignore", "__ignore__")  # in place of a class, in the template's form


@register("labels", "rle_csv")
class RleCsv:
    """`image_ids`: the labeled images. Rows of one class add up. Where a pixel has one label, later classes win.

    An empty cell, one of `NOTHING`, or the submission's word for empty, is an image without object.
    """

    def __init__(self, config: CompetitionSettings, known_ids: set[str]):
        self.config = config
        self.path = Path(config.root) / config.labels.path
        self.rows = self._rows(config, known_ids)
        self.image_ids = set(self.rows)

    def open(self, image_id: str, height: int, width: int) -> Label:
        """Raises UserError when a run lies outside the image."""
        settings, where = self.config.labels, f"{self.path}, {image_id}"
        runs = []
        for index, rows in groupby(self.rows.get(image_id, []), key=lambda row: row[0]):
            parsed = [rle.parse(text, height * width, where, settings.base, settings.relative) for _, text in rows]
            runs.append((index, *rle.united(parsed)))
        return label_of_class_runs(runs, (height, width), settings.order, self.config)

    def _rows(self, config: CompetitionSettings, known_ids: set[str]) -> dict[str, list[tuple[int, str]]]:
        settings = config.labels
        table = read_csv(self.path, [settings.id_column, settings.rle_column, settings.class_column])
        by_path = ids_by_path(config.train_images, config.image_ids)
        names = Names(settings.id_template, [*config.classes, *RESERVED], known_ids, by_path)
        rows: dict[str, list[tuple[int, str]]] = {}
        for record in table.to_dict("records"):
            cell = record[settings.id_column]
            found = names.read(cell)
            if not found:
                raise UserError(
                    f"{self.path}: {cell!r} is not like competition.labels.id_template, {settings.id_template}, "
                    f"with a class of competition.classes ({', '.join(config.classes)})"
                )
            image_id, name = found[0], found[1] or config.classes[0]
            if image_id not in known_ids and settings.surplus == "skip":
                continue
            if image_id not in known_ids:
                raise UserError(
                    f"{self.path} has a label for {image_id!r}, but competition.train_images "
                    f"({config.train_images}) has no such image; add the image, remove the row, set "
                    "competition.labels.surplus to skip, or say in competition.labels.id_template how ids are written"
                )
            name = record[settings.class_column] if settings.class_column else name
            index = index_of(name, config)
            if index is None:
                raise UserError(f"{self.path}: unknown class {name!r}; competition.classes has {config.classes}")
            text = record[settings.rle_column]
            text = "" if text[:8].lower() in NOTHING or text == config.submission.empty else text
            rows.setdefault(image_id, []).append((index, text))
        return {image_id: sorted(own, key=lambda row: row[0]) for image_id, own in rows.items()}
