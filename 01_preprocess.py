"""Stage 1: cut huge images into tiles, drop most of the background, describe the data.

    python 01_preprocess.py configs/aerial.yaml
    python 01_preprocess.py configs/aerial.yaml --preprocess.tile_size 768 --preprocess.stride 512

Reads the organiser's folder (read-only). Writes work/<name>/images.csv, tiles.csv, tiles/ and
fingerprint.json; columns are described in lib/tables.py. Runs on all cores (`--jobs 4` for fewer).
"""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from lib.competition.dataset import Competition, ImageInfo, check_class_pixels
from lib.config import Config, flat, parse_command_line
from lib.config.load import workspace_of
from lib.data.tiling import cut_tiles, foreground_pixels, keep_tiles, vanished_objects, write_tile
from lib.errors import run_script
from lib.imaging.content import content_map
from lib.imaging.grid import whole_size
from lib.imaging.reader import open_image
from lib.imaging.roi import regions
from lib.plugins import load_plugins
from lib.tables import class_columns
from lib.workspace import Workspace, replacing_dir, write_json, write_table


def main(argv: list[str]) -> None:
    config = parse_command_line(argv, "01_preprocess.py")
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    images = pick(competition, config.preprocess.max_images)
    files = {str(image.path): image.path.stat()[6:9:2] for image in images}  # size and time of change
    stage = workspace.stage(
        "01_preprocess",
        {**flat(config.preprocess, "preprocess."), **flat(config.competition, "competition."), "the images": files},
        [competition.root / config.competition.labels.path],
    )
    if stage.up_to_date():
        return
    competition.check()
    stage.begin()
    with replacing_dir(workspace.tiles_dir) as folder:
        jobs = Parallel(n_jobs=config.jobs or -1, return_as="generator")
        work = jobs(delayed(one_image)(image, competition, config, folder) for image in images)
        results = list(tqdm(work, total=len(images), desc="01 images", unit="image"))
    image_rows = [row for row, _, _ in results]
    tiles = pd.DataFrame([row for _, rows, _ in results for row in rows])
    summary = describe(image_rows, tiles, results, competition)
    check_class_pixels(competition.label_names, summary["pixels"])
    write_table(workspace.images, pd.DataFrame(image_rows))
    write_table(workspace.tiles, tiles)
    write_json(workspace.fingerprint, summary)
    stage.finish([workspace.images, workspace.tiles, workspace.fingerprint, workspace.tiles_dir])
    vanished, objects = (sum(row.get(key, 0) for row in image_rows) for key in ("vanished", "objects"))
    if vanished:
        print(
            f"warning: at {config.preprocess.tile_size} pixels {vanished} of {objects} objects have no pixel left; "
            "raise preprocess.tile_size, or set preprocess.mode tiles"
        )
    dropped = sum(row["n_dropped"] for row in image_rows)
    objects = int((tiles.filter(regex="^px_(?!background|ignore)").sum(axis=1) > 0).sum())
    print(
        f"01: {len(image_rows)} images, {len(tiles)} tiles kept ({objects} with object), {dropped} dropped; "
        f"see {workspace.tiles}"
    )


def pick(competition: Competition, limit: int) -> list[ImageInfo]:
    """All images, or `limit` of each split, evenly spread over the sorted list."""
    if not limit:
        return list(competition.images)
    chosen = []
    for split in ("train", "test", "unlabeled"):
        images = [image for image in competition.images if image.split == split]
        places = np.unique(np.linspace(0, len(images) - 1, min(limit, len(images))).round().astype(int))
        chosen += [images[i] for i in places] if images else []
    return chosen


def one_image(image: ImageInfo, competition: Competition, config: Config, folder: Path) -> tuple:
    """(its row of images.csv, rows of the kept tiles, sums for the fingerprint)."""
    load_plugins(config.plugins)  # a worker process has its own registries
    with open_image(image.path) as reader:
        row = {
            "image_id": image.image_id,
            "split": image.split,
            "source": image.source,
            "path": str(image.path),
            "height": reader.height,
            "width": reader.width,
            "channels": reader.channels,
            "blank_share": round(content_map(reader, config.preprocess.blank_tolerance).share, 4),
            "n_tiles": 0,
            "n_dropped": 0,
            **dict.fromkeys(class_columns(competition.label_names), 0),
        }
        if image.split != "train":
            return row, [], np.zeros((2, 4))
        label = competition.labels.open(image.image_id, reader.height, reader.width)
        where = regions(config.preprocess.roi, image.image_id, reader, config.preprocess.blank_tolerance)
        args = (image.image_id, reader, label, where, competition.label_names, config.preprocess)
        rows = [cut.row for cut in cut_tiles(*args)]  # first look, then write: pixels are never all held
        seed = zlib.crc32(image.image_id.encode())
        kept = set(keep_tiles(rows, config.preprocess, config.competition.background, seed))
        written, sums = [], np.zeros((2, 4))
        for number, cut in enumerate(cut_tiles(*args)):
            if number in kept:
                written.append(write_tile(cut, folder, config.preprocess.image_format))
                pixels = cut.image.reshape(-1, 3).astype(np.float64)
                sums += [[*pixels.sum(0), len(pixels)], [*(pixels**2).sum(0), 0]]
        if config.preprocess.mode == "resize" and config.competition.background:
            mask = label.read(0, 0, reader.height, reader.width)
            size = whole_size(reader.height, reader.width, config.preprocess.tile_size, config.preprocess.fit)
            row["objects"], row["vanished"] = vanished_objects(mask, *size)
        row |= {"n_tiles": len(kept), "n_dropped": len(rows) - len(kept)}
        row |= {key: sum(r[key] for r in rows) for key in class_columns(competition.label_names)}
        return row, written, sums


def describe(image_rows: list[dict], tiles: pd.DataFrame, results: list, competition: Competition) -> dict:
    """The fingerprint: sizes, colours, classes. Class pixels are counted on tiles as cut, before dropping."""
    train = [row for row in image_rows if row["split"] == "train"]
    (*total, n), (*squares, _) = sum(sums for _, _, sums in results)
    mean = np.array(total) / max(1, n)
    columns = class_columns(competition.label_names)
    pixels = {column[3:]: int(sum(row[column] for row in train)) for column in columns}
    return {
        "images": {s: sum(r["split"] == s for r in image_rows) for s in ("train", "test", "unlabeled")},
        "height": [min(r["height"] for r in image_rows), max(r["height"] for r in image_rows)],
        "width": [min(r["width"] for r in image_rows), max(r["width"] for r in image_rows)],
        "mean": mean.round(3).tolist(),
        "std": np.sqrt(np.maximum(0, np.array(squares) / max(1, n) - mean**2)).round(3).tolist(),
        "tiles": len(tiles),
        "tiles_with_object": int(sum(foreground_pixels(r) > 0 for r in tiles.to_dict("records"))),
        "pixels": pixels,
        "share": {name: round(count / max(1, sum(pixels.values())), 6) for name, count in pixels.items()},
    }


if __name__ == "__main__":
    run_script(main)
