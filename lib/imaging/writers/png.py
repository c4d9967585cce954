"""A plane of 8 bits as a PNG, compressed while it is read from disk."""

from __future__ import annotations

from pathlib import Path

from lib.imaging.readers.base import optional
from lib.imaging.writers.spool import Spool


def write_png(path: Path, spool: Spool) -> None:
    """Write the first plane as a grey PNG. Raises UserError where pyvips is missing."""
    vips = optional("pyvips", "'pyvips[binary]'", path)
    image = vips.Image.new_from_memory(spool.mapped(0), spool.width, spool.height, 1, "uchar")
    image.copy(interpretation="b-w").pngsave(str(path))
