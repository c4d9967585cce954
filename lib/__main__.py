"""Side commands, so that the stage scripts stay recipes.

python -m lib demo CONFIG             make the built-in demo competition, if the config is about it
python -m lib preflight CONFIG …      schema, data, one batch through all stages; a forecast of hours, disk, memory
python -m lib get KEY CONFIG …        print one option
python -m lib another_round CONFIG …   is another pseudo-label round worth while? yes or no
python -m lib check CONFIG [CSV] …    does a CSV (else submission.csv) have the form that the sample asks for?
python -m lib score CONFIG [CSV] …    score it, where the answers are known
python -m lib compare CONFIG … …      one table over several configs
python -m lib look CONFIG IMAGE_ID …  one picture: image, truth where known, members, ensemble, decision, errors
python -m lib report CONFIG …         draw work/<name>/report/index.html again

`…` are options as every script takes them: `--train.epochs 3`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lib.config import Config, flat, load
from lib.config.load import workspace_of
from lib.errors import UserError, run_script
from lib.plugins import load_plugins
from lib.workspace import Workspace


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """(what stands before the first option, the rest).

    >>> split(["a.yaml", "b.yaml", "--train.folds", "0", "1"])
    (['a.yaml', 'b.yaml'], ['--train.folds', '0', '1'])
    """
    first = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
    return argv[:first], argv[first:]


def demo(argv: list[str]) -> None:
    config = load(argv[0], argv[1:])
    root = Path(config.competition.root)
    if config.competition.name == "demo" and not root.exists():
        from lib.competition.demo import make_demo

        make_demo(root)


def get(argv: list[str]) -> None:
    options = flat(load(argv[1], argv[2:]))
    if argv[0] not in options:
        raise UserError(f"there is no option {argv[0]}")
    print(options[argv[0]])


def another_round(argv: list[str]) -> None:
    from lib.pseudo.rounds import goes_on, round_scores

    config = load(argv[0], argv[1:])
    print("yes" if goes_on(round_scores(config, Workspace(workspace_of(config))), config) else "no")


def preflight(argv: list[str]) -> None:
    from lib.preflight import preflight as run

    run(argv[0], argv[1:])


def check(argv: list[str]) -> None:
    from lib.competition.dataset import Competition
    from lib.competition.scoring import open_codec, test_sizes

    config, path = config_and_csv(argv)
    competition = Competition(config.competition)
    open_codec(competition).check(path, test_sizes(competition))
    print(f"{path}: ids, order, ranges and overlaps are as the sample asks; {len(competition.sample)} rows")


def score(argv: list[str]) -> None:
    from lib.competition.dataset import Competition
    from lib.competition.scoring import score_submission

    config, path = config_and_csv(argv)
    print(f"{score_submission(Competition(config.competition), path):.4f}")


def config_and_csv(argv: list[str]) -> tuple[Config, Path]:
    """`CONFIG [CSV] [--key value …]`, plugins loaded."""
    (path, *csv), flags = split(argv)
    if len(csv) > 1:
        raise UserError(f"expected one CSV, found {len(csv)}: {' '.join(csv)}")
    config = load(path, flags)
    load_plugins(config.plugins)
    return config, Path(csv[0]) if csv else Workspace(workspace_of(config)).submission


def compare(argv: list[str]) -> None:
    from lib.report.compare import compare_configs

    compare_configs(*split(argv))


def look(argv: list[str]) -> None:
    from lib.report.look import look_at

    path, image_id, *more = split(argv)[0]
    if more:
        raise UserError(f"expected one image id, found {len(more) + 1}: {' '.join([image_id, *more])}")
    config = load(path, split(argv)[1])
    load_plugins(config.plugins)
    look_at(config, image_id)


def report(argv: list[str]) -> None:
    from lib.report.page import render_page

    print(render_page(load(argv[0], argv[1:])))


VERBS = {
    "demo": demo, "preflight": preflight, "get": get, "another_round": another_round, "check": check, "score": score,
    "compare": compare, "look": look, "report": report,
}  # fmt: skip


def main(argv: list[str]) -> None:
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return
    if not argv or argv[0] not in VERBS:
        raise UserError(f"expected python -m lib VERB …, with one of {', '.join(VERBS)}")
    needed = 2 if argv[0] in ("get", "look") else 1
    if len(split(argv[1:])[0]) < needed:
        more = " and an image's id" if argv[0] == "look" else ""
        raise UserError(f"python -m lib {argv[0]} needs a configuration file, for example configs/demo.yaml{more}")
    VERBS[argv[0]](argv[1:])


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
