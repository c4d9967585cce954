import cv2
import numpy as np
import pandas as pd
import pytest

from lib.competition import rle
from lib.competition.dataset import Competition
from lib.competition.scoring import score_submission
from lib.config.competition import Competition as Settings
from lib.errors import UserError


@pytest.fixture
def quadrants(tmp_path):
    """(competition, truth 4 x 6): a test image whose left half is `road`, right half `tree`; no background."""
    truth = np.zeros((4, 6), np.uint8)
    truth[:, 3:] = 1
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        cv2.imwrite(str(tmp_path / split / f"{split}.png"), np.full((4, 6, 3), 9, np.uint8))
    write(tmp_path / "answers.csv", truth)
    write(tmp_path / "sample_submission.csv", truth * 0 + 9)
    options = {"class_column": "class", "rle_column": "predicted"}
    settings = Settings(
        root=str(tmp_path), classes=["road", "tree"], background=False, metric="mean_iou",
        labels=options, submission=options, answers="answers.csv",
    )  # fmt: skip
    return Competition(settings), truth


def write(path, labels):
    rows = [("test", name, rle.encode(labels == i)) for i, name in enumerate(("road", "tree"))]
    pd.DataFrame(rows, columns=["id", "class", "predicted"]).to_csv(path, index=False)


def test_a_pixel_that_got_no_class_is_a_miss(quadrants):
    competition, truth = quadrants
    path = competition.root / "out.csv"
    write(path, truth)
    assert score_submission(competition, path) == 1
    guess = truth.copy()
    guess[2:, :3] = 9  # half of the road is left out
    write(path, guess)
    assert score_submission(competition, path) == pytest.approx((6 / 12 + 1) / 2)


def test_without_answers_it_says_where_the_score_is(quadrants):
    competition, _ = quadrants
    competition.settings = competition.settings.model_copy(update={"answers": ""})
    with pytest.raises(UserError, match="are not known here"):
        score_submission(competition, competition.root / "out.csv")
