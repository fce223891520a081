"""Kernel forms of what slides windows over an array: positions, masks, reductions, convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.records import record
from funcdl.kir import index as kindex
from funcdl.ops.lowering import Position, Reader, WindowReduction, all_of, compare, compute_dtype
from funcdl.ops.windows.convolution_dimensions import Convolution
from funcdl.ops.windows.sliding import Sliding

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder
    from funcdl.kir.ir import ReduceOp, Slide

FindWindows = Callable[[Sequence[ShapedArray], dict[str, Any]], Sliding]


def element_position(
    builder: KernelBuilder, windows: Sliding, window: Position, place: Position
) -> tuple[Position, int | None]:
    """Where in the operand a place in a window is; and a bool value, false on padding and holes."""
    position: list[kindex.Index] = []
    checks: list[int] = []
    for d, size in enumerate(windows.sizes):
        spread = windows.base_dilation[d]
        at = window[d] * windows.strides[d] + place[d] * windows.window_dilation[d]
        at = at - windows.padding[d][0]
        checks += [compare(builder, "ge", at, 0), compare(builder, "le", at, (size - 1) * spread)]
        if spread > 1:
            checks.append(compare(builder, "eq", at % spread, 0))
        position.append(at // spread)
    return tuple(position), all_of(builder, checks) if checks else None


def read_element(
    reader: Reader, operand: int, position: Position, mask: int | None, other: Any
) -> int:
    """The operand at a position; `other` where the mask is false."""
    value = reader.read(operand, position, mask)
    if mask is None:
        return value
    builder = reader.builder
    return builder.select(mask, value, builder.const(other, builder.type_of(value).dtype))


def reduce_windows(
    op: ReduceOp, identity: Callable[[np.dtype[Any]], Any], find: FindWindows
) -> WindowReduction:
    """The form of a plain reduction of the windows over operand 0."""

    def rule(
        reader: Reader,
        index: Position,
        place: Position,
        reduce: Callable[[ReduceOp, int], int],
        params: dict[str, Any],
    ) -> int:
        windows = find([reader.aval(0)], params)
        position, mask = element_position(reader.builder, windows, index, place)
        empty = np.asarray(identity(compute_dtype(reader.aval(0).dtype))).item()
        return reduce(op, read_element(reader, 0, position, mask, empty))

    return WindowReduction(lambda avals, params: find(avals, params).window, rule)


@record
class ConvolutionLoops:
    """The kernel axes of a convolution, and where along them its arrays are indexed.

    `axes` are the batch axis b of the groups, n, those of the windows, co, those of the elements
    of lhs, those of the places in a window, and ci. `position` is that of the output.
    """

    axes: tuple[tuple[str, int], ...]
    position: Position
    lhs: Position
    rhs: Position
    slides: tuple[Slide, ...]


def convolution_loops(conv: Convolution, batch_groups: bool) -> ConvolutionLoops:
    """The loops of a convolution; `batch_groups` says where its groups are."""
    windows = conv.windows
    names = [axis_names(letter, len(windows.sizes)) for letter in "ipk"]
    sizes = (windows.counts, windows.sizes, windows.window)
    out, lhs, rhs = (
        tuple(zip(called, extents, strict=True))
        for called, extents in zip(names, sizes, strict=True)
    )
    group, n = ("b", conv.groups), ("n", conv.batch)
    o, c = ("co", conv.outputs), ("ci", conv.features)
    if conv.groups == 1:
        group = ("", 1)
    axes = (group, n, *out, o, *lhs, *rhs, c)
    at = {name: kindex.axis(name, extent) for name, extent in axes}

    def grouped(axis: tuple[str, int]) -> kindex.Index:
        return at[group[0]] * axis[1] + at[axis[0]]

    lhs_spec, rhs_spec, out_spec = conv.numbers
    lhs_roles = (at["n"], grouped(c)) if not batch_groups else (grouped(n), at["ci"])
    from funcdl.kir.ir import Slide  # only here, so that `import funcdl` stays quick

    slides = tuple(
        Slide(i, p, k, stride, low, spread, dilation)
        for i, p, k, stride, (low, _), spread, dilation in zip(
            *names,
            windows.strides,
            windows.padding,
            windows.base_dilation,
            windows.window_dilation,
            strict=True,
        )
    )
    return ConvolutionLoops(
        tuple(axis for axis in axes if axis[0]),
        _placed(out_spec, at["n"], grouped(o), *(at[name] for name in names[0])),
        _placed(lhs_spec, *lhs_roles, *(at[name] for name in names[1])),
        _placed(rhs_spec, grouped(o), at["ci"], *(at[name] for name in names[2])),
        slides,
    )


def axis_names(letter: str, count: int) -> tuple[str, ...]:
    """``i, j`` from ``i``; numbered where there are more than two."""
    if count <= 2:
        return (letter, chr(ord(letter) + 1))[:count]
    return tuple(f"{letter}{d}" for d in range(count))


def _placed(spec: Sequence[int], *roles: kindex.Index) -> Position:
    position = [kindex.constant(0)] * len(spec)
    for dim, role in zip(spec, roles, strict=True):
        position[dim] = role
    return tuple(position)
