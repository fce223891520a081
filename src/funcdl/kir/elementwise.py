"""The table of elementwise operations that kernels may use.

Rows are added by the op registry, one for each elementwise primitive, so that a primitive is
described in one place only. The IR's interpreter reads the NumPy column, the renderers theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funcdl.core.records import record


@record
class ElementwiseOp:
    """One operation on scalars.

    `numpy` is its meaning. `c` and `triton` are expression templates over ``{0}``, ``{1}``, … for
    the arguments and ``{t}`` for the argument's short dtype name (``fd_exp_{t}({0})``,
    ``tl.exp({0})``); where a template needs another text for some dtypes, it is a function from
    the first argument's dtype to the template. None: this back end has no such operation.
    `cost` is in units of one addition; fusion weighs recomputation by it.
    """

    name: str
    arity: int
    numpy: Callable[..., np.ndarray]
    c: str | Callable[[np.dtype], str] | None
    triton: str | Callable[[np.dtype], str] | None
    cost: int = 1


_table: dict[str, ElementwiseOp] = {}


def define(op: ElementwiseOp) -> ElementwiseOp:
    """Add a row; a name can be defined once."""
    if op.name in _table:
        raise ValueError(f"elementwise operation {op.name!r} is defined twice")
    _table[op.name] = op
    return op


def lookup(name: str) -> ElementwiseOp:
    """The row of this name."""
    return _table[name]


def names() -> tuple[str, ...]:
    """All names in the table."""
    return tuple(_table)
