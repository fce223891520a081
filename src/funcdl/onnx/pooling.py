"""Rules of reductions over sliding windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import PAIRED
from funcdl.onnx.graph import Graph, Value
from funcdl.onnx.reductions import of_nothing
from funcdl.onnx.rules import rule
from funcdl.ops.shape import inverse_permutation
from funcdl.ops.windows.parameters import windows_of
from funcdl.ops.windows.sliding import Sliding, dilated_size

_EXTREMES = {"max": "Max", "min": "Min"}


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _reduce_window(g: Graph, eqn: Eqn, x: Value) -> Value:
    name = eqn.primitive.name
    windows = windows_of(name, x.shape, **eqn.params)
    if not x.size:
        return of_nothing(g, eqn, (x.shape, x.dtype))
    kind = name.rpartition("_")[2]
    narrow = x.dtype
    # Halves are added up in float32, booleans are 0 and 1.
    wide = g.cast(x, np.float32) if narrow in dtypes.HALF else x
    fill = g.constant(_identity(kind, wide.dtype), wide.dtype)
    if kind != "sum":
        wide, fill = (g.carried(v, PAIRED) for v in (wide, fill))
    if _can_pool(windows, kind, wide.shape, wide.dtype):
        out = _pool(g, wide, windows, kind)
    else:
        out = _by_slices(g, wide, windows, kind, fill)
    return g.cast(out, narrow)


def _can_pool(windows: Sliding, kind: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether the pooling operators mean this, and can be had."""
    sliding = [d for d, window in enumerate(windows.window) if window > 1]
    return (
        dtype == np.float32
        and kind != "min"
        and 1 <= len(sliding) <= 3
        and max(windows.base_dilation) == 1
        # The older average pooling has no dilation.
        and (kind == "max" or max(windows.window_dilation) == 1)
        and all(
            (0 <= low < window and 0 <= high < window) if d in sliding else (low, high) == (0, 0)
            for d, (window, (low, high)) in enumerate(
                zip(windows.window, windows.padding, strict=True)
            )
        )
        and all(windows.strides[d] == 1 for d in range(len(windows.window)) if d not in sliding)
        and all(_meets_input(windows, shape[d], d) for d in sliding)
    )


def _meets_input(windows: Sliding, size: int, d: int) -> bool:
    """Whether no window lies in the padding as a whole, of which runtimes make the lowest number.

    Along one dimension; only spread windows can step over all that there is.
    """
    spread, (low, _) = windows.window_dilation[d], windows.padding[d]
    if spread == 1:  # and padding is narrower than a window
        return True
    starts = range(-low, windows.counts[d] * windows.strides[d] - low, windows.strides[d])
    return all(
        any(0 <= start + k * spread < size for k in range(windows.window[d])) for start in starts
    )


def _pool(g: Graph, x: Value, windows: Sliding, kind: str) -> Value:
    """The dimensions that windows slide along are the last ones; all others make up the first."""
    sliding = [d for d, window in enumerate(windows.window) if window > 1]
    others = [d for d in range(len(x.shape)) if d not in sliding]
    # The last of the others are the channels: [N, H, W, C] comes as [N, C, H, W].
    order = [*others, *sliding]
    sizes = [x.shape[d] for d in others]
    channels = sizes[-1] if len(sizes) > 1 else 1
    batch = math.prod(sizes) // channels
    found = g.reshape(g.transpose(x, order), (batch, channels, *(x.shape[d] for d in sliding)))
    counts = tuple(windows.counts[d] for d in sliding)
    attributes: dict[str, Any] = {
        "kernel_shape": [windows.window[d] for d in sliding],
        "strides": [windows.strides[d] for d in sliding],
        "pads": [windows.padding[d][i] for i in range(2) for d in sliding],
    }
    if kind == "max":
        attributes["dilations"] = [windows.window_dilation[d] for d in sliding]
        out = g.node("MaxPool", found, shape=(batch, channels, *counts), **attributes)
    else:
        attributes["count_include_pad"] = 1
        out = g.node("AveragePool", found, shape=(batch, channels, *counts), **attributes)
        count = g.constant(math.prod(attributes["kernel_shape"]), x.dtype)
        out = g.apply("Mul", out, count)
    out = g.reshape(out, (*sizes, *counts))
    return g.transpose(out, inverse_permutation(order))


def _identity(kind: str, dtype: np.dtype[Any]) -> Any:
    if kind == "sum":
        return 0
    if dtypes.is_bool(dtype):
        return kind == "min"
    if dtypes.is_float(dtype):
        return -np.inf if kind == "max" else np.inf
    info = np.iinfo(dtype)
    return info.min if kind == "max" else info.max


def _by_slices(g: Graph, x: Value, windows: Sliding, kind: str, fill: Value) -> Value:
    """One dimension after another: the first elements of all windows with the second, and so on."""
    config = [
        (low, high, base - 1)
        for (low, high), base in zip(windows.padding, windows.base_dilation, strict=True)
    ]
    x = g.pad(x, fill, config)
    for axis, (window, stride, spread, count) in enumerate(
        zip(windows.window, windows.strides, windows.window_dilation, windows.counts, strict=True)
    ):
        reach = dilated_size(count, stride)
        parts = [
            g.slice_along(x, axis, k * spread, k * spread + reach, stride) for k in range(window)
        ]
        x = parts[0]
        for part in parts[1:]:
            x = g.apply("Add", x, part) if kind == "sum" else g.extreme(_EXTREMES[kind], x, part)
    return x
