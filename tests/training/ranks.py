"""Run by torchrun (test_distributed.py): the losses of one batch and the weights of one training.

    python -m torch.distributed.run --standalone --nproc_per_node 2 ranks.py FOLDER

Writes FOLDER/<processes>.pt: of every loss its value and gradient, and the weights after a training. With a number
after FOLDER, only the training, in the first start of which the process of that rank is killed.
"""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from lib.config.training import Loss, Swa, Train
from lib.errors import run_script
from lib.models.outputs import Outputs
from lib.plugins import names
from lib.training import trainer as loop
from lib.training.distributed import join_process_group
from lib.training.loader import TrainingData
from lib.training.losses import build_loss
from lib.training.resume import load_resume
from lib.training.trainer import Trainer
from lib.workspace import Member

CPU = torch.device("cpu")


class Net(nn.Module):
    """No batch norm, which sees the samples of its own process alone; a layer that nothing depends on."""

    def __init__(self, channels: int):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, channels, 1)
        self.presence, self.idle = nn.Linear(4, channels), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        inner = self.body(x / 255).tanh()
        mask = self.head(inner)
        if not self.training:
            return mask
        return Outputs(mask, self.presence(inner.mean((2, 3))), (mask[..., ::2, ::2],))


def samples(channels: int, count: int) -> list[tuple]:
    """Of very different weights, and of very different shares of ignored pixels; one class is in one sample alone."""
    rng, items = torch.Generator().manual_seed(5), []
    for number in range(count):
        index = torch.randint(0, max(2, channels - (number != 3)), (12, 12), generator=rng)
        one_hot = nn.functional.one_hot(index, max(2, channels)).permute(2, 0, 1).float()
        target = one_hot[1:] if channels == 1 else one_hot
        valid = (torch.rand(1, 12, 12, generator=rng) > (0.05, 0.9, 0.5, 0.2)[number % 4]).float()
        image = torch.randint(0, 256, (3, 12, 12), generator=rng, dtype=torch.uint8)
        items.append((image, target, valid, torch.tensor((1.0, 0.1, 0.5)[number % 3])))
    return items


def network_of(channels: int) -> Net:
    torch.manual_seed(1)
    return Net(channels)


def one_loss(name: str, channels: int, processes, multilabel: bool = False) -> tuple[float, dict]:
    """A loss, and its gradients as DistributedDataParallel averages them, of a batch of eight."""
    network = network_of(channels)
    network.idle.requires_grad_(False)
    replica = processes.wrap(network.train())
    batch = [torch.stack(part) for part in zip(*processes.shard(samples(channels, 8)), strict=True)]
    options = {"soft_edges": 1.0, "class_weights": [1.0, 3.0] if channels == 1 else [1.0, 2.0, 3.0]}
    loss = build_loss(Loss(terms={name: 1.0}, **options), channels, processes, multilabel)
    loss = loss(replica(batch[0]), *batch[1:])
    loss.backward()
    return float(loss.detach()), {key: p.grad for key, p in network.named_parameters() if p.grad is not None}


def training(folder: Path, processes, killed: int = -1) -> dict:
    """Weights, skipped steps and unused parameters of a training: five batches an epoch, taken two by two, clipped."""
    keys = [(index, 0, index) for index in range(20)]
    sampler = SimpleNamespace(keys=lambda epoch, progress=0.0: keys, size=20)
    data = TrainingData(Keyed(samples(1, 20)), sampler, 0, 4)
    config = Train(
        epochs=3, lr=0.05, precision="fp32", optimizer="sgd", accumulate=2, clip=0.05, ema=0.5, evaluations=0,
        swa=Swa(start=1), loss=Loss(terms={"bce": 1.0, "dice": 1.0}),
    )  # fmt: skip
    loss = build_loss(config.loss, 1, processes)
    trainer = Trainer(config, network_of(1), loss, data, Member("ranks", 0, 1, folder), processes)
    if processes.rank == killed and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        train = trainer.train_batch
        trainer.train_batch = lambda *batch: (
            os.kill(os.getpid(), signal.SIGKILL) if trainer.step == 7 else train(*batch)
        )
    trainer.run(None)
    processes.barrier()
    state = load_resume(folder / "last.pt")
    return {"network": state["network"], "ema": state["ema"]["state"], "unused": state["unused"]}


class Keyed(torch.utils.data.Dataset):
    def __init__(self, items: list):
        self.items = items

    def __getitem__(self, key: tuple[int, int, int]):
        return self.items[key[0]]


def main(argv: list[str]) -> None:
    folder, killed = Path(argv[0]), int(argv[1]) if argv[1:] else None
    processes = join_process_group(CPU)
    losses = (
        {}
        if killed is not None
        else {
            f"{name} {kind}": one_loss(name, channels, processes, kind == "overlapping")
            for name in names("loss")
            for kind, channels in (("one", 1), ("exclusive", 3), ("overlapping", 3))
        }
    )
    run = folder / f"run{processes.size}"
    run.mkdir(exist_ok=True)
    found = {"losses": losses, "training": training(run, processes, -1 if killed is None else killed)}
    if processes.rank == processes.size - 1:  # it knows as much as the main process
        torch.save(found, folder / f"{processes.size}.pt")
    processes.close()


if __name__ == "__main__":
    loop.SAVE_INTERVAL = 0  # after each epoch
    run_script(main)
