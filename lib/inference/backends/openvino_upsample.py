"""Computes convolutions of upsampled maps before upsampling: the same numbers for less than half the work.

Decoders double a map by repeating its pixels, and then apply a 3 x 3 convolution. The nine weights then lie over only
four different pixels of the small map. Each of the four output pixels of a small pixel is therefore a 2 x 2 convolution
of the small map, whose weights are sums of the nine. Decoders also join another map to the doubled one: by
concatenation (U-Net), or, after a 1 x 1 convolution, by addition (FPN). That map is convolved separately. Convolution
is linear, so only rounding differs.
"""

from __future__ import annotations

import numpy as np


def convolve_before_upsampling(model) -> int:
    """Rewrite an OpenVINO model with fixed shapes in place. Returns how many convolutions were replaced."""
    replaced = 0
    for node in model.get_ordered_ops():
        if not _is_plain(node, size=3):
            continue
        cheaper = _without_upsampling(node.input_value(0), _weights(node))
        if cheaper is not None:
            node.output(0).replace(cheaper.output(0))
            replaced += 1
    model.validate_nodes_and_infer_types()
    return replaced


def _without_upsampling(source, weights: np.ndarray):
    """The convolution of `source` with `weights` (K, C, 3, 3), before upsampling; None where nothing is upsampled."""
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
        # The 1 x 1 and the 3 x 3 convolution become one, which has few input channels.
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
    """The convolution of the doubled map `small` (B, C, h, w), as (B, K, 2h, 2w)."""
    from openvino import opset13 as ops

    parts = []
    for below in (0, 1):
        for right in (0, 1):
            merged = _merged(_merged(weights, 2, below), 3, right)
            parts.append(_convolution(small, merged, [1 - below, 1 - right], [below, right]))
    return ops.depth_to_space(ops.concat(parts, 1), "blocks_first", 2)


def _merged(weights: np.ndarray, axis: int, phase: int) -> np.ndarray:
    """Three weights along an axis become two: the weights over the same small pixel are added."""
    first, middle, last = np.moveaxis(weights, axis, 0)
    return np.stack([first, middle + last] if phase == 0 else [first + middle, last], axis)


def _convolution(source, weights: np.ndarray, before: list[int] | None = None, after: list[int] | None = None):
    from openvino import opset13 as ops

    filters = ops.constant(np.ascontiguousarray(weights))
    return ops.convolution(source, filters, [1, 1], before or [1, 1], after or [1, 1], [1, 1])


def _is_plain(node, size: int) -> bool:
    """Whether a node is a convolution with constant weights `size` x `size`, stride 1, that keeps the map's size."""
    if node.get_type_name() != "Convolution" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    attributes = node.get_attributes()
    return (
        _weights(node).shape[2:] == (size, size)
        and attributes["strides"] == attributes["dilations"] == [1, 1]
        and attributes["pads_begin"] == attributes["pads_end"] == [size // 2] * 2
    )


def _doubles(node) -> bool:
    """Whether a node repeats every pixel twice, down and across."""
    if node.get_type_name() != "Interpolate":
        return False
    attributes = node.get_attributes()
    before, after = list(node.input_value(0).get_shape()), list(node.output(0).get_shape())
    modes = attributes["mode"], attributes["coordinate_transformation_mode"], attributes["nearest_mode"]
    doubled = [*before[:2], 2 * before[2], 2 * before[3]] if len(before) == 4 else None
    return modes == ("nearest", "asymmetric", "floor") and after == doubled


def _weights(node) -> np.ndarray:
    return node.input_value(1).get_node().data
