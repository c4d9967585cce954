"""From an image file to run-lengths: ours beside MONAI, pytorch-toolbelt and the bare forward passes.

    python -m venv peers && peers/bin/pip install -r benchmarks/requirements.txt
    peers/bin/python benchmarks/inference.py

One image of tissue, and one whose right half is blank glass, as uncompressed tiled TIFFs; a real network (smp FPN on
tf_efficientnet_lite0, one class, ImageNet weights, fp32); windows with gaussian blending on the same grid. Every side
reads the file, predicts, decides at one half and encodes run-lengths. The peers read the image whole and are given our
encoder, which is faster than theirs. Freed memory is kept on no side: a setting of the process, which our scripts alone
would have.

Two comparisons. `same_backend`: the peers call the very forward passes that ours calls, once in PyTorch (batch norms
folded) and once in the fastest backend that is installed, so that only what is done around them differs. `each_best`:
ours in its fastest backend, and each peer in the fastest that its users have without our code: PyTorch, or OpenVINO as
`openvino.convert_model` makes it. On the half-blank image ours skips glass and the peers do not, with the same backend.

`forward`: the same batches through the same backend, images ready in memory. Every round runs all sides once, every
other one in reverse. Ratios are theirs over ours (above 1: ours is faster), except `over_forward` (ours over the bare
passes); each is the median and range over the rounds. `over_own_forward`: a side over the time that its own forward
passes took, which no drift of the machine comes between: what it does beside them. `max_abs_diff`: between our map and
MONAI's. The last line it prints is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
import torch
from peers.windows import monai_map, toolbelt_map

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.competition import rle
from lib.competition.demo_slides import draw, make_scene
from lib.config.training import Model
from lib.imaging.blend import window_weights
from lib.inference.backends.engines import Engine, Kind, as_images, fastest_engines
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sliding_window import first_windows, full_rows, predict_windows
from lib.inference.windows import Limits, Source, Windows
from lib.models.network import build_network
from lib.models.outputs import probabilities
from lib.plugins import names

CPU = torch.device("cpu")
BATCH = 8
PEERS = ("monai", "toolbelt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--across", type=int, default=15, help="windows along one side of the image")
    parser.add_argument("--backend", default="auto", help="auto picks the fastest whose maps agree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    windows = Windows(args.window, 0.5, 1.0, "gaussian", 0.25)
    side = args.window + windows.stride * (args.across - 1)
    full, half = make_images(side)
    torch.manual_seed(0)
    network = build_network(Model(architecture="fpn"), 1).eval().to(memory_format=torch.channels_last)
    sources = [Source("full", full)]
    sample = first_windows(sources, windows, BATCH)
    best = args.backend  # of a work of hours: building counts little
    if best == "auto":
        engines = [Engine("fp32", name) for name in names("backend")]
        best = fastest_engines(engines, [Kind(network, sample, 10_000)], CPU)[0].backend

    forwards = {name: Ensemble([network], CPU, engine=Engine("fp32", name)) for name in {"eager", best}}
    runs = {name: Engine("fp32", name).build(network, CPU) for name in forwards}
    inside = Stopwatch()
    for forward in forwards.values():
        forward.runs = [inside.of(run) for run in forward.runs]
    weights = window_weights(args.window, "gaussian")
    sides: dict[str, Callable[[], object]] = {}  # what is compared stands together: a machine's speed drifts
    for name in dict.fromkeys([best, "eager"]):
        handed = inside.of(to_probabilities(runs[name]))
        sides |= {
            f"forward {name}": lambda r=runs[name]: bare(r, sample, args.across**2),
            f"ours {name}": lambda f=forwards[name]: ours(full, f, windows),
            **peers(name, handed, full, args.window, weights),
        }
        if name == best:
            sides[f"ours {name}, half"] = lambda f=forwards[name]: ours(half, f, windows, "content")
            sides[f"monai {name}, half"] = peers(name, handed, half, args.window, weights)[f"monai {name}"]
    own_ways = {"own eager": to_probabilities(network), **own_openvino(network)}
    for name, call in own_ways.items():
        sides |= peers(name, inside.of(call), full, args.window, weights)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    own: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds + 1):  # the first warms up
        for name in list(sides)[:: 1 if number % 2 else -1]:
            inside.seconds, started = 0.0, time.perf_counter()
            sides[name]()
            if number:
                own[name].append(inside.seconds)
                taken[name].append(time.perf_counter() - started)
                print(f"round {number}: {name:<22} {taken[name][-1]:7.2f} s", flush=True)

    mine = np.concatenate([v for _, _, v in full_rows(predict_map(full, forwards[best], windows), lambda p: p[0, 0])])
    image = tifffile.imread(full)
    other = monai_map(to_probabilities(network), image, args.window, 0.5, BATCH)[0]
    blank = np.concatenate(
        [v for _, _, v in full_rows(predict_map(half, forwards["eager"], windows, "content"), lambda p: p[0, 0])]
    )
    assert (np.flatnonzero((blank == 0).all(axis=0)) >= side // 2).all(), "tissue was skipped"
    print(
        json.dumps(
            {
                "over_forward": ratios(taken[f"ours {best}"], taken[f"forward {best}"]),
                "over_own_forward": {
                    name: ratios(taken[name], own[name]) for name in sides if not name.startswith("forward")
                },
                "over_forward_eager": ratios(taken["ours eager"], taken["forward eager"]),
                "same_backend": {
                    name: {peer: ratios(taken[f"{peer} {name}"], taken[f"ours {name}"]) for peer in PEERS}
                    for name in forwards
                },
                "each_best": {
                    peer: {"with": way, "ratio": ratios(taken[f"{peer} {way}"], taken[f"ours {best}"])}
                    for peer in PEERS
                    for way in [min(own_ways, key=lambda way: median(taken[f"{peer} {way}"]))]
                },
                "half_blank_same_backend": ratios(taken[f"monai {best}, half"], taken[f"ours {best}, half"]),
                "max_abs_diff": float(np.abs(mine - other).max()),
                "backend": best,
                "side": side,
                "threads": args.threads,
            }
        )
    )


class Stopwatch:
    """Counts the seconds of the calls that go through it."""

    seconds = 0.0

    def of(self, call: Callable) -> Callable:
        def timed(*arguments):
            started = time.perf_counter()
            result = call(*arguments)
            self.seconds += time.perf_counter() - started
            return result

        return timed


def make_images(side: int) -> tuple[Path, Path]:
    """A slide full of tissue, and the same with glass on its right half."""
    folder = Path(__file__).resolve().parents[1] / "work/bench/inference"
    paths = folder / f"full_{side}.tif", folder / f"half_{side}.tif"
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        scene = make_scene(side, side, "P1", seed=5, tissue=0.9)
        pixels = draw(replace(scene, outline=np.ones_like(scene.outline)), 0, 0, side, side)
        tifffile.imwrite(paths[0], pixels, tile=(512, 512), photometric="rgb")
        pixels[:, side // 2 :] = 242 + np.random.default_rng(0).integers(0, 3, (side, side - side // 2, 1))
        tifffile.imwrite(paths[1], pixels, tile=(512, 512), photometric="rgb")
    return paths


def predict_map(path: Path, forward: Ensemble, windows: Windows, roi: str = "none"):
    return predict_windows([Source("image", path, roi)], ScaleGroup(windows, forward), np.zeros(1), Limits(BATCH))


def ours(path: Path, forward: Ensemble, windows: Windows, roi: str = "none") -> str:
    encoder = None
    for block, y, labels in full_rows(
        predict_map(path, forward, windows, roi), lambda p: (p[0, 0] > 0.5).view(np.uint8)
    ):
        encoder = encoder or rle.BandEncoder(block.height, block.width)
        encoder.push(y, labels)
    return encoder.finish()


def theirs(path: Path, predict_image: Callable[[np.ndarray], np.ndarray]) -> str:
    return rle.encode(predict_image(tifffile.imread(path))[0] > 0.5)


def peers(name: str, call: Callable, path: Path, window: int, weights: np.ndarray) -> dict[str, Callable[[], str]]:
    """Both peers around one way of calling the network, as sides."""
    return {
        f"monai {name}": lambda: theirs(path, lambda image: monai_map(call, image, window, 0.5, BATCH)),
        f"toolbelt {name}": lambda: theirs(path, lambda image: toolbelt_map(call, image, weights, 0.5, BATCH)),
    }


def to_probabilities(run: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda images: run(images).sigmoid()


def own_openvino(network: torch.nn.Module) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """The network as OpenVINO's users convert it, where OpenVINO is installed; nothing of ours is in it."""
    try:
        import openvino as ov
    except ImportError:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it traces, which torch calls deprecated
        model = ov.convert_model(network, example_input=torch.zeros(1, 3, 64, 64))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.compile_model(model, "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
    return {"own openvino": lambda images: torch.from_numpy(compiled(images.numpy())[0]).sigmoid()}


@torch.inference_mode()
def bare(run: Callable, sample: np.ndarray, count: int) -> None:
    """`count` windows through a backend; probabilities are part of it, as a network's last layer would be."""
    images = as_images(sample, CPU)
    for start in range(0, count, BATCH):
        probabilities(run(images[: min(BATCH, count - start)]))


def ratios(over: list[float], under: list[float]) -> list[float]:
    """[median, smallest, largest] of one over the other, round by round."""
    values = [a / b for a, b in zip(over, under, strict=True)]
    return [round(v, 4) for v in (median(values), min(values), max(values))]


if __name__ == "__main__":
    main()
