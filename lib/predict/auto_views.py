"""What `auto` of windows and views comes to: tried on out-of-fold images, written down, and used again.

Kept is what has the highest score after `infer.min_gain` is taken off for every doubling of the seconds; images of one
group alone decide nothing. Scores are of the mean of all networks, one class by the threshold fitted on other groups
(`cross_parts`), or by one half where there are none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from lib.competition import metrics
from lib.competition.metrics.bootstrap import paired_gain
from lib.config import Config, flat
from lib.config.units import duration
from lib.decision.thresholds import cross_parts, crossed_by, crossed_by_threshold, fitted_thresholds
from lib.imaging.roi import boxes_file
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import trained_windows
from lib.inference.windows import Windows
from lib.oof.evaluation import Evaluation
from lib.predict.trials import Trial, Tried
from lib.session import Session
from lib.system.device import machine_of
from lib.workspace import Member, file_fingerprint, short_hash

AUTO = "auto"
WORDS = ("none", "free", "hflip", "vflip", "flips", "d4")
FACTORS = (1.5, 2.0)  # sides of windows, in those trained on
SIZE_STEP = 64  # what sides are multiples of
SHARE = 0.05  # of `infer.time_limit`, that a trial may take


def resolve_auto(session: Session, parts: list[Checkpoint], measure: bool = True) -> tuple[Session, list[dict]]:
    """`session` with what is kept in place of `infer.window auto` and `infer.tta auto`, and what their trials found.

    Each is measured once for these members, images and options. Without `measure` nothing is: what was not measured yet
    remains `auto`, which is windows as trained, or no views. A finding has `chosen`, `rows` of a table and a `note`.
    """
    findings = []
    for option, candidates in (("window", _sizes), ("tta", _words)):
        infer = session.config.infer
        if getattr(infer, option) != AUTO:
            continue
        own = {part.member: trained_windows(session, part) for part in parts}
        grids = list(dict.fromkeys(own.values()))
        values = candidates(grids, session.images)
        if len(values) == 1:
            session = session.with_infer(**{option: values[0]})
            continue
        # What was found in more time is the better choice where a limit leaves less, too.
        most = infer.trial_limit
        limit = min(most, SHARE * infer.time_limit or most)
        keys = [f"infer.{option} {_identity(session, [values, each], own, parts)}"
                for each in (most, limit)]  # fmt: skip
        finding = session.workspace.choice(keys[0]) or session.workspace.choice(keys[1])
        if finding is None and measure:
            trained = f"{', '.join(str(grid.size) for grid in grids)} as trained"
            names = [trained if value == 0 else str(value) for value in values]
            print(f"05: infer.{option} auto: {'; '.join(names)} are tried on out-of-fold images, for "
                  f"{duration(limit)} at most", flush=True)  # fmt: skip
            trial = Trial([session.with_infer(**{option: value}) for value in values], parts)
            finding = judged(f"infer.{option}", values, names, trial.run(limit), len(trial.order), session.config)
            session.workspace.choose(keys[1], finding)
        if finding:
            session = session.with_infer(**{option: finding["chosen"]})
            findings.append(finding)
    return session, findings


def _sizes(grids: list[Windows], images: pd.DataFrame) -> list[int]:
    """0, as each network was trained, and larger ones for all, none beyond what holds the largest image."""
    trained, rows = max(grid.size for grid in grids), images[images["split"] != "unlabeled"]
    needed = round(rows[["height", "width"]].to_numpy().max() * max(grid.scale for grid in grids))
    sizes = [-(-min(round(trained * factor), needed) // SIZE_STEP) * SIZE_STEP for factor in FACTORS]
    return [0, *dict.fromkeys(size for size in sizes if size > trained)]


def _words(grids: list[Windows], images: pd.DataFrame) -> list[str]:
    """`free` only where windows overlap."""
    overlapping = any(grid.overlap and not grid.resized for grid in grids)
    return [word for word in WORDS if word != "free" or overlapping]


def _identity(session: Session, trial: list, grids: dict[Member, Windows], parts: list[Checkpoint]) -> str:
    """What a choice is measured with. `trial`: values and seconds; `grids`: the members' windows."""
    config, workspace = session.config, session.workspace
    infer, competition = config.infer, config.competition
    made_from = [
        trial,
        [[file_fingerprint(member.trained), repr(grid)] for member, grid in grids.items()],
        [part.name for part in parts],
        [file_fingerprint(path) for path in (workspace.folds, workspace.images, *boxes_file(config.infer.roi))],
        [infer.tta, infer.min_gain, infer.gate, infer.roi, infer.threshold, infer.precision, infer.backend],
        [competition.metric, competition.score_background, flat(competition.scoring)],
        config.preprocess.blank_tolerance,
    ]
    experiments = " ".join(dict.fromkeys(member.experiment for member in grids))
    return f"{experiments} {machine_of(session.device)} {short_hash(made_from)}"


def judged(option: str, values: list, names: list[str], tried: Tried, images: int, config: Config) -> dict:
    """What of `values` is kept, a table of what each gains over the first, and what is to be said of it.

    The table's last row is what the choice is worth on images that it does not know: each fold's are predicted by what
    is kept on the others', or, of one fold, each group's. `images`: how many out-of-fold images there are.
    """
    folds, groups = tried.images["fold"].to_numpy(), tried.images["group"].to_numpy()
    evaluations = [replace(evaluation, groups=groups) for evaluation in tried.evaluations]
    ratios = (tried.seconds + 1e-9) / (tried.seconds[0] + 1e-9)  # images may be blank
    counts = [_crossed(evaluation, folds, config) for evaluation in evaluations]
    best, score = _kept(evaluations, ratios, folds, groups, config), metrics.score
    known = f"gain (95 % over {len(set(groups))} groups)"

    def row(name: str, ours: np.ndarray, ratio: float | None, kept: str) -> dict:
        gain = None if ours is counts[0] else str(paired_gain(config.competition, ours, counts[0], groups))
        seconds = None if ratio is None else f"{ratio:.2f}"
        return {option: name, "OOF score": score(config.competition, ours), known: gain, "seconds": seconds, "": kept}

    rows = [
        row(name, ours, ratio, "kept" * (i == best))
        for i, (name, ours, ratio) in enumerate(zip(names, counts, ratios, strict=False))
    ]
    nested, there = _nested(evaluations, ratios, folds, groups, config), f"kept on {crossed_by(folds)}"
    if nested is not None and len(rows) > 1:
        rows.append(row(there, nested, None, ""))
    late, cut = ", ".join(names[len(ratios) :]), " (parts of large ones)" * tried.cut
    note = (
        f"{option} {names[best]}: the highest score after {config.infer.min_gain:g} is taken off for every doubling of "
        f"the seconds, on {len(folds)} of {images} out-of-fold images{cut}. It is chosen on images that are scored "
        f"below, which flatters these scores; what is {there} does not know its images."
    )
    if len(set(groups)) < 2:
        tries = f"{len(folds)} of {images} out-of-fold images{cut}"
        note = f"{option} {names[best]}: tried were {tries}, of one group, which can tell nothing apart."
    if late:
        note += f" There was no time for {late}; raise infer.trial_limit."
    return {"chosen": values[best], "rows": rows, "note": note}


def _crossed(evaluation: Evaluation, folds: np.ndarray, config: Config) -> np.ndarray:
    """Counts (N, C, 3)"""
    if evaluation.binary and config.infer.threshold == "fit":
        crossed = crossed_by_threshold(evaluation, 0, folds, config.competition)
        return evaluation.class_counts(0) if crossed is None else crossed
    return evaluation.class_counts(0)


def _kept(
    evaluations: list[Evaluation], ratios: np.ndarray, folds: np.ndarray, groups: np.ndarray, config: Config
) -> int:
    """Which is worth its seconds, in `ratios` to the first one's; of those that are alike, the first."""
    if len(set(groups)) < 2:
        return 0
    scores = [metrics.score(config.competition, _crossed(one, folds, config)) for one in evaluations]
    worth = np.array(scores) - config.infer.min_gain * np.log2(ratios)
    return int(np.argmax(worth >= worth.max() - 1e-9))


def _nested(
    evaluations: list[Evaluation], ratios: np.ndarray, folds: np.ndarray, groups: np.ndarray, config: Config
) -> np.ndarray | None:
    """Counts (N, C, 3): images by what is kept, and the threshold fitted, on images of other folds, or groups of one
    fold; None where there are none."""
    found, parts = evaluations[0].class_counts(0).copy(), cross_parts(folds, groups)
    for here, others in parts:
        known = [Evaluation([], one.counts[others], groups=groups[others], overlap=one.overlap) for one in evaluations]
        chosen = evaluations[_kept(known, ratios, folds[others], groups[others], config)]
        thresholds = chosen.halves
        if chosen.binary and config.infer.threshold == "fit":
            thresholds = fitted_thresholds(chosen, 0, others, config.competition)
        found[here] = chosen.class_counts(0, thresholds)[here]
    return found if parts else None
