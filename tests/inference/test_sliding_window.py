import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib import plugins
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging import grid as grids
from lib.inference import sliding_window as predictor
from lib.inference.backends.choose import Candidate, infer_engine
from lib.inference.backends.engines import Engine, Kind, Unsuited, fastest_engines
from lib.inference.multi_scale import predict_multi_scale
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sliding_window import full_rows, predict_windows
from lib.inference.windows import Limits, Source, Windows
from lib.oof import evaluation
from lib.oof.codes import to_codes
from lib.oof.evaluate import CountCollector, TrueLabels, evaluate
from lib.oof.evaluation import Evaluation, count, count_codes
from lib.oof.previews import PreviewCollector
from lib.workspace import Workspace

CPU = torch.device("cpu")


class Grey(nn.Module):
    """An identity network: the logit of the first colour."""

    def __init__(self, shift: float = 0.0):
        super().__init__()
        self.shift = shift

    def forward(self, x):
        return torch.logit((x[:, :1] / 255).clamp(0.01, 0.99)) + self.shift


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(3, 250, (75, 131, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    return tmp_path / "a.png", pixels


def called(forward, windows):
    """A group whose network may be a plain function that makes one map."""
    if not hasattr(forward, "map_count"):
        forward.map_count = 1
    return ScaleGroup(windows, forward)


def whole(path, forward, windows, **limits):
    blocks = list(predict_windows([Source("a", path)], ScaleGroup(windows, forward), np.zeros(1), Limits(**limits)))
    assert [block.first for block in blocks] == [True] + [False] * (len(blocks) - 1)
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    out, covered = np.empty((forward.map_count, 1, blocks[0].height, blocks[0].width), np.float32), 0
    for block in blocks:
        h, w = block.probs.shape[2:]
        out[:, :, block.y : block.y + h, block.x : block.x + w] = block.probs
        covered += h * w
    assert covered == blocks[0].height * blocks[0].width
    rows = list(full_rows(blocks, lambda probs: probs))
    assert (np.concatenate([values for _, _, values in rows], axis=2) == out).all()
    assert [y for _, y, _ in rows] == np.cumsum([0, *(values.shape[2] for _, _, values in rows)]).tolist()[:-1]
    return out


@pytest.mark.parametrize("turn", ["none", "flips"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_boxes_shrunk_whole_come_back_where_they_lie_and_nothing_else_is_computed(tmp_path, fit, turn):
    pixels = np.full((90, 131, 3), 40, np.uint8)
    pixels[30:94, 60:124] = 180
    pixels[10:42, 20:116] = (5 * np.arange(32) + 60)[:, None, None]  # padding is a mirror image: it would show
    pixels[50:82, 4:20] = (12 * np.arange(16) + 30)[None, :, None]
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (tmp_path / "boxes.csv").write_text(
        "image_id,y,x,height,width\na,42,60,48,64\na,10,20,32,96\na,50,4,32,16\na,85,0,2,2\n"
    )
    forward, seen = Ensemble([Grey()], CPU, tta=turn), []

    def counted(windows):
        seen.extend(windows)
        return forward(windows)

    counted.map_count = 1
    windows = Windows(32, 0.0, 1.0, "constant", 0.0, fit)
    sources = [Source("a", tmp_path / "a.png", str(tmp_path / "boxes.csv"))] * 2
    for limits in (Limits(3), Limits(2, 0.0001)):
        out = np.full((2, 90, 131), np.nan)
        number = -1
        for block in predict_windows(sources, called(counted, windows), np.full(1, 0.5), limits):
            number += block.first
            h, w = block.probs.shape[2:]
            assert np.isnan(out[number, block.y : block.y + h, block.x : block.x + w]).all()
            out[number, block.y : block.y + h, block.x : block.x + w] = block.probs[0, 0]
        expected = np.full((90, 131), 0.5)
        for box in ((10, 20, 32, 96), (42, 60, 48, 64), (50, 4, 32, 16), (85, 0, 2, 2)):
            inside = np.s_[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
            expected[inside] = pixels[inside][..., 0] / 255
        assert np.abs(out - expected).max() < (0.03 if fit == "letterbox" else 0.1)
    assert len(seen) == 2 * 2 * 4


@pytest.mark.parametrize("blend", ["gaussian", "constant", "linear", "center"])
@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
@pytest.mark.parametrize("size", [32, 96, 160])
def test_an_identity_network_gives_the_image_back(image, blend, tta, size):
    path, pixels = image
    probs = whole(path, Ensemble([Grey()], CPU, tta=tta), Windows(size, 0.4, 1.0, blend, 0.25), batch_size=3)
    assert probs.shape == (1, 1, 75, 131)
    assert np.abs(probs[0, 0] - (pixels[..., 0] / 255).clip(0.01, 0.99)).max() < 1e-4


@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_one_batch_of_maps_is_held_while_the_next_is_computed(image, overlap):
    batches = []

    def forward(windows):
        assert len([batch for batch in batches if batch() is not None]) <= 1, "the maps of three batches are held"
        maps = np.ones((len(windows), 1, 1, 32, 32), np.float32)
        batches.append(weakref.ref(maps))
        return maps

    windows = Windows(32, overlap, 1.0, "gaussian", 0.25)
    for _ in predict_windows(
        [Source("a", image[0])], called(forward, windows), np.zeros(1), Limits(batch_size=2, max_gib=1e-5)
    ):
        pass
    assert len(batches) > 4


def test_the_network_computes_while_maps_are_stitched_in_a_thread_of_its_own(image, monkeypatch):
    stitching, computing, threads = Event(), Event(), set()
    real = predictor.stitch

    def stitch(canvas, corners, flat, weights):
        def watched():
            for number, values in enumerate(flat):
                threads.add(threading.get_ident())
                if number == 0:
                    stitching.set()
                    assert computing.wait(20), "the next batch is not computed before this one is stitched"
                yield values

        return real(canvas, corners, watched(), weights)

    def forward(windows):
        if forward.calls:
            assert stitching.wait(20)
            computing.set()
        forward.calls += 1
        return np.ones((len(windows), 1, 1, 32, 32), np.float32)

    forward.calls = 0
    monkeypatch.setattr(predictor, "stitch", stitch)
    windows = Windows(32, 0.0, 1.0, "constant", 0.0)
    assert list(predict_windows([Source("a", image[0])], called(forward, windows), np.zeros(1), Limits(2)))
    assert len(threads) == 1 and threading.get_ident() not in threads


@pytest.mark.parametrize("where", ["network", "stitch", "consumer"])
@pytest.mark.parametrize("kind", [UserError, KeyboardInterrupt])
def test_what_is_raised_reaches_the_caller_and_threads_end(image, monkeypatch, where, kind):
    def running():
        return {thread for thread in threading.enumerate() if "tqdm" not in thread.name}

    before = running()

    def raising(*_):
        raise kind("stop")

    def forward(windows):
        return raising() if where == "network" else np.ones((len(windows), 1, 1, 32, 32), np.float32)

    if where == "stitch":
        monkeypatch.setattr(predictor.Resizer, "push", raising)
    windows = Windows(32, 0.5, 1.0, "constant", 0.0)
    blocks = predict_windows([Source("a", image[0])] * 9, called(forward, windows), np.zeros(1), Limits(2))
    with pytest.raises(kind, match="stop"):
        for _ in blocks:
            raising()
    blocks.close()
    end = time.monotonic() + 10
    while running() - before:
        assert time.monotonic() < end, "a thread lives on"
        time.sleep(0.01)


def test_maps_do_not_change_with_memory_and_batch(image):
    path, _ = image
    windows = Windows(32, 0.5, 0.7, "gaussian", 0.25)
    one = whole(path, Ensemble([Grey()], CPU), windows)
    many = whole(path, Ensemble([Grey()], CPU), windows, max_gib=1e-5, batch_size=1)
    assert (one == many).all() and one.shape[2:] == (75, 131)


def test_a_part_of_an_image_is_predicted_as_if_it_were_all(image):
    path, pixels = image
    y, x, h, w = box = 11, 40, 50, 70
    cv2.imwrite(str(path.parent / "part.png"), pixels[y : y + h, x : x + w, ::-1])
    for scale in (1.0, 0.5):
        sources = Source("a", path, "content", part=box), Source("b", path.parent / "part.png", "content")
        ours, theirs = (
            np.concatenate([block.probs for block in predict_windows([source], ScaleGroup(Windows(
                32, 0.5, scale, "gaussian", 0.25), Ensemble([Grey()], CPU)), np.zeros(1))], axis=2)
            for source in sources
        )  # fmt: skip
        assert ours.shape == (1, 1, h, w) and (ours == theirs).all()


def test_probabilities_are_averaged_and_each_member_is_a_system(image):
    path, _ = image
    nets = [Grey(-2.0), Grey(2.0)]
    probs = whole(path, Ensemble(nets, CPU, groups=[[0], [1], [0, 1]]), Windows(64, 0.0, 1.0, "constant", 0))
    assert probs.shape[0] == 3
    assert np.abs(probs[:2].mean(0) - probs[2]).max() < 1e-6
    logits = np.log(probs[:2] / (1 - probs[:2])).mean(0)
    assert np.abs(1 / (1 + np.exp(-logits)) - probs[2]).max() > 0.05  # averaging logits would differ


class OneSided(nn.Module):
    """What it says of a pixel leans on the neighbours below and to the right."""

    def forward(self, x):
        grey = Grey()(x)
        wide = nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
        return grey + (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1] + wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 20


def test_free_views_are_undone_and_average_in_the_overlaps(image):
    path, _ = image
    windows = Windows(32, 0.5, 1.0, "constant", 0)
    turned = replace(windows, alternate_flips=True)
    exact = whole(path, Ensemble([Grey()], CPU), windows)[0, 0]
    assert np.abs(whole(path, Ensemble([Grey()], CPU), turned)[0, 0] - exact).max() < 1e-6, "every flip is undone"
    plain, free = (np.abs(whole(path, Ensemble([OneSided()], CPU), w)[0, 0] - exact) for w in (windows, turned))
    inside = np.s_[17:47, 17:95]  # four windows over each pixel, one of each turn
    assert free[inside].mean() < 0.25 * plain[inside].mean()


@pytest.mark.parametrize("each", [False, True])
def test_members_of_different_windows_and_scales_are_joined_at_the_original_size(image, each):
    path, _ = image
    wide, small = Windows(64, 0.5, 1.0, "gaussian", 0.25), Windows(32, 0.0, 0.5, "constant", 0)
    groups = [
        ScaleGroup(wide, Ensemble([Grey(-2.0), Grey(1.0)], CPU, groups=[[0], [1], [0, 1]] if each else None)),
        ScaleGroup(small, Ensemble([Grey(2.0)], CPU, groups=[[0], [0]] if each else None)),
    ]
    sources = [Source("a", path), Source("b", path)]
    blocks = list(predict_multi_scale(sources, groups, np.zeros(1), Limits(max_gib=1e-5)))
    assert len(blocks) > 4, "too small to be cut"
    alone = [whole(path, Ensemble([net], CPU), windows)[0]
             for net, windows in ((Grey(-2.0), wide), (Grey(1.0), wide), (Grey(2.0), small))]  # fmt: skip
    assert max(block.probs.nbytes for block in blocks) <= 2e-5 * 2**30 / 8, "rows of the whole width"
    wide_open = list(predict_multi_scale(sources, groups, np.zeros(1), Limits(max_gib=1)))
    assert len(wide_open) < len(blocks)
    for image_id in "ab":
        own = [block for block in blocks if block.image_id == image_id]
        assert [block.last for block in own] == [False] * (len(own) - 1) + [True]
        mine = np.concatenate([rows for _, _, rows in full_rows(own, lambda probs: probs)], axis=2)
        assert mine.shape == (4 if each else 1, 1, 75, 131)
        same = [block for block in wide_open if block.image_id == image_id]
        same = np.concatenate([rows for _, _, rows in full_rows(same, lambda probs: probs)], axis=2)
        assert (mine == same).all(), "the same to the last bit, whatever waits in the file"
        assert np.abs(mine[-1] - np.mean(alone, axis=0)).max() < 1e-5, "every network counts alike"
        if each:
            assert np.abs(mine[:3] - np.stack(alone)).max() < 1e-5


@pytest.mark.parametrize("max_gib", [0.5, 1e-5])
def test_maps_to_show_are_every_so_many_pixels_of_what_was_counted(image, tmp_path, monkeypatch, max_gib):
    monkeypatch.setattr(grids, "MAP_SIDE", 40)  # 131 columns: every fourth
    path, pixels = image
    truth, kept = (pixels[..., 0] > 99).astype(np.uint8), []
    label = SimpleNamespace(read=lambda y, x, h, w: truth[y : y + h, x : x + w])
    ensemble = Ensemble([Grey(), Grey()], CPU, groups=[[0], [1], [0, 1]])
    settings = CompetitionSettings(classes=["light"])
    labels = TrueLabels(lambda *_: label, settings)
    counts = CountCollector(["a/b", "c"], labels, 3)

    def keep(image_id, preview):
        kept.append((image_id, preview, counts.evaluation_of(image_id).counts[0].copy()))

    evaluate(
        [Source("a/b", path), Source("c", path)],
        [ScaleGroup(Windows(32, 0.5, 1.0, "gaussian", 0.25), ensemble)],
        labels, Limits(max_gib=max_gib), [counts, PreviewCollector(settings, keep)],
    )  # fmt: skip
    counts.evaluation().save(tmp_path / "oof.npz")
    again = Evaluation.concat([Evaluation.load(tmp_path / "oof.npz")])
    probs = whole(path, Ensemble([Grey()], CPU), Windows(32, 0.5, 1.0, "gaussian", 0.25))
    assert [image_id for image_id, *_ in kept] == ["a/b", "c"]
    for (_, preview, counts), counted in zip(kept, again.counts, strict=True):
        assert (preview.map == to_codes(probs[0], True)[:, ::4, ::4]).all() and (counts == counted).all()
        assert (preview.worst_crop == to_codes(probs[0], True)).all(), "all of a small image is its worst spot"
    assert (again.counts[0] == count_codes(truth[None], to_codes(probs[0], True))).all()


def test_pixels_are_counted_by_truth_and_guess_in_pieces_of_any_size(monkeypatch):
    rng = np.random.default_rng(0)
    truth, guess = rng.choice([0, 1, 2, 255], (9, 7)), rng.integers(0, 4, (9, 7))
    expected = [[np.sum((truth == t) & (guess == g)) for g in range(4)] for t in range(3)]
    for size in (1, 20, 1000):
        monkeypatch.setattr(evaluation, "PIXELS_AT_ONCE", size)
        assert count(truth.astype(np.uint8), guess.astype(np.uint8), (3, 4)).tolist() == expected


def test_batches_fill_across_images(image, tmp_path):
    path, _ = image
    seen = []

    def forward(batch):
        seen.append(len(batch))
        return np.full((len(batch), 1, 1, 64, 64), 0.5, np.float32)

    sources = [Source(str(i), path) for i in range(3)]
    list(predict_windows(sources, called(forward, Windows(64, 0.0, 1.0, "constant", 0)), np.zeros(1), Limits(4)))
    assert seen == [4, 4, 4, 4, 2]


def test_an_error_while_reading_reaches_the_caller(tmp_path):
    (tmp_path / "a.png").write_text("nothing")
    with pytest.raises(UserError, match="a.png"):
        whole(tmp_path / "a.png", Ensemble([Grey()], CPU), Windows(32, 0, 1.0, "constant", 0))


class Blurred(nn.Module):
    """Enough of a network to be compiled."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, x):
        return self.layers(x / 255)


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_backends_give_the_maps_of_the_plain_network(image, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    path, pixels = image
    net = Blurred().eval()
    windows = Windows(160, 0.0, 1.0, "constant", 0)
    with torch.inference_mode():
        padded = np.pad(pixels, ((0, 85), (0, 29), (0, 0)), mode="symmetric")
        plain = net(torch.from_numpy(padded).permute(2, 0, 1)[None].float()).softmax(1)[0, :, :75, :131].numpy()
    forward = Ensemble([net], CPU, tta="flips", engine=Engine("fp32", backend))
    (block,) = predict_windows([Source("a", path)], called(forward, windows), np.zeros(2), Limits(3))
    alone = Ensemble([net], CPU, engine=Engine("fp32", backend))
    (single,) = predict_windows([Source("a", path)], called(alone, windows), np.zeros(2), Limits(3))
    assert np.abs(single.probs[0] - plain).max() < 1e-4
    assert block.probs.shape == single.probs.shape and np.abs(block.probs - single.probs).max() > 1e-4, "no flips"


def test_auto_takes_the_fastest_backend_whose_maps_agree(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def slow(network, device, precision):
        def run(images):
            clock[0] += 0.05
            return network(images)

        return run

    def awry(network, device, precision):
        return lambda images: network(images) * 5

    def broken(network, device, precision):
        raise Unsuited("not here")

    everything = {"eager": slow, "awry": awry, "broken": broken, "quick": lambda network, *_: network}
    monkeypatch.setitem(plugins._REGISTRY, "backend", everything)
    windows = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
    net = Blurred().eval()
    engines = [Engine("fp32", name) for name in everything]

    def fastest_engine(engines, net, device, windows, batches, networks):
        return fastest_engines(engines, [Kind(net, windows, batches, networks)], device)[0]

    assert fastest_engine(engines, net, CPU, windows, batches=2, networks=5) == engines[0], "not worth a search"
    assert capsys.readouterr().out == ""
    assert fastest_engine(engines, net, CPU, windows, batches=6000, networks=3) == engines[3]
    printed = capsys.readouterr().out
    assert "awry in fp32 is not used" in printed and "broken in fp32 does not work here (not here)" in printed
    assert fastest_engine(engines[:3], net, CPU, windows, batches=6000, networks=3) == engines[0]
    with pytest.raises(UserError, match="none of awry in fp32, broken in fp32 works here; set infer.precision"):
        fastest_engine(engines[1:3], net, CPU, windows, batches=2, networks=1)


def test_auto_weighs_precision_and_backend_together(monkeypatch):
    """Float32 where another backend makes that as fast, rounding where it does not; a rounding that is too rough never.

    What the user fixes stays, however rough."""
    seconds = {Engine("fp32", "eager"): 0.03, Engine("bf16", "eager"): 0.01, Engine("fp32", "quick"): 0.001}
    factor = {"fp32": 1.0, "bf16": 1.01}

    clock = [0.0]

    def backend(name):
        def build(network, device, precision):
            def run(images):
                clock[0] += seconds[Engine(precision, name)]
                return network(images) * factor[precision]

            return run

        return build

    monkeypatch.setitem(plugins._REGISTRY, "backend", {name: backend(name) for name in ("eager", "quick")})
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    windows = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
    plain, rounded, quick = seconds

    def fastest(*engines):
        return fastest_engines([*engines], [Kind(Blurred().eval(), windows, 6000, 3)], CPU)[0]

    assert fastest(plain, rounded, quick) == quick
    assert fastest(plain, rounded) == rounded
    factor["bf16"] = 5.0
    assert fastest(plain, rounded) == plain
    assert fastest(rounded) == rounded


@pytest.mark.parametrize("fault", ["raises", "differs", "overflows"])
def test_every_kind_of_network_and_every_checkpoint_is_judged(monkeypatch, capsys, tmp_path, fault):
    """What does for the first network alone is not taken: of two kinds, or of two checkpoints of one kind."""

    def quick(network, device, precision):
        def run(images):
            if not getattr(network, "odd", False):
                return network(images)
            if fault == "raises":
                raise RuntimeError("no such layer\nsecond line")
            return network(images) * (5 if fault == "differs" else float("nan"))

        return run

    def slow(network, device, precision):
        def run(images):
            clock[0] += 0.05
            return network(images)

        return run

    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setitem(plugins._REGISTRY, "backend", {"eager": slow, "quick": quick})
    windows = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
    nets = [Blurred().eval(), Blurred().eval()]
    kinds, engines = [Kind(net, windows, 6000) for net in nets], [Engine(), Engine("fp32", "quick")]
    assert fastest_engines(engines, kinds, CPU) == engines[::-1]
    nets[1].odd = True
    assert fastest_engines(engines, kinds, CPU) == engines[:1]
    assert "quick in fp32" in capsys.readouterr().out

    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    images = pd.DataFrame({"image_id": ["a"], "path": [str(image)], "height": 6400, "width": 6400})
    options = {"window": 32, "roi": "none", "precision": "fp32", "batch_size": 2}
    config = load(None, [word for name, value in options.items() for word in (f"--infer.{name}", str(value))])
    loads = []
    alike = [Candidate(config, lambda net=net: loads.append(net) or net, str(i)) for i, net in enumerate(nets)]
    for number, own, found in ((1, alike[:1], "quick"), (2, alike, "eager")):
        for _ in range(2):
            assert infer_engine(own, config, Workspace(tmp_path / "work"), CPU, images).backend == found
        assert len(loads) == [0, 2, 3][number], "measured with the first, each checked, once"
    nets[1].odd = False


def test_a_backend_that_fails_later_is_replaced_by_eager_with_a_sentence(monkeypatch, capsys):
    def small(network, device, precision):
        def run(images):
            if images.shape[2] > 32:
                raise RuntimeError("too large\nsecond line")
            return network(images)

        return run

    def never(network, device, precision):
        raise Unsuited("not here")

    registry = {"small": small, "never": never, "eager": plugins._REGISTRY["backend"]["eager"]}
    monkeypatch.setitem(plugins._REGISTRY, "backend", registry)
    net, told = Blurred().eval(), []
    for backend, size in (("small", 32), ("small", 64), ("never", 32)):
        forward = Ensemble([net], CPU, engine=Engine("fp32", backend))
        windows = np.random.default_rng(0).integers(0, 255, (2, size, size, 3)).astype(np.uint8)
        for _ in range(2):
            assert np.allclose(forward(windows), Ensemble([net], CPU)(windows), atol=1e-6)
        told.append(capsys.readouterr().out)
    assert told == [
        "", *(f"infer.backend: {name} in fp32 does not work here ({reason}); eager is used instead\n"
              for name, reason in (("small", "too large"), ("never", "not here"))),
    ]  # fmt: skip


def test_a_signal_after_openvinos_end_does_no_harm():
    """Its plugin's signal stack must not be freed by another thread while the main one still points to it."""
    pytest.importorskip("openvino")
    script = """
import faulthandler, gc, os, signal, threading, warnings
warnings.simplefilter("ignore")
faulthandler.enable()  # handlers run on the alternative stack from now on
import torch
from lib.inference.backends.engines import Engine
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
kept = []
def build():
    run = Engine("fp32", "openvino").build(torch.nn.Conv2d(3, 1, 3).eval(), torch.device("cpu"))
    run(torch.zeros(1, 3, 16, 16))
    kept.append(run)
build()
dropping = threading.Thread(target=lambda: (kept.clear(), gc.collect()))
dropping.start()
dropping.join()
for _ in range(3):
    os.kill(os.getpid(), signal.SIGUSR1)
assert heard
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("blank", [0.0, 0.75])
def test_the_time_left_is_by_windows_whatever_the_images_sizes(tmp_path, monkeypatch, blank):
    now, told = [1000.0], []
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    sources = []
    for name, side, share in [("a", 200, 0.0), ("b", 400, blank), ("c", 800, 0.0), ("d", 160, blank), ("e", 800, 0.5)]:
        pixels = np.full((side, side, 3), 255, np.uint8)
        pixels[: round(side * (1 - share))] = np.random.default_rng(0).integers(0, 120, (1, side, 3))
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
        sources.append(Source(name, tmp_path / f"{name}.png", "content", size=(side, side), content_share=1 - share))
    bars, make, compiling = [], predictor.progress, [20]
    monkeypatch.setattr(predictor, "progress", lambda *a: bars.append(make(*a)) or bars[-1])

    def forward(windows):
        now[0] += 0.3 * len(windows) + (compiling.pop() if compiling else 0)
        if bars[0].n:
            told.append((bars[0].n / bars[0].total, bars[0].last[1], bars[0].left()))
        return np.zeros((len(windows), 1, 1, *windows.shape[1:3]), np.float32)

    windows = Windows(40, 0.25, 1.0, "constant", 0.0)
    for _ in predict_windows(sources, called(forward, windows), np.zeros(1), Limits(4), "05"):
        pass
    late = [(at, left) for share, at, left in told if share >= 0.1]
    assert len(late) > 100 and bars[0].n == bars[0].total
    for at, left in late:
        assert left == pytest.approx(now[0] - at, rel=0.2, abs=2)
