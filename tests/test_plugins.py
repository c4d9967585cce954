import multiprocessing
import os
import runpy
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from lib import plugins
from lib.config.training import Loss
from lib.errors import UserError
from lib.plugins import load_plugins, names

ROOT = Path(__file__).resolve().parent.parent
LOSS = """
from lib.plugins import register

@register("loss", "only_here")
def loss(logits, target, valid, weight): return logits.sum()
"""
AUGMENTATION = """
import albumentations as A
from pathlib import Path
from lib.plugins import register

class Marker(A.ImageOnlyTransform):
    def apply(self, image, **params):
        (Path(__file__).parent / "drawn").touch()
        return image

@register("augmentation", "mine")
def augmentation(config): return [Marker(p=1)]
"""


def run(stage, config):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config)])


def example() -> str:
    """The plugin that the documentation shows."""
    lines = plugins.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("from lib.plugins"))
    end = next(i for i, line in enumerate(lines) if line.startswith("What each family"))
    return "\n".join(line.removeprefix("    ") for line in lines[start:end])


def test_the_documented_example_is_a_loss_that_trains(tmp_path):
    from lib.training.losses import build_loss

    (tmp_path / "mine.py").write_text(example())
    load_plugins([str(tmp_path / "mine.py")])
    loss = build_loss(Loss(terms={"squared": 1}), 1)
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    target, valid, weight = torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4), torch.tensor([1.0, 3.0])
    value = loss(logits, target, valid, weight)
    value.backward()
    assert value.item() == pytest.approx(0.25) and (logits.grad < 0).all()


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_worker_processes_know_the_users_entries_however_they_are_started(method, tmp_path):
    (tmp_path / "mine.py").write_text(LOSS)
    load_plugins([str(tmp_path / "mine.py")])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert "only_here" in pool.submit(names, "loss").result()


@pytest.mark.slow
def test_a_plugins_augmentation_travels_to_spawned_loading_processes(tiny):
    (tiny.parent / "mine.py").write_text(AUGMENTATION)
    tiny.write_text(tiny.read_text() + "\nplugins: [mine.py]\n")
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    arguments = [str(tiny), "--train.folds", "0", "--train.workers", "1", "--augment.preset", "mine"]
    code = (
        "import multiprocessing, runpy, sys; multiprocessing.set_start_method('spawn')\n"
        f"sys.argv = ['03_train.py', *{arguments!r}]; runpy.run_path('03_train.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tiny.parent / "drawn").is_file()  # by the process that loads


def test_an_edited_plugin_is_run_again_and_none_means_none(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_REGISTRY", {})
    file = tmp_path / "mine.py"
    for name in ("first", "second"):
        file.write_text(f"from lib.plugins import register\nregister('loss', '{name}')(len)\n")
        load_plugins([str(file)])
    assert names("loss") == ["first", "second"]
    load_plugins([])
    assert os.environ["SEGMENTATION_PLUGINS"] == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import os\n1 / 0\n", "line 2: division by zero"),
        ("def broken(:\n", "line 1: invalid syntax"),
        ("import sys\n\nsys.exit(3)\n", "line 3: it ends the program"),
        ("raise ValueError\n", "line 1: ValueError"),
    ],
)
def test_a_plugin_that_cannot_be_run_is_one_sentence(text, what, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=rf"plugins: .*mine\.py, {what}"):
        load_plugins([str(tmp_path / "mine.py")])


def test_nothing_needs_a_module_that_windows_lacks():
    code = (
        "import sys; sys.modules['resource'] = sys.modules['fcntl'] = None\n"
        "import runpy; from lib.system.memory import peak_gib; assert peak_gib() == 0\n"
        "runpy.run_path('03_train.py', run_name='x'); runpy.run_path('05_infer_ensemble.py', run_name='x')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
