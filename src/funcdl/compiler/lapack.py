"""Factors, systems, eigenvalues and singular values as calls of LAPACK by the C back end's library.

Not steps of the host, so that loops around them stay native and threads share batches. This says
which equations they are, and with which arguments; the header turns and screens matrices, and takes
memory for them. Rejected: calls of LAPACK as records of the call table, where all that would have
to be kernels around them; functions of our own for all sizes, a second LAPACK.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from funcdl.compiler.loops import LoopStep
from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn, Var
from funcdl.kir.cost import Cost
from funcdl.kir.program import Address, LibraryCall, Pointer, Value

HEADER = "fd_lapack.h"
LARGEST = 1 << 28
"""The most elements of a matrix: LAPACK counts its workspaces, several times that, in 32 bits."""
LONGEST = 1 << 24
"""The most rows or columns: it has room for up to 64 times that, where it takes blocks of them."""
NAMES = frozenset(
    {
        "cholesky",
        "eig",
        "eigh",
        "geqrf",
        "hessenberg",
        "householder_product",
        "lu",
        "qr",
        "schur",
        "svd",
        "triangular_solve",
        "tridiagonal",
        "tridiagonal_solve",
    }
)
"""The primitives that LAPACK computes."""
_INT = np.dtype(np.int32)


def lapack_step(eqn: Eqn, name: str) -> LoopStep | None:
    """A call of the library where LAPACK computes the equation; None where the host does.

    That also makes results of matrices without elements, which LAPACK does not.
    """
    if eqn.primitive.name not in NAMES:
        return None
    avals = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    if max(math.prod(aval.shape[-2:]) for aval in avals) > LARGEST:
        return None
    if max(max(aval.shape[-2:], default=0) for aval in avals) > LONGEST:
        return None
    if all(var.aval.size == 0 for var in eqn.outvars):
        return LoopStep(eqn, (), {}, library=_no_call)
    return None if avals[0].size == 0 else LoopStep(eqn, (), {}, library=lapack_call)


def _no_call(
    eqn: Eqn, scratch: dict[str, Var], name: str, address: Callable[[Var], Address]
) -> LibraryCall:
    return LibraryCall(name, HEADER, (), Cost())


def lapack_call(
    eqn: Eqn, scratch: dict[str, Var], name: str, address: Callable[[Var], Address]
) -> LibraryCall:
    """The call that computes an equation, once every variable has an address."""

    def place(atom: object) -> Pointer:
        assert isinstance(atom, Var), "matrices are no literals"
        return Pointer(address(atom), atom.aval.dtype)

    dtype = eqn.invars[0].aval.dtype
    outs = list(map(place, eqn.outvars))
    params = eqn.params
    # What is not asked for is not written either: any pointer of the type does.
    match eqn.primitive.name:
        case "svd" if not params["compute_uv"]:
            outs += [Pointer(outs[0].address, dtype)] * 2
        case "qr" if not params["pivoting"]:
            outs.append(Pointer(outs[0].address, _INT))
        case "schur" if not params["compute_schur_vectors"]:
            outs.append(outs[0])
        case "eig":
            values, *vectors = outs
            wanted = [params["compute_left_eigenvectors"], params["compute_right_eigenvectors"]]
            outs = [values, *(vectors.pop(0) if each else values for each in wanted)]
    function = f"fd_lapack_{eqn.primitive.name}_{dtypes.short_name(dtype)}"
    arguments: tuple[Value, ...] = (*_sizes(eqn), *map(place, eqn.invars), *outs)
    return LibraryCall(name, HEADER, ((function, arguments),), _cost(eqn))


def _sizes(eqn: Eqn) -> tuple[int, ...]:
    """The numbers that stand before the arrays: the matrices of a batch, their sizes, options."""
    name, params = eqn.primitive.name, eqn.params
    shape = eqn.invars[-1 if name == "tridiagonal_solve" else 0].aval.shape
    *batch, rows, columns = shape
    count = math.prod(batch)
    match name:
        case "cholesky" | "hessenberg":
            return count, rows
        case "eig":
            left, right = params["compute_left_eigenvectors"], params["compute_right_eigenvectors"]
            return count, rows, int(left), int(right)
        case "eigh" | "tridiagonal":
            return count, rows, int(params["lower"])
        case "householder_product":
            return count, rows, columns, eqn.invars[1].aval.shape[-1]
        case "qr":
            return count, rows, columns, eqn.outvars[0].aval.shape[-1], int(params["pivoting"])
        case "schur":
            return count, rows, int(params["compute_schur_vectors"])
        case "svd":
            if not params["compute_uv"]:
                return count, rows, columns, 0, 0
            _, left, right = (var.aval.shape for var in eqn.outvars)
            return count, rows, columns, left[-1], right[-2]
        case "triangular_solve":
            others = eqn.invars[1].aval.shape[-1 if params["left_side"] else -2]
            flags = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
            return count, rows, others, *(int(params[flag]) for flag in flags)
        case _:
            return count, rows, columns


def _cost(eqn: Eqn) -> Cost:
    """Multiplications and additions, by the leading terms of the usual counts."""
    dtype = eqn.invars[0].aval.dtype
    flops = int(_flops(eqn)) * (4 if dtypes.is_complex(dtype) else 1)
    return Cost(
        flops=flops,
        operations=flops * (2 if dtypes.real_dtype(dtype) == np.float64 else 1),
        bytes_read=sum(atom.aval.nbytes for atom in eqn.invars),
        bytes_written=sum(var.aval.nbytes for var in eqn.outvars),
    )


def _flops(eqn: Eqn) -> float:
    count, rows, *others = _sizes(eqn)
    columns = others[0] if others else rows
    few, most = min(rows, columns), max(rows, columns)
    match eqn.primitive.name:
        case "cholesky":
            return count * rows**3 / 3
        case "lu":
            return count * few**2 * (most - few / 3)
        case "triangular_solve":
            return eqn.outvars[0].aval.size * rows
        case "tridiagonal_solve":
            return 8 * count * rows * (columns + 1)
        case "geqrf":
            return 2 * count * few**2 * (most - few / 3)
        case "qr":
            return 4 * count * few**2 * (most - few / 3)
        case "householder_product":
            return 4 * count * rows * columns * others[1]
        case "svd":
            vectors = eqn.params["compute_uv"]
            return count * few**2 * ((6 * most + 20 * few) if vectors else 4 * (most - few / 3))
        case "eigh":
            return 9 * count * rows**3
        case "tridiagonal":
            return 4 * count * rows**3 / 3
        case "hessenberg":
            return 10 * count * rows**3 / 3
        case _:  # Schur form, with or without vectors
            return 25 * count * rows**3
