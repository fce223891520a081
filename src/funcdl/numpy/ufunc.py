"""How elementwise functions are made of primitives: promote, broadcast, bind.

Eager calls on small arrays should cost little more than NumPy's, so binary functions first look for
what needs neither promotion nor broadcasting: two arrays of one dtype and shape, or an array and a
Python scalar that takes its dtype. Functions of one array let the compiled extension serve what
NumPy does alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.dispatch import Eager, dispatch
from funcdl.core.primitive import Primitive
from funcdl.core.source import name_frames
from funcdl.core.trace import EvalTrace, context
from funcdl.errors import DtypeError
from funcdl.numpy.promotion import array, broadcast_shapes, convert, promote, strong

Unary = Callable[[Any], Any]
Binary = Callable[[Any, Any], Any]
Rule = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])
Rules = Mapping[str, Rule]
"""For each kind of dtype (``"b"``, ``"i"``, ``"u"``, ``"f"``, ``"c"``) what computes the result."""

Result = Literal["same", "integer", "float", "real", "bool"]
"""How the dtype of a result follows from that of the operands."""

_RESULTS: dict[Result, str] = {
    "same": "kept",
    "integer": "kept, but bools become integers",
    "float": "kept, but integers and bools become floats",
    "real": "kept, but complex numbers become real",
    "bool": "bool",
}
_KIND_NAMES = {
    "b": "bool",
    "i": "signed integers",
    "u": "unsigned integers",
    "f": "floats",
    "c": "complex numbers",
}
_INEXACT = frozenset(filter(dtypes.is_inexact, dtypes.SUPPORTED))
_SIGNED = frozenset(filter(dtypes.is_signed, dtypes.SUPPORTED))


EAGER: dict[str, Eager] = {}
"""The functions of one array, by name, that the compiled extension can serve."""


def kinds(letters: str, rule: Rule) -> dict[str, Rule]:
    """The same rule for several kinds."""
    return dict.fromkeys(letters, rule)


def inexact(rule: Rule) -> Rule:
    """A rule that converts its operands, integers or bools of one dtype, to floats first."""

    def converted(*xs: Any) -> Any:
        dtype = dtypes.to_inexact(xs[0].aval.dtype)
        return rule(*(convert(x, dtype, x.aval.weak_type) for x in xs))

    return converted


def numeric(rule: Rule) -> Rule:
    """A rule that converts its operands, bools, to the default integer type first."""

    def converted(*xs: Any) -> Any:
        dtype = dtypes.default_dtype("i")
        return rule(*(convert(x, dtype) for x in xs))

    return converted


def unary(name: str, rules: Rules, text: str, result: Result = "same") -> Unary:
    """An elementwise function of one array."""

    def compute(x: Any, /) -> Any:
        x = array(name, x)
        rule = rules.get(dtypes.kind(x.aval.dtype))
        return refuse(name, x.aval.dtype, rules) if rule is None else rule(x)

    eager = _eager(rules, result)
    served = compute
    if eager is not None:
        EAGER[name] = eager
        served = dispatch.operator(eager, compute)

    def function(x: Any, /) -> Any:
        return served(x)

    facts = f"The shape is that of `x`; the dtype is {_RESULTS[result]}."
    return _publish(function, name, text, facts, _errors(rules))


def _eager(rules: Rules, result: Result) -> Eager | None:
    """What a function of one array does to dtypes for which its rule is a ufunc, if to any."""
    # The magnitude of complex numbers has another dtype, and so no short way.
    candidates = "biuf" if result == "real" else "biufc"
    for rule in rules.values():
        if isinstance(rule, Primitive) and rule.ufunc is not None:
            served = "".join(kind for kind in candidates if rules.get(kind) is rule)
            return Eager(rule.ufunc, served, result == "bool")
    return None


def binary(name: str, rules: Rules, text: str, result: Result = "same") -> Binary:
    """An elementwise function of two arrays; its rules get operands of one dtype and shape."""
    # What can be called at once, and whether its output is weakly typed when the operands are.
    eager: dict[np.dtype[Any], tuple[Any, bool]] = {
        dtype: (rule.impl, rule.weak([True, True]))
        for dtype in dtypes.SUPPORTED
        if isinstance(rule := rules.get(dtypes.kind(dtype)), Primitive)
    }

    def function(x: Any, y: Any, /) -> Any:
        if type(context.trace) is EvalTrace:  # and not the one that looks for NaNs
            left, right = type(x), type(y)
            if left is Array and right is Array:
                a, b = x.value, y.value
                dtype = a.dtype
                if dtype is b.dtype and (known := eager.get(dtype)) is not None:
                    if a.shape != b.shape:
                        shape = broadcast_shapes(a.shape, b.shape, name=name)
                        a, b = _stretch(a, shape), _stretch(b, shape)
                    return Array(known[0](a, b), x.weak_type and y.weak_type and known[1])
            elif left is Array:
                a = x.value
                dtype = a.dtype
                if (known := eager.get(dtype)) is not None and _keeps_dtype(right, y, dtype):
                    b = _repeat(y, dtype, a.shape)
                    return Array(known[0](a, b), x.weak_type and known[1])
            elif right is Array:
                b = y.value
                dtype = b.dtype
                if (known := eager.get(dtype)) is not None and _keeps_dtype(left, x, dtype):
                    a = _repeat(x, dtype, b.shape)
                    return Array(known[0](a, b), y.weak_type and known[1])
        x, y = promote(name, x, y)
        rule = rules.get(dtypes.kind(x.aval.dtype))
        if rule is None:
            refuse(name, x.aval.dtype, rules)
        if x.aval.weak_type != y.aval.weak_type and not isinstance(rule, Primitive):
            # Rules need not use both operands in all they do, and the result is not weak.
            x, y = strong(x), strong(y)
        return rule(x, y)

    facts = (
        "Operands are broadcast to one shape and promoted to one dtype.\n"
        f"The dtype is {_RESULTS[result]}."
    )
    errors = f"\n  ShapeError: the shapes do not broadcast.{_errors(rules)}"
    return _publish(function, name, text, facts, errors)


def _keeps_dtype(kind: type, scalar: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a Python scalar surely takes an array's dtype."""
    if kind is int:
        return dtype in _INEXACT or (-128 <= scalar < 128 and dtype in _SIGNED)
    return kind is float and dtype in _INEXACT


def _stretch(x: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A view of this shape; `np.broadcast_to` takes ten times as long for small arrays."""
    if x.shape == shape:
        return x
    if x.size == 0 or 0 in shape:
        return np.empty(shape, x.dtype)
    x = np.ascontiguousarray(x)
    missing = len(shape) - x.ndim
    kept = [0 if size == 1 else step for size, step in zip(x.shape, x.strides, strict=True)]
    return np.ndarray(shape, x.dtype, x, 0, [0] * missing + kept)


def _repeat(value: float, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array full of one number, without its memory (all strides are zero)."""
    scalar = np.array(value, dtype)
    return np.ndarray(shape, dtype, scalar, 0, (0,) * len(shape)) if shape else scalar


def refuse(name: str, dtype: np.dtype[Any], rules: Rules) -> NoReturn:
    """Raise `DtypeError`: a function has no rule for this dtype."""
    accepted = ", ".join(text for kind, text in _KIND_NAMES.items() if kind in rules)
    raise DtypeError(
        f"{name} does not accept operands of dtype {dtype.name}; it takes {accepted}.\n"
        "Convert them with astype first."
    )


def _errors(rules: Rules) -> str:
    """A line of a docstring: the error for dtypes without a rule, if there are any."""
    refused = [text for kind, text in _KIND_NAMES.items() if kind not in rules]
    return f"\n  DtypeError: an operand holds {' or '.join(refused)}." if refused else ""


def _publish(function: F, name: str, text: str, facts: str, errors: str) -> F:
    function.__name__ = function.__qualname__ = name
    name_frames(function, name)
    function.__module__ = "funcdl.numpy"
    raises = f"\n\nRaises:\n  LeafTypeError: an operand is no array or scalar.{errors}"
    function.__doc__ = f"{text}\n\nAs `numpy.{name}`. {facts}{raises}"
    return function
