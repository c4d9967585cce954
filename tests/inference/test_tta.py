"""Views and their undo, on windows that are not square and networks that see them."""

import numpy as np
import pytest
import torch

from lib.config import load
from lib.errors import UserError
from lib.inference.networks import Ensemble
from lib.inference.tta import Merge, cost, merge, views

CPU = torch.device("cpu")
TWELVE = "hflip rotate=0,180 scale=1,2,4"


def smooth(h, w):
    """(1, 1, h, w): a plane, which bilinear resizing keeps but for the rim."""
    ys, xs = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
    return (2 * ys + 3 * xs + 10)[None, None]


@pytest.mark.parametrize("recipe, count", [
    ("none", 1), ("free", 1), ("flips", 4), ("d4", 8), (TWELVE, 12), ("scale=0.5,1,1.4", 3),
    ("d4 scale=1,2 merge=max", 16),
])  # fmt: skip
def test_every_view_is_undone_to_the_pixel(recipe, count):
    image = smooth(96, 64)
    seen = []
    for view in views(recipe):
        augmented = view.augment_image(image)
        assert all(side % 32 == 0 for side in augmented.shape[-2:]), "a size that networks take"
        back = view.deaugment_mask(augmented)
        assert back.shape == image.shape
        assert (back - image)[..., 8:-8, 8:-8].abs().max() < 0.15, "not shifted, not even by a part of a pixel"
        seen.append((augmented.shape, augmented.flatten()[:5].sum().item(), augmented.flatten()[-1].item()))
    assert len(seen) == count
    assert len(set(seen)) == count, "a view occurs twice"


@pytest.mark.parametrize("recipe, distinct", [
    ("flips hflip", 4), ("hflip flips vflip", 4), ("d4 hflip", 8), ("d4 flips", 8), ("flips rotate=0,180", 4),
    ("d4 rotate=0,90", 8), ("rotate=0,0,180", 2), ("flips hflip scale=1,1.0,2", 8), ("brightness=1,0.9,1.0 hflip", 4),
    ("hflip vflip rotate=0,180 scale=2", 4), ("rotate=90", 2),
])  # fmt: skip
def test_words_that_multiply_to_one_view_count_it_once(recipe, distinct):
    """Views are compared by what they make of an image, which no symmetry leaves as it is."""
    image = smooth(64, 64) + smooth(64, 64) ** 1.5
    seen = [view.augment_image(image) for view in views(recipe)]
    for i, own in enumerate(seen):
        assert not any(own.shape == other.shape and torch.allclose(own, other) for other in seen[:i])
    assert len(seen) == distinct
    calls = []

    class Net(torch.nn.Module):
        def forward(self, x):
            calls.append(x.shape[2] * x.shape[3] / 64**2)
            return x[:, :1] / 255

    Ensemble([Net()], CPU, tta=recipe)(np.zeros((1, 64, 64, 3), np.uint8))
    assert len(calls) == distinct and sum(calls) == cost(recipe)


def test_the_twelve_views_reach_the_network_and_their_sizes():
    class Net(torch.nn.Module):
        def forward(self, x):
            shapes.append(tuple(x.shape[2:]))
            return torch.logit((x[:, :1] / 255).clamp(0.01, 0.99))

    shapes = []
    window = np.repeat(smooth(64, 64)[0, 0, :, :, None].numpy() / 2, 3, axis=2).astype(np.uint8)
    probs = Ensemble([Net()], CPU, tta=TWELVE)(window[None])
    assert sorted(shapes) == [(64, 64)] * 4 + [(128, 128)] * 4 + [(256, 256)] * 4
    expected = (window[..., 0] / 255).clip(0.01, 0.99)
    assert np.abs(probs[0, 0, 0] - expected)[4:-4, 4:-4].max() < 0.01
    assert cost(TWELVE) == 4 * (1 + 4 + 16)


class Once(torch.nn.Module):
    """Says something else at each call: .2, .4, .9, .8."""

    multilabel = False

    def __init__(self, channels):
        super().__init__()
        self.said, self.channels = iter([0.2, 0.4, 0.9, 0.8]), channels

    def forward(self, x):
        p = torch.full((len(x), 1, *x.shape[2:]), next(self.said))
        return torch.logit(p) if self.channels == 1 else torch.cat([p.log(), (1 - p).log()], 1)


ODDS = (0.25 * (2 / 3) * 9 * 4) ** 0.25  # not 1, which two equal classes would have in any case


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("how, expected", [
    ("mean", 0.575), ("max", 0.9), ("min", 0.2), ("gmean", ODDS / (1 + ODDS)),
    ("tsharpen", np.mean(np.sqrt([0.2, 0.4, 0.9, 0.8]))),
])  # fmt: skip
def test_views_are_merged(how, expected, channels):
    probs = Ensemble([Once(channels)], CPU, tta=f"flips merge={how}")(np.zeros((1, 32, 32, 3), np.uint8))
    assert np.allclose(probs[0, 0, 0], expected, atol=1e-5)
    if channels == 2 and how in ("mean", "gmean"):
        assert np.allclose(probs[0, 0].sum(0), 1, atol=1e-5)


class Both(Once):
    """Two classes that overlap, each as likely as the single one."""

    multilabel = True

    def forward(self, x):
        return super().forward(x).repeat(1, 2, 1, 1)


@pytest.mark.parametrize("how", ["mean", "gmean"])
def test_views_of_classes_that_overlap_are_merged_as_those_of_one(how):
    windows = np.zeros((1, 32, 32, 3), np.uint8)
    ensemble = Ensemble([Both(1)], CPU, tta=f"flips merge={how}")
    both, one = ensemble(windows), Ensemble([Once(1)], CPU, tta=f"flips merge={how}")(windows)
    assert ensemble.multilabel and both.shape[2] == 2 and np.allclose(both, one, atol=1e-6)


class Telling(torch.nn.Module):
    """Says behind the mask of another network, in every view, how likely its class is present."""

    def __init__(self, masks):
        super().__init__()
        self.masks, self.multilabel, self.there = masks, masks.multilabel, iter([0.5, 0.6, 0.7, 1.0])

    def forward(self, x):
        mask = self.masks(x)
        return torch.cat([mask, torch.logit(torch.full_like(mask, next(self.there)), 1e-6)], 1)


@pytest.mark.parametrize("masks, channels", [(lambda: Once(1), 1), (lambda: Once(2), 2), (lambda: Both(1), 2)])
def test_presence_is_the_views_mean_however_masks_are_merged(masks, channels):
    options = {"tta": "flips merge=gmean"}
    window = np.zeros((1, 32, 32, 3), np.uint8)
    told = Ensemble([Telling(masks())], CPU, presence=True, **options)(window)
    assert told.shape == (1, 1, 2 * channels, 32, 32)
    assert np.allclose(told[:, :, :channels], Ensemble([masks()], CPU, **options)(window))
    assert np.allclose(told[:, :, channels:], 0.7, atol=1e-5)


def test_the_geometric_mean_of_many_small_ones_is_no_zero():
    tiny = torch.full((1, 3, 2, 2), 1e-30)
    tiny[:, 2] = 1
    assert torch.allclose(Merge("gmean")([tiny] * 40)[:, 2], torch.tensor(0.996), atol=1e-3)
    assert merge("free") == merge("d4") == Merge("mean")


@pytest.mark.parametrize("wrong", ["d5", "scale=0", "rotate=45", "scale=1, 2", "flips none", "merge=sum", "", "d4 d4"])
def test_what_is_no_view_is_one_sentence(wrong):
    with pytest.raises(UserError, match=r"infer.tta: .*(expected|found)"):
        load(None, ["--infer.tta", wrong])
    assert load(None, ["--infer.tta", f"{TWELVE} merge=gmean"]).infer.tta == f"{TWELVE} merge=gmean"
