"""The tables of pixel sizes that a package needs where its ensemble reads images by `preprocess.pixel_size_column`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.competition.metadata import metadata_files
from lib.config import Config
from lib.errors import UserError
from lib.files import write_table
from lib.package.layout import split_pattern
from lib.user_tables import read_csv


def files_beside(images: Path, config: Config) -> list[Path]:
    """The files of `competition.metadata` that exist, of a competition whose test images lie in the folder `images`."""
    settings = config.competition
    folders = len(PurePosixPath(split_pattern(settings.test_images)[0]).parts)
    root = images.resolve().joinpath(*[".."] * folders).resolve()
    return [file for file in metadata_files(settings.model_copy(update={"root": str(root)})) if file.is_file()]


def pixel_sizes(files: Sequence[Path], config: Config, folder: Path) -> Path:
    """One table, written to `folder`, of all rows of `files`. Raises UserError where one of them is no such table."""
    if not files:
        raise UserError(
            f"--metadata: beside the images there is no {config.competition.metadata}; give the tables that hold the "
            f"column {config.preprocess.pixel_size_column}, the pixel size of each image"
        )
    tables = [read_csv(file, [config.competition.metadata_id]) for file in files]
    table = folder / "pixel_sizes.csv"
    write_table(table, pd.concat(tables, ignore_index=True).fillna(""))
    return table
