"""Side commands, so that the stage scripts stay recipes.

python -m lib demo CONFIG             make the built-in demo competition, if the config is about it
python -m lib preflight CONFIG …      one batch through all stages, and a forecast
python -m lib get KEY CONFIG …        print one option
python -m lib score CONFIG …          score submission.csv, where the answers are known
python -m lib compare CONFIG … …      one table over several configs
"""

from __future__ import annotations

import sys
from pathlib import Path

from lib.config import flat, load
from lib.config.load import workspace_of
from lib.errors import UserError, run_script


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


def preflight(argv: list[str]) -> None:
    from lib.preflight import preflight as run

    run(argv[0], argv[1:])


def score(argv: list[str]) -> None:
    from lib.competition.dataset import Competition
    from lib.competition.scoring import score_submission
    from lib.workspace import Workspace

    config = load(argv[0], argv[1:])
    path = Workspace(workspace_of(config)).submission
    print(f"{score_submission(Competition(config.competition), path):.4f}")


def compare(argv: list[str]) -> None:
    from lib.report.compare import compare_configs

    paths = [a for i, a in enumerate(argv) if not any(b.startswith("--") for b in argv[: i + 1])]
    compare_configs(paths, argv[len(paths) :])


VERBS = {"demo": demo, "preflight": preflight, "get": get, "score": score, "compare": compare}


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in VERBS:
        raise UserError(f"expected python -m lib VERB …, with one of {', '.join(VERBS)}")
    needed = 2 if argv[0] == "get" else 1
    if len(argv) <= needed:
        raise UserError(f"python -m lib {argv[0]} needs a configuration file, for example configs/demo.yaml")
    VERBS[argv[0]](argv[1:])


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
