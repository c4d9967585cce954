"""Small trainings on the tiles of tests/training/conftest.py."""

import pandas as pd
import pytest
import torch
from torch import nn

from lib.config.training import Augment, Model, Sampling, Swa, Train
from lib.data.augment import Augmentation
from lib.data.dataset import TileDataset
from lib.data.sampler import BalancedSampler
from lib.data.targets import Targets
from lib.models.network import build_network
from lib.plugins import register
from lib.training.loader import TrainingData
from lib.training.losses import build_loss
from lib.training.trainer import Trainer
from lib.workspace import Member

CPU = torch.device("cpu")


@register("model", "dropping")
def dropping(config: Model, channels: int) -> nn.Module:
    """Half of what it sees is dropped."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(8, channels, 3, padding=1))


def data_of(tiles, workers=0, seed=1):
    dataset = TileDataset(tiles, Targets(1), Augmentation(Augment(), 32), seed)
    sampler = BalancedSampler(pd.DataFrame({"object": [True] * 10, "pseudo": False}), Sampling(), 0.0, seed)
    return TrainingData(dataset, sampler, workers, 4)


def trainer_of(tiles, folder, architecture="tiny", **options):
    folder.mkdir(exist_ok=True)
    config = Train(
        **{"epochs": 4, "lr": 0.02, "precision": "fp32", "swa": Swa(start=0.5, every=0.5, bn_batches=2), **options}
    )
    torch.manual_seed(3)
    network = build_network(Model(architecture=architecture), 1)
    return Trainer(config, network, build_loss(config.loss, 1), data_of(tiles), Member("test", 0, 3, folder))


def run_until_killed(trainer, batches):
    """Train, and stop as by Ctrl-C after so many batches."""
    train, done = trainer.train_batch, []

    def dies(*arguments):
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(1)
        return train(*arguments)

    trainer.train_batch = dies
    with pytest.raises(KeyboardInterrupt):
        trainer.run(None)


def weights(folder):
    return {p.name: torch.load(p, weights_only=True) for p in sorted(folder.glob("*_weights.pt"))}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n][k], b[n][k]) for n in a for k in a[n])
