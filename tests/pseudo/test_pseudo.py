import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lib.config.pseudo import Pseudo
from lib.data.dataset import soft_target
from lib.inference.predictor import Band
from lib.pseudo.cut import rows_of_tiles
from lib.pseudo.select import select, to_planes


@given(st.integers(1, 70), st.integers(8, 40), st.lists(st.integers(1, 25), min_size=1))
def test_rows_of_tiles_are_cuts_of_the_whole_map(height, tile, cuts):
    probs = np.random.default_rng(height).random((2, 1, height, 5)).astype(np.float32)
    bands, y = [], 0
    while y < height:
        step = min(cuts[y % len(cuts)], height - y)
        bands.append(Band("a", y, probs[:, :, y : y + step], height, 5))
        y += step
    rows = list(rows_of_tiles(bands, tile))
    assert {p for _, y, piece in rows for p in range(y, y + piece.shape[2])} == set(range(height))
    assert all((piece == probs[:, :, y : y + tile]).all() for _, y, piece in rows)


def test_only_confident_tiles_the_surest_first_and_a_share_of_the_empty_ones():
    rows = [{"sure_share": i / 100, "has_object": i % 2 == 0} for i in range(100)]
    kept = select(rows, Pseudo(min_sure=0.6, background_keep=0.5, max_tiles=0), background=True, seed=0)
    assert min(kept) >= 60
    assert sum(rows[i]["has_object"] for i in kept) == 20 and sum(not rows[i]["has_object"] for i in kept) == 10
    assert select(rows, Pseudo(min_sure=0.6, max_tiles=5), background=False, seed=0) == [95, 96, 97, 98, 99]


def test_soft_labels_survive_storage_and_hard_ones_are_rounded():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([1, 1, 1], (6, 7)).transpose(2, 0, 1).astype(np.float32)
    target, valid = soft_target(np.split(to_planes(probs, hard=False), 3))
    assert np.abs(target - probs).max() < 0.01 and valid.all() and np.allclose(target.sum(0), 1)
    hard, _ = soft_target(np.split(to_planes(probs, hard=True), 3))
    assert (hard.argmax(0) == probs.argmax(0)).all() and set(np.unique(hard)) == {0.0, 1.0}
