import pandas as pd
import pytest

from lib import tables
from lib.errors import UserError
from lib.files import check_disk, write_table

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
