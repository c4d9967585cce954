"""Tiles, samples and augmentation of any channels of 8 and 16 bits."""

import albumentations as A
import cv2
import numpy as np
import pytest

from lib.config.load import load
from lib.config.pixels import Pixels
from lib.config.training import Augment
from lib.data.augment import Augmentation
from lib.data.channel_changes import shifted_hsv
from lib.data.cutmix import Mixing
from lib.data.dataset import TileDataset, TileFile
from lib.data.targets import Targets, resized_sample
from lib.data.tile_files import read_image, write_planes, write_tile
from lib.errors import UserError
from lib.imaging.content import content_map
from lib.models.inputs import image_floats
from lib.plugins import register

NAMES = ["B02", "B03", "B04", "B08", "B11", "B12"]
SIX = Pixels(channels=NAMES, colours=["B04", "B03", "B02"])
PLAIN = Pixels(channels=NAMES)
COLOURS = [2, 1, 0]


def smooth(side=64, channels=6, dtype=np.uint16, seed=0):
    """(side, side, C): every channel another smooth picture, away from the ends of the range."""
    small = np.random.default_rng(seed).random((5, 5, channels)).astype(np.float32)
    grown = np.dstack([cv2.resize(small[..., c], (side, side), interpolation=cv2.INTER_CUBIC) for c in range(channels)])
    return ((0.35 + 0.3 * grown.clip(0, 1)) * np.iinfo(dtype).max).astype(dtype)


def augmented(image, pixels=SIX, seeds=12, crop=0, **options):
    augmentation, mask = Augmentation(Augment(**options), crop, pixels), np.zeros(image.shape[:2], np.uint8)
    return [augmentation(image, [mask], seed)[0] for seed in range(seeds)]


@pytest.mark.parametrize("preset", ["none", "light", "medium", "heavy"])
@pytest.mark.parametrize(("bits", "channels"), [(16, 6), (8, 6), (16, 1), (8, 2), (16, 70)])
def test_presets_take_any_channels_of_both_types(preset, bits, channels):
    dtype = np.dtype(f"uint{bits}")
    names = [f"c{number}" for number in range(channels)]
    pixels = Pixels(channels=names, depth=bits)
    for crop, side in ((0, 64), (32, 64), (96, 96)):  # as it is, cropped, padded
        for image in augmented(smooth(64, channels, dtype), pixels, crop=crop, preset=preset, gain=0.1, seeds=4):
            assert image.shape == (crop or side, crop or side, channels) and image.dtype == dtype


@pytest.mark.parametrize("preset", ["medium", "heavy"])
def test_a_sample_depends_on_its_seed_alone(preset):
    options = {"preset": preset, "stain": 1, "gain": 0.1, "channel_dropout": 0.2}
    augmentation, mask = Augmentation(Augment(**options), 48, SIX), np.zeros((64, 64), np.uint8)
    there, back = (
        [augmentation(smooth(), [mask], seed)[0] for seed in seeds] for seeds in (range(8), range(7, -1, -1))
    )
    assert all((one == other).all() for one, other in zip(there, back[::-1], strict=True))
    assert len({one.tobytes() for one in there}) == 8


@pytest.mark.parametrize("preset", ["light", "medium"])
def test_all_channels_turn_together_and_with_the_mask(preset):
    one = smooth(channels=1)
    image, mask = np.repeat(one, 6, axis=2), (one[..., 0] >> 8).astype(np.uint8)
    for seed in range(12):
        turned, (plane,) = Augmentation(Augment(preset=preset, color=0), 48, SIX)(image, [mask], seed)
        assert (np.ptp(turned.astype(int), axis=2) <= 64).all(), "channels are warped in parts, and rounded alike"
        assert np.abs((turned[..., 0] >> 8).astype(int) - plane).max() <= 6
        assert (turned[..., 0] % 257 != 0).any(), "16 bits stay"


def test_hue_and_stain_change_colours_alone_and_brightness_all(monkeypatch):
    image = smooth()
    monkeypatch.setattr("lib.data.augment._zoom", lambda config, rotate: [])
    monkeypatch.setattr("lib.data.augment.A.D4", lambda p: A.NoOp())
    hue = [i for i in augmented(image, preset="medium", color=1e-9, stain=1) if (i != image).any()]
    assert hue and all((i[..., 3:] == image[..., 3:]).all() and (i[..., :3] != image[..., :3]).any() for i in hue)
    mixed = Pixels(channels=NAMES, colours=["B12", "B08", "B03"])
    places, others = [5, 3, 1], [0, 2, 4]
    swapped = np.empty_like(image)
    swapped[..., places], swapped[..., others] = image[..., COLOURS], image[..., 3:]
    options = {"preset": "medium", "color": 1e-9, "stain": 1}
    for first, other in zip(augmented(image, **options), augmented(swapped, mixed, **options), strict=True):
        assert (first[..., COLOURS] == other[..., places]).all() and (first[..., 3:] == other[..., others]).all()
    nothing = augmented(image, PLAIN, preset="medium", color=1e-9, stain=1)
    assert all(np.abs(i.astype(int) - image).max() <= 1 for i in nothing), "there are no colours"
    bright = [i for i in augmented(image, PLAIN, preset="medium") if (i != image).any()]
    for changed in bright:
        slope = [np.polyfit(image[..., c].ravel() / 65535, changed[..., c].ravel() / 65535, 1) for c in range(6)]
        assert np.ptp(slope, axis=0).max() < 1e-3, "one brightness and contrast for all channels"
    assert len(bright) > 5


def test_a_shift_of_hue_is_that_of_8_bits_but_finer():
    image = smooth(channels=3)
    coarse = (image / 257).round().astype(np.uint8)
    expected = A.HueSaturationValue((9, 9), (20, 20), (-9, -9), p=1)(image=coarse)["image"]
    found = shifted_hsv(image, 9, 20, -9)
    assert np.abs(found / 257 - expected).mean() < 1.5 < 8 < np.abs(image / 257 - expected).mean()
    assert len(np.unique(found)) > 1000


def test_each_channel_has_a_gain_of_its_own_and_dropped_ones_are_their_mean():
    image = smooth()
    for changed in augmented(image, preset="none", gain=0.2):
        factors = (changed / image).mean((0, 1))
        assert np.abs(factors - 1).max() <= 0.201 and np.ptp(factors) > 0.02
        np.testing.assert_allclose(changed / image, np.broadcast_to(factors, image.shape), atol=1e-3)
    means, counts = np.rint(np.array(SIX.normalisation[0]) * 65535), []
    for changed in augmented(image, preset="none", channel_dropout=0.7, seeds=60):
        dropped = (changed != image).any((0, 1))
        assert (changed[..., dropped] == means[dropped]).all()
        counts.append(dropped.sum())
    assert max(counts) == 5 and 3.6 < np.mean(counts) < 4.7
    tiny = Pixels(channels=["a", "b"])
    for changed in augmented(image[..., :2], tiny, preset="none", channel_dropout=0.99, seeds=40):
        assert (changed == image[..., :2]).all((0, 1)).any(), "a channel remains"


@pytest.mark.parametrize("preset", ["light", "medium", "heavy"])
def test_red_green_and_blue_are_augmented_as_before_and_gain_comes_last(preset):
    image = smooth(channels=3, dtype=np.uint8)
    plain, gained = (augmented(image, Pixels(), preset=preset, gain=gain) for gain in (0, 0.2))
    for before, after in zip(plain, gained, strict=True):
        factors = after.mean((0, 1)) / before.mean((0, 1))
        assert np.ptp(factors) > 1e-3 and np.abs(factors - 1).max() < 0.21
        np.testing.assert_allclose(after, (before * factors).clip(0, 255), atol=2)


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (A.ToGray(p=1), "a transform cannot take images of 6 channels of uint16|needs all channels"),
        (A.CLAHE(p=1), "a transform cannot take images of 6 channels of uint16 .*take it out of the pipeline"),
        (A.Normalize(mean=(0.5,) * 6, std=(0.2,) * 6), "makes float32 of an image, uint16 is expected"),
    ],
)
def test_a_custom_pipeline_that_cannot_take_channels_is_one_sentence(transform, what, tmp_path):
    A.save(A.Compose([transform]), tmp_path / "mine.yaml", "yaml")
    with pytest.raises(UserError, match=f"augment.preset: .*({what})"):
        augmented(smooth(), preset=str(tmp_path / "mine.yaml"), seeds=1)


def test_a_transform_that_drops_channels_is_one_sentence():
    class First(A.ImageOnlyTransform):
        def apply(self, img, **params):
            return img[..., :2]

    register("augmentation", "first two")(lambda config: [First(p=1)])
    with pytest.raises(UserError, match=r"shape \(64, 64, 2\) of 6 channels of uint16, .* needs all channels"):
        augmented(smooth(), preset="first two", seeds=1)


def test_a_custom_pipeline_of_what_fits_is_used(tmp_path):
    A.save(A.Compose([A.Transpose(p=1)]), tmp_path / "mine.yaml", "yaml")
    (image,) = augmented(smooth(), preset=str(tmp_path / "mine.yaml"), seeds=1)
    assert (image == smooth().transpose(1, 0, 2)).all()


def tile_of(folder, name, image, mask):
    (folder / "tiles").mkdir(exist_ok=True)
    row = write_tile({"tile_id": name}, image, mask, folder / "tiles", "npy")
    return TileFile(folder / row["image_path"], folder / row["mask_path"], False, 1.0), row


def test_a_tile_of_any_channels_is_stored_and_read_as_it_is(tmp_path):
    image, mask = smooth(), np.zeros((64, 64), np.uint8)
    tile, row = tile_of(tmp_path, "a", image, mask)
    assert row["image_path"] == "tiles/a.npy"
    found = read_image(tile.image)
    assert found.dtype == np.uint16 and (found == image).all()
    other = image.copy()
    other[0, 0, 5] += 1
    assert tile_of(tmp_path, "b", other, mask)[1]["content"] != row["content"], "one step of 16 bits is another tile"
    for damage in (tile.image.read_bytes()[:200], b"", b"no array"):
        tile.image.write_bytes(damage)
        with pytest.raises(UserError, match=r"a\.npy cannot be read as an image; run 01_preprocess.py again"):
            read_image(tile.image)
    for strange in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))):
        np.save(tile.image, strange)
        with pytest.raises(UserError, match="cannot be read as an image"):
            read_image(tile.image)


@pytest.mark.parametrize(("mix", "scale"), [("none", 1.0), ("cutmix", 1.0), ("copypaste", 0.5), ("none", 2.0)])
def test_samples_of_any_channels_are_read_resized_and_mixed(mix, scale, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 254
    tiles = [tile_of(tmp_path, name, smooth(seed=seed), mask)[0] for seed, name in enumerate("ab")]
    dataset = TileDataset(
        tiles, Targets(1), Augmentation(Augment(preset="none"), 0, SIX), 1, Mixing(mix, 1.0 * (mix != "none")), scale
    )
    image, target, valid, _ = dataset[0, 0, 0]
    side = round(64 * scale)
    assert image.shape == (6, side, side) and target.shape == valid.shape == (1, side, side)
    values = image_floats(image).numpy().transpose(1, 2, 0) * 257
    of = [smooth(seed=0), smooth(seed=1)]
    of = of if scale == 1 else [resized_sample(one, [mask], scale, False, 1)[0] for one in of]
    first, second = (np.abs(values - one).max(2) < 0.01 for one in of)
    assert (first | second).all(), "each pixel is of one of the two, in all channels"
    assert first.all() == (mix == "none")


def test_an_enlarged_tile_is_smooth_and_its_label_sharp():
    image, mask = smooth(16, 2), np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 254
    large, (label,) = resized_sample(image, [mask], 3.0, False, 1)
    assert large.shape == (48, 48, 2) and label.shape == (48, 48)
    assert (label[:, :24] == 0).all() and (label[:, 24:] == 254).all()
    steps = [np.abs(np.diff(one[..., 0].astype(int), axis=1)).max() for one in (image, large)]
    assert steps[1] < 0.5 * steps[0]
    for scale, side in ((0.4, 6), (0.5, 8)):
        for channels in (1, 6, 70):
            many = smooth(16, channels)
            small = resized_sample(many, [mask], scale, False, 1)[0]
            assert small.shape == (side, side, channels), "one channel stays an axis"
            last = cv2.resize(np.ascontiguousarray(many[..., -1]), (side, side), interpolation=cv2.INTER_AREA)
            assert np.abs(small[..., -1].astype(int) - last).max() <= 1


def test_the_format_of_tiles_tells_the_truth(tmp_path):
    text = ["--competition.pixels.channels", "[a, b]"]
    assert load(None, text).preprocess.image_format == "npy"
    assert load(None, [*text, "--preprocess.image_format", "bmp"]).preprocess.image_format == "npy"
    three = ["--competition.pixels.channels", "[a, b, c]"]
    assert load(None, three).preprocess.image_format == "npy"
    assert load(None, [*three, "--competition.pixels.depth", "8"]).preprocess.image_format == "png"
    assert load(None, []).preprocess.image_format == "png"
    with pytest.raises(UserError, match="jpg holds three channels of 8 bits, and .* makes 2 of 16 bits; set it to npy"):
        load(None, [*text, "--preprocess.image_format", "jpg"])


class Held:
    """A reader of an image in memory."""

    def __init__(self, values):
        self.values, (self.height, self.width) = values, values.shape[:2]

    def thumbnail(self, side):
        assert max(self.values.shape[:2]) <= side
        return self.values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ground_is_blank_where_all_channels_are(dtype):
    image = smooth(96, 6, dtype)
    image[:48] = 0
    assert content_map(Held(image)).blank[:40].all() and not content_map(Held(image)).blank[56:].any()
    other = image.copy()
    other[..., 5] = smooth(96, 1, dtype, seed=3)[..., 0]
    assert not content_map(Held(other)).blank.any(), "one channel sees something"
    light = np.full_like(image, np.iinfo(dtype).max)
    assert content_map(Held(light)).blank[20:70, 20:70].all()
    quiet, loud = content_map(Held(image)), content_map(Held(other))
    assert quiet.contrast(0, 0, 48, 96) == 0 < loud.contrast(0, 0, 48, 96)
    assert np.abs(quiet.grey[60:] - image[60:].mean(-1) / np.iinfo(dtype).max * 255).max() < 1


def test_planes_of_labels_are_png_as_before(tmp_path):
    write_planes(tmp_path / "a.png", np.zeros((2, 4, 4), np.uint8))
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
