"""Words that name no class, wherever labels come from."""

from typing import Literal


def meaning_of(name: str) -> Literal["background", "ignore", ""]:
    """What a class name stands for where it is none of `competition.classes`; labelme writes such names with lines.

    >>> meaning_of("_background_"), meaning_of("__ignore__"), meaning_of("Background"), meaning_of("cell")
    ('background', 'ignore', 'background', '')
    """
    word = name.strip("_ ").lower()
    return word if word in ("background", "ignore") else ""
