"""Pictures of docs/results, drawn by matplotlib from docs/results/data and benchmarks/results.

Each SVG names the digest of its values and of this file. So a picture that is out of date is found without drawing it,
and another version of matplotlib makes no picture out of date.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import ablation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, str]
RESULTS = ROOT / "docs" / "results"
DATA = RESULTS / "data"
# Setting of settings.csv -> (competition, seconds of training) of its lines in benchmarks/results/ablation.jsonl.
LOGGED = {"fundus-short": ("retina", 60.0), "satellite-short": ("aerial", 60.0), "fundus-steps": ("retina", 0.0)}
EFFECT_SETTINGS = (*LOGGED, "fundus-auto")  # whose effects have a picture
BLUE, ORANGE, GREY = "#3a66e0", "#e0762f", "#8a93a5"


@dataclass(frozen=True)
class Plot:
    """`values()`: all that is drawn, as JSON holds it. `draw(axes, values)` puts it on matplotlib's axes."""

    values: Callable[[], object]
    draw: Callable[[object, object], None]
    height: Callable[[object], float] = lambda values: 3.2  # inches


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def stale_plots() -> list[Path]:
    """Pictures that are missing, or were drawn from other values or by other code."""
    return [
        path for name, plot in PLOTS.items()
        if not (path := RESULTS / name).is_file() or digest_of(plot.values()) not in path.read_text(encoding="utf-8")
    ]  # fmt: skip


def draw_plot(path: Path) -> None:
    """Draw a picture of `PLOTS`. Needs matplotlib (requirements-dev.txt)."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plot = PLOTS[path.name]
    values = plot.values()
    style = {"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 8, "axes.spines.top": False,
             "axes.spines.right": False}  # fmt: skip
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(7.5, plot.height(values)))
        plot.draw(axes, values)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Description": f"values: {digest_of(values)}"})
        plt.close(figure)


def digest_of(values: object) -> str:
    text = json.dumps(values, sort_keys=True) + Path(__file__).read_text(encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- effects of techniques ------------------------------------------------------------------------------------------


def effects_of(setting: str) -> list[dict]:
    """Rows of techniques.csv in a setting: label, change, half width or ends of the interval, and the single pairs.

    >>> row = next(row for row in effects_of("fundus-steps") if "Dice beside" in row["label"])
    >>> len(row["pairs"]), round(sum(row["pairs"]) / 3, 4) == round(row["change"], 4)
    (3, True)
    """
    rows = []
    for row in read_rows(DATA / "techniques.csv"):
        if row["setting"] != setting or row["unit"]:
            continue
        change, pairs = float(row["change"]), pairs_of(setting, row["log"]) if row["log"] else []
        if row["low"]:
            ends = [float(row["low"]), float(row["high"])]
        else:
            error = 2 * float(row["error"]) if row["error"] else 0.0
            ends = [change - error, change + error]
        label = f"{row['technique'].replace('-', ' ')}: {row['variant']}"
        rows.append({"label": label, "change": change, "ends": ends, "pairs": pairs})
    return sorted(rows, key=lambda row: row["change"])


def pairs_of(setting: str, switch: str) -> list[float]:
    """The paired differences of a switch, one for each seed, from the log of single trials."""
    competition, seconds = LOGGED[setting]
    lines = [
        line for line in ablation.newest(ablation.LOG.lines(seconds=seconds)) if line["competition"] == competition
    ]
    return [round(difference, 6) for *_, difference in ablation.pairs_of(switch, lines)]


def draw_effects(axes: Axes, rows: list[dict]) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place, row in enumerate(rows):
        axes.plot(row["ends"], [place, place], color=BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot(row["pairs"], [place] * len(row["pairs"]), ".", color=ORANGE, markersize=4)
        axes.plot(row["change"], place, "o", color=BLUE, markersize=5)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set_xlabel("score with the technique less the score without it")


# ---- others ---------------------------------------------------------------------------------------------------------


def limits() -> list[dict]:
    """Seconds that 05 had, and its score, by run; the run without a limit took the seconds in parentheses."""
    found, run = [], ""
    for row in read_rows(DATA / "time_limits.csv"):
        run = row["run"] or run
        seconds = re.search(r"([\d.]+) s", row["limit"])
        if seconds and "three quarters" in run:
            found.append({"seconds": float(seconds[1]), "score": float(row["mean Dice"])})
    return sorted(found, key=lambda row: row["seconds"])


def draw_limits(axes: Axes, rows: list[dict]) -> None:
    axes.plot([row["seconds"] for row in rows], [row["score"] for row in rows], "o-", color=BLUE)
    last = rows[-1]["seconds"], rows[-1]["score"]
    axes.annotate("no limit", last, xytext=(0, -12), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.set_xticks([row["seconds"] for row in rows], [f"{row['seconds']:g}" for row in rows])
    axes.minorticks_off()
    axes.set_xlabel("seconds that stage 05 had")
    axes.set_ylabel("mean Dice, out of fold")


def notebook_pairs() -> list[dict]:
    """Scores by data and seed: ours and the notebook's."""
    return [
        {"data": row["data"], "ours": float(row["ours"]), "notebook": float(row["notebook"])}
        for row in read_rows(DATA / "notebook.csv") if row["seed"].isdigit()
    ]  # fmt: skip


def draw_notebook(axes: Axes, rows: list[dict]) -> None:
    names = list(dict.fromkeys(row["data"] for row in rows))
    for row in rows:
        place = names.index(row["data"])
        axes.plot([row["notebook"], row["ours"]], [place, place], color=GREY, linewidth=1)
        axes.plot(row["notebook"], place, "o", color=ORANGE)
        axes.plot(row["ours"], place, "o", color=BLUE)
    axes.plot([], [], "o", color=BLUE, label="ours")
    axes.plot([], [], "o", color=ORANGE, label="notebook")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("score; a line joins the two sides of a seed")
    axes.legend(loc="upper left", frameon=False)


def proxies() -> list[dict]:
    """Kendall's tau of each cheap mode with the full run, and the ends of its interval."""
    rows = []
    for row in read_rows(DATA / "proxy.csv"):
        if row["tau with the full run"]:
            ends = [float(end) for end in row["95 % interval"].split(" to ")]
            rows.append(
                {"label": row["cheap mode"], "change": float(row["tau with the full run"]), "ends": ends, "pairs": []}
            )
    return rows[::-1]


def draw_proxies(axes: Axes, rows: list[dict]) -> None:
    draw_effects(axes, rows)
    axes.set_xlabel("Kendall's tau with the ranking of the full run")


def _by_rows(rows: list) -> float:
    return 0.9 + 0.22 * len(rows)


PLOTS = {
    **{
        f"effects_{name}.svg": Plot(lambda name=name: effects_of(name), draw_effects, _by_rows)
        for name in EFFECT_SETTINGS
    },
    "time_limits.svg": Plot(limits, draw_limits),
    "notebook.svg": Plot(notebook_pairs, draw_notebook, lambda rows: 1.8),
    "cheap_experiments.svg": Plot(proxies, draw_proxies, _by_rows),
}
