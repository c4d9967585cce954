"""Side commands, so that the stage scripts stay recipes.

python -m lib init PATH [--name NAME]  look at a raw folder, propose configs/NAME.yaml
python -m lib demo CONFIG             make the built-in demo competition, if the config is about it
python -m lib preflight CONFIG …      schema, data, one batch through all stages; a forecast of hours, disk, memory
python -m lib get KEY CONFIG …        print one option
python -m lib chosen_round CONFIG …    the pseudo-label round whose members are worth using
python -m lib another_round CONFIG …   is another pseudo-label round worth while? yes or no
python -m lib check CONFIG [CSV] …    is a CSV (else submission.csv) what the organiser asks for? draws ten masks
python -m lib score CONFIG [CSV] …    score it, where the answers are known
python -m lib compare CONFIG … …      one table over several configs
python -m lib submit CONFIG [CSV] -m MESSAGE …    check it, upload it to Kaggle, put its public score into the ledger
python -m lib ledger CONFIG [CSV PUBLIC [PRIVATE]] …    all submissions and their scores; or fill scores in
python -m lib select CONFIG [N [WITHIN]] …    N submissions for the private board: strong, and different
python -m lib package CONFIG DIR [CSV] …    a folder for a Kaggle notebook without internet
python -m lib boxes CONFIG CSV …      a box around each object that infer.coarse finds in labeled and test images
python -m lib look CONFIG IMAGE_ID …  one picture: image, truth where known, members, ensemble, decision, errors
python -m lib report CONFIG …         draw work/<name>/report/index.html again

`…` are options as every script takes them: `--train.epochs 3`.
"""

from __future__ import annotations

import math
import re
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


def init(argv: list[str]) -> None:
    from lib.propose.propose import propose

    (path, *more), flags = split(argv)
    if more or (flags and (flags[0] != "--name" or len(flags) != 2)):
        raise UserError("expected python -m lib init PATH [--name NAME]")
    name = flags[1] if flags else re.sub(r"[^a-z0-9]+", "_", Path(path).resolve().name.lower()).strip("_")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise UserError(f"{name!r} cannot name a configuration; give letters, digits, _ and - with --name NAME")
    propose(Path(path), name, Path("configs") / f"{name}.yaml")


def get(argv: list[str]) -> None:
    options = flat(load(argv[1], argv[2:]))
    if argv[0] not in options:
        raise UserError(f"there is no option {argv[0]}")
    print(options[argv[0]])


def another_round(argv: list[str]) -> None:
    from lib.training.rounds import goes_on, round_scores

    config = load(argv[0], argv[1:])
    print("yes" if goes_on(round_scores(config, Workspace(workspace_of(config))), config) else "no")


def best_round(argv: list[str]) -> None:
    from lib.training.rounds import chosen_round, round_scores

    config = load(argv[0], argv[1:])
    print(chosen_round(round_scores(config, Workspace(workspace_of(config))), config))


def preflight(argv: list[str]) -> None:
    from lib.preflight.rehearse import preflight as run

    run(argv[0], argv[1:])


def check(argv: list[str]) -> None:
    from lib.competition.codecs.common import check_file_size
    from lib.competition.dataset import Competition
    from lib.competition.scoring import open_codec, test_sizes
    from lib.report.answers import show_answers

    config, path = config_and_csv(argv)
    competition = Competition(config.competition)
    competition.check_sample()
    check_file_size(path, config.competition.submission)
    codec, sizes = open_codec(competition), test_sizes(competition)
    objects = codec.check(path, sizes)
    if objects is None or not hasattr(codec, "read"):  # a plugin's codec that shows nothing
        print(f"{path}: as the organiser asks")
        return
    picture = Workspace(workspace_of(config)).report / f"check_{path.stem}.jpg"
    show_answers(codec, path, objects, sizes, competition, picture)
    found = sum(1 for pixels in objects.values() if pixels)
    print(f"{path}: as the organiser asks; {found} of {len(objects)} images hold an object")
    print(f"{picture}: masks of the file over their images; look whether they lie where they should")


def score(argv: list[str]) -> None:
    from lib.competition.dataset import Competition
    from lib.competition.scoring import score_submission

    config, path = config_and_csv(argv)
    print(f"{score_submission(Competition(config.competition), path):.4f}")


def config_and_csv(argv: list[str]) -> tuple[Config, Path]:
    """`CONFIG [CSV] [--key value …]`, plugins loaded."""
    from lib.competition.scoring import with_codecs_suffix

    (path, *csv), flags = split(argv)
    if len(csv) > 1:
        raise UserError(f"expected one CSV, found {len(csv)}: {' '.join(csv)}")
    config = load(path, flags)
    load_plugins(config.plugins)
    made = with_codecs_suffix(Workspace(workspace_of(config)).submission, config.competition)
    return config, Path(csv[0]) if csv else made


def compare(argv: list[str]) -> None:
    from lib.report.compare import compare_configs

    compare_configs(*split(argv))


def submit(argv: list[str]) -> None:
    from lib.submissions.kaggle import submit as run

    if argv.count("-m") != 1 or argv[-1] == "-m":
        raise UserError('python -m lib submit needs a message: -m "what is new in it"')
    place = argv.index("-m")
    message, argv = argv[place + 1], argv[:place] + argv[place + 2 :]
    config, path = config_and_csv(argv)
    check(argv)
    run(Workspace(workspace_of(config)), config.competition.kaggle, path, message)


def ledger(argv: list[str]) -> None:
    from lib.submissions.kaggle import refresh
    from lib.submissions.leaderboard import ledger_text
    from lib.submissions.ledger import fill, name_of, read

    (path, *given), flags = split(argv)
    if len(given) not in (0, 2, 3):
        raise UserError("expected python -m lib ledger CONFIG, or with CSV PUBLIC [PRIVATE] after it")
    config = load(path, flags)
    workspace = Workspace(workspace_of(config))
    if given:
        columns = ("public", "private")[: len(given) - 1]
        scores = {column: number(text, column.upper()) for column, text in zip(columns, given[1:], strict=True)}
        fill(workspace, name_of(workspace, Path(given[0])), **scores)
    refresh(workspace, config.competition.kaggle)
    print(ledger_text(read(workspace)))


def select(argv: list[str]) -> None:
    from lib.competition.dataset import Competition
    from lib.submissions.leaderboard import choice_text
    from lib.submissions.select import WITHIN, choose

    (path, *given), flags = split(argv)
    config = load(path, flags)
    load_plugins(config.plugins)
    count = number(given[0], "N") if given else 2
    within = number(given[1], "WITHIN") if given[1:] else WITHIN
    if len(given) > 2 or not (count >= 1 and count % 1 == 0 and within >= 0):
        raise UserError(f"expected python -m lib select CONFIG [N [WITHIN]], as in 2 0.01; found {' '.join(given)}")
    print(choice_text(choose(Competition(config.competition), Workspace(workspace_of(config)), int(count), within)))


def package(argv: list[str]) -> None:
    from lib.package.build import package as run

    (path, *given), flags = split(argv)
    if len(given) not in (1, 2):
        raise UserError("expected python -m lib package CONFIG DIR [CSV]")
    config, submission = config_and_csv([path, *given[1:], *flags])
    run(config, Workspace(workspace_of(config)), submission, Path(given[0]))


def number(text: str, name: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{name}: expected a number, found {text!r}")
    return found


def boxes(argv: list[str]) -> None:
    from lib.predict.coarse_to_fine import write_objects
    from lib.session import Session

    (path, *given), flags = split(argv)
    if len(given) != 1:
        raise UserError("expected python -m lib boxes CONFIG CSV")
    session = Session(load(path, flags))
    load_plugins(session.config.plugins)
    print(f"{write_objects(session, Path(given[0]))} boxes: {given[0]}")


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
    "init": init, "demo": demo, "preflight": preflight, "get": get, "another_round": another_round,
    "chosen_round": best_round, "check": check,
    "score": score, "compare": compare, "submit": submit, "ledger": ledger, "select": select, "package": package,
    "boxes": boxes, "look": look, "report": report,
}  # fmt: skip


def main(argv: list[str]) -> None:
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return
    if not argv or argv[0] not in VERBS:
        raise UserError(f"expected python -m lib VERB …, with one of {', '.join(VERBS)}")
    needed = 2 if argv[0] in ("get", "look", "boxes") else 1
    if len(split(argv[1:])[0]) < needed:
        needs = "the organiser's folder" if argv[0] == "init" else "a configuration file, for example configs/demo.yaml"
        needs += {"look": ", and an image id", "boxes": ", and a CSV to write"}.get(argv[0], "")
        raise UserError(f"python -m lib {argv[0]} needs {needs}, before any option")
    VERBS[argv[0]](argv[1:])


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
