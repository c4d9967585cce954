from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from lib.competition.dataset import Competition
from lib.competition.labels.common import Label
from lib.config import load
from lib.config.preprocess import Preprocess
from lib.data.preprocess.cut_tiles import MIN_BAND_TILES, bands_of, cut
from lib.data.preprocess.pick_images import has_object, pick_images
from lib.data.preprocess.survey import Survey
from lib.data.preprocess.tile_labels import label_shares, nearest_label, stored_label, vanished_objects
from lib.data.preprocess.tiling import LabeledImage, Tile, candidate_tiles, keep_tiles
from lib.data.tile_files import read_image, read_planes, write_tile
from lib.imaging.content import content_map
from lib.imaging.reader import open_image
from lib.imaging.roi import Regions
from lib.tables import foreground_pixels


def whole(mask):
    return Label(lambda y, x, h, w: mask[y : y + h, x : x + w])


def watched(mask):
    """A label, and the pixels of each of its reads."""
    pixels: list[int] = []
    return Label(lambda y, x, h, w: (pixels.append(h * w), mask[y : y + h, x : x + w])[1]), pixels


@dataclass
class Cut:
    row: dict
    image: np.ndarray
    mask: np.ndarray


def tiles(tmp_path, shape, config):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
    mask = (rng.random(shape) < 0.1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    names = ["background", "disc"]
    with open_image(tmp_path / "a.png") as reader:
        labeled = LabeledImage("a", "competition", reader, whole(mask), content_map(reader), names)
        found = candidate_tiles(labeled, Regions(None), config)
        cuts = [Cut(tile.row, *cut(tile, reader, whole(mask), 2, True, config.tile_size)) for tile in found]
    return pixels, mask, cuts


def test_foundare_cuts_and_count_their_classes(tmp_path):
    pixels, mask, cuts = tiles(tmp_path, (150, 200), Preprocess(tile_size=64, stride=48))
    assert len(cuts) == 3 * 4
    for tile in cuts:
        y, x = tile.row["y"], tile.row["x"]
        here = np.s_[y : y + 64, x : x + 64]
        assert (tile.image == pixels[here]).all() and (tile.mask == mask[here] * 254).all()
        assert tile.row["px_disc"] == mask[here].sum() and tile.row["px_background"] == 64 * 64 - mask[here].sum()


def test_small_images_are_mirrored_and_their_rim_is_ignored(tmp_path):
    _, mask, (cut,) = tiles(tmp_path, (40, 50), Preprocess(tile_size=64))
    assert cut.image.shape == (64, 64, 3) and (cut.mask[:40, :50] == mask * 254).all()
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


def test_what_counts_as_object_and_which_contrasts_stay():
    rows = [{"px_background": 9, "px_disc": n, "px_ignore": 99, "contrast": 0.0} for n in (0, 4, 5, 6)]
    assert [foreground_pixels(row) for row in rows] == [0, 4, 5, 6]
    config = Preprocess(background_keep=0, min_object_pixels=5)
    assert keep_tiles(rows, config, background=True, seed=0) == [2, 3]
    order = np.random.default_rng(0).permutation(100)
    rows = [{"px_background": 9, "px_disc": 0, "px_ignore": 0, "contrast": float(c)} for c in order]
    kept = keep_tiles(rows, Preprocess(background_keep=0.1), background=True, seed=2)
    assert sorted(order[kept] // 10) == list(range(10)) and kept == sorted(kept)


def survey_of(folder, mask, regions, config, names=("background", "disc")):
    """Rows of tiles.csv, and sizes, of an image whose label is `mask`; its content is the same everywhere."""
    cv2.imwrite(str(folder / "a.png"), np.zeros((*mask.shape, 3), np.uint8))
    content = SimpleNamespace(blank_share=lambda *box: 0.123456, contrast=lambda *box: 7.128)
    with open_image(folder / "a.png") as reader:
        labeled = LabeledImage("a", "web", reader, whole(mask), content, list(names))
        found = candidate_tiles(labeled, regions, config)
    return [tile.row for tile in found], [tile.size for tile in found]


def test_of_ground_that_counts_as_blank_foundwith_object_are_kept_unless_boxes_say_where_to_look(tmp_path):
    mask = np.zeros((64, 192), np.uint8)
    mask[3, 3], mask[:, 64:] = 1, 255
    for boxes, kept in ((None, [0, 128]), ([(0, 128, 64, 64)], [128])):
        regions = SimpleNamespace(boxes=boxes, keep=lambda y, x, h, w: x == 128)
        rows, sizes = survey_of(tmp_path, mask, regions, Preprocess(tile_size=64))
        assert [row["x"] for row in rows] == kept and sizes == [(64, 64)] * len(kept)
    first, second = survey_of(tmp_path, mask, Regions(None), Preprocess(tile_size=64))[0][::2]
    assert first["tile_id"] == "a_y0_x0" and (first["image_id"], first["source"]) == ("a", "web")
    assert (first["px_background"], first["px_disc"], first["px_ignore"]) == (4095, 1, 0)
    assert (second["px_background"], second["px_disc"], second["px_ignore"]) == (0, 0, 4096)
    assert (first["blank_share"], first["contrast"]) == (0.1235, 7.13)


@pytest.mark.parametrize(("pixels", "counted"), [(1, 1), (8, 2), (9, 3)])
def test_counts_of_a_shrunken_tile_are_in_its_own_pixels_and_a_thin_object_counts(tmp_path, pixels, counted):
    mask = np.zeros((128, 100), np.uint8)
    mask[0, :pixels] = 1
    (row,), (size,) = survey_of(tmp_path, mask, Regions(None), Preprocess(tile_size=64, scale=0.5))
    assert row["px_disc"] == counted and size == (64, 50) and (row["height"], row["width"]) == (128, 100)
    assert row["px_ignore"] == 64 * 14, "what padding adds"


def test_boxes_that_begin_at_one_place_have_names_of_their_own(tmp_path):
    boxes = [(0, 0, 20, 30), (0, 0, 40, 30)]
    regions, config = SimpleNamespace(boxes=boxes, keep=None), Preprocess(tile_size=60, mode="resize")
    rows, sizes = survey_of(tmp_path, np.zeros((50, 60), np.uint8), regions, config)
    assert [row["tile_id"] for row in rows] == ["a_y0_x0_h20_w30", "a_y0_x0_h40_w30"]
    assert sizes == [(40, 60), (60, 45)]
    (row,), _ = survey_of(
        tmp_path, np.zeros((50, 60), np.uint8), Regions(None), Preprocess(tile_size=60, mode="resize")
    )
    assert row["tile_id"] == "a_y0_x0" and (row["height"], row["width"]) == (50, 60)


def test_objects_that_vanish_when_shrunk_are_counted(monkeypatch):
    mask = np.zeros((100, 100), np.uint8)
    mask[10:40, 10:40] = 1
    mask[71, 71] = 1  # a single pixel
    assert vanished_objects(whole(mask), 100, 100, (100, 100)) == (2, 0)
    assert vanished_objects(whole(mask), 100, 100, (20, 20)) == (2, 1)
    mask[80:90] = 255  # ignored: no object
    assert vanished_objects(whole(mask), 100, 100, (100, 100)) == (2, 0)
    # Every other row and column, the odd ones, is read.
    monkeypatch.setattr("lib.data.preprocess.tile_labels.OBJECT_MAP_SIDE", 50)
    assert vanished_objects(whole(mask), 100, 100, (50, 50)) == (2, 0)
    mask[70, 70], mask[71, 71] = 1, 0
    assert vanished_objects(whole(mask), 100, 100, (50, 50)) == (1, 0)
    mask[70, 70], mask[71, 70], mask[70, 71] = 0, 1, 1
    assert vanished_objects(whole(mask), 100, 100, (50, 50)) == (1, 0)


@pytest.mark.parametrize("size", [(75, 131), (30, 131), (10, 40), (74, 20)])
def test_labels_shrink_as_opencvs_exact_nearest_neighbour_in_bands_too(size, monkeypatch):
    mask = np.random.default_rng(1).integers(0, 7, (75, 131)).astype(np.uint8)
    expected = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    assert (nearest_label(whole(mask), (0, 0, 75, 131), size) == expected).all()
    monkeypatch.setattr("lib.data.preprocess.tile_labels.LABEL_READ_PIXELS", 131 * 20)
    label, pixels = watched(mask)
    assert (nearest_label(label, (0, 0, 75, 131), size) == expected).all() and max(pixels) <= 131 * 20
    inner = nearest_label(whole(mask), (5, 7, 60, 100), (20, 50))
    assert (inner == cv2.resize(mask[5:65, 7:107], (50, 20), interpolation=cv2.INTER_NEAREST_EXACT)).all()


def test_contrast_comes_from_the_thumbnail_and_sorts_like_the_pixels(tmp_path):
    pixels = np.full((256, 256, 3), 128, np.uint8)
    pixels[:, 128:] = np.random.default_rng(0).integers(0, 255, (256, 128, 3))
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    with open_image(tmp_path / "a.png") as reader:
        content = content_map(reader)
    assert content.contrast(0, 0, 128, 128) == 0 and content.contrast(0, 128, 128, 128) > 20


def test_bands_are_whole_rows_that_together_hold_every_tile_once():
    found = [Tile({"y": y, "x": x, "height": 9, "width": 9}, (9, 9)) for y in range(0, 90, 9) for x in range(0, 63, 9)]
    bands = bands_of(Survey(None, {}, found, windowed=True))
    assert sum(bands, []) == found and len(bands) == 2 and all(len(band) >= MIN_BAND_TILES for band in bands)
    assert not {s.row["y"] for s in bands[0]} & {s.row["y"] for s in bands[1]}
    assert bands_of(Survey(None, {}, found, windowed=False)) == [found]


def test_an_image_shrinks_the_same_whether_it_fits_a_band_or_not(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (240, 200, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), photometric="rgb")
    with open_image(tmp_path / "a.tif") as reader:
        whole = reader.shrunk(60, 50, 0, 0, 240, 200)
        assert (whole == cv2.resize(pixels, (50, 60), interpolation=cv2.INTER_AREA)).all()
        monkeypatch.setattr("lib.imaging.readers.base.BAND_BYTES", 200 * 3 * 40)
        assert (reader.shrunk(60, 50, 0, 0, 240, 200) == whole).all()


def test_a_shrunken_label_holds_areas_and_every_thin_object_counts(monkeypatch):
    mask = np.zeros((64, 96), np.uint8)
    mask[10, 20:60] = 1  # one pixel wide
    mask[40:64] = 255
    shares = label_shares(whole(mask), (0, 0, 64, 96), (16, 24), 2)
    assert np.allclose(shares.sum(0), 1) and shares[1].sum() == pytest.approx(40 / 16)
    assert shares[1, 2, 5:15] == pytest.approx(0.25)
    assert stored_label(shares, True)[2, 5] == round(254 / 4) and (stored_label(shares, True)[10:] == 255).all()
    monkeypatch.setattr("lib.data.preprocess.tile_labels.LABEL_READ_PIXELS", 96 * 12)
    label, pixels = watched(mask)
    assert (label_shares(label, (0, 0, 64, 96), (16, 24), 2) == shares).all() and max(pixels) <= 96 * 12


def test_several_classes_store_the_index_of_the_largest_share():
    mask = np.array([[0, 1, 2, 2], [1, 1, 2, 0]], np.uint8)
    assert stored_label(label_shares(whole(mask), (0, 0, 2, 4), (1, 2), 3), False).tolist() == [[1, 2]]
    assert (stored_label(label_shares(whole(mask), (0, 0, 2, 4), (2, 4), 3), False) == mask).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_two_classes_that_fill_the_image_are_no_background_and_object(tmp_path, scale):
    mask = np.repeat(np.array([[0, 1], [1, 255]], np.uint8), 2 * scale, 0).repeat(2 * scale, 1)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4 * scale, 4 * scale, 3), np.uint8))
    tile = Tile({"y": 0, "x": 0, "height": 4 * scale, "width": 4 * scale}, (4, 4))
    with open_image(tmp_path / "a.png") as reader:
        assert set(np.unique(cut(tile, reader, whole(mask), 2, False, 4)[1])) == {0, 1, 255}
        assert set(np.unique(cut(tile, reader, whole(mask), 2, True, 4)[1])) == {0, 254, 255}


def test_a_sliver_of_the_data_has_objects_where_a_few_looks_find_some(tiny):
    raw = tiny.parent / "raw"
    table = pd.read_csv(raw / "train.csv", dtype=str)
    table.loc[table["id"].isin(["im0", "im5"]), "encoding"] = ""  # the first and the last one
    table.to_csv(raw / "train.csv", index=False)
    competition = Competition(load(tiny).competition)
    picked = pick_images(competition, 2)
    train = [image for image in picked if image.split == "train"]
    assert [has_object(competition, image) for image in train] == [True, True] and len(picked) == 4
    table.assign(encoding="").to_csv(raw / "train.csv", index=False)
    picked = pick_images(Competition(load(tiny).competition), 2)
    assert [image.image_id for image in picked] == ["im0", "im5", "im6", "im7"]


def test_one_tile_of_background_is_kept_as_often_as_is_asked():
    row = {"px_background": 9, "px_disc": 0, "px_ignore": 0, "contrast": 1.0}
    kept = [len(keep_tiles([row], Preprocess(background_keep=0.3), background=True, seed=seed)) for seed in range(300)]
    assert 60 < sum(kept) < 120


@pytest.mark.parametrize("image_format", ["bmp", "png"])
def test_a_lossless_format_stores_what_was_cut(tmp_path, image_format):
    pixels = np.random.default_rng(0).integers(0, 256, (33, 21, 3)).astype(np.uint8)
    (tmp_path / "tiles").mkdir()
    row = write_tile({"tile_id": "a"}, pixels, pixels[:, :, 0], tmp_path / "tiles", image_format)
    assert row["image_path"] == f"tiles/a.{image_format}"
    assert (read_image(tmp_path / row["image_path"]) == pixels).all()
    assert (read_planes(tmp_path / row["mask_path"], 1)[0] == pixels[:, :, 0]).all()
