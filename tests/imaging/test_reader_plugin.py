"""The reader of docs/how-to/extend.md: a new format gets channels, scaling, nodata and red, green and blue."""

import re
from pathlib import Path

import numpy as np
import pytest

from lib import plugins
from lib.competition.image_files import image_files
from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.plugins import load_plugins

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A file of the new format, and its values; the reader is gone afterwards."""
    # Another test may have loaded the documents' readers.
    readers = {suffix: reader for suffix, reader in plugins._REGISTRY["reader"].items() if suffix != ".raw"}
    monkeypatch.setitem(plugins._REGISTRY, "reader", readers)
    monkeypatch.setenv("SEGMENTATION_PLUGINS", "")
    text = (ROOT / "docs/how-to/extend.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if '"reader"' in block)
    (tmp_path / "mine.py").write_text(code)
    values = np.random.default_rng(1).integers(0, 4096, (300, 512)).astype("<u2")
    (tmp_path / "a.raw").write_bytes(values.tobytes())
    with pytest.raises(UserError, match="matches no image"):
        image_files(tmp_path, "*", "train_images")
    load_plugins([str(tmp_path / "mine.py")])
    return tmp_path / "a.raw", values


def test_a_format_of_a_plugin(raw):
    path, values = raw
    assert image_files(path.parent, "*", "train_images") == [path]
    with open_image(path, Pixels(channels=[{"name": "x", "band": 0, "range": [0, 4095]}])) as image:
        assert (image.height, image.width, image.windowed) == (300, 512, True)
        seen = image.read(9, 8, 50, 60)[..., 0].astype(int)
        assert np.abs(seen - values[9:59, 8:68] * (65535 / 4095)).max() <= 1
    with open_image(path, Pixels(range=(0, 4095))) as image:
        assert np.abs(image.read(9, 8, 50, 60)[..., 2] - values[9:59, 8:68] * (255 / 4095)).max() <= 1
    with pytest.raises(UserError, match="a.raw has uint16 pixels; set competition.pixels.range"):
        open_image(path)
