"""`python -m lib package`: writes a folder that predicts new images just as a submission was predicted."""

from __future__ import annotations

import shutil
from pathlib import Path

import lib
from lib import tables
from lib.competition.scoring import submission_path
from lib.config import Config, save, saved_config
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.imaging.roi import boxes_file
from lib.inference.checkpoints import Checkpoint, named_checkpoints
from lib.inference.members import unseen_label
from lib.inference.sources import roi_of
from lib.models.weight_files import check_identity, network_files
from lib.package.kernel import UNKNOWN_OWNER, metadata, notebook, title_of
from lib.package.layout import BOXES, CONTENT, DATASET, KERNEL, MEMBERS, NOTEBOOK, WHEELS
from lib.package.wheels import fetch_wheels
from lib.plugins import load_plugins
from lib.submissions import ledger
from lib.workspace import Workspace, file_fingerprint, read_json, replacing_dir, write_json

LIB_FOLDER = Path(lib.__file__).parent


def package(config: Config, target: str, file: str = "") -> None:
    """Write the folder `target`, which can make a submission (`file`, or that of stage 05) again anywhere.

    `config` decides only about the package. All else is as it was when 05 wrote the submission. Raises UserError when
    that is not known, or has changed since.
    """
    load_plugins(config.plugins)
    folder, workspace = Path(target).resolve(), Workspace(workspace_of(config))
    check_target(folder)
    path = ledger.path_of(workspace, ledger.name_of(workspace, submission_path(config, file)))
    about, made = read_json(path.with_suffix(".json"), {}), made_with(path)
    parts = named_checkpoints(about["members"], workspace)
    for member in (part.member for part in parts):
        if about["made_from"][member.name] != file_fingerprint(member.trained):
            raise UserError(f"{member.name} was trained again since {path} was made; run 05_infer_ensemble.py again")
    competition = made.competition.model_copy(update={"kaggle": config.competition.kaggle})
    made = made.model_copy(update={"package": config.package, "competition": competition})
    title = title_of(made)
    with replacing_dir(folder) as new:
        if config.package.wheels:
            (new / WHEELS).mkdir()
            fetch_wheels(new / WHEELS, config.package.python)
        shutil.copytree(LIB_FOLDER, new / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        shutil.copyfile(LIB_FOLDER / "package/infer.py", new / "infer.py")
        save(_portable(made, new), new / "config.yaml")
        for part in parts:
            _copy_network(part, Workspace(new))
        write_json(new / "decision.json", about["decision"])
        images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
        known = sorted(images.loc[images["split"] == "test", "image_id"])  # there are no boxes of other images
        members = {"members": about["members"], "submission": path.name, "code": about["code"], "images": known}
        members["unseen"] = unseen_label(made, images)
        plan = about["plan"] or {}
        members["models"] = plan.get("models", plan.get("systems"))  # their order under a time limit, else None
        write_json(new / MEMBERS, members)
        dataset, kernel = metadata(made, title)
        write_json(new / NOTEBOOK, notebook(made, title, len(parts)))
        write_json(new / DATASET, dataset)
        write_json(new / KERNEL, kernel)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    print(
        f"{folder}: {len(parts)} networks of {path.name}, {size:.0f} MiB; put it on Kaggle with\n"
        f"  kaggle datasets create -p {folder} --dir-mode zip\n  kaggle kernels push -p {folder}"
    )
    if UNKNOWN_OWNER in kernel["id"]:
        print(f"  first put your name for {UNKNOWN_OWNER} in {DATASET} and {KERNEL}, or set package.user")


def check_target(folder: Path) -> None:
    """Raises UserError where a package would replace files that are not an older package's."""
    if not folder.exists():
        return
    inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    strange = [name for name in inside if name not in CONTENT]
    whole = {KERNEL, MEMBERS} <= set(inside)  # a package takes its place as a whole
    if inside and (strange or not whole):
        raise UserError(
            f"{folder} holds other files ({(strange or inside)[0]}); give a new folder, or that of an older package"
        )


def made_with(path: Path) -> Config:
    """All options that a submission was made with. Raises UserError where 05 did not write them beside it."""
    options = path.with_suffix(".yaml")
    if not options.is_file() or not path.with_suffix(".json").is_file():
        raise UserError(f"{path} has no .json and .yaml beside it; only what 05_infer_ensemble.py made is packaged")
    return saved_config(options)


def _portable(config: Config, folder: Path) -> Config:
    """The options without those that only training needs; plugins and boxes are copied into the folder."""
    plugins = []
    for number, file in enumerate(map(Path, config.plugins)):
        plugins.append(f"plugins/{number}_{file.name}")
        (folder / "plugins").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / plugins[-1])
    # Device, threads and backend are chosen again on the other machine, and there is no time limit.
    anew = {"train": {"device": "auto", "threads": 0}, "infer": {"backend": "auto", "time_limit": 0}}
    for section, fresh in anew.items():
        config = config.model_copy(update={section: getattr(config, section).model_copy(update=fresh)})
    gone = {"root": "", "unlabeled_images": "", "answers": ""}
    if not config.preprocess.pixel_size_column:
        gone["metadata"] = ""
    competition = config.competition.model_copy(update=gone)
    # A package has no table of 01 from which to read it.
    config = config.model_copy(update={"infer": config.infer.model_copy(update={"roi": roi_of(config)})})
    for file in boxes_file(config.infer.roi):
        if not file.is_file():
            raise UserError(f"infer.roi: {file}, the boxes that the submission was made with, is gone; run 05 again")
        shutil.copyfile(file, folder / BOXES)
        config = config.model_copy(update={"infer": config.infer.model_copy(update={"roi": BOXES})})
    return config.model_copy(update={"plugins": plugins, "workspace": "", "competition": competition})


def _copy_network(part: Checkpoint, package: Workspace) -> None:
    """Copy a member's options and one kind of its weights (half precision, without the optimizer's state)."""
    member = part.member
    target = package.member_dir(member.experiment, member.fold, member.seed)
    target.mkdir(parents=True, exist_ok=True)
    files = [*network_files(member.path, part.weights), member.path / "resolved.yaml", member.path / "done.json"]
    check_identity(*files)
    for file in files:
        shutil.copyfile(file, target / file.name)
