"""The table of all primitives, from which tests, documentation and coverage are generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.primitive import Primitive
from funcdl.core.records import record

BOOL = ("bool",)
INTS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
SIGNED = ("i8", "i16", "i32", "i64")
FLOATS = ("f16", "bf16", "f32", "f64")
COMPLEX = ("c64", "c128")
REAL = INTS + FLOATS
NUMBERS = REAL + COMPLEX
ALL = BOOL + NUMBERS
_NONE: Mapping[str, Any] = MappingProxyType({})


@record
class Sample:
    """One call to test: operands and parameters. `grad` lists the differentiable operands."""

    args: tuple[np.ndarray[Any, Any], ...]
    params: Mapping[str, Any] = _NONE
    grad: tuple[int, ...] = ()


# A name in quotes, since NumPy loads its random numbers, 20 ms, when they are first named.
SampleMaker = Callable[["np.random.Generator", np.dtype[Any]], Iterator[Sample]]


@record
class Op:
    """One primitive's row.

    `dtypes` are the short names that the first array operand may have. `samples` makes calls over
    odd shapes, zero sizes and parameter variants for one dtype. `missing` maps a test column
    (``"jvp"``, ``"vmap"``, ``"c"``, ``"triton"``) to the reason why the primitive has no such rule.
    `order` is the highest order of derivative that tests check.
    """

    primitive: Primitive
    dtypes: tuple[str, ...]
    samples: SampleMaker
    missing: Mapping[str, str] = _NONE
    order: int = 2


_table: dict[str, Op] = {}


def add(op: Op) -> Primitive:
    """Enter a row and return its primitive."""
    name = op.primitive.name
    if name in _table:
        raise ValueError(f"primitive {name!r} is registered twice")
    _table[name] = op
    return op.primitive


def ops() -> dict[str, Op]:
    """All rows by primitive name."""
    return dict(_table)


def primitives() -> dict[str, Primitive]:
    """All primitives by name, for the jaxpr parser."""
    return {name: op.primitive for name, op in _table.items()}


def random_array(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    low: float = -3.0,
    high: float = 3.0,
) -> np.ndarray[Any, Any]:
    """Random test data: uniform floats in [low, high), integers of that range where they fit."""
    if dtypes.is_bool(dtype):
        return rng.integers(0, 2, shape).astype(bool)
    if dtypes.is_complex(dtype):
        real, imag = rng.uniform(low, high, shape), rng.uniform(low, high, shape)
        return (real + 1j * imag).astype(dtype)
    if dtypes.is_integer(dtype):
        low = 0 if dtypes.is_unsigned(dtype) else np.floor(low)
        return rng.integers(int(low), int(np.ceil(high)) + 1, shape).astype(dtype)
    return rng.uniform(low, high, shape).astype(dtype)
