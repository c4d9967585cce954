import numpy as np
import pandas as pd
import pytest
import torch
from trainings import CPU, data_of, run_until_killed, same, trainer_of, weights

from lib.config.training import Model, Sampling, Swa, Train
from lib.data.sampler import BalancedSampler
from lib.models.network import build_network
from lib.system.precision import autocast, scaler
from lib.training import trainer as loop
from lib.training.averaging import WeightAverage, batch_norm_batches, update_bn
from lib.training.optimizers import learning_rate


def test_workers_change_nothing_and_epochs_differ(tiles):
    alone, helped = (list(data_of(tiles, workers).batches(epoch=3)) for workers in (0, 2))
    assert all(torch.equal(x, y) for a, b in zip(alone, helped, strict=True) for x, y in zip(a, b, strict=True))
    later = list(data_of(tiles).batches(epoch=4))
    assert not torch.equal(alone[0][0], later[0][0])
    assert torch.equal(alone[0][0], list(data_of(tiles).batches(epoch=3))[0][0])


def test_one_tile_drawn_twice_in_an_epoch_is_augmented_differently(tiles):
    dataset = data_of(tiles).dataset
    assert not torch.equal(dataset[0, 0, 1][0], dataset[0, 0, 2][0])


@pytest.mark.parametrize("saved_every", [0, 3600])
def test_killed_and_resumed_training_ends_with_the_same_bits(tiles, tmp_path, monkeypatch, saved_every):
    monkeypatch.setattr(loop, "SAVE_INTERVAL", saved_every)
    trainer_of(tiles, tmp_path / "whole", ema=0.9).run(None)
    run_until_killed(trainer_of(tiles, tmp_path / "killed", ema=0.9), 5)  # in the middle of the third epoch
    assert (tmp_path / "killed/last.pt").exists() == (saved_every == 0)
    trainer_of(tiles, tmp_path / "killed", ema=0.9).run(None)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert set(first) == {"ema_weights.pt", "last_weights.pt", "swa_weights.pt"}
    assert same(first, second)
    assert (tmp_path / "whole/metrics.jsonl").read_text().count("\n") == 4


def test_training_learns_and_swa_and_ema_are_other_weights(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=30, ema=0.95)
    trainer.run(None)
    import json

    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    found = weights(tmp_path / "run")
    keys = [k for k in found["last_weights.pt"] if "weight" in k]
    for name in ("swa_weights.pt", "ema_weights.pt"):
        assert any(not torch.equal(found[name][k], found["last_weights.pt"][k]) for k in keys)


def test_swa_is_the_mean_of_what_it_saw():
    nets = [build_network(Model(architecture="tiny"), 1) for _ in range(3)]
    average = WeightAverage(nets[0])
    for net in nets:
        average.update(net)
    name = "body.0.weight"
    mean = torch.stack([net.state_dict()[name] for net in nets]).mean(0)
    assert torch.allclose(average.network(nets[0]).state_dict()[name], mean, atol=1e-6)


def test_an_average_goes_on_from_what_was_saved_and_a_mean_of_nothing_takes_no_room():
    nets = [build_network(Model(architecture="tiny"), 1) for _ in range(3)]
    for decay in (None, 0.5):
        whole, resumed = WeightAverage(nets[0], decay), WeightAverage(nets[0], decay)
        assert bool(whole.state_dict()["state"]) == (decay is not None)
        for net in nets:
            whole.update(net)
            resumed.update(net)
            later = WeightAverage(nets[2], decay)
            later.load_state_dict(resumed.state_dict())
            resumed = later
        empty = WeightAverage(nets[2], decay)
        empty.load_state_dict(WeightAverage(nets[0], decay).state_dict())
        for net in nets:
            empty.update(net)
        for average in (resumed, empty):
            assert all(torch.equal(average.state[name], value) for name, value in whole.state.items())


def test_batch_norm_statistics_are_those_of_the_data():
    net = build_network(Model(architecture="tiny"), 1)
    batches = [torch.rand(4, 3, 16, 16) * 255 for _ in range(3)]
    update_bn(net, batches, "fp32")
    with torch.no_grad():
        inner = torch.cat([net.body[0]((b - net.mean) / net.std) for b in batches])
    assert torch.allclose(net.body[1].running_mean, inner.mean((0, 2, 3)), atol=1e-4)
    assert not net.training and net.body[1].momentum == 0.1, "what a training goes on with"


def test_a_network_without_batch_norm_needs_no_batches():
    def batches():
        pytest.fail("read")
        yield

    net = torch.nn.Conv2d(3, 1, 1)
    update_bn(net, batches(), "fp32")
    assert not net.training


def test_batches_for_an_averages_statistics_are_as_many_as_asked_for_and_of_no_trained_epoch(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=9)
    calm = list(batch_norm_batches(trainer))
    assert len(calm) == 2 == trainer.config.swa.bn_batches
    for epoch in range(9):
        for batch in trainer.data.batches(epoch):
            assert not any(torch.equal(batch[0], one) for one in calm)


def test_an_epoch_has_whole_batches_and_at_least_one(tiles):
    for size, steps in ((1, 10), (4, 2), (10, 1), (99, 1)):
        data = data_of(tiles)
        data.batch_size = size
        assert data.steps() == len(list(data.batches(0))) == steps


def test_a_training_that_ends_before_its_first_sample_takes_one_at_its_end(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", swa=Swa(start=0.9, every=5, bn_batches=2))
    trainer.run(None)
    assert trainer.swa_samples == trainer.swa.count == 1
    found = weights(tmp_path / "run")
    assert torch.equal(found["swa_weights.pt"]["body.0.weight"], found["last_weights.pt"]["body.0.weight"])


def test_the_learning_rate_warms_up_falls_and_cycles():
    plain = Train(lr=1.0, swa=Swa(start=1.0))
    curve = [learning_rate(plain, p / 100, 0.1) for p in range(101)]
    assert curve[0] < 0.1 and max(curve) > 0.95 and curve[-1] == pytest.approx(0.01)
    assert curve[5:] == sorted(curve[5:], reverse=True)
    constant = Train(lr=1.0, swa=Swa(start=0.5, lr=0.3))
    assert {learning_rate(constant, p, 0.1) for p in (0.5, 0.7, 0.99)} == {0.3}
    cyclic = Train(lr=1.0, swa=Swa(start=0.5, lr=0.3, every=1, schedule="cyclic"))
    assert learning_rate(cyclic, 0.5, 0.1) > 0.29 > 0.02 > learning_rate(cyclic, 0.5999, 0.1)


def test_a_cycles_samples_are_taken_at_its_lowest_rate(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=40, lr=1.0, swa=Swa(start=0.5, every=5, schedule="cyclic"))
    rates, update = [], trainer.swa.update
    trainer.swa.update = lambda network: (rates.append(trainer.optimizer.param_groups[0]["lr"]), update(network))
    trainer.run(None)
    top = trainer.config.lr * trainer.config.swa.lr
    assert len(rates) == 4 and max(rates) < 0.25 * top, rates


def test_the_clock_ends_a_training_with_a_limit(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", member_limit=0.5, epochs=1000)
    update, steps = trainer.train_batch, []
    trainer.train_batch = lambda *a, **k: (steps.append(trainer.seconds), update(*a, **k))[1]
    trainer.run(None)
    assert steps[-1] < 0.5 <= trainer.seconds, "the last step began inside the limit and ended outside"


def test_float16_steps_go_through_the_scaler(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run")
    trainer.precision, trainer.scaler = "fp16", scaler(CPU, "fp16")
    trainer.run(None)
    assert trainer.scaler.is_enabled() and trainer.scaler.get_scale() >= 1
    with autocast(CPU, "bf16"):
        assert trainer.network(torch.zeros(1, 3, 32, 32)).dtype == torch.bfloat16


def test_foreground_share_and_pseudo_share_are_kept():
    tiles = pd.DataFrame({"object": np.arange(100) < 10, "pseudo": np.arange(100) >= 80})
    sampler = BalancedSampler(tiles, Sampling(foreground_share=0.5, samples_per_epoch=60), 0.25, seed=1)
    drawn = np.array([key[0] for key in sampler.keys(0)])
    assert len(drawn) == 60 and (drawn >= 80).sum() == 15 and (drawn < 10).sum() in (22, 23)
    assert sampler.keys(0) == sampler.keys(0) != sampler.keys(1)


def test_large_images_and_groups_come_no_more_often_than_small_ones():
    tiles = pd.DataFrame(
        {
            "image_id": ["large"] * 40 + ["small"] * 4 + ["other"] * 4,
            "group": ["first"] * 44 + ["second"] * 4,
            "object": [True] * 48,
            "pseudo": False,
        }
    )

    def drawn(alike):
        sampler = BalancedSampler(tiles, Sampling(balance=alike, samples_per_epoch=48), 0.0, seed=1)
        return tiles.iloc[[key[0] for key in sampler.keys(0)]]

    assert drawn("tiles").index.nunique() == 48
    assert drawn("images")["image_id"].value_counts().to_dict() == {"large": 16, "small": 16, "other": 16}
    assert drawn("groups")["group"].value_counts().to_dict() == {"first": 24, "second": 24}
    assert drawn("images").index.value_counts().max() == 4, "an image's tiles take turns"


def test_the_first_steps_tell_how_long_all_members_will_take(tiles, tmp_path, capsys):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=20)
    trainer.data.batch_size, trainer.step, trainer.seconds = 4, 20, 10.0
    assert trainer.forecast(6) == "03: 0.50 s a step: 40 steps, 20.0 epochs in 20 s, 2 min for 6 members, scoring aside"
    trainer.first_step = 1, 5.25  # a GPU's first step takes seconds
    assert trainer.forecast(1) == "03: 0.25 s a step: 40 steps, 20.0 epochs in 15 s, scoring aside"
    trainer.first_step, trainer.config = (0, 0.0), trainer.config.model_copy(update={"member_limit": 30.0})
    assert trainer.forecast(1) == "03: 0.50 s a step: 60 steps, 30.0 epochs in 30 s, scoring aside"
    trainer.step, trainer.config = 0, trainer.config.model_copy(update={"member_limit": 0.0})
    trainer.run(None, members=6)
    assert trainer.first_step[0] == 1
    assert "for 6 members" in "".join(capsys.readouterr())


def test_a_training_ends_in_the_middle_of_an_epoch(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=1.5)
    trainer.run(None)
    assert trainer.step == trainer.total_steps() == 3 and trainer.data.steps() == 2


def test_evaluations_are_spread_evenly_and_the_last_checkpoint_is_the_end(tiles, tmp_path, monkeypatch):
    seen, to_come = [], []
    aside = loop.Bar.aside
    monkeypatch.setattr(loop.Bar, "aside", lambda bar, s, more: (to_come.append(more), aside(bar, s, more))[1])
    trainer = trainer_of(
        tiles, tmp_path / "run", epochs=8, evaluations=3, checkpoints=3, checkpoints_from=0.2, swa=Swa(start=1)
    )
    trainer.run(lambda network: seen.append(trainer.progress()) or len(seen))
    assert seen == [0.25, 0.5, 0.75, 1] and to_come == [3, 2, 1, 0], "by which the rest is foretold"
    kept = weights(tmp_path / "run")
    assert same({"a": kept["checkpoint3_weights.pt"]}, {"a": kept["last_weights.pt"]})
    assert not same({"a": kept["checkpoint2_weights.pt"]}, {"a": kept["last_weights.pt"]})
    name = "body.0.weight"
    mean = sum(kept[f"checkpoint{i}_weights.pt"][name].float() for i in (1, 2, 3)) / 3
    assert torch.allclose(kept["mean_weights.pt"][name].float(), mean, atol=2e-3)


def test_gradients_are_used_even_where_an_epoch_is_shorter_than_their_sum(tiles, tmp_path):
    trainer = trainer_of(tiles, tmp_path / "run", epochs=2, accumulate=100, swa=Swa(start=1))
    before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    trainer.run(None)
    assert any(not torch.equal(before[name], value) for name, value in trainer.network.named_parameters())


@pytest.mark.parametrize(
    ("scores", "best"), [([0.1, 0.2], "last"), ([0.2, 0.1], "half"), ([0.2, 0.2], "half"), ([-3, -2], "last")]
)
def test_the_final_network_competes_with_those_on_the_way(tiles, tmp_path, scores, best):
    trainer = trainer_of(tiles, tmp_path / "run", evaluations=1)
    given, halves = list(scores), []

    def evaluate(network):
        halves.append({name: value.half() for name, value in network.state_dict().items()})
        return given.pop(0)

    trainer.run(evaluate)
    assert not given and trainer.evaluations == 2
    found = weights(tmp_path / "run")
    wanted = halves[["half", "last"].index(best)]
    assert all(torch.equal(found["best_weights.pt"][name], value.to(found["best_weights.pt"][name].dtype))
               for name, value in wanted.items())  # fmt: skip
    assert same({"a": found["best_weights.pt"]}, {"a": found["last_weights.pt"]}) == (best == "last")


@pytest.mark.parametrize("options", [{}, {"schedule": "plateau", "evaluations": 2}, {"soup": True, "checkpoints": 2}])
def test_a_training_killed_at_its_last_evaluation_has_the_same_best(tiles, tmp_path, options):
    options = {"evaluations": 1, **options}

    def score(network):  # of the weights alone
        return float(network.state_dict()["body.0.weight"].abs().sum())

    trainer_of(tiles, tmp_path / "whole", **options).run(score)
    killed, seen = trainer_of(tiles, tmp_path / "killed", **options), []

    def dies(network):
        if len(seen) == options["evaluations"]:
            raise KeyboardInterrupt
        seen.append(1)
        return score(network)

    with pytest.raises(KeyboardInterrupt):
        killed.run(dies)
    trainer_of(tiles, tmp_path / "killed", **options).run(score)
    assert "best_weights.pt" in weights(tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert [len(log) for log in logs] == [4 + options["evaluations"] + 1] * 2, "no line twice"


def test_a_training_without_evaluations_scores_nothing(tiles, tmp_path):
    trainer_of(tiles, tmp_path / "run", evaluations=0).run(lambda network: pytest.fail("scored"))
    assert "best_weights.pt" not in weights(tmp_path / "run")
