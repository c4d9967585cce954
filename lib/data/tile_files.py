"""Files of tiles: an image, and a label as class indices, class shares, or planes of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.errors import UserError
from lib.files import hash_of
from lib.imaging.save import save_image

ARRAY_SUFFIX = ".npy"


def write_tile(row: dict, image: np.ndarray, mask: np.ndarray, folder: Path, image_format: str) -> dict:
    """Store a tile and its label; returns its row with the paths, relative to `folder`'s parent, and a hash."""
    name = row["tile_id"]
    image_path, mask_path = folder / f"{name}.{image_format}", folder / f"{name}_mask.png"
    write_image(image_path, image)
    save_image(mask_path, mask)
    content = hash_of(image.shape, image, mask)
    return {**row, "image_path": f"tiles/{image_path.name}", "mask_path": f"tiles/{mask_path.name}", "content": content}


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Store a tile's image as the suffix says: RGB (H, W, 3) uint8 as lossless PNG or BMP, or as JPEG at quality 95;
    any channels (H, W, C) of uint8 or uint16 as an array of NumPy.

    OpenCV's PNG writer is about twice as fast as zlib's default. Its files are a tenth to a quarter larger:
    benchmarks/preprocess.py.
    """
    if path.suffix == ARRAY_SUFFIX:
        np.save(path, pixels)
    else:
        save_image(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def read_image(path: str | Path) -> np.ndarray:
    """What `write_image` stored. Raises UserError where the file cannot be decoded."""
    if Path(path).suffix == ARRAY_SUFFIX:
        return _read_array(path)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path} cannot be read as an image; run {made_by(Path(path))} again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_array(path: str | Path) -> np.ndarray:
    try:
        pixels = np.load(path)
    except (OSError, ValueError, EOFError):
        pixels = None
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} cannot be read as an image; run {made_by(Path(path))} again")
    return pixels


def write_planes(path: Path, planes: Sequence[np.ndarray]) -> None:
    """Store K planes (H, W) uint8 as one grey PNG (K * H, W), one plane below the other."""
    save_image(path, np.concatenate(planes), [cv2.IMWRITE_PNG_COMPRESSION, 3])


def read_planes(path: Path, count: int) -> list[np.ndarray]:
    """The `count` planes (H, W) uint8 of a label. Raises UserError where the file cannot be decoded.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "label.png"
    >>> write_planes(path, np.array([[[1, 2]], [[3, 4]]], np.uint8))
    >>> [plane.tolist() for plane in read_planes(path, 2)]
    [[[1, 2]], [[3, 4]]]
    """
    stack = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if stack is None:
        raise UserError(f"{path} cannot be read as a label; run {made_by(Path(path))} again")
    if len(stack) % count:
        raise UserError(f"{path} has {len(stack)} rows, expected {count} planes; run {made_by(Path(path))} again")
    return np.split(stack, count)


def made_by(tile: Path) -> str:
    """The command that makes a stored tile.

    >>> made_by(Path("work/a/pseudo/round2/tiles/x.png")), made_by(Path("work/a/tiles/x.png"))
    ('04_pseudo_label.py --train.round 2', '01_preprocess.py')
    """
    home = tile.parent.parent.name
    if home.startswith("round"):
        return f"04_pseudo_label.py --train.round {home.removeprefix('round')}"
    return "04_pseudo_label.py --clean" if home == "clean" else "01_preprocess.py"
