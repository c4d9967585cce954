"""Sliding window: windows of huge images are read ahead, batched across images, and stitched to finished blocks.

Reading and stitching run in threads of their own, so that the network waits for neither. Memory holds the part of the
map that later windows still touch, whatever the image's height, and two batches of maps: one is stitched while the next
is computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from lib.imaging.blend import window_weights
from lib.imaging.geometry import Box, joined_rows
from lib.imaging.grid import grid, whole_size
from lib.imaging.pad import pad
from lib.imaging.reader import AS_THEY_ARE, Scaled
from lib.imaging.roi import boxes_file, read_boxes, regions
from lib.imaging.roi_windows import windows_around
from lib.imaging.stitch import Canvas, Resizer, stitch
from lib.imaging.stitch_boxes import stitch_boxes
from lib.inference.networks import NotFiniteError, ScaleGroup, filled_up
from lib.inference.windows import USUAL, Block, Limits, Source, Windows, flip_of, flipped
from lib.system.disk_cache import DiskCache
from lib.system.memory import give_back
from lib.system.prefetch import ahead, pipelined
from lib.system.terminal import progress


@dataclass(frozen=True)
class _Plan:
    """An image, as the reading thread announces it before its windows.

    `size`: (height, width) of the image. `scaled`: of the image at the windows' scale. `corners`: (y, x) of its windows
    at that scale. `boxes`: where each window is a resized box, the boxes in original pixels.
    """

    image_id: str
    size: tuple[int, int]
    scaled: tuple[int, int]
    corners: list[tuple[int, int]]
    boxes: list[Box] | None = None


_Computed = tuple[list[_Plan], Sequence[np.ndarray]]
TRIM_EVERY = 8  # blocks after which freed memory is given back to the system


def predict_windows(
    sources: Iterable[Source], group: ScaleGroup, outside_value: np.ndarray, limits: Limits = USUAL,
    description: str = "", restore: bool = True,
) -> Iterator[Block]:  # fmt: skip
    """Sliding window: predict whole images window by window, and stitch them to blocks of finished probabilities.

    `group`: the network and the windows that it sees. `outside_value` (K,): the probabilities where nothing is computed
    (blank areas). `restore`: resize maps to the image's size; without it they keep the windows' scale, except where
    windows are resized boxes. `description`: text before the progress bar.

    Yields blocks (S, K, h, w) in the order of `sources`; within an image by rows from the top down, and within a row
    from left to right. Raises UserError where an image cannot be read.

    >>> import tempfile, cv2
    >>> from pathlib import Path
    >>> class Brightness:
    ...     map_count = 1
    ...     def __call__(self, windows):
    ...         return windows.mean(-1, dtype=np.float32)[:, None, None] / 255
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "grey.png")
    ...     _ = cv2.imwrite(str(path), np.full((50, 70, 3), 51, np.uint8))
    ...     group = ScaleGroup(Windows(32, 0.5, 1.0, "gaussian", 0.25), Brightness())
    ...     blocks = list(predict_windows([Source("grey", path)], group, np.zeros(1)))
    >>> sum(block.probs[0, 0].size for block in blocks) == 50 * 70, round(float(blocks[0].probs.mean()), 3)
    (True, 0.2)
    """
    sources, windows, map_count = list(sources), group.windows, group.forward.map_count
    progress_bar = _WindowProgress(sources, windows, description)
    outside = np.tile(np.asarray(outside_value, np.float32), map_count)
    forward = progress_bar.counted(filled_up(group.forward, limits.least))
    computed = _computed(_read_ahead(sources, windows, limits), forward, limits.batch_size)

    def stitched(items: Iterator[_Computed]) -> Generator[Block, None, None]:
        for plan, results in _by_image(items):
            progress_bar.begin_image(len(plan.corners))
            for y, x, values, size in _stitched(plan, results, windows, outside, limits, restore):
                yield Block(plan.image_id, y, x, values.reshape(map_count, -1, *values.shape[1:]), *size)

    yield from pipelined(stitched, computed)
    progress_bar.bar.close()


def _stitched(
    plan: _Plan, results: Iterator[np.ndarray], windows: Windows, outside: np.ndarray, limits: Limits, restore: bool
) -> Iterator[tuple[int, int, np.ndarray, tuple[int, int]]]:
    """The blocks of one image: (y, x, values (S * K, h, w), (height, width) of the whole map)."""
    weights = window_weights(windows.size, windows.blend, windows.margin)
    column = (len(outside) + 1) * windows.size * 4  # bytes
    panel = max(windows.size, int(limits.bytes / 16 / column))  # two panels are in memory
    cache = DiskCache(limits.bytes / 4, limits.folder)
    if plan.boxes is not None:
        row = (len(outside) + 1) * min(panel, plan.size[1]) * 4  # bytes
        step = max(1, int(limits.bytes / 8 / row))
        maps = (_unpadded(next(results).reshape(-1, *weights.shape), box, windows) for box in plan.boxes)
        for place in stitch_boxes(Canvas(plan.size, outside, panel, cache), plan.boxes, maps, step):
            yield *place, plan.size
        return
    size = plan.size if restore else plan.scaled
    larger = not windows.resized and plan.scaled[0] * plan.scaled[1] > plan.size[0] * plan.size[1]
    resizer = Resizer(plan.scaled, size, by_area=larger)
    grow = 1.0 if larger else size[0] * size[1] / (plan.scaled[0] * plan.scaled[1])
    row = len(outside) * min(2 * panel, plan.scaled[1]) * 4 * grow  # bytes that one row of a block becomes
    step = max(1, int(limits.bytes / 8 / row))
    flat = (
        flipped(next(results).reshape(-1, *weights.shape), flip_of(corner, windows))  # no variable keeps it in memory
        for corner in plan.corners
    )
    canvas = Canvas(plan.scaled, outside, panel, cache)
    for number, (y, x, block) in enumerate(stitch(canvas, plan.corners, flat, weights)):
        if number % TRIM_EVERY == 0:
            give_back()
        for place in resizer.push(y, x, block, step):
            yield *place, size


class _WindowProgress:
    """A progress bar over the windows of some images. Its total is corrected by the images that have begun."""

    def __init__(self, sources: list[Source], windows: Windows, description: str):
        self.expected = [
            count_windows(*source.size, windows.zoomed(source.zoom)) * source.content_share for source in sources
        ]
        self.all = self.left = sum(self.expected)  # expected windows: of all images, and of those that have not begun
        self.images = self.known = 0  # images that have begun, and their windows
        self.bar = progress(round(self.left), description, "window")

    def begin_image(self, count: int) -> None:
        """Note that the next image has `count` windows that are not blank."""
        self.left -= self.expected[self.images]
        self.images, self.known = self.images + 1, self.known + count
        begun = self.all - self.left
        self.bar.total = self.known + round(self.left * (self.known / begun if begun else 1.0))

    def counted(self, forward: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """`forward`, with its windows shown on the bar."""

        def counting(batch: np.ndarray) -> np.ndarray:
            outputs = forward(batch)
            self.bar.update(len(batch))
            return outputs

        return counting


def _unpadded(values: np.ndarray, box: Box, windows: Windows) -> np.ndarray:
    """The part of a window (C, h, w) that shows a box. It is a copy, because a view would keep the batch in memory."""
    height, width = whole_size(*box[2:], windows.size, windows.resize_mode)
    return values[:, :height, :width].copy()


def full_rows(
    blocks: Iterable[Block], convert: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[Block, int, np.ndarray]]:
    """Join blocks into rows of full width: (the last block of the rows, their y, the joined `convert(probs)`).

    The converted rows have the shape (…, h, W). Rows of many planes come a few at a time.
    """
    pieces: dict[int, list[np.ndarray]] = {}
    for block in blocks:
        pieces.setdefault(block.y, []).append(convert(block.probs))
        if block.x + block.probs.shape[3] == block.width:
            for top, rows in joined_rows(pieces.pop(block.y)):
                yield block, block.y + top, rows


def count_windows(height: int, width: int, windows: Windows) -> int:
    """How many windows an image has, blank ones included; 1 where windows are resized images or boxes."""
    if windows.resized:
        return 1
    return len(grid(round(height * windows.scale), round(width * windows.scale), windows.size, windows.stride))


def image_windows(sources: list[Source], windows: Windows) -> int:
    """How many windows some images have together, blank ones included."""
    total = 0
    for source in sources:
        if windows.resized and (file := boxes_file(source.roi)):
            total += len(read_boxes(file[0]).get(source.image_id, []))
            continue
        with source.open() as reader:
            total += count_windows(reader.height, reader.width, windows.zoomed(source.zoom))
    return total


def first_windows(sources: list[Source], windows: Windows, count: int) -> np.ndarray:
    """The first windows that would be computed, (count, h, w, C), repeated where there are fewer."""
    feed = (item for item in _read_ahead(sources, windows, Limits(count)) if isinstance(item, np.ndarray))
    first = list(islice(feed, count))
    if not first:
        pixels = sources[0].pixels if sources else AS_THEY_ARE
        return np.zeros((count, windows.size, windows.size, pixels.count), pixels.dtype)
    return np.stack([first[i % len(first)] for i in range(count)])


def _read_ahead(sources: list[Source], windows: Windows, limits: Limits) -> Iterator[_Plan | np.ndarray]:
    """The plan of each image and then its windows, read by a thread that is a few batches ahead of the network."""
    items = (item for source in sources if not limits.over() for item in _read_source(source, windows, limits.over))
    return ahead(items, 4 * limits.batch_size)


def _read_source(source: Source, windows: Windows, over: Callable[[], bool]) -> Iterator[_Plan | np.ndarray]:
    """The plan of one image and then its windows (h, w, C)."""
    windows = windows.zoomed(source.zoom)
    size, stride = windows.size, windows.stride
    black = np.zeros((size, size, source.pixels.count), source.pixels.dtype)
    with source.open() as reader:
        roi = regions(source.roi, source.image_id, reader, source.blank_tolerance)
        if windows.resized and roi.boxes is not None:
            image_size, boxes = (reader.height, reader.width), roi.boxes
            yield _Plan(source.image_id, image_size, image_size, [box[:2] for box in boxes], boxes)
            for box in boxes:
                small = whole_size(*box[2:], size, windows.resize_mode)
                yield black if over() else pad(reader.shrunk(*small, *box), size)
            return
        shape = whole_size(reader.height, reader.width, size, windows.resize_mode) if windows.resized else None
        scaled = Scaled(reader, windows.scale, shape)
        if roi.boxes is not None:
            factors = scaled.height / reader.height, scaled.width / reader.width
            corners = windows_around(roi.boxes, factors, (scaled.height, scaled.width), size, stride)
        else:
            corners = [
                (y, x)
                for y, x in grid(scaled.height, scaled.width, size, stride)
                if roi.keep(*scaled.original(y, x, min(size, scaled.height - y), min(size, scaled.width - x)))
            ]
        yield _Plan(source.image_id, (reader.height, reader.width), (scaled.height, scaled.width), corners)
        for y, x in corners:
            if over():
                yield black
                continue
            pixels = scaled.read(y, x, min(size, scaled.height - y), min(size, scaled.width - x))
            yield flipped(pad(pixels, size).transpose(2, 0, 1), flip_of((y, x), windows)).transpose(1, 2, 0)


def _computed(feed: Iterator, forward: Callable, batch_size: int) -> Generator[_Computed, None, None]:
    """Outputs of batches, which may hold windows of several images, and the plans of the images that begin in them."""
    plans: list[_Plan] = []
    waiting: list[np.ndarray] = []
    images: list[str] = []  # whose windows are waiting
    for item in feed:
        if isinstance(item, _Plan):
            plans.append(item)
            image_id = item.image_id
            continue
        waiting.append(item)
        images.append(image_id)
        if len(waiting) == batch_size:
            yield plans, _forward(forward, waiting, images)
            plans, waiting, images = [], [], []
    yield plans, _forward(forward, waiting, images) if waiting else ()


def _forward(forward: Callable, windows: list[np.ndarray], images: list[str]) -> np.ndarray:
    """The probabilities of a batch. `images`: each window's, for the message where they are not finite."""
    try:
        return forward(np.stack(windows))
    except NotFiniteError as error:
        raise error.of_image(images[error.window]) from None


def _by_image(items: Iterator[_Computed]) -> Iterator[tuple[_Plan, Iterator[np.ndarray]]]:
    """For each image, its plan and an iterator over the outputs of its windows."""
    plans: deque[_Plan] = deque()
    ready: deque[np.ndarray] = deque()

    def more() -> bool:
        """Take another batch; False where there is none."""
        for begun, outputs in items:
            plans.extend(begun)
            ready.extend(outputs)
            return True
        return False

    def results(count: int) -> Iterator[np.ndarray]:
        for _ in range(count):
            while not ready:
                more()
            yield ready.popleft()

    while plans or more():
        if plans:
            plan = plans.popleft()
            yield plan, results(len(plan.corners))
