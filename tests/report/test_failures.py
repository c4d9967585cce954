import numpy as np
import pandas as pd
import pytest

from lib.report.failures import class_rows, object_recall, size_rows
from lib.tables import IGNORE


def test_each_class_has_its_scores():
    rows = class_rows(np.array([[[80, 0, 0], [4, 12, 0], [4, 0, 0]]]), ["background", "road", "pond"], False)
    assert [row["share of pixels"] for row in rows] == [0.8, 0.16, 0.04]
    assert rows[1]["IoU"] == 0.75 and rows[1]["recall"] == 0.75 and rows[1]["precision"] == 1
    assert rows[2]["IoU"] == 0 and rows[2]["precision"] is None


def test_objects_are_found_by_size():
    truth, guess = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[2:4, 2:4], truth[10:14, 2:6], truth[20:36, 20:36] = 1, 1, 2
    truth[0, 30:34] = IGNORE
    guess[10:14, 2:5], guess[20:36, 20:36], guess[22:24, 22:30] = 1, 2, 1
    found = object_recall(truth, guess, 9, first=1)
    assert found["pixels"].tolist() == [4 * 9, 16 * 9, 256 * 9] and found["label"].tolist() == [1, 1, 2]
    assert found["hit"].tolist() == pytest.approx([0, 0.75, 1 - 16 / 256])
    rows = size_rows(found)
    assert [(row["objects"], row["count"], row["found"]) for row in rows] == [
        ("small", 1, 0), ("middle", 1, 1), ("large", 1, 1),
    ]  # fmt: skip
    assert size_rows(pd.DataFrame({"pixels": [5], "hit": [1.0]})) == []
    whole = object_recall(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), 1, first=0)
    assert whole["pixels"].tolist() == [64], "without background, index 0 is a class"
