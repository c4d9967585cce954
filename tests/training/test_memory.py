"""Training where memory is short: batches in parts, with the loss of the whole batch."""

import pytest
import torch
from torch import nn
from trainings import CPU, run_until_killed, same, trainer_of, weights

from lib.config.training import Loss, Model
from lib.errors import UserError
from lib.models.outputs import Outputs
from lib.plugins import register
from lib.training import trainer as loop
from lib.training.losses import build_loss
from lib.training.step.gradients import add_gradients, random_states, set_random_states
from lib.training.train_member import training_facts

ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
FAILURES = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(ALLOCATOR), MemoryError()]


@register("model", "plain")
def plain(config: Model, channels: int) -> nn.Module:
    """A network without batch norm, whose outputs do not depend on what else is in the batch."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, channels, 3, padding=1))


def limited(trainer, most, failure, backward=False, late=False):
    """The trainer, whose network takes at most so many samples at once.

    `backward`: it fails in the backward pass, after the gradients of the last layer. `late`: it does not fail before
    the second batch of a step.
    """

    def check(module, inputs, *_):
        gradients = trainer.gradients
        if len(inputs[0]) > most and (not late or gradients.losses or gradients.parts.size):
            raise failure

    if backward:
        trainer.network.body[1].register_full_backward_hook(lambda module, _, outputs: check(module, outputs))
    else:
        trainer.network.register_forward_pre_hook(check)
    return trainer


def trained(trainer):
    trainer.run(None)
    return trainer.network.state_dict()


@pytest.mark.parametrize("when", [{}, {"backward": True}, {"late": True}, {"backward": True, "late": True}], ids=str)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_batch_in_parts_is_the_same_step(tiles, tmp_path, capsys, failure, when):
    options = {"architecture": "plain", "accumulate": 2, "clip": 0.0}
    whole = trained(trainer_of(tiles, tmp_path / "whole", **options))
    trainer = limited(trainer_of(tiles, tmp_path / "parts", **options), 2, failure, **when)
    parts = trained(trainer)
    start = trainer_of(tiles, tmp_path / "start", **options).network.state_dict()
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)
    moved = max(float((whole[name] - start[name]).abs().max()) for name in whole)
    assert moved > 1e-2, "the training is degenerate"
    assert trainer.gradients.parts.size == 2
    printed = capsys.readouterr().out
    assert printed.count("warning: 03: test/") == 0 and printed.count("a batch of 4 does not fit into memory") == 1


@pytest.mark.parametrize("architecture", ["tiny", "dropping"])  # with batch norm, and with random numbers
def test_an_attempt_that_failed_leaves_nothing_behind(tiles, tmp_path, architecture):
    in_parts = trainer_of(tiles, tmp_path / "parts", architecture, accumulate=2)
    in_parts.gradients.parts.size = 2
    failing = limited(trainer_of(tiles, tmp_path / "failing", architecture, accumulate=2), 2, MemoryError(), late=True)
    for trainer in (in_parts, failing):
        torch.manual_seed(5)
        trained(trainer)
    assert failing.gradients.parts.size == 2 and same(weights(tmp_path / "parts"), weights(tmp_path / "failing"))


def test_several_heads_and_losses_that_are_no_mean_over_samples(tiles, tmp_path):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(Model(), 1)

        def forward(self, x):
            mask = self.body(x.float() / 255)
            return Outputs(mask, mask.mean((2, 3)), (mask[..., ::2, ::2],))

    trainer = trainer_of(tiles, tmp_path / "run", architecture="plain")
    trainer.network = trainer.forward = Heads()
    trainer.loss = build_loss(Loss(terms={"dice": 1.0, "lovasz": 1.0, "ohem": 1.0}), 1)
    batch = next(trainer.data.batches(0))
    found = {}
    for name, parts in {"whole": [slice(0, 4)], "parts": [slice(0, 3), slice(3, 4)]}.items():
        trainer.network.zero_grad()
        loss = add_gradients(trainer, batch, parts, 2)
        found[name] = loss, [parameter.grad.clone() for parameter in trainer.network.parameters()]
    assert torch.allclose(found["whole"][0], found["parts"][0])
    for one, other in zip(found["whole"][1], found["parts"][1], strict=True):
        assert torch.allclose(one, other, atol=1e-6) and one.abs().max() > 1e-4


@pytest.mark.parametrize("memory", [3, 100])  # of the second run: with more of it, the batches stay in parts
@pytest.mark.parametrize("architecture", ["tiny", "dropping"])
def test_a_killed_training_in_parts_goes_on_the_same(tiles, tmp_path, monkeypatch, architecture, memory):
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 0)

    def made(name, most=3):
        return limited(trainer_of(tiles, tmp_path / name, architecture), most, MemoryError())

    made("whole").run(None)
    run_until_killed(made("killed"), 5)
    again = made("killed", memory)
    again.run(None)
    assert again.gradients.parts.size == 2 and same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert training_facts([again], 1.0)["part_size"] == 2


def test_parts_see_the_dropout_of_the_first_pass(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", "dropping")
    seen = []
    trainer.network.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    add_gradients(trainer, next(trainer.data.batches(0)), [slice(0, 2), slice(2, 4)], 1)
    assert len(seen) == 4 and torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


def test_batch_norm_counts_each_part_once(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run")
    norm = next(module for module in trainer.network.modules() if isinstance(module, nn.BatchNorm2d))
    add_gradients(trainer, next(trainer.data.batches(0)), [slice(0, 2), slice(2, 4)], 1)
    assert norm.num_batches_tracked == 2


def test_a_sample_that_does_not_fit_is_one_sentence(tiles, tmp_path):
    (tmp_path / "base").mkdir()
    trainer = limited(trainer_of(tiles, tmp_path / "base/fold0_seed3"), 0, FAILURES[0])
    with pytest.raises(UserError, match=r"03: base/fold0_seed3: a single sample does not fit .* lower train\.crop"):
        trainer.run(None)


def test_other_errors_are_no_lack_of_memory(tiles, tmp_path):
    trainer = limited(trainer_of(tiles, tmp_path / "run"), 2, RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes"):
        trainer.run(None)


def test_the_random_numbers_of_the_cpu_are_kept():
    states = random_states(CPU)
    drawn = torch.rand(3)
    set_random_states(states, CPU)
    assert torch.equal(torch.rand(3), drawn)
