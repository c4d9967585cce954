"""Schedules, layer-wise rates and soups of weights."""

import numpy as np
import pytest
from torch import nn

from lib.config.training import Model, Swa, Train
from lib.errors import UserError
from lib.models.network import build_network
from lib.training.averaging import WeightAverage, average_weights, greedy_soup
from lib.training.optimizers import build_optimizer, learning_rate


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
    network = build_network(Model(weights="none"), 1)
    groups = build_optimizer(Train(lr=1.0, layer_decay=0.5, encoder_lr=0.8), network).param_groups
    shares = sorted({group["share"] for group in groups})
    assert shares[-1] == 1.0 and shares[-2] == 0.8
    assert all(b / a == pytest.approx(2) for a, b in zip(shares[:-2], shares[1:-1], strict=True))
    assert len(shares) > 7


def flat(value):
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net


def test_an_average_of_numbers_is_their_mean_or_a_recursion_that_warms_up():
    values = [float(n**2) for n in range(1, 120)]
    mean, moving, decayed = WeightAverage(flat(5.0)), WeightAverage(flat(5.0), 0.9), 5.0
    for count, value in enumerate(values):
        mean.update(flat(value))
        moving.update(flat(value))
        decay = min(0.9, (1 + count) / (10 + count))
        decayed = decay * decayed + (1 - decay) * value
        assert float(mean.state["weight"]) == pytest.approx(np.mean(values[: count + 1]), rel=1e-5)
        assert float(moving.state["weight"]) == pytest.approx(decayed, rel=1e-5)


def test_a_soup_keeps_what_does_not_lower_the_score():
    states = [flat(v).state_dict() for v in (1.0, 9.0, 3.0)]
    assert float(average_weights(states, flat(0.0)).state["weight"]) == pytest.approx(13 / 3)

    def score(average):  # 2 is best
        return -abs(float(average.state["weight"]) - 2)

    assert float(greedy_soup(states, flat(0.0), score).state["weight"]) == pytest.approx(2)
    states[0] = flat(2.0).state_dict()
    assert float(greedy_soup(states, flat(0.0), score).state["weight"]) == 2, "the best alone: any other lowers it"
    alike = greedy_soup(states, flat(0.0), lambda average: 0.5)
    assert float(alike.state["weight"]) == pytest.approx(14 / 3), "of equal scores the mean of more is steadier"
