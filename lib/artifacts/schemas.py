"""What the JSON and YAML files of a workspace hold, and what a user does about a damaged one.

Only what is read back is checked. Values that are read by one place only are checked there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge, Gt, Len
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict


def bare_name(text: str) -> str:
    """A file's name without folders, checked: what a record names is deleted, and must lie beside the record.

    >>> bare_name("slide.tif")
    'slide.tif'
    """
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise ValueError(f"expected the name of a file without folders, found {text!r}")
    return text


def digests_of_files(entries: dict[str, Any]) -> dict[str, Any]:
    """What a stage or member was made from, checked: an entry `content …` holds a digest for each file."""
    for key, value in entries.items():
        if key.startswith("content ") and not isinstance(value, dict):
            raise ValueError(f"{key}: expected files and their hashes, found {value!r}")
    return entries


MadeFrom = Annotated[dict[str, Any], AfterValidator(digests_of_files)]


class Manifest(TypedDict):
    """manifests/*.json, of a finished stage."""

    stage: str
    seconds: float
    outputs: list[str]
    facts: dict[str, Any]
    made_from: MadeFrom
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

    __pydantic_config__ = ConfigDict(extra="forbid")  # it becomes the arguments of a `Rule`

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


class AutoView(TypedDict):
    """What `infer.window auto` or `infer.tta auto` chose, and the table that it was chosen by."""

    chosen: int | str
    rows: list[dict[str, Any]]
    note: str


class TimePlan(TypedDict):
    """How an ensemble is kept to `infer.time_limit`."""

    models: list[str]
    overlap: float
    seconds: list[list[list[float]]]


class Choice(TypedDict):
    """choices/*.json. What `value` is depends on the key: see `CHOICE_VALUES`."""

    key: str
    value: Any


CHOICE_VALUES = {
    r"train\.precision .*": Literal["fp32", "bf16", "fp16"],
    r"train\.(channels_last|compile) .*": bool,
    r"train\.batch_size .*": Annotated[int, Ge(1)],
    r"train\.time_limit .*": dict[str, float],
    r"infer\.precision and infer\.backend.*": list[list[str]],
    r".* agrees .*": bool,
    r"infer\.(window|tta) .*": AutoView,
    r"infer\.time_limit .* out-of-fold images .*": Annotated[int, Ge(1)],
    r"infer\.time_limit .* plan .*": TimePlan,
}
"""Key of a choice (a regular expression) -> what it chooses."""


def right_value(choice: Choice) -> Choice:
    """Raises ValueError where a choice's value is not what its key says."""
    kind = next((kind for key, kind in CHOICE_VALUES.items() if re.fullmatch(key, choice["key"], re.DOTALL)), Any)
    try:
        TypeAdapter(kind).validate_python(choice["value"], strict=True)
    except ValidationError:
        raise ValueError(f"{choice['value']!r} is not a value of {choice['key']}") from None
    return choice


MeasuredChoice = Annotated[Choice, AfterValidator(right_value)]


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


class FittedChannel(TypedDict):
    """The range of one channel in scaling.json; `of`: what it was fitted on."""

    range: Annotated[list[float], Len(2, 2)]
    bits: Literal[8, 16]
    of: dict[str, Any]


class PackageMembers(TypedDict):
    """members.json of a package."""

    members: list[str]
    images: list[str]


class Predicted(TypedDict):
    """What `python -m lib predict` writes beside its files."""

    files: list[Annotated[str, AfterValidator(bare_name)]]
    made_from: dict[str, Any]


class DescribedInputs(TypedDict):
    """The images of a member's network, where they are not red, green and blue of 8 bits."""

    mean: list[float]
    std: list[Annotated[float, Gt(0)]]
    colours: list[Annotated[int, Ge(0)]] | None


class Described(TypedDict):
    """network.yaml of a member."""

    channels: int
    model: dict[str, Any]
    plugins: NotRequired[list[str]]
    multilabel: NotRequired[bool]
    inputs: NotRequired[DescribedInputs]


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
        "begun.json", MadeFrom,
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
    FileKind("scaling.json", dict[str, FittedChannel], "delete it and run 01_preprocess.py again"),
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
