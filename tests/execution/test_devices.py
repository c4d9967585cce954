"""Which devices a worker gets, from made-up lists of GPUs."""

import pytest

from lib.config import load
from lib.config.execution import Execution
from lib.errors import UserError
from lib.execution.devices import devices_of, environment_for, grouped

UUIDS = "GPU-1f2e,GPU-9a8b"


@pytest.mark.parametrize(
    ("asked", "visible", "gpus", "wanted"),
    [
        ("auto", None, 2, ["0", "1"]), ("auto", None, 0, ["cpu"]), ("auto", "", 0, ["cpu"]),
        ("auto", "3,5", 2, ["3", "5"]), ([0, 1], None, 8, ["0", "1"]), ([1, 0], "3,5", 2, ["5", "3"]),
        ([0, 1], UUIDS, 2, ["GPU-1f2e", "GPU-9a8b"]), (["GPU-9a8b"], UUIDS, 2, ["GPU-9a8b"]),
        (["cpu", "cpu"], "3,5", 2, ["cpu", "cpu"]), (["0", "1"], None, 2, ["0", "1"]),
    ],
)  # fmt: skip
def test_devices_are_those_that_are_visible(asked, visible, gpus, wanted):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert devices_of(Execution(devices=asked), environment, gpus) == wanted


@pytest.mark.parametrize(
    ("asked", "visible", "gpus", "says"),
    [
        ([0, 2], None, 2, r"names 2, but the visible GPUs are 0, 1 "), ([3], "3,5", 2, r"names 3, .*DEVICES 3,5"),
        ([0], None, 0, "names 0, but no GPU is visible"), (["GPU-0000"], UUIDS, 2, "names GPU-0000"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_there_is_one_sentence(asked, visible, gpus, says):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with pytest.raises(UserError, match=f"execution.devices {says}"):
        devices_of(Execution(devices=asked), environment, gpus)


def test_a_member_on_several_devices_needs_as_many():
    assert grouped(["0", "1", "2"], 2) == [["0", "1"]] and grouped(["cpu"], 1) == [["cpu"]]
    with pytest.raises(UserError, match=r"execution.per_member is 4, but execution.devices gives 2; lower"):
        grouped(["0", "1"], 4)


def test_the_environment_of_a_worker():
    assert environment_for(["5"], 0, 2) == {"CUDA_VISIBLE_DEVICES": "5", "SEGMENTATION_WORKERS_HERE": "2"}
    assert environment_for(["cpu"], 3, 1)["OMP_NUM_THREADS"] == "3"
    assert environment_for(["cpu"], 0, 1)["CUDA_VISIBLE_DEVICES"] == ""


def test_devices_on_the_command_line():
    for words in (["0", "1"], ["[0, 1]"]):
        config = load(None, ["--execution.devices", *words])
        assert devices_of(config.execution, {}, 2) == ["0", "1"]
    assert load(None, ["--execution.devices", "auto"]).execution.devices == ["auto"]
