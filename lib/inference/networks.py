"""Turns a batch of windows into probabilities: the networks of an ensemble, with test-time augmentation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from lib.errors import UserError
from lib.inference.backends.engines import EAGER, Engine, as_images
from lib.inference.tta import merge, views
from lib.inference.windows import Windows
from lib.models.outputs import probabilities


class WindowNetwork(Protocol):
    """The object that the sliding window calls: an `Ensemble`, or a class that counts, times or limits one.

    `map_count` (S): how many maps it makes of a window.
    """

    map_count: int

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Windows (B, h, w, C) -> probabilities (B, S, K, h, w) float32."""


AnyNetwork = TypeVar("AnyNetwork", bound=WindowNetwork)


class NotFiniteError(UserError):
    """A network predicts NaN or infinity for an image. `window`: the position in the batch."""

    def __init__(self, network: str, engine: str, window: int, image: str = ""):
        self.network, self.engine, self.window = network, engine, window
        super().__init__(
            f"{network} predicts values that are not finite (NaN or infinite){f' for image {image}' if image else ''} "
            f"with {engine}; set precision (train.precision in 03, else infer.precision) to fp32, and if that does not "
            "help, delete the member's folder and run 03_train.py again with a lower train.lr"
        )

    def of_image(self, image: str) -> NotFiniteError:
        """This error with the name of the image."""
        return NotFiniteError(self.network, self.engine, self.window, image)


def marked(logits: torch.Tensor) -> torch.Tensor:
    """Logits with NaN for infinity, because the probability of infinity would be a valid 0 or 1."""
    return logits + logits * 0


@dataclass(frozen=True)
class ScaleGroup(Generic[AnyNetwork]):
    """Networks that see the same windows. In a multi-scale ensemble, the last map is the mean of them all."""

    windows: Windows
    forward: AnyNetwork


def filled_up(forward: Callable[[np.ndarray], np.ndarray], least: int) -> Callable[[np.ndarray], np.ndarray]:
    """`forward`, to which batches of less than `least` windows are given with their last window repeated.

    The outputs for a window differ in their last bits between a batch of one and a larger one. Filled up, they do not
    depend on which windows come together.

    >>> filled_up(lambda windows: windows * len(windows), 3)(np.ones((2, 1))).tolist()
    [[3.0], [3.0]]
    """

    def filling(batch: np.ndarray) -> np.ndarray:
        missing = least - len(batch)
        return forward(batch) if missing <= 0 else forward(np.append(batch, [batch[-1]] * missing, 0))[: len(batch)]

    return filling


class Ensemble:
    """Windows (B, h, w, C) -> probabilities (B, S, K, h, w) float32.

    Probabilities, not logits, are averaged over views and networks. `tta`: the recipe of views (lib/inference/tta.py).
    `groups`: S lists of positions in `nets`; each map is the mean of one list. By default one list holds all networks.
    `presence`: the networks also output the presence of each class, which follows the masks: K is twice the number of
    classes, and views' presences are averaged. `multilabel`: whether the classes overlap, as the networks say.
    """

    def __init__(
        self,
        nets: list[nn.Module],
        device: torch.device,
        *,
        tta: str = "none",
        engine: Engine = EAGER,
        groups: list[list[int]] | None = None,
        presence: bool = False,
    ):
        self.names = [getattr(net, "display_name", f"network {number + 1}") for number, net in enumerate(nets)]
        self.engine = engine
        self.parameters = sum(parameter.numel() for net in nets for parameter in net.parameters())
        self.runs, self.device = [engine.build(net, device) for net in nets], device
        self.lazy = engine.backend != "eager"
        self.windows, self.seconds = 0, 0.0  # computed so far, and the time it took
        self.multilabel = any(getattr(net, "multilabel", False) for net in nets)
        self.views, self.merge = views(tta), merge(tta, self.multilabel)
        self.groups, self.presence = groups or [list(range(len(nets)))], presence

    @property
    def map_count(self) -> int:
        return len(self.groups)

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        started = time.monotonic()
        images = as_images(windows, self.device)
        maps = [self.member(network, images) for network in range(len(self.runs))]
        self.check(dict(enumerate(maps)))
        means = [maps[g[0]] if len(g) == 1 else torch.stack([maps[i] for i in g]).mean(0) for g in self.groups]
        del maps  # a batch of many classes is large, so it is not copied where there is one mean
        probs = (torch.stack(means, 1) if len(means) > 1 else means[0][:, None]).cpu().numpy()
        self.windows += len(windows)
        self.seconds += time.monotonic() - started
        return probs

    def check(self, maps: dict[int, torch.Tensor]) -> None:
        """Raises NotFiniteError where a network's maps (B, ...), by the network's position, are not finite.

        The sum is checked: it is not finite where one number is not, and probabilities cannot make it overflow.
        """
        sums = torch.stack([values.flatten(1).sum(1) for values in maps.values()]).tolist()
        for network, totals in zip(maps, sums, strict=True):
            for window, total in enumerate(totals):
                if not math.isfinite(total):
                    raise NotFiniteError(self.names[network], str(self.engine), window)

    def member(self, network: int, images: torch.Tensor, views: list[int] | None = None) -> torch.Tensor:
        """The probabilities (B, K, h, w) of one network, merged over all or some of its views."""
        run, views = self.runs[network], self.views if views is None else [self.views[i] for i in views]
        if not self.presence:
            probs_of = partial(probabilities, multilabel=self.multilabel)
            return self.merge(view.deaugment_mask(probs_of(marked(run(view.augment_image(images))))) for view in views)
        maps, presences = [], []
        for view in views:
            logits, presence = marked(run(view.augment_image(images))).chunk(2, 1)
            maps.append(view.deaugment_mask(probabilities(logits, self.multilabel)))
            presences.append(view.deaugment_mask(presence.float().sigmoid()))
        return torch.cat([self.merge(maps), torch.stack(presences).mean(0)], 1)
