"""Convolutions of upsampled maps, computed before upsampling: the same numbers for less than half the work.

Decoders double a map by repeating pixels and convolve it, 3 x 3. Of nine weights at a time only four different pixels
lie under them, so that each of the four output pixels that share a parent is a 2 x 2 convolution of the small map, with
weights that were added up beforehand. What the decoder joins to the doubled map, by concatenation (U-Net) or, through
a 1 x 1 convolution, by addition (FPN), is convolved apart. Convolution is linear: only rounding differs.
"""

from __future__ import annotations

import numpy as np


def convolve_before_upsampling(model) -> int:
    """Rewrite a model of OpenVINO with fixed shapes, in place; how many convolutions were replaced."""
    replaced = 0
    for node in model.get_ordered_ops():
        if not _is_plain(node, size=3):
            continue
        instead = _instead(node.input_value(0), _weights(node))
        if instead is not None:
            node.output(0).replace(instead.output(0))
            replaced += 1
    model.validate_nodes_and_infer_types()
    return replaced


def _instead(source, weights: np.ndarray):
    """The convolution of `source` by `weights` (K, C, 3, 3) without upsampling; None where nothing is gained."""
    from openvino import opset13 as ops

    node = source.get_node()
    if _doubles(node):
        return _phases(node.input_value(0), weights)
    joined = [entry.get_source_output() for entry in node.inputs()]
    doubled = [_doubles(entry.get_node()) for entry in joined]
    if node.get_type_name() == "Concat" and any(doubled) and node.get_attributes()["axis"] in (1, -3):
        ends = np.cumsum([entry.get_shape()[1] for entry in joined])[:-1]
        shares = np.split(weights, ends, axis=1)
    elif node.get_type_name() == "Add" and sum(doubled) == 1:
        narrow = joined[1 - doubled.index(True)].get_node()
        if not _is_plain(narrow, size=1):
            return None
        # Through the 1 x 1 convolution: both at once, from its few channels.
        both = np.einsum("kmyx,mc->kcyx", weights, _weights(narrow)[:, :, 0, 0]).astype(np.float32)
        shares = [weights if doubles else both for doubles in doubled]
        joined = [entry if doubles else narrow.input_value(0) for entry, doubles in zip(joined, doubled, strict=True)]
    else:
        return None
    total = None
    for entry, share, doubles in zip(joined, shares, doubled, strict=True):
        part = _phases(entry.get_node().input_value(0), share) if doubles else _convolution(entry, share)
        total = part if total is None else ops.add(total, part)
    return total


def _phases(small, weights: np.ndarray):
    """Convolution of `small` (B, C, h, w) doubled, as (B, K, 2h, 2w)."""
    from openvino import opset13 as ops

    parts = []
    for below in (0, 1):
        for right in (0, 1):
            merged = _merged(_merged(weights, 2, below), 3, right)
            parts.append(_convolution(small, merged, [1 - below, 1 - right], [below, right]))
    return ops.depth_to_space(ops.concat(parts, 1), "blocks_first", 2)


def _merged(weights: np.ndarray, axis: int, phase: int) -> np.ndarray:
    """Three weights along an axis to two: those that fall on the same small pixel are added."""
    first, middle, last = np.moveaxis(weights, axis, 0)
    return np.stack([first, middle + last] if phase == 0 else [first + middle, last], axis)


def _convolution(source, weights: np.ndarray, before: list[int] | None = None, after: list[int] | None = None):
    from openvino import opset13 as ops

    filters = ops.constant(np.ascontiguousarray(weights))
    return ops.convolution(source, filters, [1, 1], before or [1, 1], after or [1, 1], [1, 1])


def _is_plain(node, size: int) -> bool:
    """A convolution by a constant of `size` x `size` that keeps a map's size, at stride 1."""
    if node.get_type_name() != "Convolution" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    facts = node.get_attributes()
    rim = [size // 2] * 2
    return (
        _weights(node).shape[2:] == (size, size)
        and facts["strides"] == facts["dilations"] == [1, 1]
        and facts["pads_begin"] == facts["pads_end"] == rim
    )


def _doubles(node) -> bool:
    """Repeats every pixel twice, down and across."""
    if node.get_type_name() != "Interpolate":
        return False
    facts = node.get_attributes()
    before, after = list(node.input_value(0).get_shape()), list(node.output(0).get_shape())
    asked = facts["mode"], facts["coordinate_transformation_mode"], facts["nearest_mode"]
    doubled = [*before[:2], 2 * before[2], 2 * before[3]] if len(before) == 4 else None
    return asked == ("nearest", "asymmetric", "floor") and after == doubled


def _weights(node) -> np.ndarray:
    return node.input_value(1).get_node().data
