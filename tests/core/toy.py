"""A few primitives without NumPy layer or transforms, for tests of the core alone."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive, never_weak
from funcdl.errors import ShapeError


class Mode(enum.Enum):
    CLIP = "clip"
    FILL = "fill"


class Window(NamedTuple):
    size: int
    padding: tuple[int, int]


@dataclass(frozen=True)
class Numbers:
    batch: tuple[int, ...] = ()
    window: Window | None = None
    mode: Mode = Mode.CLIP
    cached: int = field(init=False, default=0)


TYPES = {cls.__name__: cls for cls in (Mode, Window, Numbers)}


def _same(*avals: ShapedArray, **params: Any) -> ShapedArray:
    if any(not aval.same_type(avals[0]) for aval in avals):
        raise ShapeError(f"operands must have one type, got {list(avals)}")
    return avals[0]


add = Primitive("add")
add.shape = _same
add.impl = np.add

mul = Primitive("mul")
mul.shape = _same
mul.impl = np.multiply

tag = Primitive("tag-it")
tag.shape = lambda x, **params: x
tag.impl = lambda x, **params: x

cast = Primitive("cast")
cast.shape = lambda x, *, dtype: x.update(dtype=dtype)
cast.impl = lambda x, *, dtype: x.astype(dtype)
cast.weak = never_weak

reduce_sum = Primitive("reduce_sum")
reduce_sum.impl = lambda x, *, axes: x.sum(axes)


def _reduce_shape(x: ShapedArray, *, axes: tuple[int, ...]) -> ShapedArray:
    return x.update(shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


reduce_sum.shape = _reduce_shape

halves = Primitive("halves", multiple_results=True)
halves.shape = lambda x: [x.update(shape=(x.shape[0] // 2, *x.shape[1:]))] * 2
halves.impl = lambda x: np.split(x, 2)

announce = Primitive("announce", multiple_results=True)
announce.shape = lambda *xs: []
announce.impl = lambda *xs: []

call = Primitive("call", multiple_results=True)
call.shape = lambda *xs, jaxpr, **params: [aval.strengthen() for aval in jaxpr.out_avals]
call.weak = never_weak

PRIMITIVES = {p.name: p for p in (add, mul, tag, cast, reduce_sum, halves, announce, call)}


def f32(*shape: int) -> ShapedArray:
    return ShapedArray(shape, np.dtype(dtypes.float32))


def array(*values: float) -> Array:
    return Array(np.array(values, np.float32))


def closed(jaxpr_and_consts: tuple[Any, list[Any]]) -> ClosedJaxpr:
    return ClosedJaxpr(*jaxpr_and_consts)


def zeros(aval: ShapedArray) -> Array:
    return Array(np.zeros(aval.shape, aval.dtype), aval.weak_type)
