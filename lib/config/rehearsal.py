"""Options that `debug` and `preflight` put over the user's own: everything runs on a few images."""

from __future__ import annotations

from lib.config.config import Config

# The few images are split anew, and each is a group of its own: the user's groups and folds may need more images
# (lib/data/split_check.py checks these).
DEBUG = {
    "folds.scheme": "kfold",
    "folds.k": 2,
    "folds.group_column": "",
    "folds.group_regex": "",
    "folds.stratify_column": "",
    "folds.leak_check": False,
    "train.seeds": [42],
    "train.folds": [],
    "train.epochs": 2,
    "train.member_limit": 0,
    "train.time_limit": 0,
    "clean.use": False,
    "infer.experiments": [],
    "train.evaluations": 0,
    "train.sampling.samples_per_epoch": 48,
    "train.sampling.difficulty": "",
    "preprocess.max_images": 4,
    "train.swa.start": 0.5,
    "train.swa.bn_batches": 2,
    "infer.tta": "none",
    "infer.time_limit": 0,
    "infer.overlap": 0.0,
    "report.pictures": 1,
}
PREFLIGHT = {
    **DEBUG,
    "train.epochs": 1,
    "train.swa.every": 0.5,
    "preprocess.max_images": 2,
    "infer.folds": "each",
}


def rehearsal_options(config: Config, workspace: str) -> dict[str, object]:
    """Dotted name -> value, for a `config` with `debug` or `preflight`. `workspace`: the folder of the real run."""
    options: dict[str, object] = dict(PREFLIGHT if config.preflight else DEBUG)
    if "all" in config.train.folds:
        options["train.folds"] = ["all"] if config.train.folds == ["all"] else [0, "all"]
        if config.train.folds == ["all"]:
            options["infer.folds"] = config.infer.folds  # no fold has a member
    if config.preflight:
        options["train.sampling.samples_per_epoch"] = config.train.batch_size or 8
    if {"epochs", "mean", "soup"} & set(config.infer.checkpoints):
        options["train.checkpoints"] = max(2, config.train.checkpoints)
    if config.pseudo.confidence == "agreement":
        options["infer.tta"] = "hflip"  # agreement compares at least two views
    if config.infer.roi == "coarse":
        options["infer.roi"] = "content"
    if config.infer.window == "auto":
        options["infer.window"] = 0
    if config.train.schedule == "plateau":
        options["train.evaluations"] = 2
    options["pseudo.rounds"] = min(1, config.pseudo.rounds)
    options["workspace"] = workspace + ("-preflight" if config.preflight else "-debug")
    return options
