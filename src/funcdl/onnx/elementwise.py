"""Rules of the elementwise primitives, comparisons, choices and conversions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import ANY, FLOATS, INTEGERS, Kinds
from funcdl.onnx.graph import BOOL, Graph, Value
from funcdl.onnx.rules import Unsupported, aval, rule
from funcdl.ops.arithmetic import by_squaring

_SIGNED: Kinds = FLOATS | {"i8", "i16", "i32", "i64"}

# Operators that mean what the primitives mean, and the dtypes for which they can be had.
_SAME: dict[str, tuple[str, Kinds]] = {
    "add": ("Add", ANY),
    "sub": ("Sub", ANY),
    "mul": ("Mul", ANY),
    "abs": ("Abs", ANY),
    "sign": ("Sign", INTEGERS | {"f32", "f64"}),  # of NaN in halves onnxruntime makes 0
    "floor": ("Floor", FLOATS),
    "ceil": ("Ceil", FLOATS),
    "sqrt": ("Sqrt", FLOATS),
    "exp": ("Exp", FLOATS),
    "log": ("Log", FLOATS),
    "tanh": ("Tanh", FLOATS),
    "logistic": ("Sigmoid", FLOATS),
    "erf": ("Erf", FLOATS),
    "sin": ("Sin", FLOATS),
    "cos": ("Cos", FLOATS),
    "tan": ("Tan", FLOATS),
    "asin": ("Asin", FLOATS),
    "acos": ("Acos", FLOATS),
    "atan": ("Atan", FLOATS),
    "sinh": ("Sinh", FLOATS),
    "cosh": ("Cosh", FLOATS),
    "asinh": ("Asinh", FLOATS),
    "acosh": ("Acosh", FLOATS),
    "atanh": ("Atanh", FLOATS),
}
_COMPARISONS = {
    "eq": "Equal",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
}
_LOGIC = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


@rule(*_SAME, broadcasts=True)
def _same(g: Graph, eqn: Eqn, *xs: Value) -> Value:
    op, kinds = _SAME[eqn.primitive.name]
    return g.apply(op, *xs, kinds=kinds)


@rule(*_COMPARISONS, "ne", broadcasts=True)
def _compare(g: Graph, eqn: Eqn, x: Value, y: Value) -> Value:
    name = eqn.primitive.name
    if name == "ne":
        return g.apply(
            "Not", g.apply("Equal", x, y, kinds=ANY | {"bool"}, dtype=BOOL), kinds=_TRUTH
        )
    kinds = ANY | {"bool"} if name == "eq" else ANY
    return g.apply(_COMPARISONS[name], x, y, kinds=kinds, dtype=BOOL)


_TRUTH: Kinds = frozenset({"bool"})


@rule(*_LOGIC, broadcasts=True)
def _logic(g: Graph, eqn: Eqn, *xs: Value) -> Value:
    op = _LOGIC[eqn.primitive.name]
    if xs[0].dtype == BOOL:
        return g.apply(op, *xs, kinds=_TRUTH)
    return g.apply(f"Bitwise{op}", *xs, kinds=INTEGERS)


@rule("max", "min", broadcasts=True)
def _extreme(g: Graph, eqn: Eqn, x: Value, y: Value) -> Value:
    is_max = eqn.primitive.name == "max"
    if x.dtype == BOOL:
        return g.apply("Or" if is_max else "And", x, y, kinds=_TRUTH)
    return g.extreme("Max" if is_max else "Min", x, y)


@rule("neg", broadcasts=True)
def _neg(g: Graph, eqn: Eqn, x: Value) -> Value:
    if dtypes.is_unsigned(x.dtype):
        return g.apply("Sub", g.constant(0, x.dtype), x)
    return g.apply("Neg", x, kinds=_SIGNED)


@rule("square", broadcasts=True)
def _square(g: Graph, eqn: Eqn, x: Value) -> Value:
    return g.apply("Mul", x, x)


@rule("integer_pow", broadcasts=True)
def _integer_pow(g: Graph, eqn: Eqn, x: Value) -> Value:
    y = eqn.params["y"]
    one = g.constant(1, x.dtype)
    one = Value(one.name, one.dtype, x.shape, ())
    power = by_squaring(x, abs(y), one, lambda a, b: g.apply("Mul", a, b))
    return g.apply("Reciprocal", power, kinds=FLOATS) if y < 0 else power


@rule("pow", broadcasts=True)
def _pow(g: Graph, eqn: Eqn, x: Value, y: Value) -> Value:
    if dtypes.is_integer(x.dtype):
        raise Unsupported("ONNX runtimes compute powers of integers in floats; convert them first")
    return g.apply("Pow", x, y, kinds=FLOATS)


def _safe_divisor(g: Graph, y: Value) -> tuple[Value, Value | None, Value | None]:
    """A divisor that hardware survives, and where it was 0 and -1: None where it never is."""
    known = g.known(y)
    zero = minus = None
    one = g.constant(1, y.dtype)
    safe = y
    if known is None or (known == 0).any():
        zero = _equal(g, y, g.constant(0, y.dtype))
        safe = g.where(zero, one, safe)
    if dtypes.is_signed(y.dtype) and (known is None or (known == -1).any()):
        minus = _equal(g, y, g.constant(-1, y.dtype))
        safe = g.where(minus, one, safe)
    return safe, zero, minus


@rule("div", broadcasts=True)
def _div(g: Graph, eqn: Eqn, x: Value, y: Value) -> Value:
    if not dtypes.is_integer(x.dtype):
        return g.apply("Div", x, y, kinds=FLOATS)
    safe, zero, minus = _safe_divisor(g, y)
    out = g.apply("Div", x, safe)
    if minus is not None:
        out = g.where(minus, g.apply("Neg", x, kinds=_SIGNED), out)
    if zero is not None:
        out = g.where(zero, g.constant(np.invert(x.dtype.type(0))), out)
    return out


@rule("rem", broadcasts=True)
def _rem(g: Graph, eqn: Eqn, x: Value, y: Value) -> Value:
    if not dtypes.is_integer(x.dtype):
        return g.apply("Mod", x, y, kinds=FLOATS, fmod=1)
    safe, zero, _ = _safe_divisor(g, y)
    if x.dtype.itemsize == 8:  # that operator goes through float64
        out = g.apply("Sub", x, g.apply("Mul", safe, g.apply("Div", x, safe)))
    else:
        out = g.apply("Mod", x, safe, fmod=1)
    return out if zero is None else g.where(zero, x, out)


@rule("round", broadcasts=True)
def _round(g: Graph, eqn: Eqn, x: Value) -> Value:
    if eqn.params["rounding_method"]:
        return g.apply("Round", x, kinds=FLOATS)
    size = g.apply("Abs", x)
    down = g.apply("Floor", size, kinds=FLOATS)
    rest = g.apply("Sub", size, down)
    up = g.apply("GreaterOrEqual", rest, g.constant(0.5, x.dtype), dtype=BOOL)
    return g.apply("Mul", g.apply("Sign", x), g.apply("Add", down, g.cast(up, x.dtype)))


@rule("is_finite", broadcasts=True)
def _is_finite(g: Graph, eqn: Eqn, x: Value) -> Value:
    # False for NaN, as every comparison.
    return g.apply("Less", g.apply("Abs", x), g.constant(np.inf, x.dtype), dtype=BOOL)


@rule("rsqrt", broadcasts=True)
def _rsqrt(g: Graph, eqn: Eqn, x: Value) -> Value:
    return g.apply("Reciprocal", g.apply("Sqrt", x, kinds=FLOATS), kinds=FLOATS)


def _in_single(g: Graph, x: Value) -> Value:
    """A half as float32, for formulas of several steps."""
    return g.cast(x, np.float32) if x.dtype in dtypes.HALF else x


@rule("exp2", broadcasts=True)
def _exp2(g: Graph, eqn: Eqn, x: Value) -> Value:
    return g.apply("Pow", g.constant(2, x.dtype), x, kinds=FLOATS)


@rule("cbrt", broadcasts=True)
def _cbrt(g: Graph, eqn: Eqn, x: Value) -> Value:
    wide = _in_single(g, x)
    root = g.apply("Pow", g.apply("Abs", wide), g.constant(1 / 3, wide.dtype))
    return g.cast(g.apply("Mul", g.apply("Sign", wide), root), x.dtype)


@rule("erfc", broadcasts=True)
def _erfc(g: Graph, eqn: Eqn, x: Value) -> Value:
    wide = _in_single(g, x)
    return g.cast(g.apply("Sub", g.constant(1, wide.dtype), g.apply("Erf", wide)), x.dtype)


@rule("log1p", "expm1", broadcasts=True)
def _near_zero(g: Graph, eqn: Eqn, x: Value) -> Value:
    """By a quotient in which the rounding error of the sum cancels.

    See W. Kahan in N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 1.14.1.
    """
    wide = _in_single(g, x)
    one, infinity = g.constant(1, wide.dtype), g.constant(np.inf, wide.dtype)
    if eqn.primitive.name == "log1p":
        u = g.apply("Add", wide, one)
        log = g.apply("Log", u)
        out = g.apply("Mul", log, g.apply("Div", wide, g.apply("Sub", u, one)))
        ends = ((u, infinity, log), (u, g.constant(0, wide.dtype), log))
    else:
        u = g.apply("Exp", wide)
        less = g.apply("Sub", u, one)
        out = g.apply("Mul", less, g.apply("Div", wide, g.apply("Log", u)))
        ends = ((u, infinity, u), (less, g.constant(-1, wide.dtype), less))
    out = g.where(_equal(g, u, one), wide, out)
    # At the ends of the range the quotient is no number.
    for x_end, end, value in ends:
        out = g.where(_equal(g, x_end, end), value, out)
    return g.cast(out, x.dtype)


@rule("atan2", broadcasts=True)
def _atan2(g: Graph, eqn: Eqn, y: Value, x: Value) -> Value:
    narrow = x.dtype
    x, y = _in_single(g, x), _in_single(g, y)
    infinity = g.constant(np.inf, x.dtype)
    infinite = [_equal(g, g.apply("Abs", v), infinity) for v in (x, y)]
    both = g.apply("And", *infinite, kinds=_TRUTH)
    x, y = (g.where(both, g.apply("Sign", v), v) for v in (x, y))
    left, below = _is_negative(g, x), _is_negative(g, y)
    turn = g.where(below, g.constant(-math.pi, x.dtype), g.constant(math.pi, x.dtype))
    angle = g.apply("Atan", g.apply("Div", y, x))
    angle = g.where(left, g.apply("Add", angle, turn), angle)
    zero = g.constant(0, x.dtype)
    origin = g.apply("And", _equal(g, x, zero), _equal(g, y, zero), kinds=_TRUTH)
    return g.cast(g.where(origin, g.where(left, turn, y), angle), narrow)


def _equal(g: Graph, x: Value, y: Value) -> Value:
    return g.apply("Equal", x, y, dtype=BOOL)


def _is_negative(g: Graph, x: Value) -> Value:
    """Whether the sign is set; that of zero shows in its reciprocal."""
    zero = g.constant(0, x.dtype)
    inverse = g.apply("Div", g.constant(1, x.dtype), x)
    return g.apply("Less", g.where(_equal(g, x, zero), inverse, x), zero, dtype=BOOL)


@rule("clamp", broadcasts=True)
def _clamp(g: Graph, eqn: Eqn, low: Value, x: Value, high: Value) -> Value:
    return g.extreme("Min", g.extreme("Max", x, low), high)


@rule("select_n", broadcasts=True)
def _select_n(g: Graph, eqn: Eqn, which: Value, *cases: Value) -> Value:
    if which.dtype == BOOL:
        return cases[0] if len(cases) == 1 else g.where(which, cases[1], cases[0])
    out = cases[-1]
    for i in range(len(cases) - 2, -1, -1):
        chosen = _equal(g, which, g.constant(i, which.dtype))
        out = g.where(chosen, cases[i], out)
    return out


@rule("convert_element_type", broadcasts=True)
def _convert(g: Graph, eqn: Eqn, x: Value) -> Value:
    return g.cast(x, eqn.params["new_dtype"])


@rule("bitcast_convert_type", broadcasts=True)
def _bitcast(g: Graph, eqn: Eqn, x: Value) -> Value:
    new = eqn.params["new_dtype"]
    if x.dtype != new and not (dtypes.is_integer(x.dtype) and dtypes.is_integer(new)):
        raise Unsupported("ONNX has no operator that reads the bits of floats")
    return g.cast(x, new)


@rule("reduce_precision", broadcasts=True)
def _reduce_precision(g: Graph, eqn: Eqn, x: Value) -> Value:
    wanted = (eqn.params["exponent_bits"], eqn.params["mantissa_bits"])
    info = dtypes.finfo(x.dtype)
    if wanted[0] >= info.iexp and wanted[1] >= info.nmant:
        return x
    if wanted == (8, 7) and x.dtype == np.float32:
        return g.cast(g.cast(x, dtypes.bfloat16), x.dtype)
    raise Unsupported(f"a format of {wanted[0]} and {wanted[1]} bits, which ONNX cannot round to")


@rule("copy", "stop_gradient", "checkpoint_name", "key_use", broadcasts=True)
def _same_value(g: Graph, eqn: Eqn, x: Value) -> Value:
    return x


@rule("optimization_barrier", broadcasts=True)
def _barrier(g: Graph, eqn: Eqn, x: Value, *after: Value) -> Value:
    return x


@rule("iota", broadcasts=True)
def _iota(g: Graph, eqn: Eqn) -> Value:
    out = aval(eqn)
    shape, dimension = out.shape, eqn.params["dimension"]
    own = [1] * len(shape)
    own[dimension] = shape[dimension]
    counted: Any = np.arange(shape[dimension])
    made = g.constant(counted.astype(out.dtype).reshape(own))
    return Value(made.name, out.dtype, shape, tuple(own))
