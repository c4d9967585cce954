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
from dataclasses import dataclass, replace
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
    args = parsed_arguments()
    torch.set_num_threads(args.threads)
    bench = Bench.of(args)
    own_ways = {"own eager": to_probabilities(bench.network), **own_openvino(bench.network)}
    sides = bench.sides()
    for name, call in own_ways.items():
        sides |= peers(name, bench.inside.of(call), bench.full, bench.windows.size)
    taken, own = measure(sides, bench.inside, args.rounds)
    facts = {"max_abs_diff": bench.largest_difference(), "backend": bench.best, "side": bench.side}
    print(json.dumps({**summary(bench.best, list(own_ways), taken, own), **facts, "threads": args.threads}))


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--across", type=int, default=15, help="windows along one side of the image")
    parser.add_argument("--backend", default="auto", help="auto picks the fastest whose maps agree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


@dataclass(frozen=True)
class Bench:
    """What all sides share: the two images, the network, and its forward passes by backend, each one timed.

    `best`: the backend of ours in `each_best`. `sample`: the first windows of the full image. `runs`: the forward
    passes alone. `forwards`: the same as ensembles, as our scripts call them.
    """

    windows: Windows
    across: int
    full: Path
    half: Path
    network: torch.nn.Module
    sample: np.ndarray
    best: str
    runs: dict[str, Callable]
    forwards: dict[str, Ensemble]
    inside: Stopwatch

    @staticmethod
    def of(args: argparse.Namespace) -> Bench:
        """Make the images and the network, and choose and build the backends."""
        windows = Windows(args.window, 0.5, 1.0, "gaussian", 0.25)
        full, half = make_images(args.window + windows.stride * (args.across - 1))
        torch.manual_seed(0)
        network = build_network(Model(architecture="fpn"), 1).eval().to(memory_format=torch.channels_last)
        sample = first_windows([Source("full", full)], windows, BATCH)
        best = args.backend
        if best == "auto":  # for a work of hours: the time to build a backend counts little
            engines = [Engine("fp32", name) for name in names("backend")]
            best = fastest_engines(engines, [Kind(network, sample, 10_000)], CPU)[0].backend
        backends = dict.fromkeys([best, "eager"])
        forwards = {name: Ensemble([network], CPU, engine=Engine("fp32", name)) for name in backends}
        runs = {name: Engine("fp32", name).build(network, CPU) for name in backends}
        inside = Stopwatch()
        for forward in forwards.values():
            forward.runs = [inside.of(run) for run in forward.runs]
        return Bench(windows, args.across, full, half, network, sample, best, runs, forwards, inside)

    @property
    def side(self) -> int:
        """Height and width of the images."""
        return self.windows.size + self.windows.stride * (self.across - 1)

    def sides(self) -> dict[str, Callable[[], object]]:
        """The sides with the same backends. What is compared stands together, because a machine's speed drifts."""
        sides: dict[str, Callable[[], object]] = {}
        for name, forward in self.forwards.items():
            handed = self.inside.of(to_probabilities(self.runs[name]))
            sides |= {
                f"forward {name}": lambda r=self.runs[name]: bare(r, self.sample, self.across**2),
                f"ours {name}": lambda f=forward: ours(self.full, f, self.windows),
                **peers(name, handed, self.full, self.windows.size),
            }
            if name == self.best:
                monai = f"monai {name}"
                sides[f"ours {name}, half"] = lambda f=forward: ours(self.half, f, self.windows, "content")
                sides[f"{monai}, half"] = peers(name, handed, self.half, self.windows.size)[monai]
        return sides

    def largest_difference(self) -> float:
        """Between our map and MONAI's. Fails where ours skipped tissue on the half-blank image."""
        blank = whole_map(self.half, self.forwards["eager"], self.windows, "content")
        assert (np.flatnonzero((blank == 0).all(axis=0)) >= self.side // 2).all(), "tissue was skipped"
        mine = whole_map(self.full, self.forwards[self.best], self.windows)
        image = tifffile.imread(self.full)
        other = monai_map(to_probabilities(self.network), image, self.windows.size, 0.5, BATCH)[0]
        return float(np.abs(mine - other).max())


Times = dict[str, list[float]]  # of a side: the seconds of each round


def measure(sides: dict[str, Callable], inside: Stopwatch, rounds: int) -> tuple[Times, Times]:
    """(the seconds of each side, the seconds that its own forward passes took). A first round warms up."""
    taken: Times = {name: [] for name in sides}
    own: Times = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            inside.seconds, started = 0.0, time.perf_counter()
            sides[name]()
            if number:
                own[name].append(inside.seconds)
                taken[name].append(time.perf_counter() - started)
                print(f"round {number}: {name:<22} {taken[name][-1]:7.2f} s", flush=True)
    return taken, own


def summary(best: str, own_ways: list[str], taken: Times, own: Times) -> dict:
    """The ratios that the module's docstring describes."""
    backends = [name.removeprefix("forward ") for name in taken if name.startswith("forward")]
    fastest = {peer: min(own_ways, key=lambda way: median(taken[f"{peer} {way}"])) for peer in PEERS}
    return {
        "over_forward": ratios(taken[f"ours {best}"], taken[f"forward {best}"]),
        "over_own_forward": {name: ratios(taken[name], own[name]) for name in taken if not name.startswith("forward")},
        "over_forward_eager": ratios(taken["ours eager"], taken["forward eager"]),
        "same_backend": {
            name: {peer: ratios(taken[f"{peer} {name}"], taken[f"ours {name}"]) for peer in PEERS} for name in backends
        },
        "each_best": {
            peer: {"with": way, "ratio": ratios(taken[f"{peer} {way}"], taken[f"ours {best}"])}
            for peer, way in fastest.items()
        },
        "half_blank_same_backend": ratios(taken[f"monai {best}, half"], taken[f"ours {best}, half"]),
    }


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
    """The bands of an image's map, as our scripts predict it."""
    return predict_windows([Source("image", path, roi)], ScaleGroup(windows, forward), np.zeros(1), Limits(BATCH))


def whole_map(path: Path, forward: Ensemble, windows: Windows, roi: str = "none") -> np.ndarray:
    """(h, w): the map of a whole image."""
    rows = full_rows(predict_map(path, forward, windows, roi), lambda p: p[0, 0])
    return np.concatenate([values for *_, values in rows])


def ours(path: Path, forward: Ensemble, windows: Windows, roi: str = "none") -> str:
    """The run-lengths of an image, read, predicted, decided and encoded by our code."""
    encoder = None
    rows = full_rows(predict_map(path, forward, windows, roi), lambda p: (p[0, 0] > 0.5).view(np.uint8))
    for block, y, labels in rows:
        encoder = encoder or rle.BandEncoder(block.height, block.width)
        encoder.push(y, labels)
    return encoder.finish()


def theirs(path: Path, predict_image: Callable[[np.ndarray], np.ndarray]) -> str:
    """The run-lengths of an image that is read whole and predicted by another library."""
    return rle.encode(predict_image(tifffile.imread(path))[0] > 0.5)


def peers(name: str, call: Callable, path: Path, window: int) -> dict[str, Callable[[], str]]:
    """Both peers around one way of calling the network, as sides."""
    weights = window_weights(window, "gaussian")
    return {
        f"monai {name}": lambda: theirs(path, lambda image: monai_map(call, image, window, 0.5, BATCH)),
        f"toolbelt {name}": lambda: theirs(path, lambda image: toolbelt_map(call, image, weights, 0.5, BATCH)),
    }


def to_probabilities(run: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A call that returns probabilities, of one that returns logits of one class."""
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
