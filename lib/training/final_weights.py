"""What a finished training leaves to predict with: its last weights and their averages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib.models.weight_files import load_weights, save_weights
from lib.training.averaging import WeightAverage, greedy_soup, mean_of, update_bn

if TYPE_CHECKING:
    from lib.training.trainer import Trainer


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
