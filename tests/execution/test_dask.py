"""Every stage on a real scheduler with two workers, which are killed: the same bytes as on one machine alone."""

import hashlib
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import make_tiny

from lib.config.execution import Execution
from lib.errors import UserError
from lib.execution.dask_executor import DaskExecutor
from lib.execution.executor import use_executor
from lib.system import parallel

pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[2]
STAGES = ("01_preprocess", "02_make_folds", "03_train", "04_pseudo_label --train.round 1", "05_infer_ensemble")
OPTIONS = (
    "--folds.leak_check", "true", "--train.threads", "1", "--pseudo.class_quota", "3", "--pseudo.min_confidence", "0.9",
)  # fmt: skip
ON_DASK = ("--execution.backend", "dask", "--execution.devices", "cpu", "cpu", "--execution.threads", "1")
COMPARED = (
    "tiles.csv", "tiles/*", "folds.csv", "runs/base/*/*_weights.pt", "pseudo/round1/tiles.csv", "pseudo/round1/tiles/*",
    "submission.csv", "decision.json",
)  # fmt: skip


def run(stage, config, *flags):
    name, *words = stage.split()
    runpy.run_path(str(ROOT / f"{name}.py"))["main"]([str(config), *words, *OPTIONS, *flags])


def hashes(folder):
    """Path -> hash of everything that must be equal."""
    files = [path for pattern in COMPARED for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """(configuration, hashes of its finished workspace) of a run without a cluster."""
    config = make_tiny(tmp_path_factory.mktemp("dask"))
    for stage in STAGES:
        run(stage, config)
    return config, hashes(config.parent / "work")


@pytest.fixture(scope="module")
def cluster():
    engine = DaskExecutor.of(Execution(backend="dask", devices=["cpu", "cpu"], threads=1))
    yield engine
    parallel.use(None)
    engine.close()


@pytest.fixture(autouse=True)
def alone_again():
    yield
    parallel.use(None)


def strike(client, pids, killed):
    """Kill the first worker that is seen to have a task."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not killed:
        busy = [address for address, tasks in client.processing().items() if tasks and address in pids]
        if busy:
            os.kill(pids[busy[0]], signal.SIGKILL)
            killed.append(busy[0])
        time.sleep(0.01)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [pytest.param(False, marks=pytest.mark.slow), True], ids=["calm", "killed"])
def test_all_stages_end_in_the_same_bytes(local, cluster, monkeypatch, kills):
    config, wanted = local
    work, killed, original = config.parent / f"work-{kills}", [], cluster.map

    def disturbed(function, arguments, *words):
        if kills and not killed:
            pids = cluster.client.run(os.getpid)
            threading.Thread(target=strike, args=(cluster.client, pids, killed), daemon=True).start()
        return original(function, arguments, *words)

    monkeypatch.setattr(cluster, "map", disturbed)
    for stage in STAGES:
        killed.clear()
        run(stage, config, "--workspace", str(work), *ON_DASK)
        assert bool(killed) == kills, f"{stage}: no worker was busy"
    found = hashes(work)
    assert {name for name in wanted if found.get(name) != wanted[name]} == set() and found.keys() == wanted.keys()
    assert list((work / "runs/base").glob("*.log.txt"))


def dies_or_writes(folder, number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, str(number)).touch()
    return number


def fails(number):
    raise UserError(f"image {number} is damaged")


@pytest.mark.timeout(300)
def test_what_always_ends_its_worker_is_one_sentence_and_the_rest_is_done(cluster, tmp_path):
    began = time.monotonic()
    with pytest.raises(UserError, match=r"04 test: image 2 of 6 ends each worker that it runs on; .* run the same"):
        cluster.map(dies_or_writes, [(str(tmp_path), number) for number in range(6)], "04 test", "image", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "2", "3", "4", "5"]
    assert time.monotonic() - began < 120, "30 seconds on a machine that does nothing else"


@pytest.mark.timeout(300)
def test_results_come_in_order_and_a_mistake_of_the_user_is_its_sentence(cluster):
    numbers = [(number, 3) for number in range(7)]
    assert cluster.map(divmod, numbers, "", "number", [1.0] * 7) == [divmod(*pair) for pair in numbers]
    with pytest.raises(UserError, match=r"^image \d is damaged$"):
        cluster.map(fails, [(3,)], "", "image", [])


@pytest.mark.timeout(300)
def test_a_cluster_whose_workers_have_no_device_is_refused():
    from distributed import Scheduler, SpecCluster, Worker

    options = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": None}
    workers = {0: {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1", "memory_limit": 0}}}
    with (
        SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": options}) as other,
        pytest.raises(UserError, match=r"none of the 1 workers of tcp.* has the resource device; start"),
    ):
        DaskExecutor(Execution(backend="dask", address=other.scheduler_address))


def test_a_cluster_that_cannot_be_opened_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"execution.address: .*none.json is no scheduler file"):
        DaskExecutor(Execution(backend="dask", address=str(tmp_path / "none.json")))
    monkeypatch.setattr("lib.execution.dask_executor.CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"no scheduler answers at tcp://127.0.0.1:9 \(.*\); start it"):
        DaskExecutor(Execution(backend="dask", address="tcp://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="execution.backend dask needs a package: pip install distributed"):
        DaskExecutor(Execution(backend="dask"))


def test_an_address_without_dask_is_refused():
    with pytest.raises(UserError, match="tcp://a:1, but execution.backend is local, .* set execution.backend to dask"):
        use_executor(Execution(address="tcp://a:1"))
