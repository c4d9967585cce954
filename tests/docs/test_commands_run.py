"""Every command of README and docs/learn runs in a copy of the repository, and prints lines like those that are shown.

Images are small, and each member is a network of a few channels that trains for one epoch. Where a page shows YAML
below `init`, it is put into the configuration that `init` wrote. Downloads and Kaggle's programs are stood in for.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import disc_image, make_tiny
from documented import README, ROOT, copy_repository, name_of
from quick_python import quick_python

from lib.competition.demo import make_demo

LESSONS = sorted((ROOT / "docs/learn").glob("*.md"))  # their commands run by `--slow`
SHORT = {
    "model.architecture": "tiny", "model.weights": "none", "train.frozen": "[]", "train.member_limit": "0",
    "train.epochs": "2", "train.lr": "0.01", "train.crop": "64", "train.batch_size": "4", "train.seeds": "42",
    "train.workers": "0", "train.precision": "fp32", "infer.precision": "fp32", "infer.backend": "eager",
    "report.pictures": "1", "jobs": "1",
}  # fmt: skip
TIMES = "train.member_limit", "train.epochs"  # that a page gives and the tests do not take
LONG = ("run_tests.sh", "torchrun", "--debug", "configs/demo.yaml", "configs/retina.yaml")  # run by `--slow`
NEVER = ("python -m lib wheels",)  # it downloads packages
DOES_NOTHING = ("curl", "kaggle", "pip", "unzip")
KAGGLE = """
class KaggleApi:
    CONFIG_NAME_USER = "username"
    sent = []
    def authenticate(self): pass
    def get_config_value(self, name): return "someone"
    def competition_submit(self, path, message, slug, quiet=False):
        self.sent.append(path)
        return Row(message="Successfully submitted", ref=1)
    def competition_submissions(self, slug, page_size=0):
        return [Row(file_name=path.split("/")[-1], ref=1, public_score="0.5", private_score="", error_description="")
                for path in self.sent]
class Row:
    def __init__(self, **values): self.__dict__.update(values)
"""


# ---- pages -----------------------------------------------------------------------------------------------------------


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, text) of the code blocks of a page, those inside lists too, without their indent.

    >>> blocks("```bash\\na  # c\\n```\\n- x\\n\\n  ```text\\n  1\\n   2\\n  ```\\n")
    [('bash', 'a  # c\\n'), ('text', '1\\n 2\\n')]
    """
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```", text, re.M | re.S)
    return [(language, re.sub(f"^{indent}", "", body, flags=re.M)) for indent, language, body in found]


def commands(block: str) -> list[str]:
    """The commands of a bash block, without comments. A line that ends in a backslash goes on.

    >>> commands("a b   # c\\n\\nd \\\\\\n  e\\nfor x in 1; do\\n  y\\ndone\\n")
    ['a b', 'd e', 'for x in 1; do\\n  y\\ndone']
    """
    text = re.sub(r"\s+# .*", "", block.replace("\\\n", " "))
    found: list[str] = []
    for line in text.splitlines():
        if found and re.match(r"\s|done|}", line):
            found[-1] += f"\n{line}"
        elif line.strip():
            found.append(re.sub(r"  +", " ", line))
    return found


def is_run(command: str, slow: bool) -> bool:
    """Whether the test runs a command; without `slow`, those of `init`'s configuration and of no other.

    >>> is_run("bash run_all.sh configs/mycomp.yaml", False), is_run("bash run_all.sh", False)
    (True, False)
    """
    long = command == "bash run_all.sh" or any(words in command for words in LONG)
    return not command.startswith(NEVER) and (slow or not long)


def shortened(command: str) -> str:
    """The same command with little to do.

    >>> shortened("python 03_train.py a.yaml --train.epochs 9 --train.crop 32").split("--")[1:4]
    ['train.crop 32 ', 'model.architecture tiny ', 'model.weights none ']
    >>> shortened("bash run_tests.sh"), shortened("mkdir a")
    ('bash run_tests.sh tests/test_errors.py', 'mkdir a')
    """
    if "run_tests.sh" in command:
        return f"{command} tests/test_errors.py"
    if not re.search(r"\b0\d_\w+\.py|run_all\.sh|lib (?!init)", command):
        return command
    own = SHORT | ({"package.wheels": "false"} if "lib package" in command else {})
    for name in TIMES:
        command = re.sub(rf" --{name} \S+", "", command)
    return " ".join([command, *(f"--{name} {value}" for name, value in own.items() if f"--{name} " not in command)])


def shape(line: str) -> str:
    """A line without its figures and the width of its columns.

    >>> shape("05: work/demo/submission.csv"), shape("a.yaml   -0.71 1,234 s"), shape("0.71 (0.6 to 0.8)")
    ('#: work/demo/submission.csv', 'a.yaml # # s', '# (# to #)')
    """
    return re.sub(r"(?<![\w-])-?\d[\d.,]*|\d[\d.,]*", "#", " ".join(line.split()))


def missing_lines(shown: str, printed: str) -> list[str]:
    """Shown lines that were not printed in this order. `…` stands for any lines, or for the rest of a line.

    >>> missing_lines("a 1\\n…\\nb 2 …\\n", "a 2\\nx\\nb 3 c\\n"), missing_lines("b\\na\\n", "a\\nb\\n")
    ([], ['a'])
    """
    rest, missing = [shape(line) for line in printed.splitlines()], []
    for line in shown.splitlines():
        wanted, open_, _ = shape(line).partition("…")
        if not wanted:
            continue
        place = next((i for i, one in enumerate(rest) if (one.startswith(wanted) if open_ else one == wanted)), None)
        if place is None:
            missing.append(line)
        else:
            rest = rest[place + 1 :]
    return missing


def put_into(path: Path, text: str) -> None:
    """What a page tells the reader to change in a configuration."""

    def merge(old: dict, new: dict) -> dict:
        both = {key: merge(old[key], new[key]) for key in new if isinstance(new[key], dict) and key in old}
        return {**old, **new, **both}

    values = merge(yaml.safe_load(path.read_text(encoding="utf-8")), yaml.safe_load(text))
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


# ---- the copy --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository under git, with small data for each page."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    copy_repository(root)
    make_demo(root / "data/demo", per_patient=1, sides=(700, 900))
    shutil.copytree(root / "data/demo", root / "data/mycomp", ignore=shutil.ignore_patterns("test_labels.csv"))
    make_retina(root / "data/retina", root.parent)
    make_downloaded(root / "data/hrf")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a copy"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    return root


def make_retina(folder: Path, scratch: Path) -> None:
    """The tiny competition's images in the layout of configs/retina.yaml."""
    shutil.move(make_tiny(scratch).parent / "raw", folder)
    (folder / "unlabeled").mkdir()
    cv2.imwrite(str(folder / "unlabeled/u1.png"), disc_image(np.random.default_rng(3), 170, 180)[0])
    places = pd.read_csv(folder / "metadata.csv").rename(columns={"place": "diagnosis"})
    places.to_csv(folder / "metadata.csv", index=False)


def make_downloaded(folder: Path) -> None:
    """What the walk-through downloads: photographs, and masks of 0 and 255 in TIFFs."""
    rng = np.random.default_rng(4)
    for part in ("images", "manual1"):
        (folder / part).mkdir(parents=True)
    for number in range(1, 6):
        for kind, suffix in (("dr", "JPG"), ("g", "jpg"), ("h", "jpg")):
            image, mask = (side.repeat(4, 0).repeat(4, 1) for side in disc_image(rng, 195, 292))
            cv2.imwrite(str(folder / f"images/{number:02}_{kind}.{suffix}"), image)
            cv2.imwrite(str(folder / f"manual1/{number:02}_{kind}.tif"), mask * 255)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """`python` starts at once, and other programs are stood in for."""
    folder = tmp_path_factory.mktemp("stand_ins")
    (folder / "kaggle/api").mkdir(parents=True)
    for package in ("kaggle", "kaggle/api"):
        (folder / package / "__init__.py").touch()
    (folder / "kaggle/api/kaggle_api_extended.py").write_text(KAGGLE)
    (folder / "bin").mkdir()
    for name in DOES_NOTHING:
        (folder / "bin" / name).write_text("#!/bin/sh\n")
        (folder / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "PYTHONPATH": str(folder), "VIRTUAL_ENV": str(folder), "OMP_NUM_THREADS": "1"}
    with quick_python(folder):
        yield {**os.environ, **own}


def called(command: str, repository: Path, environment: dict) -> str:
    """What a command prints. Fails where the command does."""
    words = ["bash", "-c", shortened(command)]
    done = subprocess.run(
        words, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


# ---- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [README, *(pytest.param(page, marks=pytest.mark.slow) for page in LESSONS)], ids=name_of
)
def test_commands_run_and_print_what_is_shown(page, repository, environment, pytestconfig):
    slow, text, ran, printed, proposed = pytestconfig.getoption("--slow"), page.read_text("utf-8"), 0, "", None
    if "configs/mycomp.yaml" in text and "lib init" not in text:
        make_mycomp(repository, environment)
    for language, block in blocks(text):
        if language == "bash":
            wanted = [command for command in commands(block) if is_run(command, slow)]
            proposed = next(filter(None, (proposed_by(command, repository) for command in wanted)), proposed)
            ran, printed = ran + len(wanted), "".join(called(command, repository, environment) for command in wanted)
            complete = len(wanted) == len(commands(block))
        elif language == "yaml" and proposed:
            put_into(proposed, block)
        elif language == "text" and complete:
            assert missing_lines(block, printed) == [], printed[-8000:]
    if not ran:
        pytest.skip("its commands need --slow")


def proposed_by(command: str, repository: Path) -> Path | None:
    """The configuration that a command will write, where it is `init`; an earlier one is removed."""
    found = re.search(r"lib init .*--name (\w+)", command)
    path = repository / f"configs/{found[1]}.yaml" if found else None
    if path:
        path.unlink(missing_ok=True)
    return path


def make_mycomp(repository: Path, environment: dict) -> None:
    """What the README's commands make, for a page that goes on from there."""
    if not (repository / "work/mycomp/submission.csv").exists():
        (repository / "configs/mycomp.yaml").unlink(missing_ok=True)
        called("python -m lib init data/mycomp --name mycomp", repository, environment)
        called("bash run_all.sh configs/mycomp.yaml", repository, environment)
