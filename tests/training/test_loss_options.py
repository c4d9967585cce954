"""Options of the loss: each does what it says, and left out it changes nothing."""

import numpy as np
import pytest
import torch

from lib.config.training import Loss
from lib.models.outputs import Outputs
from lib.training.losses import build_loss
from lib.training.losses.targets import blurred, far_from_borders

ONES = torch.ones(2)


def disc(size=32):
    y, x = np.mgrid[:size, :size]
    mask = ((y - size / 2) ** 2 + (x - size / 2) ** 2 < (size / 4) ** 2).astype(np.float32)
    return torch.from_numpy(np.stack([mask, mask])[:, None])


def loss_of(logits, target=None, valid=None, progress=0.0, **options):
    target = disc() if target is None else target
    valid = torch.ones(2, 1, *target.shape[2:]) if valid is None else valid
    return build_loss(Loss(**options), target.shape[1])(logits, target, valid, ONES, progress)


def test_terms_change_at_their_share_of_the_training():
    logits = torch.randn(2, 1, 32, 32)
    options = {"terms": {"bce": 1}, "then": {0.7: {"lovasz": 1}, 0.9: {"dice": 2}}}
    now = [float(loss_of(logits, progress=p, **options)) for p in (0.0, 0.69, 0.7, 0.95)]
    alone = [float(loss_of(logits, terms=terms)) for terms in ({"bce": 1}, {"bce": 1}, {"lovasz": 1}, {"dice": 2})]
    assert now == pytest.approx(alone)
    assert len(set(alone)) == 3


def test_hard_pixels_alone_count():
    logits = torch.where(disc() > 0.5, 8.0, -8.0)
    logits[:, :, :4] = 8.0  # an eighth is surely wrong
    assert float(loss_of(logits, terms={"ohem": 1})) == pytest.approx(4, abs=0.01)  # half of the hardest quarter
    assert float(loss_of(logits, terms={"bce": 1})) == pytest.approx(1, abs=0.01)
    valid = torch.ones(2, 1, 32, 32)
    valid[:, :, :4] = 0
    assert float(loss_of(logits, valid=valid, terms={"ohem": 1})) < 0.01


def test_the_boundary_loss_weighs_mistakes_by_their_distance():
    near, far = torch.where(disc() > 0.5, 9.0, -9.0), torch.where(disc() > 0.5, 9.0, -9.0)
    near[:, :, 16, 25:27] = 9.0
    far[:, :, 0, :2] = 9.0
    right, nearly, wrong = (float(loss_of(m, terms={"boundary": 1})) for m in (2 * disc() * 9 - 9, near, far))
    assert right < nearly < wrong
    assert float(loss_of(near, target=torch.zeros(2, 1, 32, 32), terms={"boundary": 1})) == 0


def test_borders_are_ignored_or_softened():
    target = torch.zeros(1, 1, 9, 9)
    target[..., 5:] = 1
    assert far_from_borders(target, 1)[0, 0, 4].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1]
    soft = blurred(target, 1.0)
    assert soft[0, 0, 4, :3].max() < 0.03 and 0.2 < soft[0, 0, 4, 4] < 0.5 < soft[0, 0, 4, 5] < 0.8
    assert torch.allclose(blurred(torch.cat([target, 1 - target], 1), 2.0).sum(1), torch.ones(9))
    logits = torch.where(disc() > 0.5, 9.0, -9.0)
    logits = torch.roll(logits, 1, 3)  # wrong at the border only
    sharp, ignored = (float(loss_of(logits, terms={"bce": 1}, ignore_border=n)) for n in (0, 2))
    assert ignored < 0.01 < sharp
    assert float(loss_of(logits, terms={"bce": 1}, soft_edges=1.5)) != pytest.approx(sharp, rel=0.05)


def test_presence_and_deep_losses_are_added_by_their_weights():
    mask, presence, deep = torch.zeros(2, 1, 32, 32), torch.full((2, 1), -3.0), torch.full((2, 1, 8, 8), 2.0)
    plain = float(loss_of(mask, terms={"bce": 1}))
    with_presence = float(loss_of(Outputs(mask, presence), terms={"bce": 1}, presence=0.5))
    assert with_presence - plain == pytest.approx(0.5 * np.log1p(np.exp(3)), rel=1e-4)  # the disc is there
    with_deep = float(loss_of(Outputs(mask, None, (deep, deep)), terms={"bce": 1}, deep=0.4))
    own = float(loss_of(torch.full((2, 1, 32, 32), 2.0), terms={"bce": 1}))
    assert with_deep - plain == pytest.approx(0.4 * own, rel=1e-4)
