"""Hashes of the content of many or large files, cached until a file's size, times or inode change.

A file of up to `WHOLE_BYTES` is hashed whole. A larger file is hashed by its size, its time of change, and `SAMPLES`
pieces spread evenly from its first to its last byte: reading a gigapixel slide whole would take as long as cutting it.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.artifacts.read import sound_json
from lib.files import file_fingerprint, write_json

WHOLE_BYTES = 256 * 2**20
SAMPLES, SAMPLE_BYTES = 64, 2**20
THREADS = 8  # hashing lets other threads run
SETTLED_NS = 2 * 10**9  # what changed later than this before it was hashed may change again within the clock's step


class Places:
    """Folders that move as a whole. Manifests name the files in them relative to them.

    A workspace that was moved, or is seen through another mount, therefore has the same manifests.

    >>> places = Places(workspace="/a/output", root="/a/raw")
    >>> places.named("/a/output/folds.csv"), places.named("/a/raw/im.png"), places.named("/a/mine.csv")
    ('{workspace}/folds.csv', '{root}/im.png', '/a/mine.csv')
    >>> str(places.path("{root}/im.png")), str(places.path("/a/mine.csv"))
    ('/a/raw/im.png', '/a/mine.csv')
    """

    def __init__(self, **folders: str | Path):
        self._folders = {f"{{{name}}}": Path(folder) for name, folder in folders.items()}
        absolute = [(f"{str(folder.absolute()).rstrip('/')}/", name) for name, folder in self._folders.items()]
        self._prefixes = sorted(absolute, key=lambda one: -len(one[0]))  # of nested folders, the inner one counts

    def named(self, path: str | Path) -> str:
        """A path as manifests name it. Other files, and names that are such already, stay as they are."""
        text = str(path)
        if text.startswith("{"):
            return text
        absolute = str(Path(text).absolute())
        inside = ((name, absolute[len(prefix) :]) for prefix, name in self._prefixes if absolute.startswith(prefix))
        return next((f"{name}/{rest}" for name, rest in inside), text)

    def path(self, name: str) -> Path:
        """The path of what `named` returned, or of what an earlier version noted: a path."""
        folder, _, rest = name.partition("/")
        return self._folders[folder] / rest if folder in self._folders else Path(name)

    def shown(self, text: str) -> str:
        """A sentence with the paths themselves in place of names."""
        for name, folder in self._folders.items():
            text = text.replace(f"{name}/", f"{folder}/")
        return text

    def all_named(self, made_from: dict) -> dict:
        """`made_from` of a manifest that may hold paths, with names."""
        return {
            f"file {self.named(key[5:])}" if key.startswith("file ") else key:
            {self.named(path): digest for path, digest in value.items()} if key.startswith("content ") else value
            for key, value in made_from.items()
        }  # fmt: skip


def places_of(manifest: Path) -> Places:
    """The places of a manifest that names files of its workspace alone."""
    folders = [folder for folder in manifest.parents[:3] if folder.name == "manifests"]
    return Places(workspace=folders[0].parent if folders else manifest.parent)


class Digests:
    """`cache`: a JSON of path -> [size, times, inode, digest]."""

    def __init__(self, cache: Path):
        self.cache = cache

    def of(self, paths: Iterable[Path]) -> dict[str, str]:
        """Path -> digest of its content, `missing` where there is no such file."""
        paths = sorted({str(path) for path in paths})
        known, found, fresh = sound_json(self.cache, {}) if paths else {}, {}, {}
        states = {path: file_state(Path(path)) for path in paths}
        for path, state in states.items():
            if isinstance(known.get(path), list) and known[path][:-1] == state:
                found[path] = known[path][-1]
        found |= {path: "missing" for path, state in states.items() if not state}
        late = [path for path in paths if path not in found]
        with ThreadPoolExecutor(THREADS) as pool:
            found |= dict(zip(late, pool.map(lambda path: digest(Path(path)), late), strict=True))
        before = time.time_ns() - SETTLED_NS
        for path in late:
            if states[path] and max(states[path][1:3]) < before:
                fresh[path] = [*states[path], found[path]]
        if fresh:
            write_json(self.cache, {**known, **fresh})
        return {path: found[path] for path in paths}

    def of_outputs(self, paths: Iterable[Path]) -> dict[str, str]:
        """Path -> digest of its content; of a folder, of all visible files in it."""
        paths = [Path(path) for path in paths]
        inside = {path: files_inside(path) for path in paths if file_state(path) and path.is_dir()}
        digests = self.of([*(path for path in paths if path not in inside), *itertools.chain(*inside.values())])
        digests = {path: content_of(digest) for path, digest in digests.items()}
        for path, files in inside.items():
            content = [f"{file.relative_to(path).as_posix()} {digests.pop(str(file))}" for file in files]
            digests[str(path)] = f"{len(files)} files {hashlib.sha256(chr(10).join(content).encode()).hexdigest()[:16]}"
        return digests


def changed_outputs(manifest: Path) -> list[str]:
    """Files and folders that are no longer what the stage of a manifest wrote. Empty where there is no manifest."""
    made, places = sound_json(manifest, {}).get("made", {}), places_of(manifest)
    made = {str(places.path(name)): digest for name, digest in made.items()}
    now = Digests(manifest.parent / "content" / manifest.name).of_outputs(map(Path, made))
    return [path for path, digest in made.items() if now[path] != digest]


def changed_since(path: Path, stage: str) -> bool:
    """Whether a file is no longer what a stage, by the name of its manifest, wrote; False where that is not known."""
    manifests = (folder / "manifests" / f"{stage}.json" for folder in path.parents[:3])
    manifest = next((manifest for manifest in manifests if stage and manifest.is_file()), None)
    if manifest is None:
        return False
    places = places_of(manifest)
    made = {places.named(name): known for name, known in sound_json(manifest, {}).get("made", {}).items()}
    return places.named(path) in made and content_of(digest(path)) != made[places.named(path)]


def files_inside(folder: Path) -> list[Path]:
    """All files in a folder and its folders, in order, without hidden ones."""
    return sorted(path for path in folder.rglob("[!.]*") if path.is_file())


def digest(path: Path) -> str:
    """Size and hash of a file's content; of a large file, hash of its samples and time of change."""
    about = path.stat() if path.is_file() else None
    if about is None or about.st_size <= WHOLE_BYTES:
        return file_fingerprint(path)
    return f"{sampled(path)} {about.st_mtime_ns}"


def sampled(path: Path) -> str:
    """Size and hash of `SAMPLES` pieces of a large file."""
    size, hashed = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            hashed.update(file.read(SAMPLE_BYTES))
    return f"{size} {hashed.hexdigest()[:16]}"


def content_of(digest: str) -> str:
    """A digest without the time of change, so that copies of a file have the same.

    >>> content_of("300000000 5f2a 1790000000123456789"), content_of("10 77aa")
    ('300000000 5f2a', '10 77aa')
    """
    return " ".join(digest.split()[:2])


def file_state(path: Path) -> list[int]:
    """State that shows without reading that a file is the same: size, times of change of content and entry, inode."""
    try:
        about = path.stat()
    except (OSError, ValueError):  # no file can have such a name
        return []
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
