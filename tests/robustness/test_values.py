"""Operands without a mathematical result: each has a documented one, the same on every back end.

The values are those of docs/robustness.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.runtime.toolchain import find_compiler

LOW, HIGH = -(2**31), 2**31 - 1
NAN, INF = float("nan"), float("inf")


def ints(*values: int, dtype: Any = np.int32) -> Any:
    return np.array(values, dtype)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


# What is called, its operands, and what comes out.
Row = tuple[Callable[..., Any], tuple[Any, ...], Sequence[float]]
X, ZERO = ints(7, -7, 0, LOW, LOW, HIGH), ints(0, 0, 0, 0, -1, -1)
ROWS: dict[str, Row] = {
    "div": (lax.div, (X, ZERO), [-1, -1, -1, -1, LOW, -HIGH]),
    "rem": (lax.rem, (X, ZERO), [7, -7, 0, LOW, 0, 0]),
    "floor division": (lambda x, y: x // y, (X, ZERO), [-1, -2, -1, -2, LOW, -HIGH]),
    "modulo": (lambda x, y: x % y, (X, ZERO), [0, 0, 0, 0, 0, 0]),
    "true division": (lambda x, y: x / y, (X[:3], ZERO[:3]), [INF, -INF, NAN]),
    "unsigned div": (lax.div, (ints(7, 0, dtype=np.uint8), ints(0, 0, dtype=np.uint8)), [255, 255]),
    "unsigned rem": (lax.rem, (ints(7, 0, dtype=np.uint8), ints(0, 0, dtype=np.uint8)), [7, 0]),
    "8-bit MIN / -1": (lax.div, (ints(-128, dtype=np.int8), ints(-1, dtype=np.int8)), [-128]),
    "negative MIN": (lambda x: -x, (ints(LOW),), [LOW]),
    "absolute MIN": (abs, (ints(LOW),), [LOW]),
    "sum wraps": (lambda x: x + 1, (ints(HIGH),), [LOW]),
    "reduction wraps": (lambda x: x.sum()[None], (ints(HIGH, 1),), [LOW]),
    "shift left": (lambda x, y: x << y, (ints(1, 1, 1, 1), ints(31, 32, -1, LOW)), [LOW, 0, 0, 0]),
    "shift right": (lambda x, y: x >> y, (ints(5, -5, -5, -5), ints(32, 31, 99, -1)),
                    [0, -1, -1, -1]),
    "logical shift right": (lax.shift_right_logical, (ints(-1, -1, -1), ints(31, 32, -1)),
                            [1, 0, 0]),
    "8-bit shift": (lambda x, y: x << y, (ints(1, 1, dtype=np.uint8), ints(7, 8, dtype=np.uint8)),
                    [128, 0]),
    "float to int": (lambda x: x.astype(np.int32), (floats(NAN, INF, -INF, 3e9, -2.7),),
                     [0, HIGH, LOW, HIGH, -2]),
    "float to unsigned": (lambda x: x.astype(np.uint8), (floats(NAN, -1, 256, 255.9),),
                          [0, 0, 255, 255]),
    "log and sqrt": (lambda x: fnp.log(x) + fnp.sqrt(x), (floats(-1, INF),), [NAN, INF]),
    "empty maximum of rows": (lambda x: x.sum(1), (np.zeros((2, 0), np.float32),), [0, 0]),
}  # fmt: skip

A = floats(10, 11, 12, 13, 14)
AT = ints(0, 4, 5, -1, -5, -6, HIGH, LOW)
WRAPPED = [10, 14, 14, 14, 10, 10, 14, 10]
FILLED = [10, 14, NAN, 14, 10, NAN, NAN, NAN]
ROWS |= {
    "x[i]": (lambda a, i: a[i], (A, AT), WRAPPED),
    "take": (lambda a, i: fnp.take(a, i), (A, AT), FILLED),
    "take clip": (lambda a, i: fnp.take(a, i, mode="clip"), (A, AT),
                  [10, 14, 14, 10, 10, 10, 14, 10]),
    "take wrap": (lambda a, i: fnp.take(a, i, mode="wrap"), (A, AT),
                  [10, 14, 10, 14, 10, 14, 12, 12]),
    "take of 8-bit": (lambda a, i: a[i], (A, ints(255, 128, 3, dtype=np.uint8)), [14, 14, 13]),
    "take of 64-bit": (lambda a, i: a[i], (A, ints(2**40, -(2**40), 2**63 - 1, dtype=np.int64)),
                       [14, 10, 14]),
    "take_along_axis": (lambda a, i: fnp.take_along_axis(a, i, 0), (A, AT), FILLED),
    "dynamic_slice": (lambda a, i: fnp.stack([lax.dynamic_slice(a, (i[k],), (2,))[0]
                                              for k in range(4)]),
                      (A, ints(-100, -1, 4, LOW)), [10, 13, 13, 10]),
    "dynamic_update_slice": (lambda a, i: lax.dynamic_update_slice(a, fnp.zeros(2), (i[0],)),
                             (A, ints(HIGH)), [10, 11, 12, 0, 0]),
    "one_hot": (lambda i: fd.nn.one_hot(i, 2).sum(0), (ints(0, 9, -1),), [1, 0]),
    "bincount": (lambda i: fnp.bincount(i, length=3), (ints(0, 9, -1, 2),), [2, 0, 1]),
}  # fmt: skip
_mode: str | None
for _mode in ("promise_in_bounds", "clip"):
    ROWS[f"get {_mode}"] = (lambda a, i, m=_mode: a.at[i].get(mode=m), (A, AT), WRAPPED)
ROWS["add clip"] = (
    lambda a, i: a.at[i].add(1, mode="clip"), (A, AT[:3]), [11, 11, 12, 13, 16],
)  # fmt: skip
for _mode in ("fill", "drop"):
    ROWS[f"get {_mode}"] = (lambda a, i, m=_mode: a.at[i].get(mode=m), (A, AT), FILLED)
for _mode in ("fill", "drop", "promise_in_bounds", None):
    for _name, _wanted in (
        ("set", [1, 11, 12, 13, 1]), ("add", [12, 11, 12, 13, 16]), ("multiply", list(A)),
        ("min", [1, 11, 12, 13, 1]), ("max", list(A)),
    ):  # fmt: skip
        ROWS[f"{_name} {_mode}"] = (
            lambda a, i, n=_name, m=_mode: getattr(a.at[i], n)(1, mode=m), (A, AT), _wanted,
        )  # fmt: skip

BACKENDS = ["eager", "reference"] + ["cpu"] * (find_compiler() is not None)


@pytest.mark.parametrize("name", ROWS)
def test_what_has_no_value_gets_the_documented_one(name: str) -> None:
    function, operands, wanted = ROWS[name]
    with fd.config.override(x64="explicit"):
        arrays = [fnp.asarray(x) for x in operands]
        for backend in BACKENDS:
            with fd.config.override(backend="cpu" if backend == "eager" else backend):
                run = function if backend == "eager" else fd.jit(function)
                found = np.asarray(run(*arrays))
            np.testing.assert_array_equal(found.astype(float), wanted, f"{name}, {backend}")


def test_gradients_of_updates_out_of_range_are_zero() -> None:
    def f(values: Any) -> Any:
        return fnp.asarray(A).at[fnp.asarray(AT[:3])].set(values, mode="drop").sum()

    for run in (fd.grad(f), fd.jit(fd.grad(f))):
        np.testing.assert_array_equal(np.asarray(run(fnp.ones(3))), [1, 1, 0])
