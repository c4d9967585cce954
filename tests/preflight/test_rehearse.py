"""Preflight refuses what the real tables cannot fill, and passes what only its few images could not."""

import pytest

from lib import tables
from lib.config import load
from lib.errors import UserError
from lib.preflight.rehearse import preflight
from lib.workspace import Workspace
from tests.competition.test_external import run
from tests.data.test_split_check import CAN_BE_FILLED, with_five_groups


@pytest.fixture
def five_groups(tiny):
    return with_five_groups(tiny)


@pytest.mark.parametrize("flags", CAN_BE_FILLED)
@pytest.mark.parametrize("sliver", ["--preflight", "--debug"])
def test_a_sliver_of_what_the_real_tables_can_fill_has_folds(five_groups, flags, sliver):
    run("01_preprocess", five_groups, *flags, sliver)
    run("02_make_folds", five_groups, *flags, sliver)
    workspace = Workspace(load(five_groups, [*flags, sliver]).workspace)
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    assert set(folds["fold"]) == {0, 1} and folds["group"].is_unique


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_what_they_cannot_fill_is_refused_before_anything_is_rehearsed(five_groups, debug, monkeypatch):
    monkeypatch.setattr("lib.preflight.rehearse.rehearse", lambda *_: pytest.fail("rehearsed"))
    with pytest.raises(UserError, match="5 groups cannot fill 8 folds; set folds.k to a number from 2 to 5"):
        preflight(str(five_groups), ["--folds.k", "8", *debug])


def test_a_rehearsal_passes_where_its_images_are_of_one_group_and_of_the_organisers_folds(five_groups, capsys):
    preflight(str(five_groups), ["--folds.scheme", "column", "--infer.checkpoints", "swa", "best"])
    assert "all stages passed" in capsys.readouterr().out
