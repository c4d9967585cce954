"""Chooses `infer.window: auto` and `infer.tta: auto` on out-of-fold images, and caches the choice.

The candidate with the highest score wins, after `infer.min_gain` is subtracted for every doubling of its seconds.
Images of a single group decide nothing. The score is that of the mean of all networks. With one class, the threshold is
fitted on other groups (`cross_parts`), or 0.5 where there are none.
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
from lib.predict.trials import Trial, TrialResult
from lib.session import Session
from lib.system.device import machine_of
from lib.workspace import Member, file_fingerprint, short_hash

AUTO = "auto"
TTA_CANDIDATES = ("none", "free", "hflip", "vflip", "flips", "d4")
SIZE_FACTORS = (1.5, 2.0)  # sides of candidate windows, as multiples of the trained side
SIZE_STEP = 64  # sides are multiples of this
LIMIT_SHARE = 0.05  # share of `infer.time_limit` that a trial may take


def resolve_auto(session: Session, checkpoints: list[Checkpoint], measure: bool = True) -> tuple[Session, list[dict]]:
    """`session` with the choices in place of `infer.window auto` and `infer.tta auto`, and the results of their trials.

    Each option is measured once for these checkpoints, images and options. Without `measure`, only cached choices are
    used, and what was never measured stays `auto`: windows as trained, or no views. A result is a dict of `chosen`,
    `rows` of a table and a `note`.
    """
    results = []
    for option, candidates in (("window", _sizes), ("tta", _recipes)):
        infer = session.config.infer
        if getattr(infer, option) != AUTO:
            continue
        windows_of_member = {checkpoint.member: trained_windows(session, checkpoint) for checkpoint in checkpoints}
        windows = list(dict.fromkeys(windows_of_member.values()))
        values = candidates(windows, session.images)
        if len(values) == 1:
            session = session.with_infer(**{option: values[0]})
            continue
        # A choice made with the full time is preferred where a limit now leaves less.
        limits = infer.trial_limit, min(infer.trial_limit, LIMIT_SHARE * infer.time_limit or infer.trial_limit)
        keys = [
            f"infer.{option} {_identity(session, [values, limit], windows_of_member, checkpoints)}" for limit in limits
        ]
        result = session.workspace.choice(keys[0]) or session.workspace.choice(keys[1])
        if result is None and measure:
            trained = f"{', '.join(str(one.size) for one in windows)} as trained"
            names = [trained if value == 0 else str(value) for value in values]
            print(f"05: infer.{option} auto: tries {'; '.join(names)} on out-of-fold images, for at most "
                  f"{duration(limits[1])}", flush=True)  # fmt: skip
            trial = Trial([session.with_infer(**{option: value}) for value in values], checkpoints)
            outcome = trial.run(limits[1])
            result = choose_variant(f"infer.{option}", values, names, outcome, len(trial.order), session.config)
            session.workspace.choose(keys[1], result)
        if result:
            session = session.with_infer(**{option: result["chosen"]})
            results.append(result)
    return session, results


def _sizes(windows: list[Windows], images: pd.DataFrame) -> list[int]:
    """0 (as each network was trained) and larger sides for all networks, up to the side of the largest image."""
    trained, rows = max(one.size for one in windows), images[images["split"] != "unlabeled"]
    needed = round(rows[["height", "width"]].to_numpy().max() * max(one.scale for one in windows))
    sizes = [-(-min(round(trained * factor), needed) // SIZE_STEP) * SIZE_STEP for factor in SIZE_FACTORS]
    return [0, *dict.fromkeys(size for size in sizes if size > trained)]


def _recipes(windows: list[Windows], images: pd.DataFrame) -> list[str]:
    """TTA recipes; `free` only where windows overlap. `images` is there for the signature that `_sizes` has."""
    overlapping = any(one.overlap and not one.resized for one in windows)
    return [recipe for recipe in TTA_CANDIDATES if recipe != "free" or overlapping]


def _identity(
    session: Session, trial: list, windows_of_member: dict[Member, Windows], checkpoints: list[Checkpoint]
) -> str:
    """Names everything that a choice depends on. `trial`: candidate values and seconds."""
    config, workspace = session.config, session.workspace
    infer, competition = config.infer, config.competition
    made_from = [
        trial,
        [[file_fingerprint(member.trained), repr(windows)] for member, windows in windows_of_member.items()],
        [checkpoint.name for checkpoint in checkpoints],
        [file_fingerprint(path) for path in (workspace.folds, workspace.images, *boxes_file(config.infer.roi))],
        [infer.tta, infer.min_gain, infer.gate, infer.roi, infer.threshold, infer.precision, infer.backend],
        [competition.metric, competition.score_background, flat(competition.scoring)],
        config.preprocess.blank_tolerance,
    ]
    experiments = " ".join(dict.fromkeys(member.experiment for member in windows_of_member))
    return f"{experiments} {machine_of(session.device)} {short_hash(made_from)}"


def choose_variant(
    option: str, values: list, names: list[str], trial: TrialResult, images: int, config: Config
) -> dict:
    """Choose among the `values` of an option, called `names`, after a trial.

    Returns a dict of `chosen`, of `rows` with each value's gain over the first one, and of a `note` for the user. The
    last row estimates the choice without its bias: each fold's images are predicted with the value that is chosen on
    the other folds, or, within a single fold, each group's. `images`: how many out-of-fold images exist.
    """
    folds, groups = trial.images["fold"].to_numpy(), trial.images["group"].to_numpy()
    evaluations = [replace(evaluation, groups=groups) for evaluation in trial.evaluations]
    ratios = (trial.seconds + 1e-9) / (trial.seconds[0] + 1e-9)  # images may be blank
    counts = [_cross_fitted(evaluation, folds, config) for evaluation in evaluations]
    best, score = _best(evaluations, ratios, folds, groups, config), metrics.score
    gain_column = f"gain (95 % over {len(set(groups))} groups)"

    def row(name: str, of_value: np.ndarray, ratio: float | None, mark: str) -> dict:
        gain = None if of_value is counts[0] else str(paired_gain(config.competition, of_value, counts[0], groups))
        seconds = None if ratio is None else f"{ratio:.2f}"
        return {
            option: name, "OOF score": score(config.competition, of_value), gain_column: gain, "seconds": seconds,
            "": mark,
        }  # fmt: skip

    rows = [
        row(name, of_value, ratio, "chosen" * (i == best))
        for i, (name, of_value, ratio) in enumerate(zip(names, counts, ratios, strict=False))
    ]
    nested, nested_name = _nested(evaluations, ratios, folds, groups, config), f"chosen on {crossed_by(folds)}"
    if nested is not None and len(rows) > 1:
        rows.append(row(nested_name, nested, None, ""))
    untried, cut = ", ".join(names[len(ratios) :]), " (parts of large ones)" * trial.cut
    tried = f"{len(folds)} of {images} out-of-fold images{cut}"
    note = (
        f"{option} {names[best]}: the highest score after {config.infer.min_gain:g} is subtracted for every doubling "
        f"of the seconds, on {tried}. It is chosen on the images that are scored below, so these scores are too high. "
        f"The row '{nested_name}' is free of that."
    )
    if len(set(groups)) < 2:
        note = f"{option} {names[best]}: {tried} were tried, all of one group, so the values cannot be compared."
    if untried:
        note += f" There was no time for {untried}; raise infer.trial_limit."
    return {"chosen": values[best], "rows": rows, "note": note}


def _cross_fitted(evaluation: Evaluation, folds: np.ndarray, config: Config) -> np.ndarray:
    """Counts (N, C, 3), each image's with a threshold that is fitted on other images where it is to be fitted."""
    if evaluation.binary and config.infer.threshold == "fit":
        crossed = crossed_by_threshold(evaluation, 0, folds, config.competition)
        return evaluation.class_counts(0) if crossed is None else crossed
    return evaluation.class_counts(0)


def _best(
    evaluations: list[Evaluation], ratios: np.ndarray, folds: np.ndarray, groups: np.ndarray, config: Config
) -> int:
    """The index of the highest score less the price of its seconds; the first of equal ones.

    `ratios`: seconds, relative to those of the first evaluation.
    """
    if len(set(groups)) < 2:
        return 0
    scores = [metrics.score(config.competition, _cross_fitted(one, folds, config)) for one in evaluations]
    net = np.array(scores) - config.infer.min_gain * np.log2(ratios)
    return int(np.argmax(net >= net.max() - 1e-9))


def _nested(
    evaluations: list[Evaluation], ratios: np.ndarray, folds: np.ndarray, groups: np.ndarray, config: Config
) -> np.ndarray | None:
    """Counts (N, C, 3) where each image's value and thresholds are chosen on other folds, or on other groups.

    None where there is only one group.
    """
    counts, parts = evaluations[0].class_counts(0).copy(), cross_parts(folds, groups)
    for held_out, others in parts:
        fitting = [
            Evaluation([], one.counts[others], groups=groups[others], overlap=one.overlap) for one in evaluations
        ]
        chosen = evaluations[_best(fitting, ratios, folds[others], groups[others], config)]
        thresholds = chosen.halves
        if chosen.binary and config.infer.threshold == "fit":
            thresholds = fitted_thresholds(chosen, 0, others, config.competition)
        counts[held_out] = chosen.class_counts(0, thresholds)[held_out]
    return counts if parts else None
