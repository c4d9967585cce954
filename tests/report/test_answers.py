"""`python -m lib check`: one sentence for what is wrong, a picture of what is right."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.__main__ import main
from lib.competition import rle
from lib.competition.labels.planes import label_of_array
from lib.report.answers import at_size

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def answered(tiny):
    """(YAML, CSV) whose masks are the bright discs themselves."""
    rows = []
    for name in ("im6", "im7"):
        image = cv2.imread(str(tiny.parent / f"raw/test/{name}.png"))
        rows.append((name, rle.encode(image.min(2) > 140)))
    path = tiny.parent / "mine.csv"
    pd.DataFrame(rows, columns=["id", "predicted"]).to_csv(path, index=False)
    return tiny, path


def test_masks_lie_over_their_images(answered, capsys):
    config, path = answered
    main(["check", str(config), str(path)])
    picture = config.parent / "work/report/check_mine.jpg"
    out = capsys.readouterr().out
    assert "2 of 2 images hold an object" in out and str(picture) in out
    pixels = cv2.imread(str(picture)).astype(int)
    image = cv2.imread(str(config.parent / "raw/test/im6.png"))
    height, width = image.shape[:2]
    left, right = (pixels[16 : 16 + height, x : x + width] for x in (0, width))
    assert np.abs(left - image).mean() < 20
    painted = np.abs(right - left).max(2) > 30
    disc = image.min(2) > 140
    assert painted[disc].mean() > 0.95 and painted[~disc].mean() < 0.05


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        (["--competition.submission.order", "row"], ""),  # sound in form: only the picture shows it
        (
            ["--competition.submission.max_mb", "0.0001"],
            " MB; the competition takes at most 0.0001 (competition.submission.max_mb)",
        ),
        (["--competition.submission.id_template", "{id}.png"], "competition.submission.id_template, {id}.png"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(answered, flag, what):
    config, path = answered
    command = [sys.executable, "-m", "lib", "check", str(config), str(path), *flag]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    picture = config.parent / "work/report/check_mine.jpg"
    if not what:
        assert done.returncode == 0 and picture.is_file()
        return
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not picture.exists()
    assert done.stderr.startswith("error: ") and what in done.stderr


@pytest.mark.parametrize("size", [(70, 90), (2000, 1500), (13, 11)])
def test_a_at_size_shows_the_same_places(size):
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2, size[1] // 3 :] = 3
    small = at_size(label_of_array(labels), size, (60, 45))
    assert small.shape == (60, 45) and set(np.unique(small)) == {0, 3}
    assert (small == 3).mean() == pytest.approx((labels == 3).mean(), abs=0.04)
    assert (small[:27, 18:] == 3).all() and (small[33:] == 0).all() and (small[:, :12] == 0).all()
