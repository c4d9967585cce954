"""Losses, gradients, weights and maps that are not finite: skipped, gone back from, or refused with a name."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from trainings import CPU, run_until_killed, same, trainer_of, weights

from lib.errors import UserError
from lib.inference.networks import Ensemble
from lib.models.weight_files import load_network, load_weights, save_weights
from lib.pseudo.agreement import Votes
from lib.system.precision import scaler
from lib.training import trainer as loop
from lib.training.step.finite_guard import MAX_ROLLBACKS, MAX_SKIPPED_IN_ROW, copied


def spoiled(trainer, when, by=lambda loss: loss * math.nan):
    """The trainer, whose loss is not finite in the steps where `when(trainer)`."""
    whole = trainer.loss

    def loss(*arguments):
        return by(whole(*arguments)) if when(trainer) else whole(*arguments)

    trainer.loss = loss
    return trainer


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def all_finite(folder):
    return all(bool(value.isfinite().all()) for state in weights(folder).values() for value in state.values())


def infinite_gradients(loss):
    # Finite itself, with a gradient that is not: the derivative of a root at 0.
    return loss + (loss * 0).sqrt()


@pytest.mark.parametrize("by", [lambda loss: loss * math.nan, lambda loss: loss + math.inf, infinite_gradients])
def test_a_step_that_is_not_finite_changes_nothing(tiles, tmp_path, capsys, by):
    trainer = spoiled(trainer_of(tiles, tmp_path / "run", ema=0.9), lambda t: t.step == 3, by)
    states, take = [], trainer.optimizer_step

    def watched():
        before = copied([trainer.network.state_dict(), trainer.ema.state_dict()])
        losses = take()
        states.append((before, copied([trainer.network.state_dict(), trainer.ema.state_dict()])))
        return losses

    trainer.optimizer_step = watched
    trainer.run(None)
    moved = [not torch.equal(was[0]["body.0.weight"], now[0]["body.0.weight"]) for was, now in states]
    assert moved == [True] * 3 + [False] + [True] * 4
    was, now = states[3]
    assert torch.equal(was[1]["state"]["body.0.weight"], now[1]["state"]["body.0.weight"]), "EMA had no part in it"
    before, after = states[2][1][0], now[0]
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name), "nor had batch norm"
    assert trainer.guard.skipped == 1 and all_finite(tmp_path / "run")
    lines = lines_of(tmp_path / "run")
    assert [line["skipped"] for line in lines] == [0, 1, 1, 1]
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert capsys.readouterr().out.count("warning: 03:") == 1


def test_skipped_steps_of_a_group_drop_the_whole_group(tiles, tmp_path):
    trainer = spoiled(trainer_of(tiles, tmp_path / "run", accumulate=2), lambda t: t.step == 2)
    trainer.run(None)
    assert (trainer.guard.skipped, trainer.guard.taken) == (1, 3)


def test_after_several_in_a_row_it_goes_back_and_learns_slower(tiles, tmp_path, capsys):
    def bad(trainer):
        return 2 <= trainer.step < 2 + MAX_SKIPPED_IN_ROW and trainer.guard.rate == 1

    trainer = spoiled(trainer_of(tiles, tmp_path / "run", epochs=8), bad)
    rates, take = {}, trainer.optimizer_step
    trainer.optimizer_step = lambda: (take(), rates.setdefault(trainer.step, []).append(trainer.lr()))[0]
    trainer.run(None)
    # Epochs have two batches, and the second one's first is the first that fails.
    assert rates[2][1] == pytest.approx(rates[2][0] / 2), "from the start of the epoch, at half the rate"
    assert (trainer.guard.returns, trainer.guard.skipped, trainer.step) == (1, MAX_SKIPPED_IN_ROW, 16)
    lines = lines_of(tmp_path / "run")
    assert [line["epoch"] for line in lines] == list(range(8)) and all_finite(tmp_path / "run")
    assert "goes on from step 2 with 0.5 of the learning rate" in capsys.readouterr().out


@pytest.mark.parametrize("at", [4, 9, 13])
def test_a_return_is_the_same_when_the_training_was_killed(tiles, tmp_path, monkeypatch, at):
    monkeypatch.setattr(loop, "SAVE_INTERVAL", 0)

    def made(name):
        trainer = trainer_of(tiles, tmp_path / name, epochs=8, ema=0.9)
        return spoiled(trainer, lambda t: 5 <= t.step < 5 + MAX_SKIPPED_IN_ROW and t.guard.rate == 1)

    made("whole").run(None)
    run_until_killed(made("killed"), at)
    again = made("killed")
    again.run(None)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert again.guard.returns == 1 and again.guard.skipped == MAX_SKIPPED_IN_ROW
    assert [line["loss"] for line in lines_of(tmp_path / "killed")] == [
        line["loss"] for line in lines_of(tmp_path / "whole")
    ]


@pytest.mark.parametrize("epochs", [30, 1])
def test_what_stays_bad_is_given_up_with_one_sentence(tiles, tmp_path, epochs):
    (tmp_path / "base").mkdir()
    trainer = spoiled(trainer_of(tiles, tmp_path / "base/fold0_seed3", epochs=epochs), lambda t: True)
    with pytest.raises(UserError, match=r"base/fold0_seed3: the loss or its gradients are not finite .* train\.lr"):
        trainer.run(None)
    assert trainer.guard.returns == (MAX_ROLLBACKS if epochs > 1 else 0)
    assert not weights(trainer.folder), "nothing to predict with was written"


def test_a_scaler_that_lowers_its_scale_is_no_fault_and_one_that_cannot_is(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=20)
    trainer.precision = "fp16"
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=10**6)
    # Gradients overflow above a scale of 2 ** 10, as those of float16 do.
    spoiled(trainer, lambda t: t.scaler.get_scale() > 2**10, infinite_gradients)
    trainer.run(None)
    assert (trainer.guard.skipped, trainer.guard.returns, trainer.guard.taken) == (0, 0, 40 - 10)
    assert trainer.scaler.get_scale() == 2**10

    diverging = trainer_of(tiles, tmp_path / "other", epochs=40)
    diverging.precision, diverging.scaler = "fp16", scaler(CPU, "fp16")
    spoiled(diverging, lambda t: True, infinite_gradients)
    scales, skip = [], diverging.guard.skip_step
    diverging.guard.skip_step = lambda: (scales.append(diverging.scaler.get_scale()), skip())
    with pytest.raises(UserError, match="not finite"):
        diverging.run(None)
    assert scales[0] == 0.5, "a scale of 1 changes no gradient, so what fails with it is at fault"


# ---- weights and maps ------------------------------------------------------------------------------------------------


def member_with(folder, **spoiled_values):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    for name, value in spoiled_values.items():
        network.state_dict()[name.replace("__", ".")].flatten()[0] = value
    return network, folder / "base/fold1_seed7/last_weights.pt"


@pytest.mark.parametrize("name", ["0__weight", "0__bias", "1__running_mean", "1__running_var"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_and_statistics_that_are_not_finite_are_refused(tmp_path, name, value):
    network, path = member_with(tmp_path, **{name: value})
    message = rf"base/fold1_seed7: last_weights.pt holds .* not finite .* in {name.replace('__', '.')}"
    with pytest.raises(UserError, match=message):
        save_weights(path, network)
    assert not path.exists()
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    with pytest.raises(UserError, match=message):
        load_weights(path)


def test_what_float16_cannot_hold_is_kept_in_float32(tmp_path):
    network, path = member_with(tmp_path, **{"1__running_var": 1e6})
    save_weights(path, network)
    assert load_weights(path)["1.running_var"][0] == 1e6
    assert torch.load(path, weights_only=True)["0.weight"].dtype == torch.float16


class Says(nn.Module):
    def __init__(self, value=0.0, channels=1):
        super().__init__()
        self.value, self.channels = value, channels

    def forward(self, x):
        out = torch.zeros(len(x), self.channels, *x.shape[2:])
        out[..., -1, -1] = self.value
        return out


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_that_are_not_finite_name_their_member(channels):
    nets = [Says(channels=channels), Says(math.nan, channels)]
    nets[1].display_name = "base/fold1_seed7 swa"
    windows = np.zeros((2, 8, 8, 3), np.uint8)
    for forward in (Ensemble(nets, CPU), Votes(Ensemble(nets, CPU))):
        with pytest.raises(UserError, match="base/fold1_seed7 swa predicts values .* not finite .* eager in fp32"):
            forward(windows)
    assert np.isfinite(Ensemble(nets[:1], CPU)(windows)).all()


def test_members_say_their_name(tiny, tmp_path):
    from lib.config.load import load
    from lib.models.network import build_network
    from lib.models.weight_files import write_description

    config = load(tiny)
    folder = tmp_path / "runs/base/fold0_seed1"
    write_description(folder, config, 1)
    save_weights(folder / "last_weights.pt", build_network(config.model, 1))
    for which in ("last", "swa", "best"):  # of a training without SWA and evaluations
        assert load_network(folder, which, CPU).display_name == f"base/fold0_seed1 {which}"
    with pytest.raises(UserError, match="no ema weights"):
        load_network(folder, "ema", CPU)
