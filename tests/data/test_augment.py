import albumentations as A
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from lib.config import load
from lib.config.training import Augment
from lib.data.augment import Augmentation, heavy, medium
from lib.data.channel_changes import STAINS, restained
from lib.data.cutmix import Mixing, copy_paste, cutmix
from lib.data.dataset import TileDataset, TileFile
from lib.data.targets import Targets
from lib.data.transforms import StainJitter
from lib.errors import UserError
from lib.training.member import make_data, member_inputs
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


def test_colours_zoom_and_rotation_reach_as_far_as_the_options_say():
    _, brightness, hue = medium(Augment(color=0.5, scale=0, stain=0))
    assert brightness.brightness_limit == brightness.contrast_limit == (-0.125, 0.125)
    assert (hue.hue_shift_limit, hue.sat_shift_limit, hue.val_shift_limit) == ((-10, 10), (-15, 15), (-7, 7))
    for preset, rotate in ((medium, 0), (heavy, 45)):
        zoom = preset(Augment(color=0, scale=0.2, stain=0))[1]
        assert zoom.rotate == (-rotate, rotate) and set(zoom.scale.values()) == {(0.8, 1.2)}
    assert (
        len(medium(Augment(color=0, scale=0, stain=0))) == 1 and len(medium(Augment(color=1, scale=0.1, stain=1))) == 5
    )


def stained(amounts):
    """(1, n, 3) uint8 of amounts (n, 3) of the three stains."""
    return (256 * np.exp(-np.array(amounts) @ STAINS) - 1).round().astype(np.uint8)[None]


def test_restaining_changes_one_stain_and_leaves_the_others():
    before = stained([[0.5, 0.2, 0], [0, 0.6, 0], [0.3, 0.3, 0.3]])
    after = restained(before, np.array([1.4, 1, 1]), np.array([0, 0.1, 0]))
    wanted = stained([[0.7, 0.3, 0], [0, 0.7, 0], [0.42, 0.4, 0.3]])
    assert np.abs(after.astype(int) - wanted).max() <= 2 and np.abs(after.astype(int) - before).max() > 20


def test_stain_jitter_draws_evenly_around_no_change():
    jitter = StainJitter(0.5)
    jitter.set_random_seed(0)
    drawn = [jitter.get_params() for _ in range(200)]
    for name, middle, reach in (("factors", 1, 0.1), ("shifts", 0, 0.025)):
        values = np.array([params[name] for params in drawn])
        assert values.shape == (200, 3) and np.allclose(values.min(0), middle - reach, atol=reach / 10)
        assert np.allclose(values.max(0), middle + reach, atol=reach / 10)


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


@pytest.mark.parametrize("text", ["", "[]", "{}", "transform: {__class_fullname__: Nothing, p: 1}", ": :", "[1, 2"])
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


def flat_sample(grey, target, side=20):
    image = np.full((side, side, 3), grey, np.uint8)
    return image, np.full((1, side, side), target, np.float32), np.ones((1, side, side), np.float32)


def test_cutmix_pastes_one_rectangle_of_pixels_target_and_valid_of_every_size_and_place():
    pasted, first, second = [], flat_sample(10, 0), flat_sample(200, 1)
    second[2][...] = 0
    for seed in range(200):
        image, target, valid = cutmix(first, second, np.random.default_rng(seed))
        new = image[..., 0] == 200
        rows, columns = new.any(1), new.any(0)
        assert np.array_equal(new, rows[:, None] & columns) and np.array_equal(image[..., 0] == 10, ~new)
        assert (np.diff(np.flatnonzero(rows)) == 1).all() and (np.diff(np.flatnonzero(columns)) == 1).all()
        assert np.array_equal(target[0], new) and np.array_equal(valid[0], ~new)
        pasted.append(new)
    assert np.allclose(np.quantile(np.mean(pasted, (1, 2)), [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.1)
    often = np.mean(pasted, 0)  # each pixel: as often as its mirror images
    assert all(np.abs(often - np.flip(often, axis)).max() < 0.2 for axis in (0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_copy_paste_pastes_the_objects_and_nothing_else(channels):
    first, second = (list(flat_sample(grey, 0)) for grey in (10, 200))
    planes = np.zeros((20, 20), int), np.zeros((20, 20), int)
    planes[0][:, :3], planes[1][5:9, 5:15] = 1, channels - 1 or 1
    for sample, plane in ((first, planes[0]), (second, planes[1])):
        sample[1] = np.stack([plane == c for c in range(channels)]) if channels > 1 else plane[None] == 1
        sample[1] = sample[1].astype(np.float32)
    second[1][:, 12:], second[2][:, 12:] = 0, 0  # ignored
    image, target, valid = copy_paste(first, second, np.random.default_rng(0))
    pasted = planes[1] > 0
    assert pasted.any() and np.array_equal(image[..., 0] == 200, pasted)
    assert np.array_equal(target, np.where(pasted, second[1], first[1])) and valid.all()


@pytest.fixture
def tiles(tmp_path):
    """Eight tiles, each of its own grey, the last two pseudo-labels; the upper half is object."""
    files = []
    for i in range(8):
        grey, label = np.full((24, 24, 3), 20 + 25 * i, np.uint8), np.repeat([254, 0], 12).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), grey)
        cv2.imwrite(str(tmp_path / f"{i}_mask.png"), np.repeat(label[:, None], 24, axis=1))
        soft = i >= 6
        files.append(TileFile(tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png", soft, 0.5 if soft else 1.0))
    return files


def test_samples_are_mixed_by_their_share_from_their_own_seed_with_their_like(tiles):
    plain, mixed = (
        TileDataset(tiles, Targets(1), Augmentation(Augment(preset="light"), 0), 3, Mixing(mix, 0.4))
        for mix in ("none", "cutmix")
    )
    changed = []
    for position in range(150):
        key = position % 8, 2, position
        old, new, again = plain[key], mixed[key], mixed[key]
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(new, again, strict=True))
        changed.append(not torch.equal(old[0], new[0]))
        greys = set(new[0].unique().tolist())
        assert len(greys) <= 2 and new[3] == old[3]
        assert all((grey >= 20 + 25 * 6) == (key[0] >= 6) for grey in greys), "a pseudo-label met a label"
    assert 0.2 < np.mean(changed) < 0.5
    pairs = {tuple(mixed[0, 2, position][0].unique().tolist()) for position in range(150)}
    assert len(pairs) >= 6, "every tile comes as the second"


def test_the_second_tile_is_augmented_by_itself(tiles):
    dataset = TileDataset(tiles[:1], Targets(1), Augmentation(Augment(preset="light"), 0), 3, Mixing("cutmix", 1.0))
    halves = [dataset[0, 0, position][1].mean().item() for position in range(40)]
    assert any(abs(share - 0.5) > 0.1 for share in halves), "both are always turned alike"


def test_members_mix_as_augment_says_and_objects_need_background(tiles, tmp_path):
    table = pd.DataFrame(
        {
            "folder": str(tmp_path),
            "image_path": [tile.image.name for tile in tiles[:6]],
            "pseudo": False,
            "soft": False,
            "weight": 1.0,
        }
    ).assign(mask_path=[tile.label.name for tile in tiles[:6]], object=True)
    flags = ["--train.workers", "0", "--augment.preset", "none", "--augment.mix", "copypaste"]
    data = make_data(table, load(None, [*flags, "--augment.mix_share", "1"]), 1, 3)
    assert any(len(data.dataset[0, 0, position][0].unique()) == 2 for position in range(20))
    whole = ["--competition.background", "false", "--competition.classes", "a", "b"]
    with pytest.raises(UserError, match="every pixel belongs to a class; set augment.mix to cutmix or none"):
        make_data(table, load(None, [*flags, *whole]), 2, 3)
