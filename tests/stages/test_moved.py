"""A workspace that was moved, with the competition's folder or without it, is up to date."""

import runpy
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import make_tiny

from lib.digests import Places, changed_outputs
from lib.errors import UserError
from lib.report.stale import outdated
from lib.session import Session
from lib.stage import Stage
from lib.workspace import Workspace, read_json

ROOT = Path(__file__).resolve().parents[2]
STAGES = (
    "01_preprocess", "02_make_folds", "03_train", "04_pseudo_label --train.round 1", "04_pseudo_label --clean",
    "05_infer_ensemble",
)  # fmt: skip


def run(command, config):
    stage, *flags = command.split()
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny competition, in the folder `here`."""
    folder = tmp_path_factory.mktemp("moved") / "here"
    folder.mkdir()
    path = make_tiny(folder)
    for command in STAGES:
        run(command, path)
    return path


def moved(finished, new, *parts):
    """The configuration after the folders `parts` were moved to another place."""
    new.mkdir()
    values = yaml.safe_load(finished.read_text())
    for part in parts:
        shutil.copytree(finished.parent / part, new / part)
    if "raw" in parts:
        values["competition"]["root"] = str(new / "raw")
    values["workspace"] = str(new / "work")
    (new / "tiny.yaml").write_text(yaml.safe_dump(values))
    return new / "tiny.yaml"


@pytest.mark.parametrize("parts", [("work",), ("work", "raw")], ids=" ".join)
def test_a_moved_workspace_is_up_to_date(finished, tmp_path, capsys, parts):
    config = moved(finished, tmp_path / "there", *parts)
    hidden = finished.parent.with_name("gone")
    finished.parent.rename(hidden)
    try:
        if "raw" not in parts:  # it stayed where it was
            finished.parent.mkdir()
            (finished.parent / "raw").symlink_to(hidden / "raw")
        for command in STAGES:
            run(command, config)
            out = capsys.readouterr().out
            assert "again, because" not in out, out
            assert "up to date" in out or command.startswith("05"), out
        session = Session.open([str(config)], "test")
        assert outdated(session.workspace, session.config) == {}
        answers = read_json(tmp_path / "there" / "work" / "manifests" / "05_infer_ensemble.json", {})
        assert not [key for key in answers["made_from"] if str(finished.parent) in key]
        run("05_infer_ensemble --infer.tta hflip", config)  # it finds the moved images
        assert "submission" in capsys.readouterr().out
    finally:
        shutil.rmtree(finished.parent, ignore_errors=True)
        hidden.rename(finished.parent)


def test_what_changed_after_the_move_is_told_by_its_path_of_today(finished, tmp_path, capsys):
    config = moved(finished, tmp_path / "there", "work", "raw")
    folds = tmp_path / "there" / "work" / "folds.csv"
    folds.write_text(folds.read_text() + "\n")
    run("05_infer_ensemble", config)
    assert f"05_infer_ensemble: again, because {folds} changed" in capsys.readouterr().out


def test_an_image_that_was_replaced_after_the_move_is_told(finished, tmp_path):
    config, hidden = moved(finished, tmp_path / "there", "work", "raw"), finished.parent.with_name("gone")
    finished.parent.rename(hidden)
    try:
        (tmp_path / "there/raw/test/im6.png").write_bytes(b"")
        with pytest.raises(UserError, match="there/raw/test/im6.png is not the file that 01_preprocess.py read"):
            _ = Session.open([str(config)], "test").images
    finally:
        hidden.rename(finished.parent)


def test_manifests_of_earlier_versions_name_paths_and_stay_valid(tmp_path, capsys):
    table = tmp_path / "work/a.csv"
    (tmp_path / "work/manifests").mkdir(parents=True)
    table.write_text("1")
    manifest = tmp_path / "work/manifests/m.json"
    stage = Stage(manifest, "m", {}, [table], {"labels": {str(table): "1"}})
    stage.finish([table])
    record = manifest.read_text()
    assert record.count("{workspace}/a.csv") == 4
    manifest.write_text(record.replace("{workspace}", str(tmp_path / "work")).replace('"format": 3', '"format": 2'))
    assert stage.changes() == [] and changed_outputs(manifest) == []
    table.write_text("2")
    assert stage.changes() == [f"{table} changed"]


def test_places_of_files_in_folders_in_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = Places(workspace="raw/made", root="raw")
    for path, name in (
        ("raw/made/a.csv", "{workspace}/a.csv"), (tmp_path / "raw/b.png", "{root}/b.png"), ("raws/c", "raws/c"),
        ("raw/made", "{root}/made"), ("/elsewhere/w.pt", "/elsewhere/w.pt"), ("{root}/b.png", "{root}/b.png"),
    ):  # fmt: skip
        assert places.named(path) == name
    assert places.path("{workspace}/a.csv") == Path("raw/made/a.csv")
    assert places.shown("{root}/b.png changed") == "raw/b.png changed"
    assert Workspace("raw/made").places.path("{workspace}/x") == Path("raw/made/x")
