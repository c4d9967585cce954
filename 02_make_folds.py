"""Stage 2: split the training images into folds that do not leak.

    python 02_make_folds.py configs/aerial.yaml
    python 02_make_folds.py configs/aerial.yaml --folds.k 5 --folds.leak_check false

Groups (a metadata column, a regular expression, or none) stay in one fold; images that turn out to be
copies of one another, or to share ground, are merged into one group. External images are in no fold; one that
shares ground with a training image is kept from the members that validate on that. Writes work/<name>/folds.csv
and, to work/<name>/leaks/, leaks.csv and pictures of the first 200 leaks. The leak check compares every pair of up to
60 images, else those that share most features, and says how many it compared. One group alone gets fold -1.
"""

import shutil
from pathlib import Path

import pandas as pd

from lib import tables
from lib.competition.dataset import HOME, Competition
from lib.config import flat, parse_command_line
from lib.config.load import workspace_of
from lib.data.folds import column_of, folds_of_column, imbalance, make_folds, merge_groups, name_groups
from lib.data.leaks import find_leaks, save_pair
from lib.errors import run_script
from lib.plugins import load_plugins
from lib.report.page import update_report
from lib.stages import folds_stage
from lib.system.terminal import begin
from lib.tables import check_folds
from lib.workspace import Workspace, write_json, write_table

SHOWN = 200  # leaks that are printed and drawn; leaks.csv names all
LEAK_COLUMNS = ["a", "b", "kind", "agreement", "what", "picture"]


def main(argv: list[str]) -> None:
    config = parse_command_line(argv, "02_make_folds.py")
    begin(config)
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    settings = flat(config.folds, "folds.")
    stage = folds_stage(config, workspace, competition)
    if stage.up_to_date():
        return
    stage.begin()
    train = images[images["split"] == "train"]
    home, external = train[train["source"] == HOME], list(train.loc[train["source"] != HOME, "image_id"])
    ids = list(home["image_id"])
    pixels = home.set_index("image_id").filter(regex="^px_(?!ignore)")
    groups = name_groups(ids, competition.metadata, config.folds, competition.files)
    pairs = leaking_pairs(images, external, dict(zip(ids, groups, strict=True)), workspace, config)
    place = {image_id: i for i, image_id in enumerate(ids)}
    groups = merge_groups(groups, [(place[a], place[b]) for a, b in pairs if a in place and b in place])
    if config.folds.scheme == "column":
        fold = folds_of_column(competition.metadata, config.folds.column, ids)
    else:
        fold = make_folds(groups, content_to_balance(ids, pixels, competition, config), config.folds)
    table = pd.DataFrame({"image_id": ids, "group": groups, "fold": list(fold), "kept_from": ""})
    table = pd.concat([table, external_rows(external, pairs, table)], ignore_index=True)
    check_folds(table)
    made_from = ", ".join(f"{key.removeprefix('folds.')}={value}" for key, value in settings.items() if value != "")
    write_table(workspace.folds, table, made_from)
    stage.finish([workspace.folds])
    update_report(config)
    print(imbalance(table, pixels).to_string())
    more = f", {len(external)} external images in none" if external else ""
    print(f"02: {len(ids)} images in {len(set(groups))} groups{more}; see {workspace.folds}")


def leaking_pairs(
    images: pd.DataFrame, external: list[str], group_of: dict[str, str], workspace: Workspace, config
) -> list[tuple[str, str]]:
    """Report leaks; return those that folds have to mind: (image id, image id) of training images.

    `group_of`: of the competition's own training images; the second of a pair may be an external one.
    """
    shutil.rmtree(workspace.leaks_dir, ignore_errors=True)
    if not config.folds.leak_check:
        return []
    workspace.leaks_dir.mkdir(parents=True)
    paths, names = [Path(path) for path in images["path"]], list(images["image_id"])
    alone = frozenset(i for i, name in enumerate(names) if name not in group_of)
    outside, pairs, found = set(external), [], []
    for leak in find_leaks(paths, config.competition.pixels, config.jobs, folder=workspace.leaks_dir, alone=alone):
        a, b = sorted((names[leak.a], names[leak.b]), key=outside.__contains__)
        if a in outside or (a in group_of and group_of[a] == group_of.get(b)):
            continue  # neither is validated on, or the groups keep them together already
        if a in group_of and (b in group_of or b in outside):
            pairs.append((a, b))
        what = "not both training images: only reported"
        if a in group_of and b in group_of:
            what = "merged into one group"
        elif a in group_of and b in outside:
            what = f"{b} is not trained on where {a} is validated on"
        picture = workspace.leaks_dir / f"{a}__{b}.jpg" if len(found) < SHOWN else None
        row = {"a": a, "b": b, "kind": leak.kind, "agreement": leak.agreement, "what": what}
        found.append({**row, "picture": picture.name if picture else ""})
        if picture:
            save_pair(paths[leak.a], paths[leak.b], picture, config.competition.pixels)
            print(f"leak: {a} and {b}: {leak.kind} (agreement {leak.agreement:.2f}); {what}; {picture}")
    if len(found) > SHOWN:
        print(f"02: {len(found) - SHOWN} more leaks stand in {workspace.leaks_dir / 'leaks.csv'}")
    write_json(workspace.leaks_dir / "leaks.json", found[:SHOWN])  # for the report
    write_table(workspace.leaks_dir / "leaks.csv", pd.DataFrame(found, columns=LEAK_COLUMNS))
    return pairs


def external_rows(external: list[str], pairs: list[tuple[str, str]], table: pd.DataFrame) -> pd.DataFrame:
    """Rows of folds.csv for external images; `pairs` of leaks, and `table` of the competition's own images."""
    fold_of = dict(zip(table["image_id"], table["fold"], strict=True))
    sharing: dict[str, set[int]] = {name: set() for name in external}
    for a, b in pairs:
        if b in sharing and fold_of[a] != tables.NOT_VALIDATED:
            sharing[b].add(fold_of[a])
    kept = [" ".join(map(str, sorted(sharing[name]))) for name in external]
    return pd.DataFrame({"image_id": external, "group": external, "fold": tables.NOT_VALIDATED, "kept_from": kept})


def content_to_balance(ids: list[str], pixels: pd.DataFrame, competition: Competition, config) -> pd.DataFrame:
    """Per image, what folds should share evenly: pixels of each class, and the strata."""
    content = pixels.loc[ids].reset_index(drop=True)
    if config.folds.stratify_column:
        strata = column_of(competition.metadata, config.folds.stratify_column, ids, "folds.stratify_column")
        content = pd.concat([content, pd.get_dummies(strata).reset_index(drop=True).astype(float)], axis=1)
    return content.to_numpy(float)


if __name__ == "__main__":
    run_script(main)
