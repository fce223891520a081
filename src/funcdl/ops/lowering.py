"""How a primitive becomes kernel IR: the forms that a primitive's `lower` slot can take.

Lowering is pull-based: the compiler asks for the value of a variable at an index, and a rule
answers by reading its operands at indices of its own. A primitive without a form runs on the host
between compiled segments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.records import record
from funcdl.kir.index import Index

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder
    from funcdl.kir.ir import ReduceOp, RunningOp, UpdateOp

Position = tuple[Index, ...]

KERNEL_DTYPES = frozenset(dtype for dtype in dtypes.SUPPORTED if not dtypes.is_complex(dtype))
"""Dtypes that elementwise kernel operations know."""

ALL_DTYPES = frozenset(dtypes.SUPPORTED)
"""What else those few know that part complex numbers in memory, or join them there."""


class Reader(Protocol):
    """Reads the operands of the equation being lowered."""

    @property
    def builder(self) -> KernelBuilder:
        """The kernel being written."""
        ...

    def read(self, operand: int, index: Position, mask: int | None = None) -> int:
        """The value of an operand at `index`; nothing is read from memory where `mask` is false."""
        ...

    def part(self, operand: int, index: Position, number: int) -> int:
        """The real (0) or imaginary part (1) of a complex operand in memory at `index`."""
        ...

    def aval(self, operand: int) -> ShapedArray:
        """The type of an operand."""
        ...

    @property
    def out_aval(self) -> ShapedArray:
        """The type of the output being asked for."""
        ...


@record
class Pointwise:
    """Each output element depends on the operands' elements at the same index.

    An operand of rank 0 beside others of higher rank gives its one element to all. `rule(builder,
    values, operand avals, output number, params)` returns the value. Values of half precision
    arrive and leave as float32. An equation with an operand or output dtype outside of `dtypes` has
    no kernel form and runs on the host.
    """

    rule: Callable[[KernelBuilder, list[int], list[ShapedArray], int, dict[str, Any]], int]
    cost: Callable[[], int]
    dtypes: frozenset[np.dtype[Any]] = KERNEL_DTYPES


@record
class View:
    """Each output element is one operand element, or is made from a few of them, at other indices.

    `rule(reader, index, params)` returns the value at `index`. `alias` marks views that keep the
    row-major order of elements, which need no copy when the operand is in memory. `dtypes` as in
    `Pointwise`.
    """

    rule: Callable[[Reader, Position, dict[str, Any]], int]
    alias: bool = False
    dtypes: frozenset[np.dtype[Any]] = KERNEL_DTYPES


@record
class Reduction:
    """A reduction over `params["axes"]` of one operand."""

    op: ReduceOp


@record
class Accumulation:
    """Running results along ``params["axis"]``, backwards where ``params["reverse"]``."""

    op: RunningOp


@record
class Ordering:
    """Positions in order of the operands along ``params["dimension"]`` (see `kir.ir.Order`)."""


@record
class Contraction:
    """`dot_general`."""


@record
class WindowReduction:
    """Reductions over a window of places for each output element.

    `window(operand avals, params)` is the window's shape. `rule(reader, index, place, reduce,
    params)` returns the output at `index`; ``reduce(op, value)`` reduces over all positions `place`
    in the window, and may be called several times, on what earlier reductions gave, too.
    """

    window: Callable[[Sequence[ShapedArray], dict[str, Any]], Shape]
    rule: Callable[
        [Reader, Position, Position, Callable[[ReduceOp, int], int], dict[str, Any]], int
    ]


@record
class Correlation:
    """`conv_general_dilated`."""


@record
class Update:
    """A scatter: operand 0 copied, then updated in place.

    `rule(reader, update index, params)` returns the position in operand 0 that the update at that
    index goes to, and a mask value (or None) that says whether it is inside.
    """

    op: UpdateOp
    rule: Callable[[Reader, Position, dict[str, Any]], tuple[Position, int | None]]


@record
class Rewritten:
    """The compiler writes it with other primitives, before it looks for kernels."""


@record
class Loop:
    """Control flow: the programs among the parameters are compiled, and called in a loop."""


def reason_for_host(form: Any, types: Collection[np.dtype[Any]]) -> str:
    """Why no kernel can express an equation on operands and results of these element types.

    An empty string where one can.
    """
    if form is None or isinstance(form, Loop):
        return "it has no kernel form"
    known = form.dtypes if isinstance(form, Pointwise | View) else KERNEL_DTYPES
    return "" if known.issuperset(types) else "kernels have no complex numbers"


def compare(builder: KernelBuilder, name: str, index: Index, bound: int) -> int:
    """A bool value: whether an index is in the relation `name` (``"ge"``, …) to a bound."""
    dtype = np.dtype(np.int64 if max(map(abs, (*index.range(), bound))) > 2**31 - 1 else np.int32)
    return builder.elementwise(name, builder.index_value(index, dtype), builder.const(bound, dtype))


def all_of(builder: KernelBuilder, checks: Sequence[int]) -> int:
    """The conjunction of some bool values."""
    return reduce(lambda a, b: builder.elementwise("and", a, b), checks)


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The element type in which kernels compute with values of `dtype`."""
    return np.dtype(np.float32) if dtype in dtypes.HALF else dtype
