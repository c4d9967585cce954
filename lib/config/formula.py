"""Formulas of channels, such as `(nir - red) / (nir + red)`: parsed once, and nothing but arithmetic is allowed."""

from __future__ import annotations

import ast
from functools import lru_cache

OPERATORS = ast.Add | ast.Sub | ast.Mult | ast.Div
FUNCTIONS = {"min": 2, "max": 2, "abs": 1, "sqrt": 1, "log": 1}
"""Name -> the arguments that it takes, at least; `min` and `max` take more, too."""
LONGEST = 500  # letters; the parser's depth grows with them


@lru_cache(maxsize=256)
def parsed_formula(text: str) -> tuple[ast.expr, frozenset[str]]:
    """The syntax tree of a formula and the names of the channels in it.

    Raises ValueError for anything but numbers, names, `+ - * /`, parentheses and `FUNCTIONS`.

    >>> sorted(parsed_formula("(nir - red) / max(nir + red, 1)")[1])
    ['nir', 'red']
    """
    if len(text) > LONGEST:
        raise ValueError(f"the formula has {len(text)} letters; up to {LONGEST} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"the formula {text!r} cannot be read; write one such as (nir - red) / (nir + red)") from None
    functions = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not _is_allowed(node):
            found = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise ValueError(
                f"the formula {text!r} holds {found!r}; it may hold numbers, names of channels, + - * /, parentheses "
                f"and {', '.join(FUNCTIONS)}"
            )
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in functions}
    if not names:
        raise ValueError(f"the formula {text!r} names no channel; write one such as (nir - red) / (nir + red)")
    return tree, frozenset(names)


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        if not known or any(isinstance(one, ast.Starred) for one in node.args):
            return False
        least = FUNCTIONS[node.func.id]
        return len(node.args) == least or (least == 2 and len(node.args) > 2)
    return isinstance(node, ast.BinOp | ast.UnaryOp | ast.Name | ast.Load | ast.UAdd | ast.USub | OPERATORS)
