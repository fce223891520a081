"""How elementwise functions are made of primitives: promote, broadcast, bind.

Eager calls on small arrays should cost little more than NumPy's, so functions let the compiled
extension serve what NumPy does alike. Without it, binary functions still look first for what needs
no promotion: two arrays of one dtype, or an array and a Python scalar that takes its dtype.
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
Ufuncs = Mapping[str, np.ufunc]
"""For kinds of dtypes, half precision apart, the function of NumPy's that a rule is."""
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
_NONE: Ufuncs = {}


EAGER: dict[Callable[..., Any], Eager] = {}
"""What the functions do that the compiled extension can serve."""


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


def serve(name: str, eager: Eager | None, compute: F) -> F:
    """The function of this name; its calls go to the extension first, where it does the same."""
    if eager is None:
        return compute
    served = dispatch.operator(eager, compute)
    function: Any
    if eager.ufunc.nin == 1:

        def function(x: Any, /) -> Any:
            return served(x)

    else:

        def function(x: Any, y: Any, /) -> Any:
            return served(x, y)

    EAGER[function] = eager
    published: F = function
    return published


def eagerly(rules: Rules, ufuncs: Ufuncs, result: Result) -> Eager | None:
    """What a function does to most kinds of dtypes for which its rule is a ufunc, if to any."""
    served: dict[np.ufunc, str] = {}
    # The magnitude of complex numbers has another dtype, and so no short way.
    for kind in "biuf" if result == "real" else "biufc":
        rule = rules.get(kind)
        ufunc = ufuncs.get(kind)
        if ufunc is None and isinstance(rule, Primitive):
            ufunc = rule.ufuncs.get(kind)
        if ufunc is not None:
            served[ufunc] = served.get(ufunc, "") + kind
    if not served:
        return None
    ufunc = max(served, key=lambda each: len(served[each]))
    return Eager(ufunc, served[ufunc], result == "bool")


def unary(
    name: str, rules: Rules, text: str, result: Result = "same", ufuncs: Ufuncs = _NONE
) -> Unary:
    """An elementwise function of one array; `ufuncs` says what rules are that do not say so."""

    def compute(x: Any, /) -> Any:
        x = array(name, x)
        rule = rules.get(dtypes.kind(x.aval.dtype))
        return refuse(name, x.aval.dtype, rules) if rule is None else rule(x)

    function = serve(name, eagerly(rules, ufuncs, result), compute)
    facts = f"The shape is that of `x`; the dtype is {_RESULTS[result]}."
    return publish(function, name, text, facts, _errors(rules))


def binary(
    name: str, rules: Rules, text: str, result: Result = "same", ufuncs: Ufuncs = _NONE
) -> Binary:
    """An elementwise function of two arrays; its rules get operands of one dtype and shape.

    `ufuncs` says what rules are that do not say so themselves.
    """
    # What can be called at once, and whether its output is weakly typed when the operands are.
    eager: dict[np.dtype[Any], tuple[Any, bool]] = {
        dtype: (rule.impl, rule.weak([True, True]))
        for dtype in dtypes.SUPPORTED
        if isinstance(rule := rules.get(dtypes.kind(dtype)), Primitive)
    }

    def compute(x: Any, y: Any, /) -> Any:
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

    function = serve(name, eagerly(rules, ufuncs, result), compute)
    facts = (
        "Operands are broadcast to one shape and promoted to one dtype.\n"
        f"The dtype is {_RESULTS[result]}."
    )
    errors = f"\n  ShapeError: the shapes do not broadcast.{_errors(rules)}"
    return publish(function, name, text, facts, errors)


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


def publish(function: F, name: str, text: str, facts: str, errors: str) -> F:
    """Give a generated function its name and its docstring."""
    function.__name__ = function.__qualname__ = name
    name_frames(function, name)
    function.__module__ = "funcdl.numpy"
    raises = f"\n\nRaises:\n  LeafTypeError: an operand is no array or scalar.{errors}"
    function.__doc__ = f"{text}\n\nAs `numpy.{name}`. {facts}{raises}"
    return function
