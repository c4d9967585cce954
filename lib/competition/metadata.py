"""The organiser's table of metadata: its files, its rows by image, and how large a pixel of each image is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from lib.competition.labels.template import WILD, Names
from lib.config import Config
from lib.config.competition import CompetitionSettings
from lib.digests import file_state
from lib.errors import UserError, reading, shown
from lib.organiser_text import visible_files
from lib.user_tables import read_csv


def metadata_files(settings: CompetitionSettings) -> list[Path]:
    """The CSV that `competition.metadata` names, or all that match it as a glob; none where it is empty.

    Raises UserError for a text that is no glob.
    """
    root, name = Path(settings.root), settings.metadata
    if not name:
        return []
    if (root / name).is_file() or not WILD.search(name):
        return [root / name]
    about = f"competition.metadata: {shown(name)}", "not a pattern of files", "write one such as {train,test}.csv"
    with reading(*about):
        return visible_files(root, name)


def read_metadata(
    settings: CompetitionSettings, known: Collection[str], id_of_path: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The rows of all files of metadata, as text, indexed by image id; empty where there are none.

    `known`: ids of the images that exist. `id_of_path`: image ids by `{path}`. Raises UserError where a file is no such
    table, or where an image has two rows.
    """
    if not settings.metadata:
        return pd.DataFrame()
    key, files = settings.metadata_id, metadata_files(settings)
    if not files:
        raise UserError(f"competition.metadata: {Path(settings.root) / settings.metadata} matches no file; correct it")
    tables = [read_csv(file, [key]) for file in files]
    table = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True).fillna("")
    by_path = {} if id_of_path is None else id_of_path
    names = Names(settings.metadata_template, [], known, lambda path: by_path.get(path, path))
    ids = [(names.read(cell) or (cell,))[0] for cell in table[key]]
    table = table.set_axis(pd.Index(ids, name=key))
    if table.index.duplicated().any():
        where = " and ".join(map(str, files))
        raise UserError(f"{where} has two rows for {table.index[table.index.duplicated()][0]!r}")
    return table.drop(columns=key)


def pixel_size_files(config: Config) -> list[Path]:
    """The files that say how large pixels are; none without `preprocess.pixel_size_column`."""
    return metadata_files(config.competition) if config.preprocess.pixel_size_column else []


def zoom_of(config: Config, image_id: str) -> float:
    """How many pixels of `preprocess.target_pixel_size` are as long as one of an image: it is read so much larger.

    1 without `preprocess.pixel_size_column`, and for images of external sources, which have a `scale` of their own.
    Raises UserError where an image's pixel size is not known.
    """
    preprocess = config.preprocess
    sources = tuple(f"{source.name}_" for source in config.competition.external)
    if not preprocess.pixel_size_column or (sources and image_id.startswith(sources)):
        return 1.0
    files = pixel_size_files(config)
    states = tuple((str(file), *file_state(file)) for file in files)
    about = (getattr(config.competition, name) for name in ("root", "metadata", "metadata_id", "metadata_template"))
    sizes = _sizes(tuple(about), preprocess.pixel_size_column, states)
    where = f"preprocess.pixel_size_column: {' and '.join(map(str, files))}"
    if image_id not in sizes:
        raise UserError(
            f"{where} has no row for image {image_id!r}; add one, as every image needs its pixel size (competition."
            "metadata may be a glob, as in {train,test}.csv)"
        )
    try:
        size = float(sizes[image_id])
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise UserError(
            f"{where} gives image {image_id!r} the {preprocess.pixel_size_column} {sizes[image_id]!r}; a number above "
            "0 is expected"
        )
    return size / preprocess.target_pixel_size


def zoomed(config: Config, zoom: float) -> Config:
    """The configuration for images whose tiles are `zoom` times as large as those of others."""
    if zoom == 1:
        return config
    preprocess = config.preprocess.model_copy(update={"scale": config.preprocess.scale * zoom})
    return config.model_copy(update={"preprocess": preprocess})


@lru_cache(maxsize=2)  # asked for with every image
def _sizes(about: tuple[str, ...], column: str, _states: tuple) -> dict[str, str]:
    """The cells of a column by image id. `about`: root, metadata, metadata_id and metadata_template."""
    root, metadata, key, template = about
    if "{id}" not in template:
        raise UserError(
            f"competition.metadata_template is {template!r}; with preprocess.pixel_size_column the metadata must name "
            "images by {id}: add a column with the ids, and name it in competition.metadata_id"
        )
    settings = CompetitionSettings(root=root, metadata=metadata, metadata_id=key, metadata_template=template)
    table = read_metadata(settings, ())
    if column not in table.columns:
        raise UserError(
            f"preprocess.pixel_size_column: the metadata have no column {column!r}; they have "
            f"{', '.join(table.columns) or 'nothing: set competition.metadata'}"
        )
    return table[column].to_dict()
