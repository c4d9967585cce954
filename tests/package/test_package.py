"""A package makes the submission again: in a fresh process, elsewhere, without network, labels, folds or repository."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lib.__main__ import main
from lib.config import load
from lib.errors import UserError
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = """
import socket
def blocked(*arguments, **options): raise OSError("this machine has no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = blocked
"""


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def make_submission(config, *flags):
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        run(stage, config, *flags)
    return next((config.parent / "work").glob("submission.*")).read_bytes()


def mounted(config, folder):
    """Kaggle's input folder: the package, and test images with their sample, without anything of training."""
    data = folder / "input/competitions/discs"
    shutil.copytree(config.parent / "raw/test", data / "test")
    shutil.copyfile(config.parent / "raw/sample_submission.csv", data / "sample_submission.csv")
    shutil.move(config.parent / "package", folder / "input/datasets/someone/tiny-ensemble-package")
    for gone in ("raw", "work"):
        shutil.move(config.parent / gone, folder / f"not here {gone}")
    return folder / "input/datasets/someone/tiny-ensemble-package", data


def offline(folder):
    """The environment of a process without network, where no model hub was ever seen."""
    (folder / "offline").mkdir()
    (folder / "offline/sitecustomize.py").write_text(BLOCKED)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")}
    return {**kept, "PYTHONPATH": str(folder / "offline"), "HOME": str(folder / "home")}


def offline_again(folder):
    shutil.rmtree(folder / "offline")
    return offline(folder)


def call(command, environment, folder):
    return subprocess.run(list(map(str, command)), env=environment, cwd=folder, capture_output=True, text=True)


def run_notebook(package, folder, name="notebook.ipynb"):
    """Its code, without network, where Kaggle's folders are below `folder`."""
    book = json.loads((package / name).read_text())
    code = "\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code")
    assert "/kaggle/input" in code and "/kaggle/working" in code
    code = code.replace("/kaggle/input", str(folder / "input")).replace("/kaggle/working", str(folder))
    done = call([sys.executable, "-c", code], offline(folder), folder)
    assert done.returncode == 0, done.stderr


def test_a_package_answers_as_05_did_without_network_and_training_data(tiny, tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("elsewhere")
    # A real encoder, whose pretrained weights a hub would have; two kinds of weights; another window than the default.
    flags = ["--model.architecture", "unet", "--model.encoder", "tu-mobilenetv3_small_050", "--model.weights", "none"]
    flags += ["--model.decoder_channels", "[16, 16, 8, 8, 8]", "--train.ema", "0.5", "--train.epochs", "1"]
    flags += ["--train.sampling.samples_per_epoch", "8", "--infer.checkpoints", "swa", "ema"]
    expected = make_submission(tiny, *flags)
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false", "--package.user", "someone"])
    assert "4 networks" in capsys.readouterr().out
    package, data = mounted(tiny, folder)
    weights = sorted(str(p.relative_to(package / "runs")) for p in package.rglob("*.pt"))
    members = [f"base/fold{fold}_seed42/{kind}_weights.pt" for fold in (0, 1) for kind in ("ema", "swa")]
    assert weights == members  # of the members' files only those that 05 used
    state = torch.load(package / "runs" / weights[0], weights_only=True)
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}

    environment = offline(folder)
    probe = "import urllib.request as u; u.urlopen('https://huggingface.co')"
    assert "no network" in call([sys.executable, "-c", probe], environment, folder).stderr
    command = [sys.executable, package / "infer.py", "--images", data / "test"]
    done = call([*command, "--sample", data / "sample_submission.csv"], environment, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "submission.csv").read_bytes() == expected
    assert len({line for line in expected.splitlines()[1:] if not line.endswith(b",")}) == 2, "the answers are empty"
    assert not list(folder.glob("infer_*"))

    # A limit, in which there is time for everything; two devices, which share the images.
    limit, devices = ["--infer.time_limit", "9m"], ["--devices", "cpu", "cpu"]
    for more, told in ((limit, "plans 4 of 4 passes"), (devices, "2 images")):
        (folder / "submission.csv").unlink()
        done = call([*command, "--sample", data / "sample_submission.csv", *more], environment, folder)
        assert done.returncode == 0 and told in done.stdout, done.stderr
        assert (folder / "submission.csv").read_bytes() == expected
        assert "without a prediction" not in done.stdout

    # Other images, as on Kaggle when it is judged: the sample says which.
    (data / "test/im6.png").rename(data / "test/hidden.png")
    (data / "sample_submission.csv").write_text("id,predicted\nim7,\nhidden,\n")
    done = call([*command, "--sample", data / "sample_submission.csv", "--out", "new/s.csv"], environment, folder)
    assert done.returncode == 0, done.stderr
    first, second = expected.decode().splitlines()[1:]
    assert (folder / "new/s.csv").read_text().splitlines() == ["id,predicted", second, first.replace("im6", "hidden")]

    infer = runpy.run_path(str(package / "infer.py"))["main"]
    given = ["--images", str(data / "test"), "--out", str(folder / "none.csv"), "--sample"]
    (data / "test/hidden.png").unlink()
    with pytest.raises(UserError, match="asks for 'hidden'"):
        infer([*given, str(data / "sample_submission.csv")])
    with pytest.raises(UserError, match="--sample: there is no file"):
        infer([*given, "no.csv"])
    assert not (folder / "none.csv").exists()


def test_the_notebook_installs_and_predicts_where_kaggle_mounts_things(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kaggle")
    expected = make_submission(tiny)
    package = ["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"]
    main([*package, "--competition.kaggle", "discs", "--package.user", "someone"])
    package, data = mounted(tiny, folder)
    kernel = json.loads((package / "kernel-metadata.json").read_text())
    dataset = json.loads((package / "dataset-metadata.json").read_text())
    assert kernel["dataset_sources"] == [dataset["id"]] == ["someone/tiny-ensemble-package"]
    assert kernel["enable_internet"] is False and kernel["competition_sources"] == ["discs"]
    run_notebook(package, folder, kernel["code_file"])
    assert (folder / "submission.csv").read_bytes() == expected
    cells = json.loads((package / "notebook.ipynb").read_text())["cells"]
    assert "".join(cells[1]["source"]).splitlines()[-1] == 'TIME_LIMIT = ""', "it is asked for at the top"


@pytest.mark.slow
def test_device_threads_backend_and_limit_are_of_the_machine_that_predicts(tiny, tmp_path_factory):
    local = ["--train.device", "cpu", "--train.threads", "1", "--infer.time_limit", "20m", "--infer.backend", "eager"]
    make_submission(tiny, *local)
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"])
    config = load(tiny.parent / "package/config.yaml")
    assert (config.train.device, config.train.threads) == ("auto", 0)
    assert (config.infer.backend, config.infer.time_limit) == ("auto", 0)
    folder = tmp_path_factory.mktemp("elsewhere")
    package, data = mounted(tiny, folder)
    command = [sys.executable, package / "infer.py", "--input", folder / "input", "--devices", "cpu", "cpu"]
    limits = ["--infer.time_limit", "100s", "--began", "1"]  # since 1970: it is long over
    done = call([*command, *limits], offline(folder), folder)
    assert done.returncode == 0, done.stderr
    windows = re.search("the time limit left ([0-9]+) of ([0-9]+) windows .* are background$", done.stdout.strip())
    assert windows and windows[1] == windows[2] != "0", "of both processes' images"
    assert (folder / "submission.csv").read_text().splitlines()[1:] == ["im6,", "im7,"]
    (data / "test/im7.png").write_bytes((data / "test/im7.png").read_bytes()[:900])
    done = call([*command, "--out", "broken.csv"], offline_again(folder), folder)
    assert done.returncode == 2 and "error: the process on cpu failed with exit code 2; see above" in done.stderr
    assert "im7.png" in done.stderr and not (folder / "broken.csv").exists()


def test_mixtures_and_rules_travel(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    flags = ["--infer.checkpoints", "swa", "ema", "--train.ema", "0.5", "--infer.ensemble_weights", "greedy"]
    flags += ["--infer.averaging", "geometric", "--infer.postprocess", "objects", "holes"]
    expected = make_submission(tiny, *flags)
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"])
    package, data = mounted(tiny, folder)
    infer = runpy.run_path(str(package / "infer.py"))["main"]
    sample = str(data / "sample_submission.csv")
    infer(["--images", str(data / "test"), "--sample", sample, "--out", str(folder / "s.csv")])
    assert (folder / "s.csv").read_bytes() == expected


def packaged_without(boxes, tiny, folder):
    """(`main` of the package's infer.py, its arguments, the data's folder), the CSV of boxes gone."""
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"])
    boxes.unlink()
    package, data = mounted(tiny, folder)
    given = ["--images", str(data / "test"), "--sample", str(data / "sample_submission.csv")]
    return runpy.run_path(str(package / "infer.py"))["main"], given, data


def test_boxes_travel_and_other_images_need_theirs(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    boxes = tiny.parent / "found.csv"
    boxes.write_text("image_id,y,x,height,width\n" + "".join(f"im{i},0,0,90,90\n" for i in range(8)))
    everywhere = make_submission(tiny)
    run("05_infer_ensemble", tiny, "--infer.roi", str(boxes))
    expected = (tiny.parent / "work/submission.csv").read_bytes()
    assert expected != everywhere
    infer, given, data = packaged_without(boxes, tiny, folder)
    infer([*given, "--out", str(folder / "s.csv")])
    assert (folder / "s.csv").read_bytes() == expected

    (data / "test/im7.png").rename(data / "test/hidden.png")
    (data / "sample_submission.csv").write_text("id,predicted\nim6,\nhidden,\n")
    with pytest.raises(UserError, match="no boxes are packaged for 'hidden'"):
        infer([*given, "--out", str(folder / "none.csv")])
    infer([*given, "--out", str(folder / "all.csv"), "--infer.roi", "content"])
    assert (folder / "all.csv").is_file() and not (folder / "none.csv").exists()


def test_boxes_shrunk_whole_travel_too(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    boxes = tiny.parent / "found.csv"
    boxes.write_text("image_id,y,x,height,width\n" + "".join(f"im{i},0,0,90,80\n" for i in range(8)))
    settings = yaml.safe_load(tiny.read_text())
    settings["preprocess"] |= {"mode": "resize", "roi": str(boxes)}
    settings |= {"pseudo": {"rounds": 0}, "infer": {**settings.get("infer", {}), "roi": str(boxes)}}
    tiny.write_text(yaml.safe_dump(settings))
    expected = make_submission(tiny)
    infer, given, _ = packaged_without(boxes, tiny, folder)
    infer([*given, "--out", str(folder / "s.csv")])
    assert (folder / "s.csv").read_bytes() == expected


def test_answers_without_a_sample_are_packaged_too(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    settings = yaml.safe_load(tiny.read_text())
    settings["competition"]["submission"] = {"preset": "drivendata"}
    tiny.write_text(yaml.safe_dump(settings))
    expected = make_submission(tiny)
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"])
    package, _ = mounted(tiny, folder)
    run_notebook(package, folder)
    assert (folder / "submission.zip").read_bytes() == expected


def test_of_one_folder_a_package_answers_what_the_list_names(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    settings = yaml.safe_load(tiny.read_text())
    lists = {"test_images": "train/*", "test_list": "test.txt", "submission": {"preset": "drivendata"}}
    settings["competition"] |= lists
    tiny.write_text(yaml.safe_dump(settings))
    for image in (tiny.parent / "raw/test").iterdir():
        image.rename(tiny.parent / "raw/train" / image.name)
    (tiny.parent / "raw/test.txt").write_text("train/im6.png\ntrain/im7.png\n")
    expected = make_submission(tiny)
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"])
    data = folder / "input/competitions/discs"
    shutil.copytree(tiny.parent / "raw/train", data / "train")
    shutil.copyfile(tiny.parent / "raw/test.txt", data / "test.txt")
    shutil.move(tiny.parent / "package", folder / "input/package")
    run_notebook(folder / "input/package", folder)
    assert (folder / "submission.zip").read_bytes() == expected
    infer = runpy.run_path(str(folder / "input/package/infer.py"))["main"]
    with pytest.raises(UserError, match="--list: there is no file"):
        infer(["--images", str(data / "train"), "--out", str(folder / "none.zip")])


def test_plugins_travel_and_a_package_stays_what_was_submitted(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    (tiny.parent / "mine.py").write_text(
        "import torch\nfrom lib.plugins import register\n"
        "@register('model', 'mine')\ndef model(config, channels): return torch.nn.Conv2d(3, channels, 3, padding=1)\n"
    )
    settings = yaml.safe_load(tiny.read_text())
    settings["plugins"], settings["model"] = ["mine.py"], {"architecture": "mine"}
    tiny.write_text(yaml.safe_dump(settings))
    expected = make_submission(tiny, "--infer.tta", "flips", "--infer.window", "64")
    main(["package", str(tiny), str(tiny.parent / "package"), "--package.wheels", "false"])  # without those options
    (tiny.parent / "mine.py").unlink()
    package, data = mounted(tiny, folder)
    command = [sys.executable, package / "infer.py", "--images", data / "test", "--out", "s.csv"]
    done = call([*command, "--sample", data / "sample_submission.csv"], offline(folder), folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "s.csv").read_bytes() == expected


def test_what_cannot_be_packaged_is_said_and_nothing_is_overwritten(tiny):
    make_submission(tiny)
    work, target = Workspace(tiny.parent / "work"), tiny.parent / "package"
    package = ["package", str(tiny), str(target), "--package.wheels", "false"]

    target.mkdir()
    (target / "precious.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        main(package)
    assert [p.name for p in target.iterdir()] == ["precious.txt"]
    shutil.rmtree(target)

    foreign = tiny.parent / "foreign.csv"
    foreign.write_text("id,predicted\nim6,1 1\nim7,\n")
    with pytest.raises(UserError, match="does not list"):
        main([*package[:3], str(foreign), *package[3:]])

    main(package)
    main(package)  # an older package is replaced
    trained = work.member_dir("base", 1, 42) / "trained.json"
    trained.write_text(trained.read_text() + " ")
    with pytest.raises(UserError, match="base/fold1_seed42 was trained again"):
        main(package)
    shutil.rmtree(trained.parent)
    with pytest.raises(UserError, match="no longer holds fold1_seed42"):
        main(package)
    assert (target / "infer.py").is_file() and not list(tiny.parent.glob(".*.tmp"))


# What Kaggle's image is like here: every installed package but those that it lacks.
IMAGE = """
import sys
from pathlib import Path
from lib.package.wheels import LACKING, SOURCES

hidden = {name.replace("-", "_") for name in (*LACKING, *SOURCES)} | {"_libvips.abi3.so"}
target = Path(sys.argv[1])
target.mkdir()
for path in map(Path, sys.path):
    for entry in path.iterdir() if path.name == "site-packages" else []:
        if entry.name.partition("-")[0] not in hidden | {"pip", "__pycache__"} and not entry.name.endswith(".pth"):
            (target / entry.name).symlink_to(entry)
"""


@pytest.mark.slow
def test_wheels_make_up_for_what_kaggles_image_lacks(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kaggle")
    expected = make_submission(tiny)
    try:
        main(["package", str(tiny), str(tiny.parent / "package"), "--competition.kaggle", "discs"])
    except UserError as error:
        if "Could not find a version" not in str(error) and "No matching" not in str(error):
            raise
        pytest.skip("no package index is reachable")
    package, _ = mounted(tiny, folder)
    image = [sys.executable, "-m", "venv", folder / "python"]
    assert call(image, os.environ, folder).returncode == 0
    site = next((folder / "python/lib").glob("python3*/site-packages"))
    done = call([sys.executable, "-c", IMAGE, folder / "image"], {**os.environ, "PYTHONPATH": str(ROOT)}, folder)
    assert done.returncode == 0, done.stderr
    (site / "image.pth").write_text(str(folder / "image"))
    python, environment = folder / "python/bin/python", offline(folder)
    lacking = call([python, "-c", "import torch, pandas, cv2\nimport ttach"], environment, folder)
    assert "No module named 'ttach'" in lacking.stderr, lacking.stderr

    book = json.loads((package / "notebook.ipynb").read_text())
    code = "\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code")
    code = code.replace("/kaggle/input", str(folder / "input")).replace("/kaggle/working", str(folder))
    done = call([python, "-c", code], environment, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "submission.csv").read_bytes() == expected
    where = "import timm, segmentation_models_pytorch as s; print(timm.__file__, s.__file__)"
    assert call([python, "-c", where], environment, folder).stdout.count(str(site)) == 2
