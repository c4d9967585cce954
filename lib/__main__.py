"""Side commands: `python -m lib COMMAND …`. The bodies live in their rooms; `--help` prints the table."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

from lib.config import load
from lib.errors import UserError, run_script


@dataclass(frozen=True)
class Command:
    """`body`: "module:function", imported when the command is called. `words`: what stands before the options.

    The function gets the words as texts, with the loaded configuration in the place of CONFIG. Where `takes_flags`, it
    gets all words as texts, and the options as `flags`. Where `takes_message`, it gets what follows -m as `message`.
    """

    body: str
    words: str
    about: str
    takes_flags: bool = False
    takes_message: bool = False

    def run(self, name: str, argv: list[str]) -> None:
        """Call the body. Raises UserError when words are missing, or when there are too many."""
        more = {}
        if self.takes_message:
            if argv.count("-m") != 1 or argv[-1] == "-m":
                raise UserError(f'python -m lib {name} needs a message: -m "what is new in it"')
            place = argv.index("-m")
            more["message"], argv = argv[place + 1], argv[:place] + argv[place + 2 :]
        words, flags = split(argv)
        expected = self.words.replace("[", " ").replace("]", " ").split()
        most = len(words) if expected[-1] == "…" else len(expected)
        if not len(self.words.partition("[")[0].replace("…", "").split()) <= len(words) <= most:
            found = " ".join(words) or "nothing"
            raise UserError(f"expected python -m lib {name} {self.words}, then options; found {found}")
        module, _, function = self.body.partition(":")
        body = getattr(importlib.import_module(module), function)
        if self.takes_flags:
            body(*words, flags=flags, **more)
            return
        place = expected.index("CONFIG")
        body(*words[:place], load(words[place], flags), *words[place + 1 :], **more)


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """(words before the first option, the options).

    >>> split(["a.yaml", "b.yaml", "--train.folds", "0", "1"])
    (['a.yaml', 'b.yaml'], ['--train.folds', '0', '1'])
    """
    first = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
    return argv[:first], argv[first:]


COMMANDS = {
    "init": Command("lib.propose.propose:propose_config", "FOLDER", "propose configs/NAME.yaml (--name NAME)", True),
    "demo": Command("lib.competition.demo:make_demo_of", "CONFIG", "make the built-in demo, if CONFIG is about it"),
    "preflight": Command("lib.preflight.rehearse:preflight", "CONFIG", "rehearse all stages; forecast the costs", True),
    "get": Command("lib.config.load:print_option", "KEY CONFIG", "print one option"),
    "chosen_round": Command("lib.training.rounds:print_chosen_round", "CONFIG", "the best pseudo-label round"),
    "another_round": Command("lib.training.rounds:print_another_round", "CONFIG", "train another round? yes or no"),
    "check": Command("lib.report.answers:check_submission", "CONFIG [CSV]", "check a submission, and draw ten masks"),
    "score": Command("lib.competition.scoring:print_score", "CONFIG [CSV]", "score it, where the answers are known"),
    "compare": Command("lib.report.compare:compare_configs", "CONFIG …", "one table over several configs", True),
    "submit": Command(
        "lib.report.answers:check_and_submit", "CONFIG [CSV]", "check it, and upload it to Kaggle (-m MESSAGE)",
        takes_message=True,
    ),
    "ledger": Command(
        "lib.submissions.leaderboard:print_ledger", "CONFIG [CSV PUBLIC [PRIVATE]]",
        "all submissions and their scores; or note the scores of one",
    ),
    "select": Command(
        "lib.submissions.leaderboard:print_choice", "CONFIG [N [WITHIN]]", "N strong and different submissions"
    ),
    "package": Command("lib.package.build:package", "CONFIG FOLDER [CSV]", "a Kaggle notebook that works offline"),
    "wheels": Command(
        "lib.package.wheels:write_wheels", "CONFIG FOLDER", "the Python packages that Kaggle's image lacks"
    ),
    "boxes": Command("lib.predict.coarse_to_fine:write_boxes", "CONFIG CSV", "a box around each object it finds"),
    "look": Command("lib.report.look:look_at_image", "CONFIG IMAGE_ID", "one image: truth, members, decision, errors"),
    "predict": Command(
        "lib.own_images.predict:predict", "CONFIG PATH …",
        "any images, into --out DIR (--format tif|png|probabilities, --overlay)", True,
    ),
    "report": Command("lib.report.page:print_page", "CONFIG", "draw work/<name>/report/index.html again"),
}  # fmt: skip


def command_table() -> str:
    """The table of commands, a line each."""
    lines = [f"python -m lib {f'{name} {command.words}':42}{command.about}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "Options follow, as for every script: --train.epochs 3"])


def main(argv: list[str]) -> None:
    if argv and argv[0] in ("-h", "--help"):
        print(command_table())
        return
    if not argv or argv[0] not in COMMANDS:
        raise UserError(f"expected python -m lib COMMAND …, with one of {', '.join(COMMANDS)}")
    COMMANDS[argv[0]].run(argv[0], argv[1:])


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
