import pytest
import torch

import lib.training.losses  # noqa: F401
from lib.config.training import Loss
from lib.errors import UserError
from lib.plugins import names
from lib.training.losses import build_loss

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

    assert value([1, 9]) > 1.5 * value([1, 1]) > 2 * value([9, 1])
    assert value([1, 1]) == pytest.approx(value([]))
    with pytest.raises(UserError, match="class_weights has 3 weights, expected 2"):
        value([1, 1, 1])
