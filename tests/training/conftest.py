import cv2
import numpy as np
import pytest

from lib.data.dataset import TileFile


@pytest.fixture
def tiles(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for i in range(10):
        mask = np.zeros((48, 48), np.uint8)
        cv2.circle(mask, (24, 20 + i), 8 + i, 1, -1)
        image = (rng.integers(0, 80, (48, 48, 3)) + mask[..., None] * 120).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        cv2.imwrite(str(tmp_path / f"{i}_mask.png"), mask * 254)
        files.append(TileFile(tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png", False, 1.0))
    return files
