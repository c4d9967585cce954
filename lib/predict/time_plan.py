"""Plans a prediction within a time limit: measures the networks, orders them by usefulness, and chooses the passes.

The plan is saved in choices/, so that a run keeps to it when it resumes after a kill. All windows get a first pass.
Its speed decides how many passes follow. The pace (lib/predict/time_pacer.py) leaves out some of these if they turn out
too slow.
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
from lib.inference.sources import batch_of
from lib.inference.windows import Source
from lib.oof.evaluate import outside_values
from lib.oof.out_of_fold import is_cached, maps_hash
from lib.oof.score_images import in_turns
from lib.predict.time_pacer import SAFETY_FACTOR, Clock, FirstPass, GroupWork, Pace, PacedEnsemble
from lib.predict.workload import enough_images, expected_windows, measured, overlapping, warm
from lib.session import Session
from lib.system.device import machine_of
from lib.workspace import short_hash

RESERVE = 0.1  # share of the limit for encoding and checking the answers
OOF_SHARE = 0.4  # share of the limit that new out-of-fold maps may take
OVERLAPS = (0.25, 0.0)  # tried where the time is too short for one pass of every network


def rank_by_gain(scorer: MixtureScorer, seconds: dict[int, float]) -> list[int]:
    """Order models (by index) greedily by score gain per second of inference; the best one comes first."""
    one, order = np.eye(len(scorer.values)), []
    while len(order) < len(seconds):
        chosen = one[order].sum(0)
        before = scorer.score(chosen) if order else 0.0
        gain = {i: scorer.score(chosen + one[i]) - before for i in seconds if i not in order}
        order.append(max(gain, key=lambda i: gain[i] / seconds[i] if order and gain[i] > 0 else gain[i]))
    return order


@dataclass(frozen=True)
class Plan:
    """`models`, the most useful first. `overlap` of the windows. `seconds[group][network][view]` for one window."""

    models: list[str]
    overlap: float
    seconds: list[list[list[float]]]


class Planner:
    """Keeps an ensemble to a time limit.

    `groups`: its networks, which are the networks of `checkpoints`. `images`: rows of images.csv. `until`: the end of
    the time, on `clock`.
    """

    def __init__(
        self, groups: list[ScaleGroup], checkpoints: list[Checkpoint], config: Config, images: pd.DataFrame,
        until: float, clock: Clock = time.monotonic,
    ):  # fmt: skip
        self.groups, self.config, self.images, self.until, self.clock = groups, config, images, until, clock
        remaining = iter(checkpoints)
        self.checkpoints = [[next(remaining) for _ in group.forward.runs] for group in groups]
        self.paced: list[ScaleGroup] = []
        self.refined_images = self.windows_not_begun = 0

    def plan(self, models: list[str], scorer: MixtureScorer, sources: list[Source]) -> Plan:
        """Measure the networks on the first windows of `sources`, and plan. `scorer`: scores mixtures of `models`."""
        seconds = self.measure(sources)
        model_seconds = {
            models.index(checkpoint.model): of_views[0]
            for checkpoints, of_networks in zip(self.checkpoints, seconds, strict=True)
            for checkpoint, of_views in zip(checkpoints, of_networks, strict=True)
        }
        return self.plan_for([models[i] for i in rank_by_gain(scorer, model_seconds)], seconds)

    def warm(self, sources: list[Source]) -> None:
        """Build networks that are otherwise built at their first call, so that no measurement includes the building."""
        for group in self.groups:
            if group.forward.lazy:
                warm(group.forward, first_windows(sources, group.windows, batch_of(self.config)))

    def measure(self, sources: list[Source]) -> list[list[list[float]]]:
        """The `seconds` of a plan."""
        seconds = []
        for group, checkpoints in zip(self.groups, self.checkpoints, strict=True):
            batch = first_windows(sources, group.windows, batch_of(self.config))
            kinds = [checkpoint.member.experiment for checkpoint in checkpoints]
            seconds.append(measured(group.forward, batch, kinds))
        return seconds

    def plan_for(self, models: list[str], seconds: list[list[list[float]]]) -> Plan:
        """The plan with the configured overlap, or with less overlap if only then every network gets one pass."""
        configured = self.config.infer.overlap
        for overlap in (configured, *(overlap for overlap in OVERLAPS if overlap < configured)):
            plan = Plan(models, overlap, seconds)
            once = self._pace(plan).cost([len(group.forward.runs) for group in self.groups])
            if (self._first(plan)[2] + once) * SAFETY_FACTOR <= self.until - self.clock():
                break
        return plan

    def follow(self, plan: Plan, outside: np.ndarray, label: int = 0) -> ScaleGroup:
        """Begin a plan, and print it. Returns the group that predicts every window first.

        `outside` (K,): the probabilities of windows for which there is no time; their label is `label`.
        """
        self.followed, self.orders, self.label = plan, self._orders(plan), label
        self.first_group, network, seconds = self._first(plan)
        group = self.groups[self.first_group]
        forward = FirstPass(group.forward, network, maps_of(self.groups), outside, self.until, self.clock)
        self.first = ScaleGroup(overlapping(group.windows, plan.overlap), forward)
        pace = self._pace(plan)
        pace.until -= seconds if self.several else 0.0
        self.expected = pace.expected() + (seconds if self.several else 0.0)
        passes = " + ".join(f"{count} of {len(order)}" for count, order in zip(pace.plan(), self.orders, strict=True))
        print(f"05: plans {passes} passes of networks and views, with windows that overlap by {plan.overlap:g}, "
              f"in {duration(self.expected)} of {duration(max(0.0, self.until - self.clock()))}")  # fmt: skip
        return self.first

    @property
    def several(self) -> bool:
        """Whether there are more passes than the first one."""
        return sum(map(len, self.orders)) > 1

    def refine(self) -> tuple[int, list[ScaleGroup]]:
        """After the first pass: how many images, from the first on, get more passes, and the groups that make them.

        The first pass has shown how many windows there are, and how long they take.
        """
        first, plan = self.first.forward, self.followed
        if not self.several or first.over():
            return 0, []
        in_network, overhead = first.seconds_per_window()
        computed_share = first.windows / max(1e-9, self._windows(plan)[self.first_group].sum())
        slowdown = in_network / max(1e-9, plan.seconds[self.first_group][first.network][0])
        windows, passes = [of_group * computed_share for of_group in self._windows(plan)], self._passes(plan)
        fewest = [1] * len(passes) if len(passes) > 1 else [2]
        per_image = sum(  # seconds (N,) of N images
            of_group * (slowdown * SAFETY_FACTOR * sum(seconds[:count]) + overhead)
            for of_group, seconds, count in zip(windows, passes, fewest, strict=True)
        )
        self.refined_images = int((np.cumsum(per_image) <= self.until - self.clock()).sum())
        left = [float(of_group[: self.refined_images].sum()) for of_group in windows]
        pace = Pace(self.until, list(map(GroupWork, left, passes)), overhead * sum(left), slowdown, self.clock)
        self.paced = [
            ScaleGroup(overlapping(group.windows, plan.overlap), PacedEnsemble(group.forward, order, pace, i))
            for i, (group, order) in enumerate(zip(self.groups, self.orders, strict=True))
        ]
        return self.refined_images, self.paced

    def note_not_begun(self, places: list[int]) -> None:
        """Note that the images at these places were not begun, so that none of their windows has a prediction."""
        images = self.images.iloc[places].assign(blank_share=0.0)  # their blank areas are unknown
        self.windows_not_begun = round(float(expected_windows(images, self.first.windows, self.config).sum()))

    def late_note(self) -> str:
        """`late_note` of this plan."""
        return late_note(*self.late, self.label, self.config.competition)

    @property
    def late(self) -> tuple[int, int]:
        """(windows without a prediction, all windows)."""
        return self.first.forward.late + self.windows_not_begun, self.first.forward.windows + self.windows_not_begun

    def summary(self) -> dict:
        """The plan and its result, for the ledger.

        `expected`: seconds. `windows`: for each group, number of passes -> how many windows had so many. `passes`: for
        each group, the largest possible number. `late`: windows without a prediction.
        """
        counts = [Counter(group.forward.windows_by_passes) for group in self.paced] or [Counter() for _ in self.groups]
        first, (late, every) = counts[self.first_group], self.late
        first.update({0: late, 1: max(0, every - late - first.total())})
        return {
            "models": self.followed.models, "overlap": self.followed.overlap, "expected": round(self.expected, 2),
            "windows": [{str(passes): n for passes, n in sorted(of_group.items()) if n} for of_group in counts],
            "passes": [len(order) for order in self.orders], "late": late,
        }  # fmt: skip

    def _first(self, plan: Plan) -> tuple[int, int, float]:
        """(group, network in it, seconds) of the first pass: the most useful network that is fast enough.

        The fastest network where none is fast enough.
        """
        candidates, windows = [], [float(of_group.sum()) for of_group in self._windows(plan)]
        for group, checkpoints in enumerate(self.checkpoints):
            for network, checkpoint in enumerate(checkpoints):
                rank = plan.models.index(checkpoint.model), checkpoint.member.fold
                candidates.append((*rank, group, network, windows[group] * plan.seconds[group][network][0]))
        fitting = [one for one in candidates if one[-1] * SAFETY_FACTOR <= self.until - self.clock()]
        return (min(fitting) if fitting else min(candidates, key=lambda one: one[-1]))[2:]

    def _windows(self, plan: Plan) -> list[np.ndarray]:
        """For each group, the number of windows of each image (N,)."""
        windows = [overlapping(group.windows, plan.overlap) for group in self.groups]
        return [expected_windows(self.images, of_group, self.config) for of_group in windows]

    def _orders(self, plan: Plan) -> list[list[tuple[int, int]]]:
        """For each group, its passes (network, view) in their order."""
        views = [len(group.forward.views) for group in self.groups]
        return [order_of(group, plan.models, count) for group, count in zip(self.checkpoints, views, strict=True)]

    def _passes(self, plan: Plan) -> list[list[float]]:
        """For each group, the seconds of its passes for one window, in their order."""
        pairs = zip(self._orders(plan), plan.seconds, strict=True)
        return [[seconds[network][view] for network, view in order] for order, seconds in pairs]

    def _pace(self, plan: Plan) -> Pace:
        """The pace of all passes over all windows."""
        windows = [float(of_group.sum()) for of_group in self._windows(plan)]
        return Pace(self.until, list(map(GroupWork, windows, self._passes(plan))), clock=self.clock)


def order_of(checkpoints: list[Checkpoint], models: list[str], views: int) -> list[tuple[int, int]]:
    """The passes (network, view) of a group in their order: by view, then by fold, then by the order of `models`."""
    networks = sorted(
        range(len(checkpoints)), key=lambda i: (checkpoints[i].member.fold, models.index(checkpoints[i].model))
    )
    return [(network, view) for view in range(views) for network in networks]


def late_note(late: int, every: int, label: int, settings: CompetitionSettings) -> str:
    """The end of a run's last line where windows have no prediction.

    `label`: the label that their pixels now have; where classes overlap, they have none.

    >>> late_note(0, 9, 0, CompetitionSettings()), late_note(2, 9, 0, CompetitionSettings())
    ('', '; the time limit left 2 of 9 windows without a prediction, and they are background')
    """
    now = "have no class" if settings.multilabel else f"are {settings.label_names[label]}"
    return f"; the time limit left {late} of {every} windows without a prediction, and they {now}" if late else ""


def limit_images(session: Session, checkpoints: list[Checkpoint], engine: Engine, whole_maps: bool) -> Session:
    """`session` with the folds of as many images as can be predicted in a share of `infer.time_limit`."""
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
    print(f"05: predicts out-of-fold maps of only {count} of {len(turns)} images, because of infer.time_limit")
    return session.with_folds(folds[folds["image_id"].isin(turns["image_id"][:count])])


def plan_time(
    session: Session, ensemble: LoadedEnsemble, models: list[str], scorer: MixtureScorer, images: pd.DataFrame,
    started: float,
) -> Planner:  # fmt: skip
    """A planner that keeps an ensemble to `infer.time_limit` on some images (rows of images.csv).

    `scorer`: scores mixtures of `models`. `started`: the start of the limit on the monotonic clock.
    """
    config, ids = session.config, list(images["image_id"])
    planner = Planner(ensemble.groups, ensemble.checkpoints, config, images, until_of(session, started))
    sources = image_sources(session, ids)
    planner.warm(sources)
    key = limit_key("plan of passes", session, ensemble.checkpoints, ids, ensemble.engine)
    plan = session.workspace.choose_once(key, lambda: asdict(planner.plan(models, scorer, sources)))
    label = unseen_label(config, session.images)
    planner.follow(Plan(**plan), outside_values(config.competition, config.infer.gated, label), label)
    return planner


def until_of(session: Session, started: float) -> float:
    """The time at which all test images must be predicted. `started`: the start of the limit."""
    limit = session.config.infer.time_limit
    return started + (1 - RESERVE) * limit if limit else math.inf


def limit_key(choice: str, session: Session, checkpoints: list[Checkpoint], ids: list[str], engine: Engine) -> str:
    """The key of a cached choice for a time limit: everything that it depends on."""
    config = session.config
    made_from = [maps_hash(session, checkpoints, ids, engine), machine_of(session.device), batch_of(config)]
    return (
        f"infer.time_limit {config.infer.time_limit:g} s {choice} {short_hash([*made_from, config.competition.metric])}"
    )
