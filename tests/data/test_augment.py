import albumentations as A
import numpy as np
import pytest

from lib.config import load
from lib.config.training import Augment
from lib.data.augment import STAINS, Augmentation, restained
from lib.errors import UserError
from lib.training.member import member_inputs
from lib.workspace import Workspace


def ramp(side):
    """(side, side, 3) uint8 whose colour is its place: red grows downwards, green to the right."""
    steps = np.linspace(0, 255, side).round().astype(np.uint8)
    return np.stack(np.broadcast_arrays(steps[:, None], steps[None, :], np.uint8(128)), axis=-1)


def unevenness(image):
    """How far a picture of a ramp is from a plane, in grey levels: mirrored or black corners are no plane."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    places = np.stack([y.ravel(), x.ravel(), np.ones(y.size)], axis=1)
    colours = image[..., :2].reshape(-1, 2).astype(float)
    plane = places @ np.linalg.lstsq(places, colours, rcond=None)[0]
    return np.abs(colours - plane).max()


def tilt(image):
    """Degrees between red's direction and the nearest axis."""
    dy, dx = (np.diff(image[..., 0].astype(float), axis=axis).mean() for axis in (0, 1))
    return np.degrees(np.arctan2(min(abs(dy), abs(dx)), max(abs(dy), abs(dx))))


def views(side, crop, seeds=40, **options):
    augmentation = Augmentation(Augment(color=0, **options), crop)
    mask = ramp(side)[..., 0]
    return [augmentation(ramp(side), [mask], seed) for seed in range(seeds)]


def test_a_turned_crop_shows_real_pixels_where_the_tile_has_room():
    roomy = [image for image, _ in views(256, 96, rotate=45)]
    assert all(image.shape == (96, 96, 3) for image in roomy)
    assert max(map(tilt, roomy)) > 20
    assert max(map(unevenness, roomy)) < 2
    assert max(unevenness(image) for image, _ in views(128, 96, rotate=45)) > 10, "here borders have to be reflected"


def test_a_turned_crop_in_a_tight_tile_still_comes_from_everywhere():
    corners = [image.min(axis=(0, 1))[:2].tolist() + image.max(axis=(0, 1))[:2].tolist() for image, _ in
               views(128, 96, rotate=10, scale=0)]  # fmt: skip
    assert min(map(min, corners)) < 15 and max(map(max, corners)) > 240, "the middle spans 32 to 223"


def test_masks_turn_with_their_image():
    for image, (mask,) in views(256, 96, rotate=30):
        assert np.abs(image[..., 0].astype(int) - mask).max() <= 3  # nearest against linear


@pytest.mark.parametrize(("preset", "own"), [("medium", 0), ("heavy", 45)])
def test_without_rotate_each_preset_turns_by_its_own_degrees(preset, own):
    noise = np.random.default_rng(1).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    left_out, same, other = (
        [Augmentation(Augment(preset=preset, rotate=rotate), 0)(noise, [noise[..., 0]], s)[0] for s in range(8)]
        for rotate in (None, own, 20)
    )
    assert np.array_equal(left_out, same) and not np.array_equal(left_out, other)


def stained(amounts):
    """(1, n, 3) uint8 of amounts (n, 3) of the three stains."""
    return (256 * np.exp(-np.array(amounts) @ STAINS) - 1).round().astype(np.uint8)[None]


def test_restaining_changes_one_stain_and_leaves_the_others():
    before = stained([[0.5, 0.2, 0], [0, 0.6, 0], [0.3, 0.3, 0.3]])
    after = restained(before, np.array([1.4, 1, 1]), np.array([0, 0.1, 0]))
    wanted = stained([[0.7, 0.3, 0], [0, 0.7, 0], [0.42, 0.4, 0.3]])
    assert np.abs(after.astype(int) - wanted).max() <= 2 and np.abs(after.astype(int) - before).max() > 20


@pytest.mark.parametrize("preset", ["medium", "heavy"])
def test_stain_jitter_is_seeded_and_grows_with_its_strength(preset):
    tile = np.broadcast_to(stained([[0.5, 0.3, 0]]), (16, 16, 3)).copy()

    def seen(stain, seed):
        options = Augment(preset=preset, color=0, scale=0, rotate=0, stain=stain)
        return np.median(Augmentation(options, 0)(tile, [tile[..., 0]], seed)[0], axis=(0, 1))

    plain, weak, strong = (np.array([seen(stain, seed) for seed in range(12)]) for stain in (0, 0.3, 1))
    assert np.array_equal(strong, [seen(1, seed) for seed in range(12)])
    assert len(np.unique(strong, axis=0)) > 6
    off = [np.abs(colours - tile[0, 0]).mean() for colours in (plain, weak, strong)]
    assert off[0] < 1.5 < off[1] < off[2] / 2, off


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_pipeline_of_albumentations_is_read_from_its_file_and_seeded(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    A.save(A.Compose([A.Transpose(p=0.5), A.InvertImg(p=1)]), path, "json" if suffix == "json" else "yaml")
    augmentation = Augmentation(Augment(preset=str(path)), 0)
    seen = [augmentation(ramp(64), [ramp(64)[..., 0]], seed) for seed in range(12)]
    again = [augmentation(ramp(64), [ramp(64)[..., 0]], seed) for seed in range(12)]
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(seen, again, strict=True))
    turned = sum(np.array_equal(image[..., 0], 255 - ramp(64)[..., 1]) for image, _ in seen)
    assert path in member_inputs(Workspace(tmp_path), load(None, ["--augment.preset", str(path)]))
    assert 0 < turned < 12 and all(np.array_equal(image[..., 0], 255 - mask) for image, (mask,) in seen)


@pytest.mark.parametrize("text", ["", "[]", "{}", "transform: {__class_fullname__: Nothing}", ": :", "[1, 2"])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_file_that_holds_no_pipeline_is_named(tmp_path, text, suffix):
    path = tmp_path / f"bad.{suffix}"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.\w+ holds no pipeline of albumentations .*A\.save"):
        Augmentation(Augment(preset=str(path)), 0)


def test_a_missing_file_an_unknown_preset_and_a_normalising_pipeline_are_explained(tmp_path):
    with pytest.raises(UserError, match="no file .*gone.yaml; .*A.save.* heavy, light, medium"):
        Augmentation(Augment(preset=str(tmp_path / "gone.yaml")), 0)
    with pytest.raises(UserError, match="'hevy'; did you mean 'heavy'"):
        Augmentation(Augment(preset="hevy"), 0)
    A.save(A.Compose([A.Normalize()]), tmp_path / "float.json")
    with pytest.raises(UserError, match="float32 of an image, uint8 is expected"):
        Augmentation(Augment(preset=str(tmp_path / "float.json")), 0)(ramp(16), [ramp(16)[..., 0]], 0)
