"""Quantities as people write them."""

import re
from typing import Annotated

from annotated_types import Ge, Interval
from pydantic import AfterValidator, BeforeValidator, StringConstraints

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def seconds(value: object) -> object:
    """A duration in seconds; what is none is handed on, for the field's own check to refuse.

    >>> seconds("25m"), seconds("1.5h"), seconds("90 s"), seconds(300)
    (1500.0, 5400.0, 90.0, 300)
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", value)
    if not found or found[2] not in _SECONDS:
        raise ValueError(f"expected seconds or a duration such as 90s, 25m or 1.5h, found {value!r}")
    return float(found[1]) * _SECONDS[found[2]]


Seconds = Annotated[float, BeforeValidator(seconds), Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
Level = Annotated[int, Interval(ge=0, le=255)]
Colour = tuple[Level, Level, Level]
Stored = Colour | Level  # what a pixel of 8 bits holds: red, green and blue, or a number
Side = Annotated[int, Interval(ge=0, le=65_536)]  # pixels that networks and tiles may have along a side
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]  # what numpy, torch and pandas all accept


_FILE_NAME = re.compile(r"[^\s./\\:*?\"<>|\x00-\x1f]([^/\\:*?\"<>|\x00-\x1f]{0,98}[^\s./\\:*?\"<>|\x00-\x1f])?")


def file_name(text: str) -> str:
    """A text that can be part of a file's name on every system, checked.

    >>> file_name("v1.2 flips")
    'v1.2 flips'
    """
    if not _FILE_NAME.fullmatch(text):
        raise ValueError(
            f"expected a name for files, such as ensemble-2: 1 to 100 letters, digits, '_' and '-', blanks and dots "
            f"only in between, found {text!r}"
        )
    return text


FileName = Annotated[str, AfterValidator(file_name)]
FileNameOrNone = Annotated[str, AfterValidator(lambda text: text and file_name(text))]
Column = Annotated[str, StringConstraints(strip_whitespace=True)]  # heads of CSVs are read without blanks around them


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose.

    >>> duration(40), duration(720), duration(9000)
    ('40 s', '12 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_TTA_WORD = re.compile(
    r"free|hflip|vflip|flips|d4|rotate=(0|90|180|270)(,(0|90|180|270))*|(scale|brightness)=NUMBER(,NUMBER)*"
    r"|merge=(mean|gmean|max|min|tsharpen)".replace("NUMBER", r"(\d*\.)?\d*[1-9]\d*(\.\d*)?")
)


def tta_words(text: str) -> str:
    """Words of test-time augmentation, checked; `none` and `auto` stand alone.

    >>> tta_words("hflip rotate=0,180 scale=0.5,1,2.0 merge=max")
    'hflip rotate=0,180 scale=0.5,1,2.0 merge=max'
    """
    words = text.split()
    wrong = [word for word in words if not _TTA_WORD.fullmatch(word)]
    if not words or (wrong and words not in (["none"], ["auto"])):
        raise ValueError(
            "expected none, auto, or words such as free, flips, d4, hflip, vflip, rotate=0,180, scale=1,2, "
            f"brightness=0.9,1 and merge=gmean with blanks between them, found {(wrong or [text])[0]!r}"
        )
    kinds = [word.partition("=")[0] for word in words]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"expected each word of test-time augmentation once, found {text!r}")
    return " ".join(words)
