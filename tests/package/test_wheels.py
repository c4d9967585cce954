"""`python -m lib wheels`, with a pip that only notes what it is asked for."""

import subprocess
from pathlib import Path

import pytest

from lib.__main__ import main
from lib.errors import UserError
from lib.package import wheels


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """The commands that pip was given. Each of them leaves one wheel in its folder."""
    commands: list[list[str]] = []

    def run(command, **_):
        commands.append(command)
        folder = next(Path(command[command.index(word) + 1]) for word in ("--dest", "--wheel-dir") if word in command)
        (folder / f"{len(commands)}.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    return commands


def test_wheels_of_the_named_python_are_fetched_in_the_versions_of_here(tiny, tmp_path, asked, capsys):
    folder = tmp_path / "wheels"
    main(["wheels", str(tiny), str(folder), "--package.python", "3.10"])
    assert sorted(path.name for path in folder.iterdir()) == ["1.whl", "2.whl"]
    assert "2 wheels that Kaggle's image lacks" in capsys.readouterr().out
    download, build = asked
    assert download[3] == "download" and download[download.index("--python-version") + 1] == "3.10"
    assert wheels._pinned("timm") in download and "==" in wheels._pinned("timm")
    assert build[3] == "wheel" and build[-1].startswith("pyvips") and "--python-version" not in build
    assert all("--no-deps" in command for command in asked)

    main(["wheels", str(tiny), str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == ["3.whl", "4.whl"], "wheels of before are gone"


def test_a_folder_with_other_files_is_left_alone(tiny, tmp_path, asked):
    (tmp_path / "precious.txt").touch()
    for target in (tmp_path, tmp_path / "precious.txt"):
        with pytest.raises(UserError, match="give a new folder"):
            main(["wheels", str(tiny), str(target)])
    assert asked == [] and (tmp_path / "precious.txt").is_file()


def test_a_failed_download_leaves_no_folder_and_says_why(tiny, tmp_path, monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(UserError, match=r"cannot be downloaded \(No matching distribution found\); go online"):
        main(["wheels", str(tiny), str(tmp_path / "wheels")])
    assert not list(tmp_path.glob("wheels*"))
