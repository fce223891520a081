"""Factors and triangular systems of small matrices as calls of the C back end's library.

LAPACK (`compiler.lapack`) is faster for large ones; libraries that are written for other programs
do without it. It has no functions for updates of factors and for exchanges of rows in general.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from funcdl.compiler.loops import LoopStep
from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn, Var
from funcdl.kir.cost import Cost
from funcdl.kir.program import Address, LibraryCall, Pointer, Record, Value

HEADER = "fd_matrices.h"
LARGEST = 128
"""The most rows and columns of a matrix; FD_MATRIX_ROWS in fd_matrices.h."""
# Rows of matrices, and elements of right-hand sides on the left and on the right, up to which these
# functions take less time than LAPACK's.
_LAST_FACTOR, _LAST_LEFT, _LAST_RIGHT = 64, 4096, 64
_DTYPES = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def small_matrices(eqn: Eqn, name: str, *, alone: bool = True) -> LoopStep | None:
    """A call of the library where it computes the equation; None where LAPACK does.

    Args:
        alone: whether LAPACK is not there to do what it does sooner.
    """
    if eqn.primitive.name == "cholesky_update":
        return LoopStep(eqn, (), {"copy": Var(eqn.invars[1].aval)}, library=matrix_call)
    if eqn.primitive.name == "lu_pivots_to_permutation":
        return LoopStep(eqn, (), {}, library=matrix_call)
    if eqn.primitive.name not in ("cholesky", "lu", "triangular_solve"):
        return None
    first = eqn.invars[0].aval
    if first.dtype not in _DTYPES or max(first.shape[-2:]) > LARGEST:
        return None
    if not alone and _is_for_lapack(eqn):
        return None
    return LoopStep(eqn, (), {}, library=matrix_call)


def _is_for_lapack(eqn: Eqn) -> bool:
    """Whether LAPACK takes less time, by measurement.

    Its blocks pay for their own cost from some thousands of elements on; on the right, rows of
    systems are solved here one by one.
    """
    n = eqn.invars[0].aval.shape[-1]
    if eqn.primitive.name != "triangular_solve":
        return eqn.primitive.name == "cholesky" and n > _LAST_FACTOR
    left = eqn.params["left_side"]
    others = eqn.invars[1].aval.shape[-1 if left else -2]
    return others > 1 and n * others > (_LAST_LEFT if left else _LAST_RIGHT)


def matrix_call(
    eqn: Eqn, scratch: dict[str, Var], name: str, address: Callable[[Var], Address]
) -> LibraryCall:
    """The call that computes an equation, once every variable has an address."""

    def place(atom: object) -> Pointer:
        assert isinstance(atom, Var), "matrices are no literals"
        return Pointer(address(atom), atom.aval.dtype)

    function = f"fd_{eqn.primitive.name}_{dtypes.short_name(eqn.invars[0].aval.dtype)}"
    arrays = [place(atom) for atom in (*eqn.invars, *eqn.outvars, *scratch.values())]
    return LibraryCall(name, HEADER, ((function, (*_sizes(eqn), *arrays)),), _cost(eqn))


def _sizes(eqn: Eqn) -> tuple[Value | Record, ...]:
    if eqn.primitive.name == "lu_pivots_to_permutation":
        *batch, steps = eqn.invars[0].aval.shape
        return math.prod(batch), steps, eqn.params["permutation_size"]
    *batch, rows, columns = eqn.invars[0].aval.shape
    count = math.prod(batch)
    if eqn.primitive.name in ("cholesky", "cholesky_update"):
        return count, rows
    if eqn.primitive.name == "lu":
        return count, rows, columns
    params = eqn.params
    fields = {
        "count": count,
        "n": rows,
        "others": eqn.invars[1].aval.shape[-1 if params["left_side"] else -2],
        "left": int(params["left_side"]),
        "lower": int(params["lower"]),
        "transpose": int(params["transpose_a"]),
        "unit": int(params["unit_diagonal"]),
    }
    return (Record("fd_triangular", tuple(fields.items())),)


def _cost(eqn: Eqn) -> Cost:
    """Multiplications and additions, of which a factor has those of its smaller half."""
    *batch, rows, columns = (1, *eqn.invars[0].aval.shape)
    count, short = math.prod(batch), min(rows, columns)
    match eqn.primitive.name:
        case "lu_pivots_to_permutation":
            flops = 0
        case "cholesky_update":
            flops = 3 * count * rows**2
        case "cholesky":
            flops = count * rows**3 // 3
        case "lu":
            flops = count * (rows * columns * short - (rows + columns) * short**2 // 2)
            flops += count * short**3 // 3
        case _:
            flops = eqn.outvars[0].aval.size * rows
    return Cost(
        flops=flops,
        operations=flops * (2 if eqn.invars[0].aval.dtype == np.float64 else 1),
        bytes_read=sum(atom.aval.nbytes for atom in eqn.invars),
        bytes_written=sum(var.aval.nbytes for var in eqn.outvars),
    )
