"""Simulates a run on many workers from measured costs, with the tasks and dependencies that the stages have.

Every worker takes the longest task that is ready. Tasks of a stage are ready when those before it have ended, because
the driver of a stage waits for all of its tasks. Workers that are killed lose what they were doing: a training goes on
from its last save, other tasks begin again.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

SAVE_SECONDS = 20.0  # between two saves of a training: what a kill costs


@dataclass(frozen=True)
class Costs:
    """Seconds of one piece of work, measured on one worker, and of the driver for each task."""

    survey: float
    cut: float
    pair: float
    member: float
    label: float
    fold: float
    part: float
    driver: float
    """Of the driver's own work in one stage: start, tables, manifest, report."""
    task: float
    """Overhead of one task."""


@dataclass(frozen=True)
class Plan:
    """How much work there is."""

    images: int
    pairs: int
    folds: int
    seeds: int
    rounds: int
    parts: int


@dataclass(frozen=True)
class Task:
    """A piece of work. `after`: names of those that must have ended before. `alone`: of the driver, on no worker."""

    name: str
    seconds: float
    after: tuple[str, ...] = ()
    alone: bool = False
    saves: bool = False


def tasks_of(plan: Plan, costs: Costs) -> list[Task]:
    """The graph of 01, 02, and for each round 03 and 04, and of 05."""
    tasks: list[Task] = []

    def stage(name: str, pieces: int, seconds: float, saves: bool = False) -> None:
        """A stage: the driver, its pieces, the driver again. It begins when the stage before has ended."""
        before = (tasks[-1].name,) if tasks else ()
        tasks.append(Task(f"{name} begins", costs.driver / 2, before, alone=True))
        names = [f"{name} {number}" for number in range(pieces)]
        tasks.extend(Task(one, seconds + costs.task, (f"{name} begins",), saves=saves) for one in names)
        tasks.append(Task(f"{name} ends", costs.driver / 2, tuple(names) or (f"{name} begins",), alone=True))

    stage("01 survey", plan.images, costs.survey)
    stage("01 cut", plan.images, costs.cut)
    stage("02 pairs", plan.pairs, costs.pair)
    for round_ in range(plan.rounds):
        if round_:
            stage(f"04 round {round_}", plan.images, costs.label)
        stage(f"03 round {round_}", plan.folds * plan.seeds, costs.member, saves=True)
    stage("05 folds", plan.folds, costs.fold)
    stage("05 parts", plan.parts, costs.part)
    return tasks


@dataclass(frozen=True)
class Simulated:
    """`seconds`: until the last task ended. `path`: stages of the chain that decides it, with their seconds."""

    seconds: float
    path: dict[str, float]
    restarted: int


def simulate(tasks: list[Task], workers: int, kills: int = 0, at: float = 0.0) -> Simulated:
    """Run the graph on `workers`. At second `at`, `kills` of them end and never return."""
    by_name = {task.name: task for task in tasks}
    left = {task.name: len(task.after) for task in tasks}
    followers, left_seconds = defaultdict(list), {task.name: task.seconds for task in tasks}
    for task in tasks:
        for name in task.after:
            followers[name].append(task.name)
    ready = [(-task.seconds, task.name) for task in tasks if not task.after]
    heapq.heapify(ready)
    running: dict[str, float] = {}  # task -> when it began
    events: list[tuple[float, str]] = []
    ended, caused, restarted, free, clock = {}, {}, 0, workers, 0.0
    kill_at = at if kills else None
    while ready or events:
        waiting = []
        while ready:
            task = by_name[heapq.heappop(ready)[1]]
            if not task.alone and free == 0:
                waiting.append((-task.seconds, task.name))
                continue
            free -= not task.alone
            running[task.name] = clock
            heapq.heappush(events, (clock + left_seconds[task.name], task.name))
        ready = waiting
        heapq.heapify(ready)
        if kill_at is not None and (not events or events[0][0] > kill_at):
            clock, kill_at = kill_at, None
            victims = sorted(name for name in running if not by_name[name].alone)[:kills]
            events = [event for event in events if event[1] not in victims]
            heapq.heapify(events)
            for name in victims:
                done = clock - running.pop(name)
                saved = max(0.0, done - SAVE_SECONDS) if by_name[name].saves else 0.0
                left_seconds[name] -= saved
                heapq.heappush(ready, (-left_seconds[name], name))
            free -= kills - len(victims)  # idle ones are killed as well
            free, restarted = max(free, 0), len(victims)
            continue
        clock, name = heapq.heappop(events)
        del running[name]
        ended[name] = clock
        free += not by_name[name].alone
        for follower in followers[name]:
            left[follower] -= 1
            if not left[follower]:
                caused[follower] = name  # it ended last of those that the follower waited for
                heapq.heappush(ready, (-left_seconds[follower], follower))
    return Simulated(clock, _path(ended, caused), restarted)


def _path(ended: dict[str, float], caused: dict[str, str]) -> dict[str, float]:
    """Seconds of each stage on the chain that ends last."""
    chain = [max(ended, key=ended.get)]
    while chain[-1] in caused:
        chain.append(caused[chain[-1]])
    seconds: dict[str, float] = defaultdict(float)
    for before, name in zip([*chain[1:], None], chain, strict=True):
        stage = " ".join(name.split()[:-1])
        seconds[stage] += ended[name] - (ended[before] if before else 0.0)
    return {name: round(value, 2) for name, value in sorted(seconds.items())}
