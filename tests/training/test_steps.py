"""What a step does, against the same done by hand: gradients, clipping, rates, averages, dropout."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from trainings import data_of, same, trainer_of, weights

from lib.config.load import load
from lib.config.training import Model, Swa, Train
from lib.models.network import build_network
from lib.plugins import register
from lib.stages import member_stage
from lib.training import trainer as loop
from lib.training.distributed import ProcessGroup
from lib.training.losses import build_loss
from lib.training.optimizers import build_optimizer, learning_rate, sgd
from lib.workspace import Member, Workspace

STILL = {"optimizer": "sgd", "lr": 1e-12, "clip": 0, "swa": Swa(start=1), "evaluations": 0}  # weights stay


class Pair(ProcessGroup):
    """One of two processes, without the other one, which would do and say the same."""

    def wrap(self, network, synced=False):
        return network

    def no_sync(self, replica, last):
        return nullcontext()

    def all(self, value):
        return value

    def common(self, names):
        return names

    def broadcast(self, value):
        return value

    def shared(self, value):
        return value


@register("model", "idling")
class Idling(nn.Module):
    """A layer that nothing depends on."""

    def __init__(self, config, channels):
        super().__init__()
        self.layer, self.idle = nn.Conv2d(3, channels, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_processes_trains_on_its_share_and_only_the_main_one_writes(tiles, tmp_path, rank):
    trainer = trainer_of(tiles, tmp_path / "run", "idling", evaluations=1)
    trainer.processes, asked, sizes = Pair(rank, 2), [], set()
    endless_batches, loss = trainer.data.endless_batches, trainer.loss

    def batches(epoch, progress, processes):
        asked.append((epoch, progress(epoch)))
        return endless_batches(epoch, progress, processes)

    trainer.data.endless_batches = batches
    trainer.loss = lambda logits, *labels: (sizes.add(len(logits)), loss(logits, *labels))[1]
    trainer.run(lambda network: 0.5)
    assert asked == [(0, 0.0)] * 2, "the probe for unused parameters sees what the training sees first"
    assert sizes == {2} and trainer.step == 8
    assert trainer.unused == ["body.idle.weight", "body.idle.bias"]
    assert not trainer.network.body.idle.weight.requires_grad
    written = {path.name for path in (tmp_path / "run").iterdir()}
    everything = {"last.pt", "metrics.jsonl", "best_weights.pt", "last_weights.pt", "swa_weights.pt"}
    assert written == (everything if rank == 0 else set())


def stepped(trainer):
    """The gradients and rates of every step that the trainer will take."""
    seen, step = [], trainer.optimizer.step

    def watched(*arguments, **options):
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        seen.append(([parameter.grad.clone() for parameter in trainer.network.parameters()], rates))
        return step(*arguments, **options)

    trainer.optimizer.step = watched
    return seen


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_takes_the_mean_of_its_batches_gradients(tiles, tmp_path, accumulate):
    """Ten tiles in batches of two are five batches an epoch: 2 + 2 + 1, or 3 + 2."""
    trainer = trainer_of(tiles, tmp_path / "run", epochs=1, accumulate=accumulate, **STILL)
    trainer.data.batch_size = 2
    seen, network, loss_of = stepped(trainer), copy.deepcopy(trainer.network).train(), build_loss(Train().loss, 1)
    trainer.run(None)
    data = data_of(tiles)
    data.batch_size = 2
    batches = list(data.batches(0))
    groups = [batches[i : i + accumulate] for i in range(0, 5, accumulate)]
    assert len(batches) == 5 and len(seen) == len(groups)
    for (gradients, _), group in zip(seen, groups, strict=True):
        network.zero_grad()
        for images, *labels in group:
            (loss_of(network(images), *labels) / len(group)).backward()
        for mine, parameter in zip(gradients, network.parameters(), strict=True):
            assert torch.allclose(mine, parameter.grad, rtol=1e-4, atol=1e-7)


def norm(gradients):
    return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


def test_gradients_longer_than_clip_are_shortened_to_it_and_others_are_not(tiles, tmp_path):
    norms = {}
    for clip in (0, 0.05, 1e6):
        trainer = trainer_of(tiles, tmp_path / str(clip), **{**STILL, "clip": clip})
        seen = stepped(trainer)
        trainer.run(None)
        norms[clip] = [norm(gradients) for gradients, _ in seen]
    assert min(norms[0]) > 0.1 and norms[1e6] == norms[0]
    assert norms[0.05] == pytest.approx([0.05] * 8, rel=1e-3)


def test_progress_is_told_by_steps_or_by_the_clock(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run")  # four epochs of two steps
    trainer.step, trainer.seconds = 2, 2.5
    assert (trainer.progress(), trainer.epoch_length(), trainer.total_steps()) == (0.25, 0.25, 8)
    assert [trainer.progress_at(epoch) for epoch in (0, 1, 9)] == [0, 0.25, 1]
    trainer.step = 9
    assert trainer.progress() == 1
    timed = trainer_of(tiles, tmp_path / "timed", member_limit=10)
    assert timed.epoch_length() == 0.25, "nothing is known of its seconds yet"
    timed.step, timed.seconds = 5, 2.5
    assert (timed.progress(), timed.epoch_length(), timed.progress_at(9)) == (0.25, 2 * 0.5 / 10, 0.25)
    timed.seconds = 11
    assert timed.progress() == 1


def test_every_step_takes_the_rate_of_its_progress(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", lr=0.02, warmup=0.25, swa=Swa(start=1))
    seen = stepped(trainer)
    trainer.run(None)
    wanted = [learning_rate(trainer.config, step / 8, 1 / 4) for step in range(8)]
    assert [rates[0] for _, rates in seen] == pytest.approx(wanted) and len(set(wanted)) == 8


def test_rates_have_their_values():
    config = Train(lr=2.0, warmup=0.1, min_lr=0.1, swa=Swa(start=1))

    def rate(progress, plateaus=0, **options):
        return learning_rate(config.model_copy(update=options), progress, 0.1, plateaus)

    assert rate(0.05) == pytest.approx(2 * (0.05 + 1e-3) / 0.1)
    assert rate(0.55) == pytest.approx(2 * (0.1 + 0.9 * 0.5)), "half-way down the cosine"
    assert rate(0.325) == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert rate(1.0) == pytest.approx(0.2)
    assert rate(0.55, schedule="poly") == pytest.approx(2 * (0.1 + 0.9 * 0.5**0.9))
    assert rate(0.7, schedule="restarts") == pytest.approx(2 * (0.1 + 0.9)), "the third wave's top"
    assert rate(0.1 + 0.9 * 0.15, schedule="onecycle") == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rate(0.1 + 0.9 * 0.65, schedule="onecycle") == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rate(0.5, plateaus=3, schedule="plateau") == pytest.approx(2 * (0.1 + 0.9 / 8))
    swa = {"swa": Swa(start=0.5, lr=0.3)}
    assert rate(0.3, **swa) == pytest.approx(2 * (0.3 + 0.7 * 0.5)), "it comes down to where SWA starts"
    assert rate(0.8, **swa) == pytest.approx(0.6)
    cycle = {"swa": Swa(start=0.5, lr=0.3, every=2, schedule="cyclic")}
    assert rate(0.6, **cycle) == pytest.approx(0.6 * (1 - 0.5 * 0.9)), "half of a cycle of two epochs"
    never = {"swa": Swa(start=1, lr=0.3, schedule="constant")}
    assert rate(1.0, **never) == pytest.approx(0.2), "SWA that never starts has no rate"


def test_sgd_has_nesterovs_momentum():
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = sgd([{"params": [parameter], "lr": 0.1}], Train(lr=9.0))
    for gradient, wanted in ((1.0, 1 - 0.1 * (1 + 0.9 * 1)), (2.0, 0.81 - 0.1 * (2 + 0.9 * (0.9 * 1 + 2)))):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        assert parameter.item() == pytest.approx(wanted)


def test_parameters_learn_and_decay_as_their_place_and_shape_say():
    network = build_network(Model(weights="none"), 1)
    config = Train(lr=0.5, weight_decay=0.03, encoder_lr=0.4, layer_decay=0.5)
    optimizer = build_optimizer(config, network)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(group_of) == len(list(network.parameters()))
    found = {name: group_of[id(parameter)] for name, parameter in network.named_parameters()}
    for name, parameter in network.named_parameters():
        assert found[name]["weight_decay"] == (0.03 if parameter.ndim > 1 else 0), name
        assert found[name]["lr"] == pytest.approx(0.5 * found[name]["share"])
        if ".encoder." not in name:
            assert found[name]["share"] == 1, name
    shares = {name.split(".encoder.model.")[1].rsplit(".", 1)[0]: group["share"]
              for name, group in found.items() if ".encoder." in name}  # fmt: skip
    assert shares["conv_stem"] < shares["blocks.0.0.conv_dw"] < shares["blocks.6.0.conv_pw"]
    blocks = [shares[next(name for name in shares if name.startswith(f"blocks.{i}."))] for i in range(7)]
    assert blocks == pytest.approx([0.4 * 0.5 ** (6 - i) * blocks[6] / 0.4 for i in range(7)])
    assert max(shares.values()) == pytest.approx(0.4), "the stage next to the decoder"


def test_ema_is_the_recursion_and_swa_the_mean_of_what_they_saw(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=6, ema=0.3, lr=0.2, swa=Swa(start=0.5, every=1, bn_batches=2))
    name = "body.0.weight"
    seen = [trainer.network.state_dict()[name].clone()]
    take, update, averaged = trainer.optimizer_step, trainer.swa.update, []
    trainer.optimizer_step = lambda: (take(), seen.append(trainer.network.state_dict()[name].clone()))[0]
    trainer.swa.update = lambda network: (averaged.append(network.state_dict()[name].clone()), update(network))
    trainer.run(None)
    assert len(seen) == 13 and len(averaged) == 3
    ema = seen[0]
    for step, value in enumerate(seen[1:]):
        decay = min(0.3, (1 + step) / (10 + step))  # warmed up
        ema = decay * ema + (1 - decay) * value
    found = weights(tmp_path / "run")
    assert torch.allclose(found["ema_weights.pt"][name].float(), ema, atol=1e-3)
    assert torch.allclose(found["swa_weights.pt"][name].float(), sum(averaged) / 3, atol=1e-3)
    assert not torch.allclose(ema, seen[-1], atol=5e-3) and not torch.allclose(ema, averaged[-1], atol=5e-3)


def test_dropout_is_drawn_anew_each_epoch_and_again_on_resume(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 0)
    still = {"architecture": "dropping", **STILL}

    def masks(trainer, until=99):
        """What is dropped in the first batch of each epoch."""
        drawn = []

        def watch(module, inputs, output):
            drawn.append((output == 0) & (inputs[0] != 0))

        trainer.network.body[1].register_forward_hook(watch)
        train = trainer.train_batch

        def dies(*arguments):
            if len(drawn) == until:
                raise KeyboardInterrupt
            return train(*arguments)

        trainer.train_batch = dies
        if until < 99:
            with pytest.raises(KeyboardInterrupt):
                trainer.run(None)
        else:
            trainer.run(None)
        return drawn

    whole = masks(trainer_of(tiles, tmp_path / "whole", **still))
    assert all(0.4 < float(mask.float().mean()) < 0.6 for mask in whole) and len(whole) == 8
    assert all(not torch.equal(whole[0], mask) for mask in whole[1:]), "every epoch's are others"
    masks(trainer_of(tiles, tmp_path / "killed", **still), until=5)
    torch.manual_seed(99)  # another process
    rest = masks(trainer_of(tiles, tmp_path / "killed", **still))
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))
    other = trainer_of(tiles, tmp_path / "other", **still)
    other.seed += 1
    assert not torch.equal(masks(other)[0], whole[0]), "and every seed's"
    pair = [trainer_of(tiles, tmp_path / f"rank{rank}", **still) for rank in (0, 1)]
    for rank, trainer in enumerate(pair):
        trainer.processes = Pair(rank, 2)
    assert not torch.equal(masks(pair[0])[0], masks(pair[1])[0]), "and every process's"
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


@pytest.mark.parametrize(
    "flags", [("model.encoder", "tu-resnet18"), ("augment.preset", "light"), ("train.lr", "0.5"), ("train.clip", "2")]
)
def test_a_member_is_trained_again_for_another_network_or_training(tmp_path, flags):
    workspace = Workspace(tmp_path)
    member = Member("base", 0, 1, workspace.member_dir("base", 0, 1))
    made = [member_stage(member, load(None, given), workspace, []).now for given in ([], [f"--{flags[0]}", flags[1]])]
    assert made[0] != made[1]
