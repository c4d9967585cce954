"""Makes sources, windows and limits of a prediction from the configuration."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from lib import tables
from lib.competition.metadata import zoom_of
from lib.config import Config
from lib.config.load import workspace_of
from lib.imaging.roi import roi_in_effect
from lib.inference.windows import Limits, Source, Windows
from lib.workspace import Workspace

BATCH_BYTES = 2**27  # of the maps of a batch of windows, where classes overlap


def windows_of(config: Config) -> Windows:
    """The inference windows, the same for out-of-fold and test maps. `infer.window: auto` gives the trained size."""
    tile = round(config.preprocess.tile_size * config.train.scale)
    configured = 0 if config.infer.window == "auto" else config.infer.window
    if config.preprocess.mode == "resize":
        return Windows(configured or tile, 0.0, 1.0, "constant", 0.0, config.preprocess.fit)
    size = configured or config.train.crop or tile
    scale = config.infer.scale or config.preprocess.scale * config.train.scale
    step = 64 if config.model.stem == "down" else 32
    alternate_flips = "free" in config.infer.tta.split()
    size = -(-size // step) * step
    return Windows(
        size, config.infer.overlap, scale, config.infer.blend, config.infer.margin, alternate_flips=alternate_flips
    )


def limits_of(config: Config) -> Limits:
    batch = batch_of(config)
    return Limits(batch, config.infer.max_gib, workspace_of(config), least=least_of(batch, config.train.device))


def least_of(batch: int, device: str) -> int:
    """To how many windows a short batch is filled up, so that maps do not depend on which windows come together.

    On a CPU two are enough: the outputs for a window were the same in batches of 2 to 8, and others in a batch of 1. On
    a GPU it is the whole batch, because the library chooses its algorithms by the size.
    """
    on_gpu = device != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available())
    return batch if on_gpu else min(2, batch)


def batch_of(config: Config) -> int:
    """Windows that are predicted together: `infer.batch_size`, or fewer where classes overlap, of which there may be
    many, and their maps would take more than `BATCH_BYTES`.

    >>> from lib.config import load
    >>> names = [f"bone{i}" for i in range(29)]
    >>> options = ["--competition.classes", *names, "--competition.multilabel", "true", "--train.crop"]
    >>> batch_of(load(None, [*options, "1024"])), batch_of(load(None, [*options, "256"])), batch_of(load(None, []))
    (1, 8, 8)
    """
    if not config.competition.multilabel:
        return config.infer.batch_size
    each = config.competition.channels * windows_of(config).size ** 2 * 4
    return max(1, min(config.infer.batch_size, BATCH_BYTES // each))


def source_of(config: Config, image_id: str, path: str) -> Source:
    """An image as the sliding window takes it, with its size and blank share from images.csv where they are known."""
    size, blank = _sizes(Workspace(workspace_of(config)).images).get(image_id, ((1, 1), 0.0))
    roi, tolerance, pixels = roi_of(config), config.preprocess.blank_tolerance, config.competition.pixels
    share, zoom = 1.0 if roi == "none" else 1 - blank, zoom_of(config, image_id)
    return Source(image_id, Path(path), roi, tolerance, pixels, size, share, zoom=zoom)


def roi_of(config: Config) -> str:
    """Where windows are computed: `infer.roi`, or everywhere (`none`) if 01 found too many objects on blank areas."""
    return roi_in_effect(config.infer.roi, Workspace(workspace_of(config)).fingerprint)


def _sizes(images: Path) -> dict[str, tuple[tuple[int, int], float]]:
    """((height, width), blank share) of every image of images.csv; empty where there is no such file."""
    return _sizes_at(images, images.stat().st_mtime_ns) if images.is_file() else {}


@lru_cache(maxsize=2)  # `source_of` calls it for every image
def _sizes_at(images: Path, _changed: int) -> dict[str, tuple[tuple[int, int], float]]:
    table = tables.read(images, tables.IMAGES, "01_preprocess.py")
    columns = (table[name] for name in ("image_id", "height", "width", "blank_share"))
    return {image_id: ((int(h), int(w)), float(blank)) for image_id, h, w, blank in zip(*columns, strict=True)}
