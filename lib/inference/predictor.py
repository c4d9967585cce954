"""Huge images through a network: windows read ahead, batched across images, stitched to finished rows.

Memory: the rows that windows still touch, never the image's height.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.config.competition import Pixels
from lib.imaging.blend import window_weights
from lib.imaging.grid import grid, whole_size
from lib.imaging.pad import pad
from lib.imaging.reader import AS_THEY_ARE, Scaled, open_image
from lib.imaging.roi import regions
from lib.imaging.stitch import RowResizer, RowStitcher


@dataclass(frozen=True)
class Source:
    """An image to predict. `roi` as in lib/imaging/roi.py."""

    image_id: str
    path: Path
    roi: str = "none"
    blank_tolerance: float = 6.0
    pixels: Pixels = AS_THEY_ARE


@dataclass(frozen=True)
class Windows:
    """Windows of `size` pixels after `scale`; `overlap` is the share that neighbours have in common."""

    size: int
    overlap: float
    scale: float
    blend: str
    margin: float
    whole: str = ""
    """`letterbox` or `stretch`: no windows, the whole image shrunk to `size` instead."""

    @property
    def stride(self) -> int:
        return max(1, round(self.size * (1 - self.overlap)))


@dataclass(frozen=True)
class Band:
    """Finished rows: `probs` (S, K, h, W) float32 at original resolution, from row `y0` on."""

    image_id: str
    y0: int
    probs: np.ndarray
    height: int
    width: int

    @property
    def last(self) -> bool:
        return self.y0 + self.probs.shape[2] == self.height


@dataclass(frozen=True)
class _Plan:
    """An image as the reading thread announces it, before its windows."""

    image_id: str
    size: tuple[int, int]
    scaled: tuple[int, int]
    corners: list[tuple[int, int]]


def predict(
    sources: Iterable[Source],
    forward: Callable[[np.ndarray], np.ndarray],
    windows: Windows,
    fill: np.ndarray,
    systems: int,
    batch_size: int = 8,
    max_gib: float = 1.0,
    description: str = "",
) -> Iterator[Band]:
    """Bands of every image, in the order of `sources`, from the top down.

    `forward`: windows (B, h, w, 3) uint8 → (B, S, K, h, w) float32. `fill` (K,): where nothing is
    computed (blank areas). `max_gib` bounds the bands handed out.
    """
    sources = list(sources)
    weights = window_weights(windows.size, windows.blend, windows.margin)
    everywhere = np.tile(np.asarray(fill, np.float32), systems)
    bar = tqdm(total=len(sources), desc=description, unit="image", disable=not description)
    feed = _read_ahead(sources, windows, batch_size)
    outputs = _outputs(feed, forward, batch_size)
    for plan, results in outputs:
        stitcher = RowStitcher(*plan.scaled, len(everywhere), weights, everywhere)
        resizer = RowResizer(plan.scaled, plan.size)
        rows = [y for y, _ in plan.corners]
        for i, (y, x) in enumerate(plan.corners):
            values = next(results)
            stitcher.add(y, x, values.reshape(-1, *values.shape[2:]))
            below = plan.scaled[0] if i + 1 == len(rows) else rows[i + 1]
            if below != y:
                yield from _bands(plan, stitcher.finish_rows(below)[1], resizer, systems, max_gib)
        if not rows:
            yield from _bands(plan, stitcher.finish_rows(plan.scaled[0])[1], resizer, systems, max_gib)
        bar.update()
    bar.close()


def _bands(plan: _Plan, finished: np.ndarray, resizer: RowResizer, systems: int, max_gib: float) -> Iterator[Band]:
    """Resize finished rows to the original size, in pieces of at most `max_gib`."""
    grow = plan.size[0] * plan.size[1] / (plan.scaled[0] * plan.scaled[1])
    step = max(1, int(max_gib * 2**30 / 3 / (finished.shape[0] * plan.scaled[1] * 4 * grow)))
    for row in range(0, finished.shape[1], step):
        y0, probs = resizer.push(finished[:, row : row + step])
        if probs.shape[1]:
            probs = probs.reshape(systems, -1, *probs.shape[1:])
            yield Band(plan.image_id, y0, probs, *plan.size)


def _read_ahead(sources: list[Source], windows: Windows, batch_size: int) -> Iterator[_Plan | np.ndarray]:
    """Plans and their windows from a thread that stays a few batches ahead of the network."""
    buffer: queue.Queue = queue.Queue(maxsize=4 * batch_size)
    stop = threading.Event()

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                return buffer.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise _Stopped

    def work() -> None:
        try:
            for source in sources:
                _read_source(source, windows, put)
            put(None)
        except _Stopped:
            pass
        except BaseException as error:  # handed over to whoever waits for windows
            buffer.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := buffer.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()


class _Stopped(Exception):
    """Nobody wants the windows any more."""


def _read_source(source: Source, windows: Windows, put: Callable[[object], None]) -> None:
    with open_image(source.path, source.pixels) as reader:
        shape = whole_size(reader.height, reader.width, windows.size, windows.whole) if windows.whole else None
        scaled = Scaled(reader, windows.scale, shape)
        where = regions(source.roi, source.image_id, reader, source.blank_tolerance)
        size = windows.size
        corners = [
            (y, x)
            for y, x in grid(scaled.height, scaled.width, size, windows.stride)
            if where.keep(*scaled.original(y, x, min(size, scaled.height - y), min(size, scaled.width - x)))
        ]
        put(_Plan(source.image_id, (reader.height, reader.width), (scaled.height, scaled.width), corners))
        for y, x in corners:
            pixels = scaled.read(y, x, min(size, scaled.height - y), min(size, scaled.width - x))
            put(pad(pixels, size))


def _outputs(feed: Iterator, forward: Callable, batch_size: int) -> Iterator[tuple[_Plan, Iterator[np.ndarray]]]:
    """(plan, iterator over its windows' outputs), while batches fill across image borders."""
    plans: list[_Plan] = []
    waiting: list[np.ndarray] = []
    ready: list[np.ndarray] = []
    ended = False

    def more() -> None:
        """Read until one batch is computed, or the end."""
        nonlocal ended
        for item in feed:
            if isinstance(item, _Plan):
                plans.append(item)
            else:
                waiting.append(item)
                if len(waiting) == batch_size:
                    break
        else:
            ended = True
        if waiting:
            ready.extend(forward(np.stack(waiting)))
            waiting.clear()

    def results(count: int) -> Iterator[np.ndarray]:
        for _ in range(count):
            while not ready:
                more()
            yield ready.pop(0)

    while True:
        while not plans and not ended:
            more()
        if not plans:
            return
        plan = plans.pop(0)
        yield plan, results(len(plan.corners))
