"""Draws masks over images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lib.imaging.save import save_image
from lib.tables import IGNORE

RIGHT, INVENTED, MISSED = (70, 180, 100), (225, 60, 55), (45, 105, 230)
PALETTE = np.array(
    [
        [0, 0, 0],
        [0, 225, 235],  # first, as it stands out from stained tissue, retinas and ground alike
        [60, 160, 240],
        [250, 200, 50],
        [70, 190, 90],
        [170, 90, 220],
        [240, 130, 40],
        [230, 60, 60],
        [220, 110, 170],
        [150, 120, 80],
        [130, 140, 160],
        [255, 255, 255],
    ],
    np.uint8,
)


def truth_beside_prediction(image: np.ndarray, truth: np.ndarray, guess: np.ndarray, background: bool) -> np.ndarray:
    """Image (h, w, 3), label indices (h, w) twice → image | truth | prediction, (h, 3w + gaps, 3)."""
    gap = np.full((image.shape[0], 8, 3), 255, np.uint8)
    return np.hstack([image, gap, overlay(image, truth, background), gap, overlay(image, guess, background)])


def overlay(image: np.ndarray, labels: np.ndarray, background: bool, strength: float = 0.55) -> np.ndarray:
    """Label colours laid over an image; background and ignored pixels stay as they are."""
    shown = (labels != IGNORE) & ((labels > 0) | (not background))
    colours = PALETTE[(labels.astype(int) + (0 if background else 1)) % len(PALETTE)]
    mixed = image * (1 - strength) + colours * strength
    return np.where(shown[..., None], mixed, image).astype(np.uint8)


def captioned(pixels: np.ndarray, text: str) -> np.ndarray:
    """A picture (h, w, 3) below a line of text, (h + 16, w, 3). A long text is cut at its start."""
    line = np.full((16, pixels.shape[1], 3), 255, np.uint8)
    letters = max(4, pixels.shape[1] // 8)
    text = text if len(text) <= letters else f"...{text[3 - letters :]}"
    cv2.putText(line, text, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([line, pixels])


def sheet(pictures: list[np.ndarray], columns: int = 2) -> np.ndarray:
    """Pictures (h, w, 3) of any sizes in rows of `columns`, on white."""
    height, width = (max(p.shape[i] for p in pictures) + 8 for i in (0, 1))
    rows = -(-len(pictures) // columns)
    out = np.full((rows * height, min(columns, len(pictures)) * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        out[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return out


def error_map(
    image: np.ndarray, truth: np.ndarray, guess: np.ndarray, background: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(picture (h, w, 3), wrong (h, w) bool): true positives green, false positives red, false negatives blue.

    They are drawn over a pale grey image. A wrong class is red too. Ignored pixels are never wrong.
    """
    known = truth != IGNORE
    wrong = known & (truth != guess)
    is_object, is_guess = (labels > 0 if background else np.ones(labels.shape, bool) for labels in (truth, guess))
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    picture = np.repeat((grey * 0.45 + 125).astype(np.uint8), 3, axis=2)
    picture[known & ~wrong & is_object] = picture[known & ~wrong & is_object] * 0.5 + np.array(RIGHT) * 0.5
    picture[wrong & is_guess] = INVENTED
    picture[wrong & ~is_guess] = MISSED
    return picture, wrong


def heat(bins: np.ndarray) -> np.ndarray:
    """Probabilities (h, w) uint8 as colours (h, w, 3); 0 is dark."""
    return cv2.cvtColor(cv2.applyColorMap(bins, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """RGB (h, w, 3) to a JPEG or PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, pixels[:, :, ::-1])
