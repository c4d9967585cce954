"""The notebooks: well formed and real, and, slowly, executed on a small demo."""

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from documented import NOTEBOOKS, OPTIONS, ROOT, copy_repository, unknown_words

from lib.competition.demo import make_demo
from lib.config import Config
from lib.package.kernel import notebook

LARGEST_KB = 100  # of a committed notebook


def cells_of(path: Path, kind: str) -> list[str]:
    book = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    return [cell["source"] for cell in book["cells"] if cell["cell_type"] == kind]


def commands_in(code: str) -> Iterator[str]:
    """The commands that a cell runs: texts given to `run`. `{}` stands for what is filled in."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run":
            parts = getattr(node.args[0], "values", node.args)
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)


def faults(code: str) -> list[str]:
    """Words of a cell's commands, and options anywhere in it, that do not exist."""
    found = [word for command in commands_in(code) for word in unknown_words(shlex.split(command))]
    named = re.findall(r"--([a-z_]+\.[a-z_.]+)", code)
    return found + [name for name in named if name not in OPTIONS]


def test_the_notebooks_are_there():
    assert [path.name for path in NOTEBOOKS] == ["kaggle_infer.ipynb", "kaggle_train.ipynb", "tour.ipynb"]
    for page in (ROOT / "README.md", ROOT / "docs/learn/kaggle-notebook.md"):
        text = page.read_text(encoding="utf-8")
        assert [path.name for path in NOTEBOOKS if path.name not in text] == [], page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_small_and_real(path):
    nbformat.validate(nbformat.read(path, as_version=nbformat.NO_CONVERT))
    assert path.stat().st_size < LARGEST_KB * 1000
    for code in cells_of(path, "code"):
        compile(code, path.name, "exec")
        assert faults(code) == []
    links = re.findall(r"\]\((?!http)([^)#]+)", "\n".join(cells_of(path, "markdown")))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_faults_are_found():
    assert faults('run("python 06_win.py a.yaml")\nrun(f"python -m lib cheque {x}")') == ["06_win.py", "cheque"]
    assert faults('OPTIONS = "--train.epoch 3"') == ["train.epoch"]


def test_the_notebook_of_a_package_is_the_one_that_is_shown():
    made = [cell for cell in notebook(Config(), "demo", 1)["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]).strip() for cell in made] == [
        code.strip() for code in cells_of(ROOT / "notebooks/kaggle_infer.ipynb", "code")
    ]


# ---- slowly: on slides of a few hundred pixels and a network of a few channels --------------------------------------


@pytest.fixture
def small_demo(tmp_path):
    """The YAML of a demo with small slides, of which one member is trained in a second."""
    make_demo(tmp_path / "slides", per_patient=1, sides=(1000, 1300))
    config = yaml.safe_load((ROOT / "configs/demo.yaml").read_text(encoding="utf-8"))
    config["competition"]["root"] = str(tmp_path / "slides")
    config["preprocess"] |= {"tile_size": 64, "stride": 48}
    config["model"] = {"architecture": "tiny"}
    config["train"] |= {"seeds": [42], "member_limit": 0, "epochs": 2, "workers": 0, "crop": 64, "precision": "fp32"}
    config["train"]["swa"] = {"start": 0.5, "every": 0.5, "bn_batches": 2}
    config["infer"] |= {"window": 64, "precision": "fp32"}
    config |= {"report": {"pictures": 1}, "jobs": 1, "pseudo": {"rounds": 0}}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def executed(name: str, folder: Path, kaggle: Path, parameters: str = "") -> nbformat.NotebookNode:
    """The notebook after all cells ran in `folder`, with other parameters, and Kaggle's folders below `kaggle`."""
    client = pytest.importorskip("nbclient")
    book = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    for cell in book["cells"]:
        if parameters and "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = parameters
        cell["source"] = cell["source"].replace("/kaggle/", f"{kaggle}/")
    resources = {"metadata": {"path": str(folder)}}
    return client.NotebookClient(book, timeout=600, kernel_name="python3", resources=resources).execute()


def printed(book: nbformat.NotebookNode) -> str:
    outputs = [output for cell in book["cells"] for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tour_shows_every_step(small_demo, tmp_path):
    options = f"--workspace {tmp_path / 'work'}"
    book = executed("tour.ipynb", ROOT / "notebooks", tmp_path, f'CONFIG = "{small_demo}"\nOPTIONS = "{options}"')
    pictures = [output for cell in book["cells"] for output in cell.get("outputs", []) if "image/png" in str(output)]
    assert len(pictures) >= 10
    difference = float(re.search(r"stitched by hand: ([\d.e+-]+)", printed(book))[1])
    assert difference < 1e-5, "the map by hand is the library's"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kaggle_trains_and_predicts_the_same_submission(small_demo, tmp_path):
    kaggle = tmp_path / "kaggle"
    dataset = kaggle / "input/mydataset"
    copy_repository(dataset)
    (kaggle / "working").mkdir()
    executed("kaggle_train.ipynb", tmp_path, kaggle, f'CONFIG, ROOT, OPTIONS = "{small_demo}", "", ""')
    expected = (kaggle / "working/submission.csv").read_bytes()
    assert expected.count(b"\n") == 3 and (kaggle / "working/report/index.html").is_file()

    # Another kernel: the package is an input, beside the competition's data.
    shutil.rmtree(dataset)
    shutil.rmtree(kaggle / "temp")
    shutil.move(kaggle / "working/package", kaggle / "input/notebooks/someone/training/package")
    (tmp_path / "slides").rename(kaggle / "input/mycomp")
    shutil.rmtree(kaggle / "working")
    (kaggle / "working").mkdir()
    executed("kaggle_infer.ipynb", tmp_path, kaggle)
    assert (kaggle / "working/submission.csv").read_bytes() == expected
