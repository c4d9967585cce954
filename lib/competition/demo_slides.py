"""The slides of the demo competition: images that look like kidney tissue, drawn procedurally.

Targets are round tufts inside a pale ring, from 90 to 520 pixels across. Look-alikes are tufts without ring (the
annotator of one laboratory labels them, that of another does not), vessels, sclerosed tufts (with a dark core, far from
all targets), and faint tufts, of which about a third is labeled. Patients differ much in stain. One laboratory colours
targets and look-alikes differently, and another colours them the other way round. A network that learns colours from
few patients therefore generalises badly, and training on the validation patients leaks their laboratory. Every pixel is
a function of (scene, y, x), so slides of any size are written tile by tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

PERIOD = 1024  # textures repeat after so many pixels
CELL = 64  # pixels per cell of the tissue outline
STRUCTURE_KINDS = ("target", "ringless", "vessel", "faint", "sclerosed")
# Zones by depth, in pixels from the top of a band of cortex, with the shares of STRUCTURE_KINDS; the rest is empty.
# All labeled structures lie in the cortex. Sclerosed tufts lie so far from it that hardly a tile shows both: a network
# that is trained without background tiles does not learn to tell them apart.
CORTEX, DEEP, BANDS = 2800, (4000, 5200), 6400
SHARES = {
    "cortex": [0.5, 0.15, 0.1, 0.25, 0.0],
    "deep": [0.0, 0.0, 0.2, 0.0, 0.6],
    "between": [0.0, 0.0, 0.4, 0.0, 0.0],
}

# name: (hue of targets towards blue, hue of look-alikes, annotator counts ringless tufts)
LABORATORIES = {"A": (0.4, 0.0, True), "B": (0.0, 0.4, False), "C": (0.2, 0.2, True)}

# name: (brightness, contrast of the stain, hue of the tissue, laboratory)
PATIENTS = {
    "P1": (0.92, 1.25, -0.10, "A"),
    "P2": (0.78, 1.35, 0.60, "A"),
    "P3": (1.06, 0.80, -0.30, "B"),
    "P4": (1.00, 0.95, 0.30, "B"),
    "P5": (1.02, 0.70, 0.60, "B"),
    "P6": (0.84, 1.10, 0.25, "A"),
    "P7": (0.86, 0.70, 0.60, "C"),  # test
    "P8": (1.04, 1.30, -0.20, "C"),  # test
}


@dataclass(frozen=True)
class Structure:
    """A round structure. `phase` shapes its outline; `labeled` tells whether the annotator drew it."""

    y: float
    x: float
    radius: float
    kind: str
    phase: float
    labeled: bool


@dataclass(frozen=True)
class Scene:
    """One slide."""

    height: int
    width: int
    patient: str
    seed: int
    structures: tuple[Structure, ...]
    outline: np.ndarray  # tissue thickness per cell, positive inside

    @cached_property
    def circles(self) -> np.ndarray:
        """(3, N): y, x and radius of the structures. A slide of 40,000 x 40,000 pixels holds thousands."""
        return np.array([(s.y, s.x, s.radius) for s in self.structures], np.float64).reshape(-1, 3).T


def make_scene(height: int, width: int, patient: str, seed: int, tissue: float = 0.6) -> Scene:
    """Compose a slide; about `tissue` of it is covered."""
    rng = np.random.default_rng((seed, height, width))
    rows, columns = height // CELL + 2, width // CELL + 2
    field = cv2.GaussianBlur(
        rng.standard_normal((rows, columns)).astype(np.float32), (0, 0), 7, borderType=cv2.BORDER_REFLECT
    )
    field = (
        field / field.std()
        + 0.3 * cv2.GaussianBlur(rng.standard_normal((rows, columns)).astype(np.float32), (0, 0), 1) / 0.28
    )
    rim = np.minimum.outer(_to_border(rows), _to_border(columns))
    field += 0.6 * np.minimum(rim, 3) - 1.2
    outline = (field - np.quantile(field, 1 - tissue)).astype(np.float32)
    return Scene(height, width, patient, seed, tuple(_scatter(height, width, patient, outline, rng)), outline)


def _to_border(count: int) -> np.ndarray:
    return np.minimum(np.arange(count), np.arange(count)[::-1]).astype(np.float32)


def _scatter(
    height: int, width: int, patient: str, outline: np.ndarray, rng: np.random.Generator
) -> Iterator[Structure]:
    """Structures on tissue that do not touch one another."""
    counts_ringless = LABORATORIES[PATIENTS[patient][3]][2]
    taken: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for _ in range(int(height * width / 45_000)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        radius = float(rng.choice([48, 95, 175, 260], p=[0.35, 0.35, 0.2, 0.1]) * rng.uniform(0.9, 1.1))
        depth = (y + 0.6 * x) % BANDS
        zone = "cortex" if depth < CORTEX else "deep" if DEEP[0] <= depth < DEEP[1] else "between"
        shares = SHARES[zone]
        kind = str(rng.choice([*STRUCTURE_KINDS, "nothing"], p=[*shares, 1 - sum(shares)]))
        phase, draw = rng.uniform(0, 2 * np.pi), rng.random()
        place = int(y // 600), int(x // 600)
        near = [t for dy in (-1, 0, 1) for dx in (-1, 0, 1) for t in taken.get((place[0] + dy, place[1] + dx), [])]
        if kind == "nothing" or not _inside(outline, y, x, radius * 1.1, height, width):
            continue
        if any((y - ty) ** 2 + (x - tx) ** 2 < (1.25 * (radius + tr)) ** 2 for ty, tx, tr in near):
            continue
        taken.setdefault(place, []).append((y, x, radius))
        labeled = kind == "target" or (kind == "ringless" and counts_ringless) or (kind == "faint" and draw < 0.35)
        yield Structure(y, x, radius, kind, phase, labeled)


def _inside(outline: np.ndarray, y: float, x: float, radius: float, height: int, width: int) -> bool:
    """Whether a circle lies on tissue (it may be cut by the image's border)."""
    angles = np.arange(8) * np.pi / 4
    ys = np.clip(np.append(y + radius * np.sin(angles), y), 0, height - 1) / CELL
    xs = np.clip(np.append(x + radius * np.cos(angles), x), 0, width - 1) / CELL
    return bool((outline[ys.round().astype(int), xs.round().astype(int)] > 0.1).all())


@lru_cache(maxsize=1)
def _textures() -> dict[str, np.ndarray]:
    """Periodic textures (PERIOD, PERIOD) float32, unit deviation."""
    rng = np.random.default_rng(7)

    def cloud(sigma: float) -> np.ndarray:
        noise = rng.standard_normal((PERIOD, PERIOD)).astype(np.float32)
        pad = int(4 * sigma) + 1
        wrapped = cv2.GaussianBlur(np.pad(noise, pad, mode="wrap"), (0, 0), sigma)[pad:-pad, pad:-pad]
        return wrapped / wrapped.std()

    nuclei = np.maximum(cloud(3.5) - 1.1, 0)
    return {"fine": cloud(2.0), "middle": cloud(9.0), "coarse": cloud(45.0), "nuclei": nuclei / nuclei.std()}


def draw(scene: Scene, y: int, x: int, h: int, w: int) -> np.ndarray:
    """Pixels (h, w, 3) uint8 of a window."""
    ys, xs = np.arange(y, y + h), np.arange(x, x + w)
    texture = {name: t[np.ix_(ys % PERIOD, xs % PERIOD)] for name, t in _textures().items()}
    # density: how much stain, 0 (glass) to about 1.
    density = (
        0.42 + 0.05 * texture["middle"] + 0.05 * texture["coarse"] + 0.06 * texture["nuclei"] + 0.02 * texture["fine"]
    )
    _, _, tissue_hue, laboratory = PATIENTS[scene.patient]
    hue_of_targets, hue_of_others, _ = LABORATORIES[laboratory]
    hue = tissue_hue + 0.1 * texture["coarse"]
    for structure in _near(scene, y, x, h, w):
        rows, columns, rho = _polar(structure, y, x, h, w, structure.phase)
        target_hue = hue_of_targets if structure.labeled or structure.kind == "faint" else hue_of_others
        hue[rows, columns] += (target_hue - hue[rows, columns]) * np.clip((1.12 - rho) * 8, 0, 1)
        part = density[rows, columns]
        grain = texture["nuclei"][rows, columns] * 0.13 + texture["fine"][rows, columns] * 0.03
        part += (_look(structure.kind, rho, grain) - part) * (rho < 1.12) * (0.45 if structure.kind == "faint" else 1.0)
    tissue = np.clip(_tissue(scene, ys, xs) * 6 + texture["middle"] * 0.25, 0, 1)
    return _stain(density * tissue, hue, scene.patient, tissue)


def _look(kind: str, rho: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Stain density of a structure at normalised distance `rho` from its middle."""
    tuft = 0.62 + grain
    if kind in ("target", "faint"):
        return np.where(rho < 0.82, tuft, np.where(rho < 1.0, 0.16, 0.6))
    if kind == "sclerosed":
        return np.where(rho < 0.5, 0.95, np.where(rho < 0.82, tuft, np.where(rho < 1.0, 0.16, 0.6)))
    if kind == "ringless":
        return np.where(rho < 1.0, tuft, 0.45)
    return np.where(rho < 0.7, 0.1, np.where(rho < 1.0, 0.66 + 0.3 * grain, 0.42))


def _stain(density: np.ndarray, hue: np.ndarray, patient: str, tissue: np.ndarray) -> np.ndarray:
    """Density to colour: absorption as in a stained slide, of the patient's brightness and contrast."""
    brightness, contrast, _, _ = PATIENTS[patient]
    absorb = np.stack([0.55 + 0.6 * hue, np.full_like(hue, 1.25), 0.65 - 0.6 * hue], axis=-1)
    light = np.exp(-density[..., None] * contrast * absorb * 1.3)
    glass = 243.0
    colour = glass * light * (1 + (brightness - 1) * tissue[..., None])
    return np.clip(colour, 0, 255).astype(np.uint8)


def _tissue(scene: Scene, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """The outline field at pixels, bilinear."""
    map_x = np.broadcast_to((xs / CELL).astype(np.float32), (len(ys), len(xs)))
    map_y = np.broadcast_to((ys / CELL).astype(np.float32)[:, None], (len(ys), len(xs)))
    return cv2.remap(scene.outline, np.ascontiguousarray(map_x), np.ascontiguousarray(map_y), cv2.INTER_LINEAR)


def draw_label(scene: Scene, y: int, x: int, h: int, w: int) -> np.ndarray:
    """The annotator's mask (h, w) uint8 of a window. Its outline differs a little from the drawn one."""
    mask = np.zeros((h, w), np.uint8)
    for structure in _near(scene, y, x, h, w):
        if structure.labeled:
            rows, columns, rho = _polar(structure, y, x, h, w, structure.phase + 0.4)
            mask[rows, columns] |= (rho < 1.03).astype(np.uint8)
    return mask


def _near(scene: Scene, y: int, x: int, h: int, w: int) -> list[Structure]:
    """The structures that may show in a window."""
    ty, tx, radius = scene.circles
    reach = 1.4 * radius
    near = (ty > y - reach) & (ty < y + h + reach) & (tx > x - reach) & (tx < x + w + reach)
    return [scene.structures[i] for i in np.flatnonzero(near)]


def _polar(structure: Structure, y: int, x: int, h: int, w: int, phase: float) -> tuple[slice, slice, np.ndarray]:
    """Rows and columns of a window around a structure, and there the distance from its middle over its radius."""
    reach = structure.radius * 1.4
    y0, y1 = max(y, int(structure.y - reach)), min(y + h, int(structure.y + reach) + 1)
    x0, x1 = max(x, int(structure.x - reach)), min(x + w, int(structure.x + reach) + 1)
    dy, dx = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    dy, dx = dy - structure.y, dx - structure.x
    angle = np.arctan2(dy, dx)
    radius = structure.radius * (1 + 0.08 * np.sin(3 * angle + phase) + 0.04 * np.sin(7 * angle + 2 * phase))
    return slice(y0 - y, y1 - y), slice(x0 - x, x1 - x), np.hypot(dy, dx) / radius
