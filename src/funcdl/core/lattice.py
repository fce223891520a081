"""Promotion of dtypes, with weak types, on JAX's lattice (its type promotion document).

A dtype is *weak* where it came from a Python scalar: a weak dtype gives way to any other dtype of
its kind or of a higher one.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.dtypes import (
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from funcdl.errors import DtypeError

DType = np.dtype[Any]
LatticeType = tuple[DType, bool]  # (dtype, weak)

# A node of the lattice is a dtype, or Python's int, float or complex for a weak dtype of that kind.
_EDGES: dict[Any, tuple[Any, ...]] = {
    bool_: (int,),
    int: (uint8, int8),
    uint8: (int16, uint16),
    uint16: (int32, uint32),
    uint32: (int64, uint64),
    uint64: (float,),
    int8: (int16,),
    int16: (int32,),
    int32: (int64,),
    int64: (float,),
    float: (bfloat16, float16, complex),
    bfloat16: (float32,),
    float16: (float32,),
    float32: (float64, complex64),
    float64: (complex128,),
    complex: (complex64,),
    complex64: (complex128,),
    complex128: (),
}
_WEAK = frozenset([int, float, complex])
_WEAK_NODES = {"b": bool_, "i": int, "u": int, "f": float, "c": complex}


def _joins(edges: dict[Any, tuple[Any, ...]]) -> dict[tuple[Any, Any], Any]:
    @cache
    def above(node: Any) -> set[Any]:
        return {node}.union(*(above(up) for up in edges[node]))

    def join(a: Any, b: Any) -> Any:
        common = above(a) & above(b)
        # All common bounds are above it, and each of the others has fewer above it.
        least = max(common, key=lambda node: len(above(node)))
        assert common <= above(least), (a, b)
        return least

    return {(a, b): join(a, b) for a in edges for b in edges}


_WIDE_JOINS = _joins(_EDGES)
# Only uint32 with a signed integer would make 64 bits out of 32; int32 is JAX's answer then.
_NARROW_JOINS = _joins(_EDGES | {uint32: (int32, uint64)})
_NODE_JOINS = {"explicit": _NARROW_JOINS, "off": _NARROW_JOINS, "on": _WIDE_JOINS}
# One cache a mode, so that a change of mode needs no clearing, which could race with a writer.
_CACHES: dict[str, dict[tuple[LatticeType, ...], LatticeType]] = {m: {} for m in _NODE_JOINS}


def lattice_join(*types: LatticeType) -> LatticeType:
    """Return the least ``(dtype, weak)`` that all the given ones promote to.

    Follows ``jax.dtypes`` (``lattice_result_type``): where all are weak, their dtypes are joined
    and the result is weak; bool is never weak.

    Raises:
        TypeError: no argument, or a dtype that does not promote (float0).
    """
    cache = _CACHES[config.x64]
    try:
        return cache[types]
    except KeyError:
        pass
    result = cache[types] = _lattice_join(types)
    return result


def _lattice_join(types: tuple[LatticeType, ...]) -> LatticeType:
    if not types:
        raise TypeError("lattice_join needs at least one (dtype, weak) pair")
    for dtype, _ in types:
        if not dtypes.kind(dtype):
            name = "float0" if dtype == dtypes.float0 else dtype
            raise TypeError(f"dtype {name} takes no part in promotion")
    all_weak = all(weak for _, weak in types)
    nodes = [
        _WEAK_NODES[dtypes.kind(dtype)]
        if weak and not all_weak
        else dtypes.canonicalize(dtype).type
        for dtype, weak in types
    ]
    joins = _NODE_JOINS[config.x64]
    node = reduce(lambda a, b: joins[a, b], nodes)
    if node in _WEAK:
        return dtypes.default_dtype(dtypes.PYTHON_KINDS[node]), True
    return np.dtype(node), all_weak and node is not bool_


def promote_types(a: Any, b: Any) -> DType:
    """Return the dtype of an operation between arrays of dtypes ``a`` and ``b``.

    Python's ``int``, ``float`` and ``complex`` stand for weak dtypes. As ``jax.numpy``'s.

    Raises:
        TypeError: ``a`` or ``b`` is not a supported dtype.
    """
    for dtype in (a, b):
        dtypes.as_dtype(dtype)
    return result_type(a, b)


def lattice_type(x: Any) -> LatticeType:
    """Return ``(dtype, weak)`` of one argument of ``result_type``.

    Raises:
        TypeError: ``x`` is neither an array, nor a scalar, nor a supported dtype.
    """
    cls = type(x)
    if cls in dtypes.PYTHON_KINDS:
        return dtypes.default_dtype(dtypes.PYTHON_KINDS[cls]), cls is not bool
    if isinstance(x, (np.dtype, str)):
        return dtypes.canonicalize(dtypes.as_dtype(x)), False
    if isinstance(x, type):
        return dtypes.canonicalize(dtypes.as_dtype(x)), x in _WEAK
    dtype = getattr(x, "dtype", None)
    if dtype is not None:
        return dtypes.canonicalize(dtypes.as_dtype(dtype)), bool(getattr(x, "weak_type", False))
    scalar = dtypes.scalar_kind(cls)
    if scalar is None:
        raise DtypeError(f"cannot find a dtype for {x!r}: pass an array, a scalar or a dtype")
    return dtypes.default_dtype(scalar), scalar != "b"


def result_type(*args: Any) -> DType:
    """Return the dtype of an operation between ``args``, as ``jax.numpy.result_type``.

    Args:
        args: Python scalars (weak), NumPy scalars, arrays, dtypes, or any object with ``dtype``
            and, optionally, ``weak_type``. A weak result is the default dtype of its kind.

    Raises:
        TypeError: no argument, or one that has no supported dtype.
    """
    if not args:
        raise TypeError("result_type needs at least one array, scalar or dtype")
    dtype, weak = lattice_join(*map(lattice_type, args))
    return dtypes.default_dtype(dtypes.kind(dtype)) if weak else dtype
