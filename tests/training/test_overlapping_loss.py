"""The loss of classes that overlap is the mean over the classes of the loss of one class."""

import pytest
import torch

from lib.config.training import Loss
from lib.errors import UserError
from lib.models.outputs import Outputs
from lib.plugins import names
from lib.training.losses import build_loss

CLASSES = 3


def batch(seed=0):
    """Outputs of all heads, targets that overlap, valid pixels of each class, and weights of two samples."""
    rng = torch.Generator().manual_seed(seed)
    target = (torch.rand(2, CLASSES, 16, 16, generator=rng) > 0.5).float()
    target[:, 2] = 0  # a class that the batch lacks
    valid = (torch.rand(2, CLASSES, 16, 16, generator=rng) > 0.3).float()
    outputs = Outputs(
        torch.randn(2, CLASSES, 16, 16, generator=rng, requires_grad=True),
        torch.randn(2, CLASSES, generator=rng, requires_grad=True),
        tuple(torch.randn(2, CLASSES, side, side, generator=rng, requires_grad=True) for side in (4, 8)),
    )
    assert ((target * valid).sum(1) > 1).any() and not torch.equal(valid[:, 0], valid[:, 1])
    return outputs, target, valid, torch.tensor([1.0, 0.3])


def heads(outputs):
    return [outputs.mask, outputs.presence, *outputs.deep]


@pytest.mark.parametrize(
    "options", [{}, {"soft_edges": 1.0}, {"ignore_border": 1}, {"label_smoothing": 0.2}], ids=lambda o: "".join(o)
)
@pytest.mark.parametrize("name", names("loss"))
def test_every_loss_and_option_treats_each_class_as_if_it_were_the_only_one(name, options):
    outputs, target, valid, weight = batch()
    config = Loss(terms={name: 1.0}, **options)
    together = build_loss(config, CLASSES, multilabel=True)(outputs, target, valid, weight)
    one, losses = build_loss(config, 1), []
    for c in range(CLASSES):
        part = slice(c, c + 1)
        alone = Outputs(outputs.mask[:, part], outputs.presence[:, part], tuple(d[:, part] for d in outputs.deep))
        losses.append(one(alone, target[:, part], valid[:, part], weight))
    assert len({round(float(loss.detach()), 6) for loss in losses}) == CLASSES
    mean = sum(losses) / CLASSES
    assert float(together.detach()) == pytest.approx(float(mean.detach()), rel=1e-5)
    for found, expected in zip(*(torch.autograd.grad(loss, heads(outputs)) for loss in (together, mean)), strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-8)


def test_one_class_that_may_overlap_is_one_class():
    outputs, target, valid, weight = batch()
    mask = outputs.mask[:, :1]
    losses = [
        build_loss(Loss(), 1, multilabel=multilabel)(mask, target[:, :1], valid[:, :1], weight)
        for multilabel in (False, True)
    ]
    assert losses[0] == losses[1]


def test_valid_pixels_may_be_the_same_for_all_classes():
    outputs, target, valid, weight = batch()
    loss = build_loss(Loss(), CLASSES, multilabel=True)
    same = valid[:, :1].expand(-1, CLASSES, -1, -1)
    assert loss(outputs.mask, target, valid[:, :1], weight) == loss(outputs.mask, target, same, weight)


def test_class_weights_weigh_the_mean_over_classes():
    outputs, target, valid, weight = batch()

    def value(*class_weights):
        loss = build_loss(Loss(terms={"bce": 1.0}, class_weights=[*class_weights]), CLASSES, multilabel=True)
        return float(loss(outputs.mask, target, valid, weight))

    each = [value(1, 0, 0), value(0, 1, 0), value(0, 0, 1)]
    assert max(each) - min(each) > 1e-3, "the fixture is degenerate"
    assert value(1, 2, 5) == pytest.approx((each[0] + 2 * each[1] + 5 * each[2]) / 8)
    assert value() == value(1, 1, 1)
    with pytest.raises(UserError, match="class_weights has 4 weights, expected 3"):
        value(1, 1, 1, 1)
