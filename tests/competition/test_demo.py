import hashlib

import numpy as np
import pandas as pd

from lib.competition import demo, rle
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
    scene = demo.make_scene(1400, 1300, "P2", seed=3)
    assert len(scene.things) > 5
    whole, label = demo.draw(scene, 0, 0, 1400, 1300), demo.draw_label(scene, 0, 0, 1400, 1300)
    assert label.any() and np.ptp(whole) > 100
    assert (demo.draw(scene, 311, 405, 500, 600) == whole[311:811, 405:1005]).all()
    assert (demo.draw_label(scene, 311, 405, 500, 600) == label[311:811, 405:1005]).all()
