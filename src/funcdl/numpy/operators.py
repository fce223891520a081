"""Operators and methods of arrays and tracers, installed into their common base class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.core.array import Array, ArrayOperators, install_operators
from funcdl.core.dispatch import Eager, dispatch
from funcdl.numpy import (
    arithmetic,
    functions,
    logic,
    products,
    reductions,
    searching,
    shaping,
    sorting,
    statistics,
)
from funcdl.numpy.creation import astype, canonical
from funcdl.numpy.indexing import getitem, take
from funcdl.numpy.matrices import diagonal, trace
from funcdl.numpy.repetition import repeat
from funcdl.numpy.ufunc import EAGER
from funcdl.numpy.updates import IndexUpdateHelper
from funcdl.ops.convert import bitcast_convert_type

_FAST = frozenset([Array, float, int])
_OPERANDS = (ArrayOperators, int, float, complex, np.ndarray, np.generic)


def _accepts(x: Any) -> bool:
    """Whether an operator takes `x`; if not, Python asks `x`, then raises `TypeError`."""
    return type(x) in _FAST or isinstance(x, _OPERANDS) or hasattr(x, "__funcdl_array__")


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: function(self)


def _operator(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return function(self, other) if _accepts(other) else NotImplemented

    return method


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return function(other, self) if _accepts(other) else NotImplemented

    return method


def _equality(sign: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if _accepts(other):
            return function(self, other)
        # Else Python answers by identity: False for a list of the same numbers.
        if isinstance(other, list | tuple | dict):
            raise TypeError(
                f"unsupported operand types for {sign}: an array and a {type(other).__name__}. "
                "Make an array of its numbers with funcdl.numpy.array, or compare pytrees leaf by "
                "leaf"
            )
        return NotImplemented

    return method


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.true_divide,
    "floordiv": arithmetic.floor_divide,
    "mod": arithmetic.remainder,
    "divmod": arithmetic.divmod,
    "pow": arithmetic.power,
    "matmul": products.matmul,
    "and": logic.bitwise_and,
    "or": logic.bitwise_or,
    "xor": logic.bitwise_xor,
    "lshift": logic.left_shift,
    "rshift": logic.right_shift,
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": logic.equal,
    "ne": logic.not_equal,
    "lt": logic.less,
    "le": logic.less_equal,
    "gt": logic.greater,
    "ge": logic.greater_equal,
}
_EQUALITIES = {"eq": "==", "ne": "!="}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": arithmetic.negative,
    "pos": arithmetic.positive,
    "abs": arithmetic.abs,
    "invert": logic.invert,
}
EAGER_METHODS: dict[str, Eager] = {
    name: EAGER[function]
    for name, function in (_UNARY | _BINARY | _COMPARISONS).items()
    if function in EAGER
}
"""What operators do to NumPy arrays of one type, where the compiled extension can serve them."""


def _reshape(self: Any, *shape: Any, order: str = "C") -> Any:
    """`funcdl.numpy.reshape`; the sizes can be given one by one."""
    return shaping.reshape(self, shape[0] if len(shape) == 1 else shape, order)


def _transpose(self: Any, *axes: Any) -> Any:
    """`funcdl.numpy.transpose`; the axes can be given one by one."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        return shaping.transpose(self, axes[0])
    return shaping.transpose(self, axes or None)


def _clip(self: Any, min: Any = None, max: Any = None) -> Any:
    """`funcdl.numpy.clip`."""
    return arithmetic.clip(self, min, max)


def _round(self: Any, decimals: int | None = None) -> Any:
    """`funcdl.numpy.round`."""
    return arithmetic.round(self, 0 if decimals is None else decimals)


def _rounded(self: Any, ndigits: int | None = None) -> Any:
    """Python's `round`: integers, unless the number of digits is given."""
    out = _round(self, ndigits)
    return astype(out, int) if ndigits is None else out


def _copy(self: Any) -> Any:
    """The array itself: arrays are immutable."""
    return self


def _view(self: Any, dtype: Any = None, type: None = None) -> Any:
    """The same bits as elements of another dtype of equal width (see `jax.Array.view`).

    Bools are taken for bytes.
    """
    wanted = self.aval.dtype if dtype is None else canonical(dtype)
    if wanted == self.aval.dtype:
        return self
    bits = astype(self, np.uint8) if self.aval.dtype == np.bool_ else self
    if wanted == np.bool_:
        return logic.not_equal(bitcast_convert_type(bits, new_dtype=np.dtype(np.uint8)), 0)
    return bits if bits.aval.dtype == wanted else bitcast_convert_type(bits, new_dtype=wanted)


def _compress(self: Any, condition: Any, axis: int | None = None, **options: Any) -> Any:
    """`funcdl.numpy.compress`."""
    return searching.compress(condition, self, axis, **options)


def _array_namespace(self: Any, *, api_version: str | None = None) -> Any:
    """The module of array functions, as the Python array API standard asks for."""
    import funcdl.numpy

    return funcdl.numpy


def _contains(self: Any, value: Any) -> bool:
    return bool(reductions.any(logic.equal(self, value)))


_METHODS: dict[str, Any] = {
    "all": reductions.all,
    "any": reductions.any,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "argpartition": sorting.argpartition,
    "argsort": sorting.argsort,
    "astype": astype,
    "clip": _clip,
    "compress": _compress,
    "conj": functions.conjugate,
    "conjugate": functions.conjugate,
    "copy": _copy,
    "cumprod": reductions.cumprod,
    "cumsum": reductions.cumsum,
    "diagonal": diagonal,
    "dot": products.dot,
    "flatten": shaping.ravel,
    "max": reductions.max,
    "mean": statistics.mean,
    "min": reductions.min,
    "nonzero": searching.nonzero,
    "prod": reductions.prod,
    "ptp": statistics.ptp,
    "ravel": shaping.ravel,
    "repeat": repeat,
    "reshape": _reshape,
    "round": _round,
    "searchsorted": searching.searchsorted,
    "sort": sorting.sort,
    "squeeze": shaping.squeeze,
    "std": statistics.std,
    "sum": reductions.sum,
    "swapaxes": shaping.swapaxes,
    "take": take,
    "trace": trace,
    "transpose": _transpose,
    "var": statistics.var,
    "view": _view,
}

_PROPERTIES: dict[str, Callable[[Any], Any]] = {
    "at": IndexUpdateHelper,
    "T": shaping.transpose,
    "mT": shaping.matrix_transpose,
    "real": functions.real,
    "imag": functions.imag,
}


def _table() -> dict[str, Any]:
    table: dict[str, Any] = {
        "__getitem__": getitem,
        "__contains__": _contains,
        "__array_namespace__": _array_namespace,
        "__round__": _rounded,
    }
    for name, unary in _UNARY.items():
        table[f"__{name}__"] = _unary(unary)
    for name, function in _BINARY.items():
        table[f"__{name}__"] = _operator(function)
        table[f"__r{name}__"] = _reflected(function)
    for name, function in _COMPARISONS.items():
        sign = _EQUALITIES.get(name)
        table[f"__{name}__"] = _equality(sign, function) if sign else _operator(function)
    for name, eager in EAGER_METHODS.items():
        table[f"__{name}__"] = dispatch.operator(eager, table[f"__{name}__"])
        if name in _BINARY:
            table[f"__r{name}__"] = dispatch.operator(eager, table[f"__r{name}__"], True)
    table |= _METHODS
    table |= {name: property(getter) for name, getter in _PROPERTIES.items()}
    return table


install_operators(_table())
