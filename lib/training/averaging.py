"""Averages of weights (SWA, EMA, checkpoints, greedy soup), their batch-norm statistics, and their files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib.models.weight_files import load_weights, save_weights
from lib.system.precision import autocast

if TYPE_CHECKING:
    from lib.training.trainer import Trainer


class WeightAverage:
    """Running mean (`decay=None`: SWA) or exponential moving average of a network's parameters, float32."""

    def __init__(self, network: nn.Module, decay: float | None = None):
        self.decay, self.count = decay, 0
        self.state = {name: p.detach().clone().float() for name, p in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """SWA: the mean of all networks seen. EMA: decay * old + (1 - decay) * new, warmed up early on."""
        if self.decay is None:
            step = 1 / (self.count + 1)
        else:
            step = 1 - min(self.decay, (1 + self.count) / (10 + self.count))
        self.count += 1
        for name, value in network.state_dict().items():
            self.state[name].lerp_(value.float(), step)

    def network(self, like: nn.Module) -> nn.Module:
        """A copy of `like` that holds the average."""
        out = copy.deepcopy(like)
        wanted = out.state_dict()
        out.load_state_dict({name: value.to(wanted[name].dtype) for name, value in self.state.items()})
        return out

    def state_dict(self) -> dict:
        # A mean of nothing is overwritten by its first network: a quarter of what is saved, where SWA comes late.
        return {"count": self.count, "state": {} if self.decay is None and not self.count else self.state}

    def load_state_dict(self, saved: dict) -> None:
        self.count = saved["count"]
        if saved["state"]:
            self.state = {name: value.to(self.state[name].device) for name, value in saved["state"].items()}


def mean_of(states: list[dict], like: nn.Module) -> WeightAverage:
    """The mean of several weights (`state_dict`s of networks such as `like`)."""
    average, network = WeightAverage(like), copy.deepcopy(like)
    for state in states:
        network.load_state_dict(state)
        average.update(network)
    return average


def greedy_soup(states: list[dict], like: nn.Module, score: Callable[[WeightAverage], float]) -> WeightAverage:
    """Weights joined one after another, the best alone first, each kept only when the mean's score does not fall."""
    alone = [score(mean_of([state], like)) for state in states]
    order = sorted(range(len(states)), key=lambda i: -alone[i])
    taken, best = [states[order[0]]], alone[order[0]]
    for i in order[1:]:
        now = score(mean_of([*taken, states[i]], like))
        if now >= best:
            taken, best = [*taken, states[i]], now
    return mean_of(taken, like)


@torch.no_grad()
def update_bn(network: nn.Module, batches: Iterable[torch.Tensor], precision: str) -> None:
    """Recompute batch-norm statistics as the plain mean over `batches` (B, 3, H, W).

    An average of weights never saw its own activations; without this SWA is worthless.
    """
    network.train()  # which leaves frozen ones as they are
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if not norms:
        network.eval()
        return
    momenta = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    device = next(network.parameters()).device
    for images in batches:
        with autocast(device, precision):
            network(images.to(device))
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    network.eval()


def write_weights(trainer: Trainer, evaluate: Callable[[nn.Module], float] | None = None) -> None:
    """Write the weights to predict with; an average gets its batch-norm statistics first.

    `evaluate(network) -> score` chooses the soup; without it there is none.
    """
    config, folder = trainer.config, trainer.folder
    save_weights(folder / "last_weights.pt", trainer.network)
    averages = {"swa": trainer.swa if trainer.swa_samples else None, "ema": trainer.ema}
    if config.checkpoints:
        states = [load_weights(folder / f"checkpoint{i + 1}_weights.pt") for i in range(config.checkpoints)]
        averages["mean"] = mean_of(states, trainer.network)
        if config.soup and evaluate:
            averages["soup"] = greedy_soup(states, trainer.network, lambda average: evaluate(ready(average, trainer)))
    for name, average in averages.items():
        if average:
            save_weights(folder / f"{name}_weights.pt", ready(average, trainer))


def ready(average: WeightAverage, trainer: Trainer) -> nn.Module:
    """An average as a network to predict with."""
    network = average.network(trainer.network)
    update_bn(network, calm_batches(trainer), trainer.precision)
    return network


def calm_batches(trainer: Trainer) -> Iterator[torch.Tensor]:
    """Images for batch-norm statistics, from an epoch that training never reaches."""
    for number, batch in enumerate(trainer.data.batches(10**6, trainer.progress())):
        if number == trainer.config.swa.bn_batches:
            return
        yield batch[0].contiguous(memory_format=trainer.layout)
