"""Finds image files below the organiser's folder, and reads lists of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.competition.labels.template import image_id_of, path_below
from lib.config.competition import External, Pixels
from lib.errors import UserError, reading, shown
from lib.imaging.reader import AS_THEY_ARE, images_in, is_image, named_path, suffixes
from lib.organiser_text import readings, tidy, visible_files
from lib.user_tables import read_csv

HOME = "competition"  # the source of the organiser's own images


@dataclass(frozen=True)
class ImageInfo:
    """An image file of the organiser or of an external source. `below`: its value of `{path}` in templates."""

    image_id: str
    split: str
    source: str
    path: Path
    below: str = ""


def external_images(source: External, pixels: Pixels) -> list[ImageInfo]:
    """A source's images: for training where they have labels, else without labels."""
    key, root = f"competition.external {source.name}", Path(source.root)
    if not root.is_dir():
        raise UserError(f"{key}: there is no folder {root}; correct its root")
    if not source.images or Path(source.images).is_absolute():
        raise UserError(f"{key}: images {source.images!r} is not a pattern relative to its root ({root}), as images/*")
    files = image_files(root, source.images, key, pixels)
    split = "train" if source.labels else "unlabeled"
    return [ImageInfo(f"{source.name}_{_id_of(path, '')}", split, source.name, path) for path in files]


def own_image(path: Path, split: str, root: Path, pattern: str, template: str) -> ImageInfo:
    """An image of the organiser. `pattern`: the glob that matches it; `template`: `competition.image_ids`.

    In templates, slice 12 of `ct.nii.gz` is called `ct/0012`; without a template its id is `ct_0012`.
    """
    return ImageInfo(_id_of(path, template), split, HOME, path, path_below(named_path(path), root, pattern))


def _id_of(path: Path, template: str) -> str:
    named = named_path(path)
    return image_id_of(named, template or ("{id}/{id}" if named.parent != path.parent else ""))


def tails(path: Path) -> set[str]:
    """
    >>> sorted(tails(Path("data/test/a.png")))
    ['a.png', 'data/test/a.png', 'test/a.png']
    """
    return {Path(*path.parts[i:]).as_posix() for i in range(len(path.parts))}


def listed_names(path: Path) -> set[str]:
    """Names in the lines of a text file, or in the first column of a CSV. Windows paths are also given with slashes."""
    if path.suffix.lower() == ".txt" and path.is_file():
        texts = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    else:
        table = read_csv(path, [])
        texts = [table.columns[0], *table.iloc[:, 0]]  # there may be no header
    return {reading for text in texts for reading in readings(tidy(text))}


def image_files(root: Path, pattern: str, key: str, pixels: Pixels = AS_THEY_ARE) -> list[Path]:
    """The images below `root` that match, without hidden ones (`._a.png` of macOS, `.ipynb_checkpoints`). Each slice of
    a volume is an image.

    Raises UserError, naming the option `key`, when there is none, and for a text that is no glob.
    """
    with reading(f"{key}: {shown(pattern)}", "not a pattern of files", "write one such as images/*.png"):
        files = visible_files(root, pattern, is_image)
    if not files:
        raise UserError(f"{key}: {root / pattern} matches no image ({', '.join(suffixes())}){_brackets(root, pattern)}")
    return [image for file in files for image in images_in(file, pixels)]


def _brackets(root: Path, pattern: str) -> str:
    """Advice where a pattern's brackets are part of a name; else empty."""
    escaped = pattern.replace("[", "[[]")
    found = escaped != pattern and any(root.glob(escaped))
    return f"; brackets in a name are written {escaped}" if found else ""
