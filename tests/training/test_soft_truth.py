"""Targets that are neither 0 nor 1: the smallest loss is at a prediction that equals the target."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.config.training import Loss
from lib.models.outputs import Outputs
from lib.training.losses import build_loss
from lib.training.losses.pixels import cross_entropy, focal
from lib.training.losses.regions import lovasz, soft_dice, soft_jaccard, tversky
from lib.training.losses.targets import blurred, classes_present, smooth

SOFT = ("dice", "tversky", "jaccard", "focal", "bce")  # losses that soft targets are meant for
KINDS = [(1, False), (3, False), (3, True)]  # outputs of the network, and whether their classes overlap
few = settings(max_examples=15, deadline=None)


def drawn(seed, channels, overlap):
    """Two soft targets, with pixels of every class above one half, and other predictions that may equal neither."""
    rng = torch.Generator().manual_seed(seed)

    def probs():
        raw = torch.randn(2, channels, 6, 6, generator=rng) * 2
        return raw.sigmoid() if overlap or channels == 1 else raw.softmax(1)

    valid = (torch.rand(2, channels if overlap else 1, 6, 6, generator=rng) > 0.2).float()
    return probs(), probs(), valid, torch.tensor([1.0, 0.4])


def logits_of(p, overlap):
    return p.logit() if overlap or p.shape[1] == 1 else p.log()


def value(name, p, target, valid, weight, overlap=False, **options):
    loss = build_loss(Loss(terms={name: 1.0}, **options), p.shape[1], multilabel=overlap)
    return float(loss(logits_of(p, overlap), target, valid, weight))


@pytest.mark.parametrize(("channels", "overlap"), KINDS)
@pytest.mark.parametrize("name", SOFT)
@few
@given(seed=st.integers(0, 10**6), step=st.floats(0.05, 1), weighted=st.booleans())
def test_no_prediction_is_better_than_the_target_itself(name, channels, overlap, seed, step, weighted):
    target, other, valid, weight = drawn(seed, channels, overlap)
    options = {"class_weights": [1.0, 3.0, 0.5][: channels if overlap else max(2, channels)] if weighted else []}
    best = value(name, target, target, valid, weight, overlap, **options)
    worse = value(name, target + step * (other - target), target, valid, weight, overlap, **options)
    assert best < worse + 1e-6
    if name != "bce":  # the entropy of the target is left there
        assert best == pytest.approx(0, abs=1e-5) and worse > 1e-5


def test_half_a_pixel_is_best_predicted_as_half():
    """The fault that this form mends: products of prediction and target are best at a prediction of 1."""
    target, ones, weight = torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 4, 4), torch.ones(1)
    target[..., 0] = 1
    guesses = torch.linspace(0.05, 0.95, 19)
    for name in ("dice", "tversky", "jaccard"):
        found = [value(name, torch.where(target == 1, 0.999, guess), target, ones, weight) for guess in guesses]
        assert float(guesses[min(range(19), key=found.__getitem__)]) == pytest.approx(0.5), name


# ---- targets of 0 and 1 ----------------------------------------------------------------------------------------------


def of_products(p, target, share, alpha, beta):
    """The loss in its usual form, as it was computed here before."""
    axes = (0, 2, 3)
    hit, wrong = (p * target * share).sum(axes), (p * (1 - target) * share).sum(axes)
    missed = ((1 - p) * target * share).sum(axes)
    present = (target * share).sum(axes) > 0
    score = (hit + 1) / (hit + alpha * wrong + beta * missed + 1)
    return ((1 - score) * present).sum() / present.sum().clamp_min(1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("term", "alpha", "beta"), [(soft_dice, 0.5, 0.5), (tversky, 0.3, 0.7), (soft_jaccard, 1, 1)])
@few
@given(seed=st.integers(0, 10**6), absent=st.booleans())
def test_targets_of_zero_and_one_give_the_same_bits_as_products(term, alpha, beta, channels, seed, absent):
    soft, other, valid, weight = drawn(seed, channels, overlap=False)
    target = soft.round() if channels == 1 else torch.eye(channels)[soft.argmax(1)].permute(0, 3, 1, 2).contiguous()
    if absent:
        target[:, -1] = 0
    losses, gradients = [], []
    present = (classes_present(target, valid) & (weight > 0)[:, None]).any(0)
    for compute in (
        lambda logits: term(logits, target, valid, weight, present),
        lambda logits: of_products(
            logits.sigmoid() if channels == 1 else logits.softmax(1), target, valid * weight.view(2, 1, 1, 1),
            alpha, beta,
        ),
    ):  # fmt: skip
        logits = logits_of(other, False).requires_grad_()
        losses.append(compute(logits))
        gradients.append(torch.autograd.grad(losses[-1], logits)[0])
    assert torch.equal(*losses) and torch.equal(*gradients)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("term", [soft_dice, tversky, soft_jaccard, lovasz, focal, cross_entropy])
def test_gradients_are_those_of_finite_differences(term, channels):
    target, other, valid, weight = (part.double() for part in drawn(7, channels, overlap=False))
    present = [] if term in (focal, cross_entropy) else [torch.ones(channels, dtype=torch.bool)]
    logits = logits_of(other, False).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: term(values, target, valid, weight, *present), logits)


# ---- classes that are present ----------------------------------------------------------------------------------------


def test_presence_is_one_thing_for_regions_and_for_the_classification_head():
    target, valid, weight = torch.zeros(2, 2, 4, 4), torch.ones(2, 1, 4, 4), torch.ones(2)
    target[:, 0] = 1
    target[0, :, 0, 0] = torch.tensor([0.6, 0.4])  # no pixel is mostly of the second class
    logits, told = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((2, 2), 40.0)
    p, ones = logits.softmax(1), torch.tensor([True, False])
    alone = soft_dice(logits, target, valid, weight, ones)
    for name in ("dice", "jaccard", "lovasz"):
        first_only = value(name, p, target, valid, weight)
        target[0, :, 0, 0] = torch.tensor([0.4, 0.6])
        assert value(name, p, target, valid, weight) != pytest.approx(first_only, rel=1e-3), name
        target[0, :, 0, 0] = torch.tensor([0.6, 0.4])
    assert value("dice", p, target, valid, weight) == pytest.approx(float(alone), rel=1e-6)
    head = build_loss(Loss(terms={"dice": 1.0}, presence=1.0), 2)
    added = head(Outputs(logits, told), target, valid, weight) - head(logits, target, valid, weight)
    assert float(added) == pytest.approx(20, rel=1e-4), "of two classes one is there, and both are told to be"


@pytest.mark.parametrize("term", [soft_dice, tversky, soft_jaccard])
@pytest.mark.parametrize("softer", [{"label_smoothing": 0.1}, {"soft_edges": 1.0}])
def test_a_class_that_the_batch_lacks_adds_nothing_when_targets_are_softened(softer, term):
    """Smoothing gives every class a share of every pixel, which is no reason to look for its overlap."""
    target, valid, weight = torch.zeros(1, 3, 6, 6), torch.ones(1, 1, 6, 6), torch.ones(1)
    target[:, 0, :3], target[:, 1, 3:] = 1, 1
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    softened = smooth(target, 0.1) if "label_smoothing" in softer else blurred(target, 1.0, valid)
    name = {soft_dice: "dice", tversky: "tversky", soft_jaccard: "jaccard"}[term]
    loss = build_loss(Loss(terms={name: 1.0}, **softer), 3)
    two, three = (term(logits, softened, valid, weight, torch.tensor([True, True, last])) for last in (False, True))
    assert float(loss(logits, target, valid, weight)) == pytest.approx(float(two), rel=1e-6)
    assert abs(float(two) - float(three)) > 1e-3
    assert float(loss(logits, target * 0, valid, weight)) == 0, "no class is there at all"


@pytest.mark.parametrize(("term", "name"), [(soft_dice, "dice"), (tversky, "tversky"), (soft_jaccard, "jaccard")])
def test_a_small_object_that_soft_edges_blur_away_is_still_there(term, name):
    target, valid, weight = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16), torch.ones(1)
    target[..., 8, 8] = 1
    softened, logits = blurred(target, 2.0, valid), torch.full((1, 1, 16, 16), -3.0)
    assert not classes_present(softened, valid).any(), "the fixture is degenerate"
    found = build_loss(Loss(terms={name: 1.0}, soft_edges=2.0), 1)(logits, target, valid, weight)
    assert float(found) == pytest.approx(float(term(logits, softened, valid, weight, torch.tensor([True]))))
    assert float(found) > 0.1
