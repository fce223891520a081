"""Windows that slide over an array: the part that convolutions and window reductions share.

Along each dimension the operand's elements are spread apart by the base dilation, padding is put
around them (or, where negative, some are cut off), and windows, whose elements are spread apart by
the window dilation, start at every multiple of the stride that leaves them inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integers
from funcdl.core.records import record
from funcdl.errors import ArgumentError, ShapeError
from funcdl.ops.slicing import pad

NDArray = np.ndarray[Any, Any]
Padding = tuple[tuple[int, int], ...]

_NAMES = ("window_strides", "padding", "base_dilation", "window_dilation")


def dilated_size(size: int, dilation: int) -> int:
    """How many places `size` elements take when they are `dilation` places apart."""
    return (size - 1) * dilation + 1 if size else 0


@record
class Sliding:
    """How windows slide, with one entry for each dimension; `counts` says how many there are."""

    sizes: Shape
    window: Shape
    strides: Shape
    padding: Padding
    base_dilation: Shape
    window_dilation: Shape
    counts: Shape

    def transposed(self) -> Sliding:
        """Windows over the windows: those that each element of the operand is in.

        Window ``j`` of these meets, at its element ``w - 1 - k``, the window here whose element
        ``k`` is operand element ``j``; other elements meet holes or padding. There must be windows
        and elements.
        """
        padding = tuple(
            (
                dilated_size(window, spread) - 1 - low,
                dilated_size(size, base) + low - dilated_size(count, stride),
            )
            for size, window, stride, (low, _), base, spread, count in zip(
                self.sizes,
                self.window,
                self.strides,
                self.padding,
                self.base_dilation,
                self.window_dilation,
                self.counts,
                strict=True,
            )
        )
        return Sliding(
            self.counts,
            self.window,
            self.base_dilation,
            padding,
            self.strides,
            self.window_dilation,
            self.sizes,
        )

    def padded(self, x: NDArray, fill: Any) -> NDArray:
        """The operand with what base dilation and padding add, which is `fill`."""
        config = tuple(
            (low, high, base - 1)
            for (low, high), base in zip(self.padding, self.base_dilation, strict=True)
        )
        if not any(map(any, config)):
            return x
        assert pad.impl is not None
        padded: NDArray = pad.impl(x, np.asarray(fill, x.dtype), padding_config=config)
        return padded

    def elements(self) -> Iterator[tuple[slice, ...]]:
        """For each element of the window, in row-major order: where it is in the padded operand.

        The slices give that element of all windows.
        """
        for offset in product(*map(range, self.window)):
            yield tuple(
                slice(k * spread, k * spread + dilated_size(count, stride), stride)
                for k, spread, count, stride in zip(
                    offset, self.window_dilation, self.counts, self.strides, strict=True
                )
            )


@lru_cache(maxsize=4096)
def find_windows(
    name: str,
    sizes: Shape,
    window: Shape,
    strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
    names: tuple[str, str, str, str] = _NAMES,
) -> Sliding:
    """The windows that slide over dimensions of these sizes.

    `name` and `names` are those of the operation and of the four parameters, for messages.

    Raises:
      ArgumentError: a parameter has the wrong number of entries, or one that is not allowed.
      ShapeError: negative padding removes more than there is.
    """
    if len(window) != len(sizes):
        raise ArgumentError(
            f"{name}: window_dimensions must have one entry for each of the {len(sizes)} "
            f"dimensions, got {len(window)}: {window}"
        )
    for label, entries in zip(
        names, (strides, padding, base_dilation, window_dilation), strict=True
    ):
        if len(entries) != len(sizes):
            raise ArgumentError(
                f"{name}: {label} must have one entry for each of the {len(sizes)} dimensions that "
                f"windows slide along, got {len(entries)}: {entries}"
            )
    for label, steps in zip(
        (names[0], *names[2:]), (strides, base_dilation, window_dilation), strict=True
    ):
        if any(step < 1 for step in steps):
            raise ArgumentError(f"{name}: {label} must be positive, got {steps}")
    counts = []
    for d, size in enumerate(sizes):
        low, high = padding[d]
        places = dilated_size(size, base_dilation[d]) + low + high
        if places < 0:
            raise ShapeError(
                f"{name}: {names[1]} {padding[d]} removes more than the "
                f"{places - low - high} elements of dimension {d} (sizes {sizes}, "
                f"{names[2]} {base_dilation})"
            )
        free = places - dilated_size(window[d], window_dilation[d])
        counts.append(max(free // strides[d] + 1, 0))
    return Sliding(sizes, window, strides, padding, base_dilation, window_dilation, tuple(counts))


def padtype_to_pads(
    in_shape: Sequence[int],
    window_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> Padding:
    """Explicit padding from its name (see `jax.lax.padtype_to_pads`).

    Args:
      in_shape: sizes of the dimensions that windows slide along, dilation included.
      window_shape: sizes of the window, dilation included.
      window_strides: steps from one window to the next.
      padding: ``"VALID"`` for none; ``"SAME"`` for what makes ``ceil(size / stride)`` windows, an
        odd element at the end; ``"SAME_LOWER"``, at the start; or pairs ``(low, high)``.

    Raises:
      ArgumentError: no padding is called so, or a pair is none.
    """
    if not isinstance(padding, str):
        try:
            return tuple((int(low), int(high)) for low, high in padding)
        except (TypeError, ValueError):
            raise ArgumentError(
                "padding must be 'SAME', 'SAME_LOWER', 'VALID' or a sequence of (low, high) pairs, "
                f"one for each dimension that windows slide along, got {shortened(padding)}"
            ) from None
    mode = padding.upper()
    if mode == "VALID":
        return ((0, 0),) * len(in_shape)
    if mode not in ("SAME", "SAME_LOWER"):
        raise ArgumentError(
            "padding must be 'SAME', 'SAME_LOWER', 'VALID' or a sequence of (low, high) pairs, "
            f"got {shortened(padding)}"
        )
    in_shape = integers("padtype_to_pads: in_shape", in_shape)
    window_shape = integers("padtype_to_pads: window_shape", window_shape)
    window_strides = integers("padtype_to_pads: window_strides", window_strides)
    if not len(in_shape) == len(window_shape) == len(window_strides) or 0 in window_strides:
        raise ArgumentError(
            "padtype_to_pads: in_shape, window_shape and window_strides must have one positive "
            f"entry for each dimension, got {in_shape}, {window_shape} and {window_strides}"
        )
    pads = []
    for size, window, stride in zip(in_shape, window_shape, window_strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        less = total // 2
        pads.append((less, total - less) if mode == "SAME" else (total - less, less))
    return tuple(pads)
