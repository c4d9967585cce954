from types import SimpleNamespace

import pandas as pd
import pytest

from lib.config import load
from lib.preflight.forecast import Measured, fold_counts, predict_cost

MEASURED = Measured(
    start_seconds=5, cut_seconds=1e-7, sample_seconds=0.1, window_seconds=0.2, tiles=1e-5, tile_bytes=1e6,
    member_bytes=1e8, network_bytes=4e7, blank_share=0.5, peak_gib=1.0,
)  # fmt: skip
SIZES = {"train": [(1000, 2000)] * 4, "test": [(1000, 2000)] * 2, "unlabeled": [], "external": []}


def cost(*flags, folds=2, validated=1.0):
    plain = [
        "--preprocess.tile_size",
        "512",
        "--infer.overlap",
        "0",
        "--train.evaluations",
        "0",
        "--pseudo.rounds",
        "0",
    ]
    return predict_cost(load(None, [*plain, *flags]), SIZES, MEASURED, folds, validated)


def test_every_member_is_trained_by_the_clock_or_by_epochs():
    assert cost("--train.member_limit", "60", "--train.seeds", "1", "2", "3").seconds["training"] == 6 * 60
    # 4 images of 2 Mpx give 80 tiles, of which four fifths are seen in an epoch.
    by_epochs = cost("--train.epochs", "2").seconds["training"]
    assert by_epochs == pytest.approx(2 * 2 * 80 * 0.8 * 0.1)
    rounds = cost("--train.member_limit", "60", "--pseudo.rounds", "2")
    assert rounds.members == 2 * 3 and rounds.seconds["training"] == 6 * 60


def test_a_limit_for_the_call_holds_for_training_and_scoring_together():
    limited = cost("--train.time_limit", "10m", "--pseudo.rounds", "1").seconds
    assert limited["training"] + limited["scoring"] == pytest.approx(2 * 600)


def test_members_of_all_images_are_trained_and_answer_but_are_not_scored():
    flags = ["--train.member_limit", "60", "--infer.roi", "none"]
    each, final = cost(*flags), cost(*flags, "--infer.folds", "all")
    assert (final.members, final.seconds["training"]) == (3, 3 * 60)
    assert final.seconds["scoring"] == each.seconds["scoring"]
    assert final.seconds["inference"] == pytest.approx((4 + 2) * 8 * 0.2), "one network for two"
    every_round = cost(*flags, "--pseudo.rounds", "1", "--train.folds", "0", "1", "all", "--infer.folds", "all")
    assert every_round.members == 2 * (2 + 1)
    limited, more = (cost("--train.time_limit", "10m", *f).seconds["training"] for f in ([], ["--infer.folds", "all"]))
    assert more - limited == 300, "as long as one of two folds"
    competition = SimpleNamespace(metadata=pd.DataFrame())
    for folds, found in (("[0, 1, all]", (2, 0.4)), ("[all]", (0, 0.0)), ("[]", (5, 1.0))):
        assert fold_counts(load(None, ["--folds.k", "5", "--train.folds", folds]), competition) == found


def test_windows_that_are_blank_cost_nothing_and_views_cost_each():
    # 2 x 4 windows an image: 4 images by their fold's member, 2 by both.
    everywhere = cost("--infer.roi", "none").seconds["inference"]
    assert everywhere == pytest.approx((4 + 2 * 2) * 8 * 0.2)
    assert cost().seconds["inference"] == pytest.approx(everywhere / 2)
    assert cost("--infer.tta", "flips").seconds["inference"] == pytest.approx(4 * everywhere / 2)
    tried = cost("--infer.tta", "auto", "--infer.window", "auto", "--infer.trial_limit", "1m").seconds["inference"]
    assert tried == pytest.approx(everywhere / 2 + 120)


def test_each_box_that_is_shrunk_whole_is_a_window(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("image_id,y,x,height,width\n" + "".join(f"a,{i},0,9,9\n" for i in range(18)))
    flags = ["--preprocess.mode", "resize", "--preprocess.roi", str(table), "--infer.roi", str(table)]
    assert cost(*flags).seconds["inference"] == pytest.approx((4 + 2 * 2) * 3 * 0.2), "three an image"


def test_03_scores_with_the_windows_of_05_and_on_the_way_without_overlap():
    # 1000 x 2000 in windows of 512: 2 x 4, with half of each shared 3 x 7.
    final = cost("--infer.roi", "none", "--infer.overlap", "0.5").seconds["scoring"]
    assert final == pytest.approx(4 * 3 * 7 * 0.2)
    on_the_way = cost("--infer.roi", "none", "--infer.overlap", "0.5", "--train.evaluations", "2").seconds["scoring"]
    assert on_the_way == pytest.approx(final + 3 * 4 * 8 * 0.2), "two on the way, and the end competes"
