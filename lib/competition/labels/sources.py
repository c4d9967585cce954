"""Lists the files from which labels are read, without reading them."""

from __future__ import annotations

from pathlib import Path

from lib.competition.labels.mask_images import label_files
from lib.config.competition import CompetitionSettings, External


def label_sources(config: CompetitionSettings) -> list[Path]:
    """The table, JSON or masks of the training labels, and the CSV of their colours; external sources' too."""
    found = _of(config, config.labels.path)
    for source in config.external:
        if source.labels:
            found += _of(settings_of_source(source, config), source.labels.path)
    return found


def label_tables(config: CompetitionSettings) -> list[Path]:
    """Those of them that a reader reads once for all images: tables, JSONs and colours."""
    found = []
    for settings in (config, *(settings_of_source(source, config) for source in config.external if source.labels)):
        palette = settings.labels.palette
        names = [settings.labels.path, *([palette] if palette and isinstance(palette, str) else [])]
        found += [Path(settings.root) / name for name in names]
    return found


def settings_of_source(source: External, config: CompetitionSettings) -> CompetitionSettings:
    """The competition's settings with the folder and labels of an external source."""
    classes = [name for name in source.classes if name != "background"] or config.classes
    return config.model_copy(update={"root": source.root, "labels": source.labels, "classes": classes})


def _of(config: CompetitionSettings, path: str) -> list[Path]:
    folder, palette = Path(config.root) / path, config.labels.palette
    colours = [Path(config.root) / palette] if palette and isinstance(palette, str) else []
    if not folder.is_dir():
        return [folder, *colours]
    if config.labels.format in ("mask_images", "polygons"):
        return [file for files in label_files(config).values() for _, file in files] + colours
    return sorted(file for file in folder.rglob("*") if file.is_file()) + colours
