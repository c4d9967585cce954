import hashlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lib.competition import demo, demo_slides, rle
from lib.imaging.reader import open_image


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_demo_is_deterministic_complete_and_not_degenerate(tmp_path):
    for name in ("one", "two"):
        demo.make_demo(tmp_path / name, per_patient=1, sides=(1500, 1700))
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    root = tmp_path / "one"
    labels = pd.read_csv(root / "train.csv", dtype=str, keep_default_na=False)
    assert len(labels) == 6 and labels["encoding"].str.len().gt(0).sum() >= 4
    meta = pd.read_csv(root / "metadata.csv").set_index("id")
    for row in labels.itertuples():
        with open_image(root / "train" / f"{row.id}.tiff") as image:
            assert (image.height, image.width) == (meta.loc[row.id, "height"], meta.loc[row.id, "width"])
            rle.parse(row.encoding, image.height * image.width, row.id)
    assert set(pd.read_csv(root / "sample_submission.csv")["id"]) == set(pd.read_csv(root / "test_labels.csv")["id"])


def test_a_window_is_the_cut_of_the_whole():
    scene = demo_slides.make_scene(1400, 1300, "P2", seed=3)
    assert len(scene.structures) > 5
    whole, label = demo_slides.draw(scene, 0, 0, 1400, 1300), demo_slides.draw_label(scene, 0, 0, 1400, 1300)
    assert label.any() and np.ptp(whole) > 100
    assert (demo_slides.draw(scene, 311, 405, 500, 600) == whole[311:811, 405:1005]).all()
    assert (demo_slides.draw_label(scene, 311, 405, 500, 600) == label[311:811, 405:1005]).all()


SLIDE = """
import resource, sys
from pathlib import Path
from lib.competition import demo, demo_slides
text = demo.write_slide(Path(sys.argv[1]), demo_slides.make_scene(int(sys.argv[2]), 3000, "P1", seed=1))
print(len(text), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_slide_of_any_height_is_written_in_the_same_memory(tmp_path):
    peaks = {}
    for height in (3000, 30_000):
        command = [sys.executable, "-c", SLIDE, str(tmp_path / f"{height}.tiff"), str(height)]
        length, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        assert length > 1000
        peaks[height] = peak * 1024
    with open_image(tmp_path / "30000.tiff") as image:
        assert (image.height, image.width) == (30_000, 3000)
        assert np.ptp(image.read(25_000, 0, 3000, 3000)) > 100
    # 27,000 more rows are 243 MB of pixels; what grows is the list of runs.
    assert peaks[30_000] - peaks[3000] < 60e6, peaks
