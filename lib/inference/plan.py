"""The plan for a time limit: how long networks take, what each is worth, which images and passes there is time for.

What was measured and chosen stands in choices/, so that a run that goes on after a kill keeps to it. The pace
(lib/inference/pace.py) follows the plan, and leaves passes out where it turns out too slow.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from statistics import mean

import numpy as np
import pandas as pd
import torch

from lib.config import Config
from lib.config.units import duration
from lib.imaging.roi import read_boxes
from lib.inference.backends import Engine, as_images
from lib.inference.coarse import share_looked_at
from lib.inference.evaluate import background_fill
from lib.inference.forward import Ensemble
from lib.inference.members import Part, Session, groups_of, roi_file
from lib.inference.mix import Judge
from lib.inference.out_of_fold import is_cached, maps_hash
from lib.inference.pace import UNSURE, Pace, PacedEnsemble, Share
from lib.inference.predictor import Source, Windows, count_windows, first_windows
from lib.inference.score import in_turns
from lib.inference.together import Group
from lib.precision import finished
from lib.training.device import machine_of
from lib.workspace import short_hash

RESERVE = 0.1  # of the limit: for the answers' encoding and check
OOF_SHARE = 0.4  # of the limit at most, for out-of-fold maps that are not there yet
OVERLAPS = (0.25, 0.0)  # tried where not every network would get its turn


def worth(judge: Judge, seconds: dict[int, float]) -> list[int]:
    """Places of systems, the best one first, then by what each adds to the mean of those before it, for its seconds."""
    one, order = np.eye(len(judge.lifted)), []
    while len(order) < len(seconds):
        here = one[order].sum(0)
        before = judge.score(here) if order else 0.0
        gain = {i: judge.score(here + one[i]) - before for i in seconds if i not in order}
        order.append(max(gain, key=lambda i: gain[i] / seconds[i] if order and gain[i] > 0 else gain[i]))
    return order


def measured(forward: Ensemble, windows: np.ndarray, kinds: list[str]) -> list[list[float]]:
    """Seconds for one window of every network's every view, on windows (B, h, w, 3).

    The first network of each of the `kinds` is timed: others of its kind take as long, and views as their pixels say.
    """
    images = as_images(windows, forward.device)

    @torch.inference_mode()
    def once(network: int, view: int) -> float:
        started = time.perf_counter()
        forward.member(network, images, [view])
        finished(images.device)
        return (time.perf_counter() - started) / len(windows)

    sizes = [math.prod(view.augment_image(images).shape) for view in forward.views]
    firsts = {kind: kinds.index(kind) for kind in kinds}
    plain = {kind: mean([once(first, 0) for _ in range(3)][1:]) for kind, first in firsts.items()}
    return [[plain[kind] * size / sizes[0] for size in sizes] for kind in kinds]


@torch.inference_mode()
def warm(forward: Ensemble, windows: np.ndarray) -> None:
    """Call every network once with each shape that views make of `windows` (B, h, w, 3)."""
    images = as_images(windows, forward.device)
    shapes = {view.augment_image(images).shape: i for i, view in enumerate(forward.views)}
    for network in range(len(forward.runs)):
        for view in shapes.values():
            forward.member(network, images, [view])


def expected_windows(images: pd.DataFrame, windows: Windows, config: Config) -> float:
    """How many windows some images will have: those on blank areas, or outside of boxes, are not computed.

    What is not blank is taken for one square: a window that touches its rim is computed too.
    """
    boxes = roi_file(config)
    if boxes and read_boxes(boxes[0]):
        seen = share_looked_at(boxes[0], images, windows)
    elif windows.whole or config.infer.roi == "none":
        seen = 1.0
    else:
        content, side = np.sqrt(1 - images["blank_share"]), windows.size / windows.scale
        seen = ((content + side / images["height"]) * (content + side / images["width"])).clip(upper=1)
    counts = [count_windows(image.height, image.width, windows) for image in images.itertuples()]
    return float((np.array(counts) * seen).sum())


@dataclass(frozen=True)
class Plan:
    """`systems`, the most worthwhile first; the windows' `overlap`; `seconds` of each group's networks' views for one
    window."""

    systems: list[str]
    overlap: float
    seconds: list[list[list[float]]]


class Planner:
    """Keeps the networks of `groups`, made of `parts`, to the time `until` on some images.

    `rest`: seconds beside the networks that these images took before; 0 where nobody knows.
    """

    def __init__(
        self, groups: list[Group], parts: list[Part], config: Config, images: pd.DataFrame, until: float, rest: float
    ):
        self.groups, self.config, self.images, self.until, self.rest = groups, config, images, until, rest
        owners = iter(parts)
        self.parts = [[next(owners) for _ in group.forward.runs] for group in groups]

    def plan(self, systems: list[str], judge: Judge, sources: list[Source]) -> Plan:
        """Measured and chosen now; `judge` knows the worth of `systems`."""
        seconds = self.measure(sources)
        each = {
            systems.index(part.system): times[0]
            for own, network in zip(self.parts, seconds, strict=True)
            for part, times in zip(own, network, strict=True)
        }
        return self.plan_for([systems[i] for i in worth(judge, each)], seconds)

    def warm(self, sources: list[Source]) -> None:
        """Has what is built at its first call built now, outside of the time that is shared."""
        for group in self.groups:
            if group.forward.lazy:
                warm(group.forward, first_windows(sources, group.windows, self.config.infer.batch_size))

    def measure(self, sources: list[Source]) -> list[list[list[float]]]:
        """As in a plan."""
        seconds = []
        for group, own in zip(self.groups, self.parts, strict=True):
            batch = first_windows(sources, group.windows, self.config.infer.batch_size)
            seconds.append(measured(group.forward, batch, [part.member.experiment for part in own]))
        return seconds

    def plan_for(self, order: list[str], seconds: list[list[list[float]]]) -> Plan:
        """Windows overlap less where that lets every network have its turn."""
        configured = self.config.infer.overlap
        for overlap in (configured, *(overlap for overlap in OVERLAPS if overlap < configured)):
            plan = Plan(order, overlap, seconds)
            pace, _ = self._pace(plan)
            once = pace.cost([len(group.forward.runs) for group in self.groups])
            if once * UNSURE + pace.between() <= self.until - time.monotonic():
                break
        return plan

    def follow(self, plan: Plan, fill: np.ndarray) -> list[Group]:
        """The groups, paced; says what is planned."""
        self.followed, (pace, orders) = plan, self._pace(plan)
        told = " + ".join(f"{count} of {len(order)}" for count, order in zip(pace.plan(), orders, strict=True))
        self.expected = pace.expected()
        self.paced = [
            Group(overlapping(group.windows, plan.overlap), PacedEnsemble(group.forward, order, pace, i, fill))
            for i, (group, order) in enumerate(zip(self.groups, orders, strict=True))
        ]
        print(f"05: planned are {told} passes of networks and views, windows overlapping by {plan.overlap:g}, "
              f"{duration(self.expected)} of {duration(max(0.0, self.until - time.monotonic()))}")  # fmt: skip
        return self.paced

    def became(self) -> dict:
        """What was planned and done: seconds expected for the images; of each group, passes → windows that had so many;
        and how many there could have been. Says which windows had none."""
        turns = [{str(count): n for count, n in sorted(group.forward.turns.items())} for group in self.paced]
        if late := sum(own.get("0", 0) for own in turns):
            print(f"warning: the time was over before {late} windows of test images, which are background now; "
                  f"infer.time_limit {duration(self.config.infer.time_limit)} is too short")  # fmt: skip
        return {
            "systems": self.followed.systems, "overlap": self.followed.overlap, "expected": round(self.expected, 2),
            "windows": turns, "passes": [len(group.forward.order) for group in self.paced],
        }  # fmt: skip

    def _pace(self, plan: Plan) -> tuple[Pace, list[list[tuple[int, int]]]]:
        """The time's share of the passes, and every group's order of them."""
        orders, shares = [], []
        for group, own, times in zip(self.groups, self.parts, plan.seconds, strict=True):
            order = order_of(own, plan.systems, len(group.forward.views))
            windows = expected_windows(self.images, overlapping(group.windows, plan.overlap), self.config)
            orders.append(order)
            shares.append(Share(windows, [times[network][view] for network, view in order]))
        return Pace(self.until, shares, self.rest), orders


def overlapping(windows: Windows, overlap: float) -> Windows:
    """The same windows with another overlap; whole images stay as they are."""
    return windows if windows.whole else replace(windows, overlap=overlap)


def _ratio(windows: Windows, other: Windows) -> float:
    """How many of `windows` an image has for one of another kind."""
    if windows.whole:
        return 1.0
    return (windows.scale / windows.stride * other.stride / other.scale) ** 2


def order_of(parts: list[Part], order: list[str], views: int) -> list[tuple[int, int]]:
    """A group's passes (network, view): all its networks before another view, a fold's before the next fold's, these
    in the `order` of systems."""
    folds = sorted({part.member.fold for part in parts})
    turns = [(folds.index(part.member.fold), order.index(part.system)) for part in parts]
    networks = sorted(range(len(parts)), key=turns.__getitem__)
    return [(network, view) for view in range(views) for network in networks]


def in_time(session: Session, parts: list[Part], engine: Engine, whole_maps: bool) -> Session:
    """`session` with the images whose out-of-fold maps are made: as many as a part of `infer.time_limit` allows."""
    limit, folds = session.config.infer.time_limit, session.folds
    if not limit or is_cached(parts, session, engine, whole_maps):
        return session
    turns = in_turns(folds[folds["fold"].isin({part.member.fold for part in parts})])

    def measure() -> int:
        own = [part for part in parts if part.member.fold == parts[0].member.fold]
        groups, kinds = groups_of(own, session, engine), [part.member.experiment for part in own]
        return enough_images(turns, session.images, groups, kinds, session.config, OOF_SHARE * limit)

    key = limit_key("out-of-fold images", parts, list(folds["image_id"]), session, engine)
    count = session.workspace.choose_once(key, measure)
    if count == len(turns):
        return session
    print(f"05: out-of-fold maps are made of {count} of {len(turns)} images, for the time limit's sake")
    return replace(session, folds=folds[folds["image_id"].isin(turns["image_id"][:count])])


def planned(
    groups: list[Group], parts: list[Part], systems: list[str], judge: Judge, session: Session, engine: Engine,
    images: pd.DataFrame, started: float,
) -> tuple[Planner, list[Group]]:  # fmt: skip
    """`groups`, made of `parts`, as many of whose passes are made on some images as `infer.time_limit` allows, which
    began to run at the time `started`."""
    config, ids, choices = session.config, list(images["image_id"]), session.workspace
    until = until_of(session, started)
    rest = choices.choice(rest_key(parts, ids, session, engine)) or 0.0
    planner = Planner(groups, parts, config, images, until, rest)
    key = limit_key("plan", parts, ids, session, engine)
    sources = session.sources(ids)
    planner.warm(sources)
    plan = choices.choose_once(key, lambda: asdict(planner.plan(systems, judge, sources)))
    competition = session.competition
    fill = background_fill(competition.channels, len(competition.label_names), config.infer.gated)
    return planner, planner.follow(Plan(**plan), fill)


def until_of(session: Session, started: float) -> float:
    """The time at which what began at `started` must have its test images and pictures."""
    limit = session.config.infer.time_limit
    return started + (1 - RESERVE) * limit if limit else math.inf


def rest_key(parts: list[Part], ids: list[str], session: Session, engine: Engine) -> str:
    """Names the seconds that some images took beside the networks."""
    return f"seconds beside networks {maps_hash(parts, ids, session, engine)}"


def limit_key(what: str, parts: list[Part], ids: list[str], session: Session, engine: Engine) -> str:
    """Names a choice made for a time limit."""
    config = session.config
    about = [maps_hash(parts, ids, session, engine), machine_of(session.device)]
    about = short_hash([*about, config.infer.batch_size, config.competition.metric])
    return f"infer.time_limit {config.infer.time_limit:g} s {what} {about}"


def enough_images(
    turns: pd.DataFrame, images: pd.DataFrame, groups: list[Group], kinds: list[str], config: Config, limit: float
) -> int:
    """Of how many images `in_turns` one fold's `groups`, of networks of these `kinds`, make maps in `limit` seconds; of
    one of each fold at least."""
    rows, windows, each = images.set_index("image_id", drop=False), groups[0].windows, 0.0
    owners = iter(kinds)
    for group in groups:
        own = [next(owners) for _ in group.forward.runs]
        batch = np.random.default_rng(0).integers(0, 255, (config.infer.batch_size, *[group.windows.size] * 2, 3))
        seconds = measured(group.forward, batch.astype(np.uint8), own)
        each += sum(map(sum, seconds)) * _ratio(group.windows, windows)
    cost = [expected_windows(rows.loc[[i]], windows, config) * each for i in turns["image_id"]]
    return max(int((np.cumsum(cost) <= limit).sum()), int((turns["turn"] == 0).sum()))
