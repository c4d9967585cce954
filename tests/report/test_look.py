"""`look`: one picture of an image, by members that never saw it."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.__main__ import main
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.inference.windows import Block
from lib.oof.codes import HALF
from lib.report.look import small_maps

ROOT = Path(__file__).resolve().parents[2]


def test_a_training_image_meets_its_own_folds_members_and_a_test_image_all_of_them(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), "--train.seeds", "42", "43"])
    capsys.readouterr()
    fold = pd.read_csv(tiny.parent / "work/folds.csv", comment="#").set_index("image_id")["fold"]["im2"]
    main(["look", str(tiny), "im2"])
    out = capsys.readouterr().out
    assert f"base/fold{fold}_seed42 swa" in out and f"base/fold{fold}_seed43 swa" in out and "decision" in out
    assert f"base/fold{1 - fold}" not in out
    known = cv2.imread(str(tiny.parent / "work/look/im2.jpg"))
    main(["look", str(tiny), "im7"])
    assert "score" not in capsys.readouterr().out, "nobody knows the truth of a test image"
    unknown = cv2.imread(str(tiny.parent / "work/look/im7.jpg"))
    assert known.shape[1] > known.shape[0] and unknown.shape[0] > 0  # 7 panels in two rows: image, decision, 5 maps
    with pytest.raises(UserError, match="'im9'"):
        main(["look", str(tiny), "im9"])
    with pytest.raises(UserError, match="IMAGE_ID"):
        main(["look", str(tiny)])


def test_maps_are_put_together_from_blocks_of_any_shape():
    rng = np.random.default_rng(0)
    probs = rng.random((2, 1, 2000, 1500), np.float32)
    blocks = [
        Block("a", y, x, probs[:, :, y : y + 333, x : x + 701], 2000, 1500)
        for y in range(0, 2000, 333)
        for x in range(0, 1500, 701)
    ]
    maps, codes = small_maps(blocks, Decision((HALF,)))
    assert maps.shape == (2, 1, 667, 500) and np.array_equal(codes, maps[-1])
    assert np.array_equal(maps, (probs[..., ::3, ::3] * 255 + 0.5).astype(np.uint8))
