"""Which names classes may have. Some words name no class, wherever labels come from."""

from typing import Literal

MOST_LABELS = 255  # a label index has 8 bits, and 255 is what is not scored


def meaning_of(name: str) -> Literal["background", "ignore", ""]:
    """What a class name stands for where it is not one of `competition.classes`; labelme writes such names with lines.

    >>> meaning_of("_background_"), meaning_of("__ignore__"), meaning_of("Background"), meaning_of("cell")
    ('background', 'ignore', 'background', '')
    """
    word = name.strip("_ ").lower()
    return word if word in ("background", "ignore") else ""


def check_class_names(classes: list[str], background: bool) -> None:
    """Raises ValueError for no class, too many, an empty name, a name twice, and words that name no class."""
    if not classes:
        raise ValueError("competition.classes is empty; name at least one class")
    if len(classes) + background > MOST_LABELS:
        raise ValueError(
            f"competition.classes has {len(classes)} names; labels of 8 bits tell {MOST_LABELS} classes apart, the "
            "background included: leave some out"
        )
    if not all(map(str.strip, classes)):
        raise ValueError(f"competition.classes holds an empty name: {classes}; name the class")
    if len(set(classes)) != len(classes):
        raise ValueError(f"competition.classes names a class twice: {classes}")
    reserved = ("background", "ignore") if background else ("ignore",)
    taken = [name for name in classes if meaning_of(name) in reserved]
    if taken:
        is_there = meaning_of(taken[0]) == "background"
        what = "background: true has it already" if is_there else "it names pixels that are not scored"
        raise ValueError(f"competition.classes names {taken[0]!r}, but {what}; take it out of classes")
