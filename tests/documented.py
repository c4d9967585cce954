"""What README, docs and notebooks show: their pages, blocks of code, and whether the words of a command exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lib.__main__ import COMMANDS
from lib.config import Config, flat

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
GUIDES = sorted(path for room in ("learn", "how-to", "understand") for path in (ROOT / "docs" / room).glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROPOSED = "configs/mycomp.yaml", "configs/vessels.yaml"  # `init` writes them where its pages are followed
OPTIONS = {*flat(Config()), "jobs", "debug", "quiet", "log-file", "workspace"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """Code blocks of one language, those inside lists too, without their indent."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.M | re.S)
    return ["".join(line[len(indent) :] for line in text.splitlines(keepends=True)) for indent, text in found]


def unknown_words(words: list[str]) -> list[str]:
    """Scripts, verbs, options and configurations of a command that do not exist.

    >>> unknown_words("python 03_train.py configs/demo.yaml --train.epoch 3".split())
    ['--train.epoch']
    >>> unknown_words("python -m lib cheque configs/none.yaml".split())
    ['cheque']
    >>> unknown_words("bash run_all.sh configs/none.yaml --debug".split()), unknown_words("pip install kaggle".split())
    (['configs/none.yaml'], [])
    """
    if words[:3] == ["python", "-m", "lib"]:
        return [] if words[3] in COMMANDS else [words[3]]
    script = next((word for word in words if word.endswith((".py", ".sh"))), None)
    if script is None or script.startswith("package_"):
        return []
    if not (ROOT / script).is_file():
        return [script]
    if not script.startswith(("0", "run_all")):
        return []
    given = words[words.index(script) :]
    wrong = [word for word in given if word.startswith("--") and word[2:] not in OPTIONS and word != "--clean"]
    configs = [word for word in words if word.startswith("configs/") and word not in PROPOSED]
    return wrong + [config for config in configs if not (ROOT / config).is_file()]


def copy_repository(target: Path) -> None:
    """The repository without what was made in it: environment, data, workspaces, built pages."""
    made = {".git", ".venv", "data", "work", "site", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    target.mkdir(parents=True)
    for entry in ROOT.iterdir():
        if entry.name in made:  # `.git` is a file in a worktree
            continue
        if entry.is_file():
            shutil.copy(entry, target)
        else:
            shutil.copytree(entry, target / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
