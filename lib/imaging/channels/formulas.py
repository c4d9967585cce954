"""Computes channels from others."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import reduce

import numpy as np

from lib.config.formula import parsed_formula

BINARY = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide}
UNARY = {ast.UAdd: np.positive, ast.USub: np.negative}
CALLS = {"min": np.minimum, "max": np.maximum, "abs": np.abs, "sqrt": np.sqrt, "log": np.log}


def computed(formula: str, channels: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values of a formula, float32, from those of channels (float32; NaN was not measured).

    A division by zero, or the logarithm of a negative number, gives values that are not finite.

    >>> computed("(a - b) / (a + b)", {"a": np.float32([3, 0]), "b": np.float32([1, 0])}).tolist()
    [0.5, nan]
    """

    def value_of(node: ast.expr) -> np.ndarray | np.float32:
        if isinstance(node, ast.Constant):
            return np.float32(node.value)
        if isinstance(node, ast.Name):
            return channels[node.id]
        if isinstance(node, ast.UnaryOp):
            return UNARY[type(node.op)](value_of(node.operand))
        if isinstance(node, ast.BinOp):
            return BINARY[type(node.op)](value_of(node.left), value_of(node.right))
        arguments = [value_of(one) for one in node.args]
        function = CALLS[node.func.id]
        return reduce(function, arguments) if len(arguments) > 1 else function(*arguments)

    with np.errstate(all="ignore"):
        return np.asarray(value_of(parsed_formula(formula)[0]), np.float32)
