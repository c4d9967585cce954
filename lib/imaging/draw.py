"""Pictures for people: three channels of an image as red, green and blue, and masks over them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lib.config.pixels import Pixels
from lib.imaging.save import save_image
from lib.tables import IGNORE

OUTLINE_TOLERANCE = 0.6  # pixels that an outline may be off
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


def as_picture(values: np.ndarray, pixels: Pixels) -> np.ndarray:
    """What a reader or a tile gives, (h, w, C), as a picture (h, w, 3) uint8: `pixels.show` says how.

    >>> pixels = Pixels(channels=["nir", "red"], show=["red"], show_range=[0, 0.5])
    >>> as_picture(np.array([[[9, 257]], [[9, 65535]]], np.uint16), pixels).tolist()
    [[[2, 2, 2]], [[255, 255, 255]]]
    """
    if not pixels.channels:
        return values
    (low, high), most = pixels.shown_range, np.iinfo(values.dtype).max
    shares = values[..., list(pixels.shown_indices)].astype(np.float32) / most
    return ((shares - low) * (255 / (high - low)) + 0.5).clip(0, 255).astype(np.uint8)


def truth_beside_prediction(image: np.ndarray, truth: np.ndarray, guess: np.ndarray, background: bool) -> np.ndarray:
    """Image (h, w, 3), labels as of `overlay` twice → image | truth | prediction, (h, 3w + gaps, 3)."""
    gap = np.full((image.shape[0], 8, 3), 255, np.uint8)
    return np.hstack([image, gap, overlay(image, truth, background), gap, overlay(image, guess, background)])


def overlay(image: np.ndarray, labels: np.ndarray, background: bool, strength: float = 0.55) -> np.ndarray:
    """Label colours laid over an image; background and ignored pixels stay as they are.

    `labels`: label indices (h, w), or planes (K, h, w) of classes that overlap: their colours are mixed where they do.
    """
    if labels.ndim == 3:
        here = labels == 1
        shown, total = here.any(0), np.zeros(image.shape, np.float32)
        for k, plane in enumerate(here):
            total[plane] += colour_of_class(k)
        colours = total / np.maximum(here.sum(0), 1)[..., None]
    else:
        shown = (labels != IGNORE) & ((labels > 0) | (not background))
        colours = PALETTE[(labels.astype(int) + (0 if background else 1)) % len(PALETTE)]
    mixed = image * (1 - strength) + colours * strength
    return np.where(shown[..., None], mixed, image).astype(np.uint8)


def colour_of_class(k: int) -> np.ndarray:
    """The colour (3,) of the k-th class that overlaps others."""
    return PALETTE[(k + 1) % len(PALETTE)]


def outline(mask: np.ndarray) -> str:
    """The outline of a mask (h, w) as a path of SVG, through the centres of pixels; `evenodd` fills it with its holes.

    >>> outline(np.array([[0, 1, 1], [0, 1, 1]], np.uint8)), outline(np.zeros((2, 2), np.uint8))
    ('M1 0L1 1L2 1L2 0Z', '')
    """
    contours, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    smooth = (cv2.approxPolyDP(contour, OUTLINE_TOLERANCE, True)[:, 0] for contour in contours)
    return "".join("M" + "L".join(f"{x} {y}" for x, y in points) + "Z" for points in smooth)


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

    They are drawn over a pale grey image. A wrong class is red too, and so is a pixel with a false positive and a false
    negative of classes that overlap. Ignored pixels are never wrong. Labels as of `overlay`.
    """
    known = truth != IGNORE
    wrong = known & (truth != guess)
    is_object, is_guess = (labels > 0 if background else np.ones(labels.shape, bool) for labels in (truth, guess))
    if truth.ndim == 3:
        is_object, is_guess = (known & is_object).any(0), (wrong & is_guess).any(0)
        known, wrong = known.any(0), wrong.any(0)
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
