import cv2
import numpy as np

from lib.config.preprocess import Preprocess
from lib.data.tiling import cut_tiles, keep_tiles, vanished_objects
from lib.imaging.reader import open_image
from lib.imaging.roi import Regions


class Whole:
    def __init__(self, mask):
        self.mask = mask

    def read(self, y, x, h, w):
        return self.mask[y : y + h, x : x + w]


def tiles(tmp_path, shape, config):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
    mask = (rng.random(shape) < 0.1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    with open_image(tmp_path / "a.png") as reader:
        cuts = list(cut_tiles("a", reader, Whole(mask), Regions(None), ["background", "disc"], config))
    return pixels, mask, cuts


def test_tiles_are_cuts_and_count_their_classes(tmp_path):
    pixels, mask, cuts = tiles(tmp_path, (150, 200), Preprocess(tile_size=64, stride=48))
    assert len(cuts) == 3 * 4
    for cut in cuts:
        y, x = cut.row["y"], cut.row["x"]
        assert (cut.image == pixels[y : y + 64, x : x + 64]).all() and (cut.mask == mask[y : y + 64, x : x + 64]).all()
        assert cut.row["px_disc"] == cut.mask.sum() and cut.row["px_background"] == 64 * 64 - cut.mask.sum()


def test_small_images_are_mirrored_and_their_rim_is_ignored(tmp_path):
    _, mask, (cut,) = tiles(tmp_path, (40, 50), Preprocess(tile_size=64))
    assert cut.image.shape == (64, 64, 3) and (cut.mask[:40, :50] == mask).all()
    assert cut.row["px_ignore"] == 64 * 64 - 40 * 50


def test_scale_shows_more_ground(tmp_path):
    pixels, _, cuts = tiles(tmp_path, (256, 256), Preprocess(tile_size=64, scale=0.5))
    assert [(c.row["y"], c.row["x"], c.row["height"]) for c in cuts] == [
        (0, 0, 128),
        (0, 128, 128),
        (128, 0, 128),
        (128, 128, 128),
    ]
    assert (cuts[0].image == cv2.resize(pixels[:128, :128], (64, 64), interpolation=cv2.INTER_AREA)).all()


def test_resize_mode_makes_one_letterboxed_tile(tmp_path):
    _, _, (cut,) = tiles(tmp_path, (100, 200), Preprocess(tile_size=64, mode="resize"))
    assert (cut.row["height"], cut.row["width"]) == (100, 200)
    assert (cut.mask[32:] == 255).all() and not (cut.mask[:32] == 255).any()


def test_all_objects_and_a_share_of_every_kind_of_background_are_kept():
    rows = [{"px_background": 9, "px_disc": int(i < 5), "px_ignore": 0, "contrast": float(i)} for i in range(105)]
    kept = keep_tiles(rows, Preprocess(background_keep=0.2), background=True, seed=1)
    assert set(range(5)) <= set(kept) and len(kept) == 25
    contrast = [i for i in kept if i >= 5]
    assert all(any(low <= c < low + 25 for c in contrast) for low in (5, 30, 55, 80))
    assert keep_tiles(rows, Preprocess(background_keep=0.2), background=True, seed=1) == kept
    assert len(keep_tiles(rows, Preprocess(), background=False, seed=1)) == 105


def test_objects_that_vanish_when_shrunk_are_counted():
    mask = np.zeros((100, 100), np.uint8)
    mask[10:40, 10:40] = 1
    mask[71, 71] = 1  # a single pixel
    assert vanished_objects(mask, 100, 100) == (2, 0)
    assert vanished_objects(mask, 20, 20) == (2, 1)
