"""What the JSON and YAML files of a workspace hold, and what a user does about a damaged one.

Only what is read back is checked. Values that are read by one place only are checked there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, TypeAdapter, ValidationError
from typing_extensions import TypedDict


def bare_name(text: str) -> str:
    """A file's name without folders, checked: what a record names is deleted, and must lie beside the record.

    >>> bare_name("slide.tif")
    'slide.tif'
    """
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise ValueError(f"expected the name of a file without folders, found {text!r}")
    return text


class Manifest(TypedDict):
    """manifests/*.json, of a finished stage."""

    stage: str
    seconds: float
    outputs: list[str]
    facts: dict[str, Any]
    made_from: dict[str, Any]
    made: NotRequired[dict[str, str]]
    format: NotRequired[int]


class Done(TypedDict):
    """done.json, of a finished member."""

    score: float | None
    scores: dict[str, float]
    images: dict[str, float]
    seconds: float
    steps: int
    precision: str
    images_per_second: float
    waiting_share: float
    beside_seconds: NotRequired[float]


class Mix(TypedDict):
    """The ensemble's weights in a decision."""

    weights: list[float]
    mean: str


class SavedRule(TypedDict):
    """The post-processing of one class in a decision."""

    low: int
    high: NotRequired[int]
    area: NotRequired[int]
    hole: NotRequired[int]
    largest: NotRequired[bool]


class SavedDecision(TypedDict):
    """decision.json."""

    threshold: int | list[int] | None
    score: NotRequired[float | None]
    half_score: NotRequired[float | None]
    cross_score: NotRequired[float | None]
    mix: Mix | None
    gates: list[float] | None
    factors: list[float] | None
    rules: list[SavedRule | None] | None
    left_out: NotRequired[list[int]]
    weights: NotRequired[dict[str, float]]


class SavedSubmission(TypedDict):
    """submissions/*.json: what an answer was made from."""

    decision: SavedDecision
    members: list[str]
    made_from: dict[str, str]


class MeasuredChoice(TypedDict):
    """choices/*.json."""

    key: str
    value: Any


class Rehearsal(TypedDict):
    """preflight.json."""

    identity: str
    seconds: dict[str, float]
    measured: dict[str, Any]
    forecast: NotRequired[dict[str, float]]


class Fingerprint(TypedDict):
    """fingerprint.json."""

    objects_on_blank: NotRequired[float]
    tiles: NotRequired[int]


class PackageMembers(TypedDict):
    """members.json of a package."""

    members: list[str]
    images: list[str]


class Predicted(TypedDict):
    """What `python -m lib predict` writes beside its files."""

    files: list[Annotated[str, AfterValidator(bare_name)]]
    made_from: dict[str, Any]


class Described(TypedDict):
    """network.yaml of a member."""

    channels: int
    model: dict[str, Any]
    plugins: NotRequired[list[str]]
    multilabel: NotRequired[bool]


@dataclass(frozen=True)
class FileKind:
    """A kind of file. `pattern`: the end of its path. `remedy`: what to do about a damaged one."""

    pattern: str
    schema: Any
    remedy: str

    @cached_property
    def _adapter(self) -> TypeAdapter:
        return TypeAdapter(self.schema)

    def check(self, value: object) -> None:
        """Raises ValueError, in a few words, where `value` is not what a file of this kind holds."""
        try:
            self._adapter.validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{place + ': ' if place else ''}{first['msg'][0].lower()}{first['msg'][1:]}") from None


REMAKE = "run the stage that made it again"
FILE_KINDS = (
    FileKind("manifests/*.json", Manifest, f"delete it and {REMAKE}"),
    FileKind("manifests/scores/*.json", Manifest, "delete it and run 03_train.py again, which scores the member again"),
    FileKind(
        "begun.json", dict[str, Any],
        "delete the member's folder and run 03_train.py again, which trains the member from its beginning",
    ),
    FileKind("done.json", Done, "delete it and run 03_train.py again, which finishes the member from its last state"),
    FileKind("network.yaml", Described, "delete the member's done.json and run 03_train.py again"),
    FileKind(
        "resolved.yaml", dict[str, Any],
        "delete the member's folder and run 03_train.py again, which trains it with this version's options",
    ),
    FileKind("submissions/*.yaml", dict[str, Any], "run 05_infer_ensemble.py again"),
    FileKind("config.yaml", dict[str, Any], "make the package again (python -m lib package)"),
    FileKind("decision.json", SavedDecision, "run 05_infer_ensemble.py again"),
    FileKind("submissions/*.json", SavedSubmission, "delete it and run 05_infer_ensemble.py again"),
    FileKind("choices/*.json", MeasuredChoice, "delete it; the choice is measured again"),
    FileKind("preflight.json", Rehearsal, "delete it; preflight rehearses again"),
    FileKind("fingerprint.json", Fingerprint, "run 01_preprocess.py again"),
    FileKind("leaks/leaks.json", list[dict[str, Any]], "run 02_make_folds.py again"),
    FileKind("report/oof.json", dict[str, Any], "run 05_infer_ensemble.py again"),
    FileKind("report/objects.json", dict[str, Any], "run 01_preprocess.py again"),
    FileKind("members.json", PackageMembers, "make the package again (python -m lib package)"),
)  # fmt: skip
PREDICTED = FileKind("*.json", Predicted, "delete it and run python -m lib predict again")
OTHER = FileKind("*", dict[str, Any], f"delete it and {REMAKE}")


def kind_of(path: Path) -> FileKind:
    """The kind of file at a path; `OTHER`, an object of any keys, where no pattern fits.

    >>> kind_of(Path("work/a/runs/base/fold0_seed42/done.json")).schema.__name__
    'Done'
    """
    return next((kind for kind in FILE_KINDS if PurePath(path).match(kind.pattern)), OTHER)
