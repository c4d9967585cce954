"""Peak memory of one training step where many classes overlap: 29 classes, one crop of 1024 x 1024 pixels, fp32.

    python benchmarks/training_memory.py
    python benchmarks/training_memory.py --stem down
    python benchmarks/training_memory.py --checkpointing --decoder-channels 128 64 32 16 8

The default network, random weights, BCE and Dice, on the processor, with OMP_NUM_THREADS as it is set. After each part
of the step it prints the resident memory of the process, libraries and all, and its peak since the part before. 03
holds more: the optimizer's state, averages of the weights, the next sample, and freed memory that it keeps
(lib/system/memory.py). Runs on Linux. The last line it prints is JSON: the peak, and what the libraries alone hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.config.training import Loss, Model
from lib.models.network import build_network
from lib.training.losses import build_loss

CLASSES, SIDE = 29, 1024
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """Prints memory after each part of the step, and keeps the highest peak."""

    def __init__(self):
        self.peak, self.idle = 0.0, resident("VmRSS")

    def tell(self, part: str) -> None:
        peak = resident("VmHWM")
        self.peak = max(self.peak, peak)
        print(f"{part:<10} {resident('VmRSS'):.2f} GiB, at most {peak:.2f}", flush=True)
        RESET.write_text("5")  # the kernel forgets the peak


def resident(field: str) -> float:
    """GiB of this process: `VmRSS` now, or `VmHWM` at most."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stem", default="none", choices=["none", "down"])
    parser.add_argument("--decoder-channels", type=int, nargs="*", default=[])
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    meter = Meter()
    torch.manual_seed(0)
    config = Model(weights="none", stem=args.stem, decoder_channels=args.decoder_channels)
    network = build_network(config, CLASSES, multilabel=True).to(memory_format=torch.channels_last).train()
    if args.checkpointing:
        network.checkpoint_encoder()
    loss_of = build_loss(Loss(), CLASSES, multilabel=True)
    meter.tell("network")
    image = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8)
    target, valid = (torch.rand(1, CLASSES, SIDE, SIDE) > 0.9).float(), torch.ones(1, CLASSES, SIDE, SIDE)
    meter.tell("sample")
    logits = network(image.contiguous(memory_format=torch.channels_last))
    meter.tell("forward")
    loss = loss_of(logits, target, valid, torch.ones(1))
    del logits
    meter.tell("loss")
    loss.backward()
    meter.tell("backward")
    print(json.dumps({"peak_gib": round(meter.peak, 2), "idle_gib": round(meter.idle, 2)}))


if __name__ == "__main__":
    main()
