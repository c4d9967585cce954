import math

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from lib.config.training import Loss
from lib.errors import UserError
from lib.models.outputs import Outputs
from lib.plugins import names
from lib.training.losses import build_loss
from lib.training.losses.pixels import boundary
from lib.training.losses.regions import overlap_loss
from lib.training.losses.targets import blurred, far_from_borders

torch.manual_seed(0)


def sample(channels):
    index = torch.randint(0, max(2, channels), (2, 16, 16))
    if channels == 1:
        target = index[:, None].float()
    else:
        target = torch.nn.functional.one_hot(index, channels).permute(0, 3, 1, 2).float()
    return target, torch.ones(2, 1, 16, 16), torch.ones(2)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", sorted({*names("loss")} - {"boundary"}))  # which is signed
def test_right_is_cheaper_than_wrong_and_ignored_pixels_have_no_say(name, channels):
    target, valid, weight = sample(channels)
    loss = build_loss(Loss(terms={name: 1.0}), channels)
    right, wrong = (target * 2 - 1) * 8, (1 - target * 2) * 8
    assert loss(right, target, valid, weight) < 0.1 < loss(wrong, target, valid, weight)
    half = valid.clone()
    half[:, :, :8] = 0
    mixed = torch.where(half > 0, right, wrong)
    assert loss(mixed, target, half, weight) < 0.1
    weightless = torch.tensor([1.0, 0.0])
    mixed = torch.stack([right[0], wrong[1]])
    assert loss(mixed, target, valid, weightless) < 0.1


@pytest.mark.parametrize("name", names("loss"))
def test_gradients_are_finite(name):
    target, valid, weight = sample(1)
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    build_loss(Loss(terms={name: 1.0}), 1)(logits, target, valid * 0, weight).backward()
    assert torch.isfinite(logits.grad).all()


def test_terms_are_summed_by_weight_and_smoothing_pulls_to_the_middle():
    target, valid, weight = sample(3)
    logits = torch.randn(2, 3, 16, 16)
    parts = [float(build_loss(Loss(terms={n: 1.0}), 3)(logits, target, valid, weight)) for n in ("ce", "dice")]
    both = float(build_loss(Loss(terms={"ce": 2.0, "dice": 0.5}), 3)(logits, target, valid, weight))
    assert both == pytest.approx(2 * parts[0] + 0.5 * parts[1], rel=1e-5)
    sharp = (target * 2 - 1) * 20
    smooth = build_loss(Loss(terms={"ce": 1.0}, label_smoothing=0.2), 3)(sharp, target, valid, weight)
    assert float(smooth) > 1 > float(build_loss(Loss(terms={"ce": 1.0}), 3)(sharp, target, valid, weight))


@pytest.mark.parametrize("channels", [1, 2])
def test_class_weights_move_the_loss_towards_a_class(channels):
    target, valid, weight = torch.zeros(1, channels, 1, 2), torch.ones(1, 1, 1, 2), torch.ones(1)
    target[0, -1, 0, 0] = 1  # the object's pixel, and one of background
    if channels == 2:
        target[0, 0, 0, 1] = 1
    says_background = torch.full((1, channels, 1, 2), -3.0)
    if channels == 2:
        says_background[:, 0] = 3.0

    def value(class_weights):
        return float(
            build_loss(Loss(terms={"ce": 1.0}, class_weights=class_weights), channels)(
                says_background, target, valid, weight
            )
        )

    missed, right = (math.log1p(math.exp(x)) for x in ((3, -3) if channels == 1 else (6, -6)))
    assert value([1, 9]) == pytest.approx((9 * missed + right) / 10)
    assert value([9, 1]) == pytest.approx((missed + 9 * right) / 10)
    assert value([1, 1]) == pytest.approx(value([]))
    with pytest.raises(UserError, match="class_weights has 3 weights, expected 2"):
        value([1, 1, 1])


# ---- closed forms, and the same losses of another library ------------------------------------------------------------


def case(channels, seed=1):
    """Logits, target, valid and weight of two samples; a fifth is ignored, and the second sample weighs 0.3."""
    rng = torch.Generator().manual_seed(seed)
    index = torch.randint(0, max(2, channels), (2, 12, 12), generator=rng)
    target = index[:, None].float() if channels == 1 else F.one_hot(index, channels).permute(0, 3, 1, 2).float()
    logits = torch.randn(2, channels, 12, 12, generator=rng)
    valid = (torch.rand(2, 1, 12, 12, generator=rng) > 0.2).float()
    return logits, target, valid, torch.tensor([1.0, 0.3])


def value(name, channels, logits, target, valid, weight, **options):
    return float(build_loss(Loss(terms={name: 1.0}, **options), channels)(logits, target, valid, weight))


@pytest.mark.parametrize("channels", [1, 3])
def test_losses_per_pixel_are_weighted_means_over_valid_pixels(channels):
    logits, target, valid, weight = case(channels)
    p = logits.sigmoid() if channels == 1 else logits.softmax(1)
    right = (p * target + (1 - p) * (1 - target)) if channels == 1 else (p * target).sum(1, keepdim=True)
    share = valid * weight.view(2, 1, 1, 1)
    for name, per_pixel in (("ce", -right.log()), ("bce", -right.log()), ("focal", -((1 - right) ** 2) * right.log())):
        assert value(name, channels, logits, target, valid, weight) == pytest.approx(
            float((per_pixel * share).sum() / share.sum()), rel=1e-5
        )


def test_losses_of_two_pixels_have_their_values():
    target = torch.tensor([[[[1.0, 0.0]]]])
    logits = torch.tensor([[[[0.25, 0.6]]]]).logit()  # a hit of 0.25, 0.75 missed, 0.6 wrong
    ones, weight = torch.ones(1, 1, 1, 2), torch.ones(1)
    assert value("dice", 1, logits, target, ones, weight) == pytest.approx(1 - 1.25 / (1.25 + 0.5 * 1.35))
    by_hand = 1 - 1.25 / (1.25 + 0.3 * 0.6 + 0.7 * 0.75)
    assert value("tversky", 1, logits, target, ones, weight) == pytest.approx(by_hand)
    assert value("bce", 1, logits, target, ones, weight) == pytest.approx(-(math.log(0.25) + math.log(0.4)) / 2)
    assert value("ohem", 1, logits, target, ones, weight) == pytest.approx(-math.log(0.25))
    # Errors 0.75 (object) and 0.6: the Jaccard index falls to 0 with the first, so that it alone counts.
    assert value("lovasz", 1, logits, target, ones, weight) == pytest.approx(0.75)
    smoothed = value("bce", 1, logits, target, ones, weight, label_smoothing=0.2)
    by_hand = -sum(t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in ((0.25, 0.9), (0.6, 0.1))) / 2
    assert smoothed == pytest.approx(by_hand)


def test_samples_that_weigh_little_are_no_mean_of_their_own():
    """All of a batch's pixels together may weigh less than one: the loss is small then, too."""
    target, ones = torch.tensor([[[[1.0, 0.0]]]]), torch.ones(1, 1, 1, 2)
    logits = torch.tensor([[[[0.25, 0.6]]]]).logit()
    both = -math.log(0.25) - math.log(0.4)
    for weight, share in ((2.0, 0.5), (0.5, 0.5), (0.1, 0.1)):
        assert value("bce", 1, logits, target, ones, torch.tensor([weight])) == pytest.approx(share * both)


def test_hard_pixels_are_those_of_the_greatest_weighted_loss():
    target, ones = torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 4)
    ones[0, ..., 3] = 0
    p = torch.tensor([[[[0.5, 0.4, 0.3, 0.01]]], [[[0.2, 0.1, 0.6, 0.7]]]])
    losses = -p.log().flatten() * torch.tensor([1, 1, 1, 0, 0.5, 0.5, 0.5, 0.5])
    hardest = losses.sort(descending=True).values[:2]  # a quarter of seven
    assert value("ohem", 1, p.logit(), target, ones, torch.tensor([1, 0.5])) == pytest.approx(float(hardest.mean()))


def test_smoothed_labels_of_several_classes_give_each_its_part():
    logits, target, valid, weight = case(3)
    smoothed = value("ce", 3, logits, target, valid, weight, label_smoothing=0.3)
    assert smoothed == pytest.approx(value("ce", 3, logits, target * 0.7 + 0.1, valid, weight), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_edges_are_blurred_as_opencv_blurs(sigma):
    planes = torch.rand(2, 3, 20, 15, generator=torch.Generator().manual_seed(0))
    side = 2 * max(1, round(3 * sigma)) + 1
    for sample, found in zip(planes.numpy(), blurred(planes, sigma).numpy(), strict=True):
        for plane, mine in zip(sample, found, strict=True):
            theirs = cv2.GaussianBlur(plane, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
            assert np.abs(mine - theirs).max() < 1e-5


def test_presence_is_told_of_valid_pixels_and_weighed_by_sample():
    mask = torch.zeros(2, 2, 4, 4)
    target, valid, weight = torch.zeros_like(mask), torch.ones(2, 1, 4, 4), torch.tensor([1.0, 3.0])
    target[:, 0] = 1
    target[0, 0, 0, 0], target[0, 1, 0, 0] = 0.49, 0.51
    target[1, 0, 1, 1], target[1, 1, 1, 1], valid[1, 0, 1, 1] = 0, 1, 0  # ignored
    told = torch.tensor([[2.0, -1.0], [0.5, 1.5]])
    wrong = F.binary_cross_entropy_with_logits(told, torch.tensor([[1.0, 1.0], [1.0, 0.0]]), reduction="none").mean(1)
    loss = build_loss(Loss(terms={"ce": 1.0}, presence=0.3), 2)
    added = loss(Outputs(mask, told), target, valid, weight) - loss(mask, target, valid, weight)
    assert float(added) == pytest.approx(float(0.3 * (wrong[0] + 3 * wrong[1]) / 4), rel=1e-4)


def test_the_boundary_loss_is_the_mean_of_signed_distances():
    target, ones = torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)
    target[..., 2:] = 1
    logits = torch.tensor([[[[0.1, 0.2, 0.6, 0.7]]]]).logit()
    signed = (2 * 0.1 + 0.2 - 0.6 - 2 * 0.7) / 4  # a share of the longer side
    assert float(boundary(logits, target, ones, torch.ones(1))) == pytest.approx(signed / 4, rel=1e-4)


def test_the_boundary_loss_of_a_batch_is_the_weighted_mean_of_its_samples():
    torch.manual_seed(0)
    logits, index = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    target, valid = F.one_hot(index, 3).permute(0, 3, 1, 2).float(), torch.ones(2, 1, 8, 8)
    alone = [boundary(logits[i : i + 1], target[i : i + 1], valid[:1], torch.ones(1)) for i in range(2)]
    together = boundary(logits, target, valid, torch.tensor([1.0, 3.0]))
    assert alone[0] != alone[1]
    torch.testing.assert_close(together, (alone[0] + 3 * alone[1]) / 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_losses_agree_with_segmentation_models_pytorch(channels):
    """There a whole batch of valid pixels weighs alike, and a class that the batch lacks still counts in the mean."""
    logits, target, valid, _ = case(channels)
    ones, weight = torch.ones_like(valid), torch.ones(2)
    mode = "binary" if channels == 1 else "multiclass"
    label = target if channels == 1 else target.argmax(1)
    both = {
        "dice": smp.losses.DiceLoss(mode, smooth=1.0),
        "tversky": smp.losses.TverskyLoss(mode, smooth=1.0, alpha=0.3, beta=0.7),
        "jaccard": smp.losses.JaccardLoss(mode, smooth=1.0),
    }
    if channels == 1:
        both["bce"] = smp.losses.SoftBCEWithLogitsLoss()
        both["focal"] = smp.losses.FocalLoss(mode, gamma=2.0)  # of several classes it is one-against-all there
    else:
        both["ce"] = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.0)
        both["lovasz"] = smp.losses.LovaszLoss(mode)  # of one class it is a hinge of logits there
    for name, theirs in both.items():
        ours = value(name, channels, logits, target, ones, weight)
        assert ours == pytest.approx(float(theirs(logits, label)), rel=1e-5), name
    half = ones.clone()
    half[:, :, 6:] = 0  # what is ignored might as well not be there
    for name in ("dice", "tversky", "jaccard", "ce", "focal", "lovasz", "ohem"):
        assert value(name, channels, logits, target, half, weight) == pytest.approx(
            value(name, channels, logits[:, :, :6], target[:, :, :6], ones[:, :, :6], weight), rel=1e-5
        ), name


def test_tverskys_alpha_weighs_what_is_wrongly_found_and_beta_what_is_missed():
    target, ones = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    target[:, :, :2] = 1
    missed, wrong = torch.full((1, 1, 4, 4), -20.0), torch.full((1, 1, 4, 4), 20.0)
    there = torch.tensor([True])
    assert float(overlap_loss(missed, target, ones, there, alpha=0, beta=1)) == pytest.approx(1 - 1 / 9)
    assert float(overlap_loss(missed, target, ones, there, alpha=1, beta=0)) == pytest.approx(0, abs=1e-6)
    assert float(overlap_loss(wrong, target, ones, there, alpha=1, beta=0)) == pytest.approx(1 - 9 / 17)
    assert float(overlap_loss(wrong, target, ones, there, alpha=0, beta=1)) == pytest.approx(0, abs=1e-6)


# ---- what is ignored has no say in what stands beside it -------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{"soft_edges": 1.5}, {"ignore_border": 2}, {"label_smoothing": 0.1}, {}])
@pytest.mark.parametrize("name", names("loss"))
def test_the_target_under_ignored_pixels_changes_nothing(name, options, channels):
    logits, target, _, weight = case(channels)
    valid = torch.ones(2, 1, 12, 12)
    valid[:, :, 3:7, 3:9] = 0
    filled = []
    for seed in (1, 2, 3):
        other = case(channels, seed)[1] if seed > 1 else torch.zeros_like(target)  # as a stored label has it
        filled.append(value(name, channels, logits, torch.where(valid > 0, target, other), valid, weight, **options))
    assert filled[0] == pytest.approx(filled[1], rel=1e-6) == pytest.approx(filled[2], rel=1e-6)


def test_edges_beside_ignored_ground_stay_what_they_are():
    target, valid = torch.ones(1, 1, 9, 9), torch.ones(1, 1, 9, 9)
    target[..., 5:], valid[..., 5:] = 0, 0  # object up to where the label ends
    assert torch.allclose(blurred(target, 2.0, valid)[..., :5], torch.ones(9, 5))
    assert bool((far_from_borders(target, 2, valid) == 1).all())
    logits = torch.zeros(1, 1, 9, 9)
    assert float(boundary(logits, target, valid, torch.ones(1))) == 0, "it has no border"
    one_hot = torch.cat([1 - target, target], 1) * valid
    assert torch.allclose(blurred(one_hot, 2.0, valid).sum(1)[..., :5], torch.ones(9, 5))
    # An edge among valid pixels is as soft as ever.
    target[..., 3:5] = 0
    assert 0.2 < float(blurred(target, 1.0, valid)[0, 0, 4, 3]) < 0.5


def test_a_shrunken_label_takes_no_share_of_ignored_pixels():
    from lib.data.targets import resized_sample
    from lib.tables import FULL, IGNORE

    image, mask = np.zeros((6, 6, 3), np.uint8), np.zeros((6, 6), np.uint8)
    mask[:, 0] = IGNORE  # of three columns that become one; the nearest is another
    mask[:, 3:] = FULL
    (small,) = resized_sample(image, [mask], 1 / 3, False, 1)[1]
    assert small.tolist() == [[0, FULL]] * 2
    mask[:, :3] = FULL
    mask[:, 3:5] = IGNORE
    (small,) = resized_sample(image, [mask], 1 / 3, False, 1)[1]
    assert small.tolist() == [[FULL, IGNORE]] * 2
