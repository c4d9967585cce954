"""The simulation of many workers: its graph, its critical path, and workers that are killed."""

import json
from dataclasses import asdict

import pytest

from benchmarks import scaling
from benchmarks.cluster_model import SAVE_SECONDS, Costs, Plan, Task, simulate, tasks_of
from lib.errors import UserError

COSTS = Costs(survey=1, cut=2, pair=1, member=600, label=3, fold=50, part=20, driver=10, task=0)
PLAN = Plan(images=4, pairs=2, folds=2, seeds=2, rounds=2, parts=3)


def test_one_worker_takes_the_sum_and_many_the_chain_of_stages():
    tasks = tasks_of(PLAN, COSTS)
    pieces = 4 * 1 + 4 * 2 + 2 * 1 + 2 * 4 * 600 + 4 * 3 + 2 * 50 + 3 * 20
    stages = 8 * 10  # survey, cut, pairs, 03, 04, 03, folds, parts
    assert simulate(tasks, 1).seconds == pieces + stages
    many = simulate(tasks, 64)
    assert many.seconds == 1 + 2 + 1 + 2 * 600 + 3 + 50 + 20 + stages
    assert sum(many.path.values()) == pytest.approx(many.seconds) and many.path["03 round 0"] == 610


def test_the_longest_task_is_taken_first():
    tasks = [Task("a 0", 1), Task("a 1", 1), Task("a 2", 2)]
    assert simulate(tasks, 2).seconds == 2


def test_a_killed_training_goes_on_from_its_last_save_and_others_begin_again():
    assert simulate([Task("a 0", 100, saves=True)], 2, 1, 60.0).seconds == 100 + SAVE_SECONDS
    again = simulate([Task("a 0", 100)], 2, 1, 60.0)
    assert again.seconds == 160 and again.restarted == 1


def test_fewer_workers_are_left_after_a_kill():
    tasks = [Task(f"a {number}", 10) for number in range(4)]
    assert simulate(tasks, 4).seconds == 10
    assert simulate(tasks, 4, 2, 5.0).seconds == 20, "two go on, and two begin again after them"


def test_costs_of_a_file_are_simulated_on_1_to_64_workers(tmp_path, capsys):
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({"costs": asdict(COSTS), "plan": asdict(PLAN)}))
    scaling.main(["--simulate", str(file)])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["workers"] for row in rows] == [1, 2, 4, 8, 16, 32, 64]
    assert rows[0]["seconds"] == simulate(tasks_of(PLAN, COSTS), 1).seconds > rows[-1]["seconds"]
    assert [row["workers"] for row in rows if "seconds_killed" in row] == [16, 32, 64]


@pytest.mark.parametrize("text", [None, "[1]", '{"costs": {}}', "{"])
def test_a_file_without_costs_is_one_sentence(tmp_path, text):
    file = tmp_path / "costs.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=r"costs.json.*`costs` and `plan`.* see benchmarks/cluster_model.py"):
        scaling.main(["--simulate", str(file)])
