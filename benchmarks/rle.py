"""Run-lengths beside the usual numpy one-liners and pycocotools, and beside a plain copy of the mask.

    python -m venv peers && peers/bin/pip install -r benchmarks/requirements.txt
    peers/bin/python benchmarks/rle.py

A row-major uint8 mask of 12,000 x 12,000 with 1,500 discs becomes column-major run-lengths as text, and a mask again;
turning the mask on its side, parsing and formatting included. Every round runs all sides once; ratios are theirs over
ours (above 1: ours is faster), median and range over the rounds. The last line it prints is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from pycocotools import mask as coco

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.competition import rle


def one_liner(mask: np.ndarray) -> str:
    """The encoder of countless public notebooks."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def one_liner_decode(text: str, height: int, width: int) -> np.ndarray:
    """And their decoder."""
    numbers = np.asarray(text.split(), dtype=int)
    mask = np.zeros(height * width, np.uint8)
    for low, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[low : low + length] = 1
    return np.ascontiguousarray(mask.reshape(width, height).T)


def discs(side: int, count: int) -> np.ndarray:
    """(side, side) uint8: a mask of discs that may overlap."""
    rng = np.random.default_rng(0)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(count):
        centre = tuple(int(v) for v in rng.integers(0, side, 2))
        cv2.circle(mask, centre, int(rng.integers(20, 160)), 1, -1)
    return mask


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=12_000)
    parser.add_argument("--discs", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    mask = discs(args.side, args.discs)
    text, packed = rle.encode(mask), coco.encode(np.asfortranarray(mask))
    assert text == one_liner(mask)
    assert (rle.decode(text, *mask.shape) == mask).all() and (coco.decode(packed) == mask).all()
    sides = {
        "encode": lambda: rle.encode(mask),
        "encode_numpy": lambda: one_liner(mask),
        "encode_pycocotools": lambda: coco.encode(np.asfortranarray(mask)),
        "memcpy": lambda: mask.copy(),
        "decode": lambda: rle.decode(text, *mask.shape),
        "decode_numpy": lambda: one_liner_decode(text, *mask.shape),
        "decode_pycocotools": lambda: np.ascontiguousarray(coco.decode(packed)),
    }
    rounds = [{name: seconds(call) for name, call in sides.items()} for _ in range(args.rounds)]
    result: dict[str, object] = {}
    for key, ours, theirs in (
        ("encode_vs_numpy", "encode", "encode_numpy"),
        ("decode_vs_numpy", "decode", "decode_numpy"),
        ("encode_vs_pycocotools", "encode", "encode_pycocotools"),
        ("decode_vs_pycocotools", "decode", "decode_pycocotools"),
        ("encode_vs_memcpy", "encode", "memcpy"),
    ):
        ratios = sorted(r[theirs] / r[ours] for r in rounds)
        result[key] = round(median(ratios), 3)
        result[f"{key}_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
        print(f"{key:<24} {median(ratios):8.3f}   ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    for name in sides:
        result[f"{name}_mpx_per_s"] = round(mask.size / 1e6 / median(r[name] for r in rounds))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
