"""Averages of weights: stochastic weight averaging (SWA), exponential moving average (EMA), mean of checkpoints, greedy
soup. Computes their batch-norm statistics and writes the weight files at the end of a training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib.models.weight_files import load_weights, save_weights
from lib.system.batch_parts import parts_of
from lib.system.precision import autocast

if TYPE_CHECKING:
    from lib.training.trainer import Trainer


class WeightAverage:
    """A running mean (`decay` None: SWA) or exponential moving average (EMA) of a network's weights, in float32.

    >>> layer = nn.Linear(1, 1)
    >>> average = WeightAverage(layer)
    >>> for value in (1.0, 3.0):
    ...     average.update(layer.requires_grad_(False).apply(lambda layer: layer.weight.fill_(value)))
    >>> average.network(layer).weight.item()
    2.0
    """

    def __init__(self, network: nn.Module, decay: float | None = None):
        self.decay, self.count = decay, 0
        self.state = {name: p.detach().clone().float() for name, p in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """SWA: the mean of all networks so far. EMA: decay * old + (1 - decay) * new, with a lower decay at first."""
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
        # The first network replaces an empty mean. Leaving it out saves a quarter of the file until SWA starts.
        return {"count": self.count, "state": {} if self.decay is None and not self.count else self.state}

    def load_state_dict(self, saved: dict) -> None:
        self.count = saved["count"]
        if saved["state"]:
            self.state = {name: value.to(self.state[name].device) for name, value in saved["state"].items()}


def average_weights(states: list[dict], like: nn.Module) -> WeightAverage:
    """The mean of several `state_dict`s of networks like `like`."""
    average, network = WeightAverage(like), copy.deepcopy(like)
    for state in states:
        network.load_state_dict(state)
        average.update(network)
    return average


def greedy_soup(states: list[dict], like: nn.Module, score: Callable[[WeightAverage], float]) -> WeightAverage:
    """Greedy soup (Wortsman et al. 2022, arXiv:2203.05482): the mean of the best weights and of all others, tried in
    order of their own score, that do not lower the mean's score."""
    alone = [score(average_weights([state], like)) for state in states]
    order = sorted(range(len(states)), key=lambda i: -alone[i])
    taken, best = [states[order[0]]], alone[order[0]]
    for i in order[1:]:
        now = score(average_weights([*taken, states[i]], like))
        if now >= best:
            taken, best = [*taken, states[i]], now
    return average_weights(taken, like)


@torch.no_grad()
def update_bn(network: nn.Module, batches: Iterable[torch.Tensor], precision: str) -> None:
    """Recompute batch-norm statistics as the plain mean over `batches` (B, C, H, W).

    The statistics of an average of weights are not the average of the statistics. Without this SWA is useless.
    """
    network.train()  # frozen modules stay in eval mode
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
    """Write the weight files for prediction: the last weights and every average, with its batch-norm statistics.

    `evaluate(network) -> score` chooses the greedy soup. None: no soup.
    """
    config, folder = trainer.config, trainer.folder
    save_weights(folder / "last_weights.pt", trainer.network)
    averages = {"swa": trainer.swa if trainer.swa_samples else None, "ema": trainer.ema}
    if config.checkpoints:
        states = [load_weights(folder / f"checkpoint{i + 1}_weights.pt") for i in range(config.checkpoints)]
        averages["mean"] = average_weights(states, trainer.network)
        if config.soup and evaluate:
            averages["soup"] = greedy_soup(
                states, trainer.network, lambda average: evaluate(with_batch_norm(average, trainer))
            )
    for name, average in averages.items():
        if average:
            save_weights(folder / f"{name}_weights.pt", with_batch_norm(average, trainer))


def with_batch_norm(average: WeightAverage, trainer: Trainer) -> nn.Module:
    """A network with the average's weights and newly computed batch-norm statistics."""
    network = average.network(trainer.network)
    update_bn(network, batch_norm_batches(trainer), trainer.precision)
    return network


def batch_norm_batches(trainer: Trainer) -> Iterator[torch.Tensor]:
    """Images (B, C, H, W) for batch-norm statistics, from an epoch that no training reaches."""
    for number, batch in enumerate(trainer.data.batches(10**6, trainer.progress())):
        if number == trainer.config.swa.bn_batches:
            return
        for part in parts_of(len(batch[0]), trainer.gradients.parts.size or len(batch[0])):
            yield batch[0][part].contiguous(memory_format=trainer.layout)
