"""The plan for a time limit: how long networks take, what each is worth, which images and passes there is time for.

What was measured and chosen stands in choices/, so that a run that goes on after a kill keeps to it. All windows get a
first pass; what that took tells how many passes follow. The pace (lib/predict/time_pacer.py) leaves some of these out
where they turn out too slow.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from lib.config import Config
from lib.config.competition import CompetitionSettings
from lib.config.units import duration
from lib.decision.ensemble_weights import MixtureScorer
from lib.inference.backends.engines import Engine
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import LoadedEnsemble, image_sources, scale_groups, unseen_label
from lib.inference.multi_scale import maps_of
from lib.inference.networks import ScaleGroup
from lib.inference.sliding_window import first_windows
from lib.inference.windows import Source
from lib.oof.evaluate import outside_values
from lib.oof.out_of_fold import is_cached, maps_hash
from lib.oof.score_images import in_turns
from lib.predict.time_pacer import UNSURE, Clock, FirstPass, GroupWork, Pace, PacedEnsemble
from lib.predict.workload import enough_images, expected_windows, measured, overlapping, warm
from lib.session import Session
from lib.system.device import machine_of
from lib.workspace import short_hash

RESERVE = 0.1  # of the limit: for the answers' encoding and check
OOF_SHARE = 0.4  # of the limit at most, for out-of-fold maps that are not there yet
OVERLAPS = (0.25, 0.0)  # tried where not every network would get its turn


def rank_by_gain(scorer: MixtureScorer, seconds: dict[int, float]) -> list[int]:
    """Order models (by index) greedily by score gain per second of inference; the best one comes first."""
    one, order = np.eye(len(scorer.values)), []
    while len(order) < len(seconds):
        here = one[order].sum(0)
        before = scorer.score(here) if order else 0.0
        gain = {i: scorer.score(here + one[i]) - before for i in seconds if i not in order}
        order.append(max(gain, key=lambda i: gain[i] / seconds[i] if order and gain[i] > 0 else gain[i]))
    return order


@dataclass(frozen=True)
class Plan:
    """`systems`, the most worthwhile first; the windows' `overlap`; `seconds` of each group's networks' views for one
    window."""

    systems: list[str]
    overlap: float
    seconds: list[list[list[float]]]


class Planner:
    """Keeps the networks of `groups`, made of `parts`, to the time `until` (of `clock`) on some images."""

    def __init__(
        self, groups: list[ScaleGroup], parts: list[Checkpoint], config: Config, images: pd.DataFrame, until: float,
        clock: Clock = time.monotonic,
    ):  # fmt: skip
        self.groups, self.config, self.images, self.until, self.clock = groups, config, images, until, clock
        owners = iter(parts)
        self.parts = [[next(owners) for _ in group.forward.runs] for group in groups]
        self.paced: list[ScaleGroup] = []
        self.deeper = self.unseen = 0

    def plan(self, systems: list[str], scorer: MixtureScorer, sources: list[Source]) -> Plan:
        """Measured and chosen now; `scorer` knows the worth of `systems`."""
        seconds = self.measure(sources)
        each = {
            systems.index(part.model): times[0]
            for own, network in zip(self.parts, seconds, strict=True)
            for part, times in zip(own, network, strict=True)
        }
        return self.plan_for([systems[i] for i in rank_by_gain(scorer, each)], seconds)

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
        """Windows overlap less where that lets every network have its turn after the first pass."""
        configured = self.config.infer.overlap
        for overlap in (configured, *(overlap for overlap in OVERLAPS if overlap < configured)):
            plan = Plan(order, overlap, seconds)
            once = self._pace(plan).cost([len(group.forward.runs) for group in self.groups])
            if (self._first(plan)[2] + once) * UNSURE <= self.until - self.clock():
                break
        return plan

    def follow(self, plan: Plan, fill: np.ndarray, label: int = 0) -> ScaleGroup:
        """What all windows get first, `fill` (K,), which is surely `label`, where the time is over; says what is
        planned."""
        self.followed, self.orders, self.label = plan, self._orders(plan), label
        self.place, network, seconds = self._first(plan)
        group, systems = self.groups[self.place], maps_of(self.groups)
        forward = FirstPass(group.forward, network, systems, fill, self.until, self.clock)
        self.first = ScaleGroup(overlapping(group.windows, plan.overlap), forward)
        pace = self._pace(plan)
        pace.until -= seconds if self.several else 0.0
        self.expected = pace.expected() + (seconds if self.several else 0.0)
        told = " + ".join(f"{count} of {len(order)}" for count, order in zip(pace.plan(), self.orders, strict=True))
        print(f"05: planned are {told} passes of networks and views, windows overlapping by {plan.overlap:g}, "
              f"{duration(self.expected)} of {duration(max(0.0, self.until - self.clock()))}")  # fmt: skip
        return self.first

    @property
    def several(self) -> bool:
        """Whether there is more than the first pass."""
        return sum(map(len, self.orders)) > 1

    def refine(self) -> tuple[int, list[ScaleGroup]]:
        """After the first pass: of how many images, from the first on, windows get more passes, and the groups that
        make them. The first pass has told how many windows there are, and how long they take."""
        first, plan = self.first.forward, self.followed
        if not self.several or first.over():
            return 0, []
        network, beside = first.each()
        seen = first.windows / max(1e-9, self._windows(plan)[self.place].sum())
        slower = network / max(1e-9, plan.seconds[self.place][first.network][0])
        windows, passes = [own * seen for own in self._windows(plan)], self._passes(plan)
        least = [1] * len(passes) if len(passes) > 1 else [2]
        each = sum(  # seconds of every image
            own * (slower * UNSURE * sum(seconds[:count]) + beside)
            for own, seconds, count in zip(windows, passes, least, strict=True)
        )
        self.deeper = int((np.cumsum(each) <= self.until - self.clock()).sum())
        left = [float(own[: self.deeper].sum()) for own in windows]
        pace = Pace(self.until, list(map(GroupWork, left, passes)), beside * sum(left), slower, self.clock)
        self.paced = [
            ScaleGroup(overlapping(group.windows, plan.overlap), PacedEnsemble(group.forward, order, pace, i))
            for i, (group, order) in enumerate(zip(self.groups, self.orders, strict=True))
        ]
        return self.deeper, self.paced

    def leave(self, places: list[int]) -> None:
        """The images at these places were not begun: all their windows are left over."""
        images = self.images.iloc[places].assign(blank_share=0.0)  # nobody has looked
        self.unseen = round(float(expected_windows(images, self.first.windows, self.config).sum()))

    def late_note(self) -> str:
        """As the function."""
        return late_note(*self.late, self.label, self.config.competition)

    @property
    def late(self) -> tuple[int, int]:
        """Windows that were left over when the time was over, and all windows."""
        return self.first.forward.late + self.unseen, self.first.forward.windows + self.unseen

    def became(self) -> dict:
        """What was planned and done: seconds expected for the images; of each group, passes → windows that had so many;
        how many there could have been; and how many windows had none."""
        turns = [Counter(group.forward.turns) for group in self.paced] or [Counter() for _ in self.groups]
        own, (late, every) = turns[self.place], self.late
        own.update({0: late, 1: max(0, every - late - own.total())})
        return {
            "systems": self.followed.systems, "overlap": self.followed.overlap, "expected": round(self.expected, 2),
            "windows": [{str(count): n for count, n in sorted(some.items()) if n} for some in turns],
            "passes": [len(order) for order in self.orders], "late": late,
        }  # fmt: skip

    def _first(self, plan: Plan) -> tuple[int, int, float]:
        """(group, its network, seconds) of the first pass: the most worthwhile network for which there is time, else
        the fastest."""
        found, windows = [], [float(own.sum()) for own in self._windows(plan)]
        for group, own in enumerate(self.parts):
            for network, part in enumerate(own):
                place = plan.systems.index(part.model), part.member.fold
                found.append((*place, group, network, windows[group] * plan.seconds[group][network][0]))
        fitting = [one for one in found if one[-1] * UNSURE <= self.until - self.clock()]
        return (min(fitting) if fitting else min(found, key=lambda one: one[-1]))[2:]

    def _windows(self, plan: Plan) -> list[np.ndarray]:
        """(N,) of every group: windows of each image."""
        grids = [overlapping(group.windows, plan.overlap) for group in self.groups]
        return [expected_windows(self.images, grid, self.config) for grid in grids]

    def _orders(self, plan: Plan) -> list[list[tuple[int, int]]]:
        """Every group's passes (network, view)."""
        views = [len(group.forward.views) for group in self.groups]
        return [order_of(own, plan.systems, count) for own, count in zip(self.parts, views, strict=True)]

    def _passes(self, plan: Plan) -> list[list[float]]:
        """The seconds of every group's passes for one window, in their order."""
        pairs = zip(self._orders(plan), plan.seconds, strict=True)
        return [[times[network][view] for network, view in order] for order, times in pairs]

    def _pace(self, plan: Plan) -> Pace:
        """That of all passes over all windows."""
        windows = [float(own.sum()) for own in self._windows(plan)]
        return Pace(self.until, list(map(GroupWork, windows, self._passes(plan))), clock=self.clock)


def order_of(parts: list[Checkpoint], order: list[str], views: int) -> list[tuple[int, int]]:
    """A group's passes (network, view): all its networks before another view, a fold's before the next fold's, these
    in the `order` of systems."""
    folds = sorted({part.member.fold for part in parts})
    turns = [(folds.index(part.member.fold), order.index(part.model)) for part in parts]
    networks = sorted(range(len(parts)), key=turns.__getitem__)
    return [(network, view) for view in range(views) for network in networks]


def late_note(late: int, every: int, label: int, settings: CompetitionSettings) -> str:
    """What a run's last line says of windows that were left over, and have the `label` now, or none where they overlap.

    >>> late_note(0, 9, 0, CompetitionSettings()), late_note(2, 9, 0, CompetitionSettings())
    ('', '; the time limit left 2 of 9 windows without a prediction, and they are background')
    """
    now = "have no class" if settings.multilabel else f"are {settings.label_names[label]}"
    return f"; the time limit left {late} of {every} windows without a prediction, and they {now}" if late else ""


def limit_images(session: Session, checkpoints: list[Checkpoint], engine: Engine, whole_maps: bool) -> Session:
    """`session` with the images whose out-of-fold maps are made: as many as a part of `infer.time_limit` allows."""
    limit, folds = session.config.infer.time_limit, session.folds
    if not limit or is_cached(session, checkpoints, engine, whole_maps):
        return session
    turns = in_turns(folds[folds["fold"].isin({checkpoint.member.fold for checkpoint in checkpoints})])

    def measure() -> int:
        of_fold = [one for one in checkpoints if one.member.fold == checkpoints[0].member.fold]
        groups, kinds = scale_groups(session, of_fold, engine), [one.member.experiment for one in of_fold]
        return enough_images(turns, session.images, groups, kinds, session.config, OOF_SHARE * limit)

    key = limit_key("out-of-fold images", session, checkpoints, list(folds["image_id"]), engine)
    count = session.workspace.choose_once(key, measure)
    if count == len(turns):
        return session
    print(f"05: out-of-fold maps are made of {count} of {len(turns)} images, for the time limit's sake")
    return session.with_folds(folds[folds["image_id"].isin(turns["image_id"][:count])])


def plan_time(
    session: Session, ensemble: LoadedEnsemble, models: list[str], scorer: MixtureScorer, images: pd.DataFrame,
    started: float,
) -> Planner:  # fmt: skip
    """A planner that keeps an ensemble to `infer.time_limit` on some images (rows of images.csv).

    `scorer` knows the `models` by their places. The limit began at the time `started`, by the monotonic clock.
    """
    config, ids = session.config, list(images["image_id"])
    planner = Planner(ensemble.groups, ensemble.checkpoints, config, images, until_of(session, started))
    sources = image_sources(session, ids)
    planner.warm(sources)
    key = limit_key("plan", session, ensemble.checkpoints, ids, ensemble.engine)
    plan = session.workspace.choose_once(key, lambda: asdict(planner.plan(models, scorer, sources)))
    label = unseen_label(config, session.images)
    planner.follow(Plan(**plan), outside_values(config.competition, config.infer.gated, label), label)
    return planner


def until_of(session: Session, started: float) -> float:
    """The time at which what began at `started` must have its test images and pictures."""
    limit = session.config.infer.time_limit
    return started + (1 - RESERVE) * limit if limit else math.inf


def limit_key(what: str, session: Session, checkpoints: list[Checkpoint], ids: list[str], engine: Engine) -> str:
    """Names a choice made for a time limit."""
    config = session.config
    about = [maps_hash(session, checkpoints, ids, engine), machine_of(session.device)]
    about = short_hash([*about, config.infer.batch_size, config.competition.metric])
    return f"infer.time_limit {config.infer.time_limit:g} s {what} {about}"
