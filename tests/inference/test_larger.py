"""Larger than life: images read above their own size, predictions averaged back; a scale for each image."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.competition.dataset import Competition
from lib.competition.image_files import ImageInfo
from lib.competition.labels.common import Label
from lib.competition.metadata import zoom_of
from lib.config import load
from lib.config.preprocess import Preprocess
from lib.data.preprocess.cut_tiles import cut
from lib.data.preprocess.survey import preprocess_of
from lib.data.preprocess.tiling import LabeledImage, candidate_tiles
from lib.errors import UserError
from lib.imaging.content import content_map
from lib.imaging.reader import Scaled, open_image
from lib.imaging.roi import Regions
from lib.inference.networks import ScaleGroup
from lib.inference.sliding_window import count_windows, image_windows, predict_windows
from lib.inference.sources import source_of, windows_of
from lib.inference.windows import Source, Windows
from lib.predict.workload import expected_windows
from lib.preflight.forecast import image_sizes

ROOT = Path(__file__).resolve().parents[2]


class Red:
    """A network that predicts how red a pixel is, and remembers its windows."""

    map_count = 1

    def __init__(self):
        self.seen = []

    def __call__(self, windows):
        self.seen += list(windows)
        return windows[..., :1].transpose(0, 3, 1, 2)[:, None].astype(np.float32) / 255


@pytest.fixture
def picture(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (75, 131, 3)).astype(np.uint8)
    pixels = cv2.GaussianBlur(noise, (0, 0), 1.5)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    return tmp_path / "a.png", pixels


def grown(pixels, scale):
    return cv2.resize(pixels, (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)))  # bilinear


@pytest.mark.parametrize("scale", [1.5, 2, 3, 3.7, 4])
def test_windows_of_an_enlarged_image_fit_together_and_are_opencvs(picture, scale):
    path, pixels = picture
    large = grown(pixels, scale)
    with open_image(path) as reader:
        scaled = Scaled(reader, scale)
        assert (scaled.height, scaled.width) == large.shape[:2]
        for y in range(0, scaled.height, 50):
            for x in range(0, scaled.width, 50):
                h, w = min(50, scaled.height - y), min(50, scaled.width - x)
                assert np.abs(scaled.read(y, x, h, w).astype(int) - large[y : y + h, x : x + w]).max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 3.7])
def test_maps_of_an_enlarged_image_are_averaged_back(picture, scale):
    path, network = picture[0], Red()
    pixels = np.random.default_rng(1).integers(0, 256, (75, 131, 3)).astype(np.uint8)
    cv2.imwrite(str(path), pixels[:, :, ::-1])
    found, windows = np.empty(pixels.shape[:2], np.float32), Windows(64, 0.5, scale, "gaussian", 0.25)
    for block in predict_windows([Source("a", path)], ScaleGroup(windows, network), np.zeros(1)):
        h, w = block.probs.shape[2:]
        found[block.y : block.y + h, block.x : block.x + w] = block.probs[0, 0]
    assert (block.height, block.width) == found.shape and all(seen.shape == (64, 64, 3) for seen in network.seen)
    large = grown(pixels, scale)[..., 0].astype(np.float32) / 255
    expected = cv2.resize(large, pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(found - expected).max() < 0.006
    nearest = cv2.resize(large, pixels.shape[1::-1])
    assert scale == 2 or np.abs(found - nearest).max() > 0.1, "two pixels are no mean of more"


def cuts(path, mask, config):
    label = Label(lambda y, x, h, w: mask[y : y + h, x : x + w])
    with open_image(path) as reader:
        image = LabeledImage("a", "competition", reader, label, content_map(reader), ["background", "disc"])
        for tile in candidate_tiles(image, Regions(None), config):
            yield tile, *cut(tile, reader, label, 2, True, config.tile_size)


def test_enlarged_tiles_hold_the_enlarged_image_and_sharp_labels(picture):
    path, pixels = picture
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(mask, (60, 40), 20, 1, -1)
    large, sharp = grown(pixels, 2), np.repeat(np.repeat(mask, 2, 0), 2, 1) * 254
    tiles = list(cuts(path, mask, Preprocess(tile_size=64, stride=48, scale=2)))
    assert len(tiles) == 3 * 6
    for tile, image, label in tiles:
        y, x = 2 * tile.row["y"], 2 * tile.row["x"]
        assert (tile.row["height"], tile.row["width"]) == (32, 32) and image.shape == (64, 64, 3)
        assert np.abs(image.astype(int) - large[y : y + 64, x : x + 64]).max() <= 1
        assert (label == sharp[y : y + 64, x : x + 64]).all()
        assert tile.row["px_disc"] == (label == 254).sum()


def test_a_small_image_that_is_resized_whole_is_as_it_was(picture):
    path, pixels = picture
    ((_, image, _),) = cuts(path, np.zeros(pixels.shape[:2], np.uint8), Preprocess(tile_size=256, mode="resize"))
    expected = cv2.resize(pixels, (256, round(75 * 256 / 131)), interpolation=cv2.INTER_AREA)
    assert (image[: expected.shape[0]] == expected).all()


MEASURED = ["--preprocess.pixel_size_column", "um", "--preprocess.target_pixel_size", "0.5"]


@pytest.fixture
def measured(tiny):
    root = tiny.parent / "raw"
    rows = "".join(f"im{i},{'north' if i % 3 else 'south'},{0.5 if i % 2 else 0.25}\n" for i in range(8))
    (root / "metadata.csv").write_text(f"id,place,um\n{rows}")
    return tiny, root


def test_every_image_is_read_at_the_scale_of_its_pixels(measured):
    yaml, root = measured
    config = load(yaml, [*MEASURED, "--preprocess.scale", "0.8"])
    assert [zoom_of(config, f"im{i}") for i in range(2)] == [0.5, 1.0]
    infos = [ImageInfo(f"im{i}", "train", "competition", root / f"train/im{i}.png") for i in range(2)]
    assert [preprocess_of(config, info).scale for info in infos] == [0.4, 0.8]
    sources = [source_of(config, info.image_id, str(info.path)) for info in infos]
    assert [source.zoom for source in sources] == [0.5, 1.0]
    windows, network = windows_of(config), Red()
    assert windows.scale == 0.8
    plain = load(yaml, ["--preprocess.scale", "0.8"])
    assert zoom_of(plain, "im0") == 1 and source_of(plain, "im0", "x").zoom == 1
    small = Windows(32, 0, 0.8, "constant", 0)
    counts = []
    for source in sources:
        network = Red()
        blocks = list(predict_windows([source], ScaleGroup(small, network), np.zeros(1)))
        with source.open() as reader:
            assert (blocks[-1].height, blocks[-1].width) == (reader.height, reader.width)
            counts.append((len(network.seen), count_windows(reader.height, reader.width, small.zoomed(source.zoom))))
    assert [a for a, _ in counts] == [b for _, b in counts] and counts[0][0] < counts[1][0]
    assert image_windows(sources, small) == sum(a for a, _ in counts)


def test_images_of_external_sources_have_a_scale_of_their_own(measured):
    more = ["--competition.external", "[{name: im1, root: elsewhere}]"]
    config = load(measured[0], [*MEASURED, *more])
    assert (zoom_of(config, "im1_none"), zoom_of(config, "im1"), zoom_of(config, "im0")) == (1, 1, 0.5)
    with pytest.raises(UserError, match="has no row for image 'im1_none'"):
        zoom_of(load(measured[0], MEASURED), "im1_none")


@pytest.mark.parametrize("roi", ["none", "content"])
def test_forecasts_know_the_scale_of_each_image(measured, roi):
    config, plain = (load(measured[0], [*flags, "--infer.roi", roi]) for flags in (MEASURED, []))
    sizes = {"height": [400, 400], "width": [600, 600], "blank_share": [0.75, 0.75]}
    images = pd.DataFrame({"image_id": ["im0", "im1"], **sizes})
    windows, halved = Windows(64, 0.5, 1.0, "constant", 0), images.assign(height=[200, 400], width=[300, 600])
    found, wanted = expected_windows(images, windows, config), expected_windows(halved, windows, plain)
    assert found == pytest.approx(wanted) and found[0] < found[1]
    assert image_sizes(Competition(config.competition), config)["train"][:2] == [(75, 100), (157, 195)]


def test_a_large_pixel_is_enlarged(measured):
    yaml, root = measured
    config = load(yaml, [*MEASURED[:3], "0.1"])
    assert zoom_of(config, "im1") == 5
    source = source_of(config, "im1", str(root / "train/im1.png"))
    windows = Windows(256, 0, 1.0, "constant", 0)
    *_, block = predict_windows([source], ScaleGroup(windows, Red()), np.zeros(1))
    assert (block.height, block.width) == (157, 195)


def test_pseudo_labels_and_corrected_labels_have_the_scale_of_their_image(measured):
    yaml, root = measured
    clean = ["list_below", "-1", "min_foreground", "0", "relabel_below", "1", "drop_below", "0"]
    clean = [f"--clean.{text}" if text.isidentifier() else text for text in clean]
    stages = ["01_preprocess"], ["02_make_folds"], ["03_train"], ["04_pseudo_label", "--train.round", "1"]
    for stage, *flags in (*stages, ["04_pseudo_label", "--clean", *clean], ["05_infer_ensemble"]):
        script = runpy.run_path(str(ROOT / f"{stage}.py"))
        script["main"]([str(yaml), *MEASURED, *flags])
    work = yaml.parent / "work"
    tiles = pd.read_csv(work / "tiles.csv")
    assert (tiles.loc[tiles["image_id"] == "im0", "height"] == 150).all(), "75 pixels of the other images"
    assert (tiles.loc[tiles["image_id"] == "im1", "height"] == 96).all()
    pseudo = pd.read_csv(work / "pseudo/round1/tiles.csv")
    assert (pseudo.loc[pseudo["image_id"] == "im6", ["height", "width"]] == [192, 170]).all().all()
    cleaned = pd.read_csv(work / "clean/tiles.csv")
    row = cleaned[(cleaned["image_id"] == "im0") & cleaned["mask_path"].notna()].iloc[0]
    label = cv2.imread(str(work / "clean" / row["mask_path"]), cv2.IMREAD_GRAYSCALE)
    assert (label[75:85] == label[74:64:-1]).all(), "what lies below 75 rows is mirrored"
    answer = pd.read_csv(work / "submission.csv", keep_default_na=False)
    assert len(answer) == 2
    (root / "metadata.csv").write_text((root / "metadata.csv").read_text().replace("im7,north,0.5", "im7,north,1"))
    made = (work / "submission.csv").stat().st_mtime_ns
    runpy.run_path(str(ROOT / "05_infer_ensemble.py"))["main"]([str(yaml), *MEASURED])
    assert (work / "submission.csv").stat().st_mtime_ns != made, "a test image has another pixel size"


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("id,um\nim1,0.5\n", r"pixel_size_column: .*metadata.csv has no row for image 'im0'; add one"),
        ("id,um\nim0,\n", r"gives image 'im0' the um ''; a number above 0 is expected"),
        ("id,um\nim0,-1\n", r"gives image 'im0' the um '-1'; a number"),
        ("id,um\nim0,inf\n", r"gives image 'im0' the um 'inf'; a number"),
        ("id,size\nim0,1\n", r"the metadata have no column 'um'; they have size"),
    ],
)
def test_what_is_not_known_of_a_pixel_size_is_one_sentence(measured, table, what):
    yaml, root = measured
    (root / "metadata.csv").write_text(table)
    with pytest.raises(UserError, match=what):
        zoom_of(load(yaml, MEASURED), "im0")


def test_training_and_test_images_may_have_tables_of_their_own(measured):
    yaml, root = measured
    (root / "metadata.csv").unlink()
    (root / "train_meta.csv").write_text("id,um\nim0,0.25\n")
    (root / "test_meta.csv").write_text("id,um,more\nim7,1,x\n")
    config = load(yaml, [*MEASURED, "--competition.metadata", "{train,test}_meta.csv"])
    assert zoom_of(config, "im0") == 0.5 and zoom_of(config, "im7") == 2
    with pytest.raises(UserError, match="competition.metadata: .*not a pattern of files.*; write one such as"):
        zoom_of(load(yaml, [*MEASURED, "--competition.metadata", "/*.csv"]), "im0")
    with pytest.raises(UserError, match="matches no file"):
        zoom_of(load(yaml, [*MEASURED, "--competition.metadata", "no_*.csv"]), "im0")
    with pytest.raises(UserError, match=r"metadata_template is 'im\{number\}'; .* must name images by \{id\}"):
        zoom_of(load(yaml, [*MEASURED, "--competition.metadata_template", "im{number}"]), "im0")


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (MEASURED[:2], "pixel_size_column is 'um' and target_pixel_size 0; set both"),
        (MEASURED[2:], "pixel_size_column is '' and target_pixel_size 0.5; set both"),
        ([*MEASURED, "--preprocess.mode", "resize"], "mode resize gives all images one size"),
        (["--preprocess.scale", "5"], "preprocess.scale: found '5'; input should be less than or equal to 4"),
        (["--train.scale", "4.1"], "train.scale: found '4.1'; input should be less than or equal to 4"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(flags, what):
    with pytest.raises(UserError, match=what):
        load(None, flags)
