import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from lib import tables
from lib.errors import UserError
from lib.files import HOST, OTHER_HOST_SECONDS, check_disk, replacing, replacing_dir, sweep, temporary_name, write_table

STRANGE = ["a\rb", "a\nb", "a\r\nb", "a,b", 'a"b', " a", "\ufeffa", "#a", "a;b", "nan", "007"]


@pytest.mark.parametrize("strange", [*STRANGE, "\r"])
def test_tables_keep_ids_that_hold_what_csv_uses(tmp_path, strange):
    table = pd.DataFrame({"image_id": ["plain", strange], "rows": [1, 2], "share": [0.5, None], "right": [True, False]})
    write_table(tmp_path / "t.csv", table, provenance="made by a test")
    kinds = {"image_id": ("str", ""), "rows": ("int64", ""), "share": ("Float64", ""), "right": ("bool", "")}
    read = tables.read(tmp_path / "t.csv", kinds, "nothing")
    assert read["image_id"].tolist() == ["plain", strange] and read["rows"].tolist() == [1, 2]
    assert read["share"].isna().tolist() == [False, True] and read["right"].tolist() == [True, False]


def test_tables_without_such_ids_are_written_without_quotes(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"image_id": ["a b", "c"], "rows": [1, 2]}))
    assert (tmp_path / "t.csv").read_bytes() == b"image_id,rows\na b,1\nc,2\n"


def test_a_disk_that_is_too_small_is_refused_with_what_to_do(tmp_path):
    check_disk("the run needs", 1e-6, tmp_path / "not yet there")
    with pytest.raises(UserError, match=r"^the run needs about 1000000000\.00 GiB of disk, but .* make room, or set"):
        check_disk("the run needs", 1e9, tmp_path)
    with pytest.raises(UserError, match="make room, train fewer, or set"):
        check_disk("the run needs", 1e9, tmp_path, "train fewer")


def test_no_two_temporary_names_are_the_same_and_each_keeps_the_suffix(tmp_path):
    names = {temporary_name(tmp_path / "a.tif") for _ in range(100)}
    assert len(names) == 100 and {name.suffix for name in names} == {".tif"}
    assert all(name.parent == tmp_path and name.name.startswith(".a.") for name in names)
    assert len(temporary_name(tmp_path / ("x" * 250 + ".png")).name) < 150


def test_two_that_replace_one_folder_do_not_mix_their_files(tmp_path):
    with replacing_dir(tmp_path / "tiles") as first:
        (first / "a").touch()
        with replacing_dir(tmp_path / "tiles") as second:
            (second / "b").touch()
            assert not (second / "a").exists()
    assert [path.name for path in (tmp_path / "tiles").iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiles"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles/old").touch()
    with pytest.raises(ValueError, match="wrong"), replacing_dir(tmp_path / "tiles") as folder:
        (folder / "new").touch()
        raise ValueError("wrong")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["tiles", "tiles/old"]


def test_a_folder_that_is_a_link_is_replaced_and_what_it_leads_to_is_kept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").touch()
    (tmp_path / "tiles").symlink_to(tmp_path / "elsewhere")
    with replacing_dir(tmp_path / "tiles") as folder:
        (folder / "new").touch()
    assert (tmp_path / "elsewhere/mine").is_file() and (tmp_path / "tiles/new").is_file()


def test_what_the_dead_left_is_swept_and_what_the_living_write_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = temporary_name(tmp_path / "mine.json")
    left = mine.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    for name in (mine.name, left, f".images.{dead.pid}.tmp.csv", f".images.{os.getpid()}.tmp.csv", "a.tmp", ".hidden"):
        (tmp_path / name).touch()
    folder = tmp_path / left.replace(".mine", ".tiles")
    folder.mkdir()
    (folder / "tile.png").touch()
    elsewhere = [f".{age}.elsewhere-7-0123abcd.tmp.json" for age in ("old", "new")]
    for name, age in zip(elsewhere, (2 * OTHER_HOST_SECONDS, 0), strict=True):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert sweep(tmp_path) == 4
    kept = {mine.name, f".images.{os.getpid()}.tmp.csv", "a.tmp", ".hidden", elsewhere[1]}
    assert {path.name for path in tmp_path.iterdir()} == kept and HOST in mine.name
    assert sweep(tmp_path / "nowhere") == 0


def test_while_a_file_is_replaced_a_sweep_does_not_touch_it(tmp_path):
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("1")
        assert sweep(tmp_path) == 0
    assert (tmp_path / "a.json").read_text() == "1"
