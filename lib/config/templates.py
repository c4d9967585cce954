"""Which placeholders the templates of names may hold; lib/competition/labels/template.py reads them."""

import re

HOLE = re.compile(r"\{[^{}]*\}?|\}")
LEGAL_HOLE = re.compile(r"\{(id|path|class|number(:0?\d+)?)\}")


def check_template(key: str, template: str) -> None:
    """Raises ValueError unless a text names images by placeholders that are known.

    >>> check_template("competition.labels.id_template", "{path}.jpg_{class}")
    """
    strange = [hole for hole in HOLE.findall(template) if not LEGAL_HOLE.fullmatch(hole)]
    if strange:
        raise ValueError(
            f"{key} is {template!r}, which holds {strange[0]!r}; expected {{id}}, {{path}}, {{number}} or {{class}}"
        )
    if not any(hole in template for hole in ("{id}", "{path}", "{number")):
        raise ValueError(f"{key} is {template!r}; it must hold {{id}}, {{path}} or {{number}}, as in {{id}}_{{class}}")
