"""Abstract values: what is known of an array while a function is traced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.integers import integers

Shape = tuple[int, ...]


class ShapedArray:
    """Shape, element type and weak-type flag of an array (the name and meaning are JAX's).

    A weakly typed value came from Python scalars only and takes the other operand's dtype when
    combined. Prints as ``f32[3,4]``, with ``~`` in front when weakly typed.
    """

    __slots__ = ("_hash", "dtype", "shape", "weak_type")

    def __init__(self, shape: Shape, dtype: np.dtype[Any], weak_type: bool = False) -> None:
        self.shape = shape
        self.dtype = dtype
        self.weak_type = weak_type
        self._hash: int | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def update(
        self,
        shape: Shape | None = None,
        dtype: np.dtype[Any] | None = None,
        weak_type: bool | None = None,
    ) -> ShapedArray:
        """A copy with some fields replaced."""
        return ShapedArray(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else dtype,
            self.weak_type if weak_type is None else weak_type,
        )

    def strengthen(self) -> ShapedArray:
        """The same aval without the weak-type flag."""
        return self.update(weak_type=False) if self.weak_type else self

    def to_tangent(self) -> ShapedArray:
        """The aval of a tangent or cotangent: the same, or float0 where there is no derivative."""
        if dtypes.is_inexact(self.dtype):
            return self
        return ShapedArray(self.shape, dtypes.float0)

    def same_type(self, other: ShapedArray) -> bool:
        """Equal shape and dtype, weak types apart."""
        return self.shape == other.shape and self.dtype == other.dtype

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ShapedArray)
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak_type == other.weak_type
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.shape, self.dtype, self.weak_type))
        return self._hash

    def __repr__(self) -> str:
        weak = "~" if self.weak_type else ""
        return f"{weak}{dtypes.short_name(self.dtype)}[{','.join(map(str, self.shape))}]"


class Typed:
    """What its `aval` tells of a value."""

    __slots__ = ()

    @property
    def aval(self) -> ShapedArray:
        raise AssertionError(type(self).__name__)

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return math.prod(self.aval.shape)


class ShapeDtypeStruct:
    """A stand-in for an array where only shape and dtype matter (see `jax.ShapeDtypeStruct`).

    Args:
      shape: the array's shape.
      dtype: anything that names a dtype.
      weak_type: whether the array would be weakly typed.
    """

    __slots__ = ("dtype", "shape", "weak_type")

    def __init__(self, shape: Any, dtype: Any, *, weak_type: bool = False) -> None:
        self.shape: Shape = integers("ShapeDtypeStruct: shape", shape)
        self.dtype = dtypes.canonicalize(dtypes.as_dtype(dtype))
        self.weak_type = weak_type

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def aval(self) -> ShapedArray:
        return ShapedArray(self.shape, self.dtype, self.weak_type)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and self.aval == other.aval

    def __hash__(self) -> int:
        return hash(self.aval)

    def __repr__(self) -> str:
        weak = ", weak_type=True" if self.weak_type else ""
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype.name}{weak})"
