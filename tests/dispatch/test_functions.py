"""Eager functions of one array: the extension's and their twins, on operands of every kind."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.dispatch.compare import describe
from tests.dispatch.test_lifetimes import assert_counts_stay, growth
from tests.dispatch.test_operators import FUNCTIONS, needs_numpy_2, twin_of

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.dispatch import dispatch
from funcdl.numpy.operators import EAGER_METHODS
from funcdl.numpy.ufunc import EAGER

METHODS = [name for name, eager in EAGER_METHODS.items() if eager.ufunc.nin == 1]
UNARY = [name for name, function in FUNCTIONS.items() if EAGER[function].ufunc.nin == 1]
WHOLE = [0, 1, 2, 3, 100, 127]
NEGATIVE = [-1, -3, -128]
PARTS = [-0.0, 0.5, -0.5, 1.5, -2.5, 1e-8, 6e-8, -6e-8, 88.8, 1e4, 6.5e4]
SPECIAL = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 1e300]
OTHERS = [0, 1, -1, True, 2.5, -0.0, float("nan"), 1e300, 2**40, 2**70, 1 - 2j, np.float32(2),
          np.int64(3), np.ones(3), np.ones(3, np.float16), None, "text", [1.0]]  # fmt: skip


def values(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Ordinary numbers, ends of the domains of functions, and what is no number."""
    kind = dtypes.kind(dtype)
    found: list[Any] = WHOLE + (NEGATIVE if kind in "ifc" else [])
    if kind in "fc":
        found += PARTS + SPECIAL
    if kind == "c":
        found += [complex(x, y) for x in [0.5, *SPECIAL] for y in [0.0, -0.0, 2.0, *SPECIAL]]
    elif kind in "iu":
        found += [np.iinfo(dtype).min, np.iinfo(dtype).max]
    with np.errstate(over="ignore"):
        return np.array(found).astype(dtype) if kind in "bfc" else np.array(found, dtype)


def operands() -> list[Any]:
    found: list[Any] = []
    for dtype in dtypes.SUPPORTED:
        x = fnp.asarray(values(dtype))
        grid = x[:6].reshape(2, 3)
        found += [x, x[1], x[:0], x[:0].reshape(0, 3), grid, grid.T, x[::2], x[::-1]]
        # The last is as functions do not make it.
        found += [fnp.broadcast_to(x[1], (2, 3)), fd.Array(values(dtype)[::-2])]
        found += [fnp.asarray(scalar) for scalar in (True, 2, -1.5, 1j)]
    found += [fnp.asarray(2.0) * fnp.ones(()), fnp.ones(4).sum(), fnp.full((2, 2), 3)]
    found.append(fnp.asarray(np.zeros(3, dtypes.float0)))
    return found


def pair(name: str) -> tuple[Any, Any]:
    """What the extension makes of a function or method, and its twin."""
    if name in METHODS:
        twin = twin_of(getattr(fd.Array, f"__{name}__"))
        return dispatch.operator(EAGER_METHODS[name], twin), twin
    twin = twin_of(FUNCTIONS[name])
    return dispatch.operator(EAGER[FUNCTIONS[name]], twin), twin


def outcome(function: Any, x: Any) -> Any:
    """What a caller can see of a call."""
    try:
        found = function(x)
    except Exception as error:
        return type(error), str(error)
    if found is x:
        return "the operand"
    _ = found.value  # which makes arrays of scalars
    return describe(found)


@needs_numpy_2
def test_the_usual_functions_are_served() -> None:
    usual = "negative abs square floor ceil invert logical_not exp log sqrt tanh sin cos isnan rint"
    assert set(usual.split()) <= set(UNARY)
    assert METHODS == ["neg", "abs", "invert"]
    for name in [*METHODS, *UNARY]:
        eager = EAGER_METHODS.get(name) or EAGER[FUNCTIONS[name]]
        asked: list[Any] = []
        fast = dispatch.operator(eager, asked.append)
        for dtype in dtypes.SUPPORTED:
            fast(fnp.ones(3, dtype))
            served = dtypes.kind(dtype) in eager.kinds and dtype not in dtypes.HALF
            assert len(asked) == (not served), (name, dtype)
            asked.clear()


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", [*METHODS, *UNARY])
def test_functions_agree(name: str) -> None:
    fast, twin = pair(name)
    deleted = fnp.ones(3)
    deleted.delete()
    for x in [*operands(), deleted, *([] if name in METHODS else OTHERS)]:
        assert outcome(fast, x) == outcome(twin, x), repr(x)


def test_functions_stay_functions() -> None:
    for name in UNARY:
        function = getattr(fnp, name)
        assert inspect.isfunction(function) and function.__name__ == name
        for wrong in (lambda f: f(), lambda f: f(1, 2), lambda f: f(x=1)):
            with pytest.raises(TypeError, match=rf"^{name}\(\)"):
                wrong(function)


def test_functions_leave_traces_alone() -> None:
    sine, _ = pair("sin")
    x = fnp.asarray([0.5, 1.0, 2.0])
    slope = fd.grad(lambda y: (sine(y) * sine(x)).sum())(x)
    np.testing.assert_allclose(slope, np.cos(x) * np.sin(x), rtol=1e-6)
    np.testing.assert_allclose(fd.vmap(sine)(x), np.sin(x), rtol=1e-6)
    np.testing.assert_allclose(fd.vmap(lambda i: i * sine(x))(x)[1], np.sin(x), rtol=1e-6)
    np.testing.assert_allclose(fd.jit(lambda: sine(x))(), np.sin(x), rtol=1e-6)
    jaxpr = fd.make_jaxpr(lambda y: sine(y) + sine(x))(x)
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["sin", "sin", "add"]


def test_functions_look_for_nans_where_asked() -> None:
    logarithm, _ = pair("log")
    x = -fnp.ones(3)
    with fd.config.override(debug_nans=True), pytest.raises(fd.errors.NonFiniteError):
        logarithm(x)
    with np.errstate(all="raise"):
        assert np.isnan(logarithm(x).value).all()
        with pytest.raises(FloatingPointError):
            np.log(-np.ones(3))


@needs_numpy_2
def test_functions_leave_nothing_behind(native: ModuleType) -> None:
    def refuse(x: Any) -> None:
        raise ValueError(x)

    def fail(x: Any) -> None:
        raise MemoryError

    eager = EAGER[fnp.negative]
    fast = dispatch.operator(eager, refuse)
    failing = native.Operator(fail, refuse, 1, "f", False)
    wrong_type = native.Operator(lambda x: x > 0, refuse, 1, "f", False)
    x, single, wide = fnp.ones(3), fnp.ones(()), fnp.ones(3, np.float16)
    deleted = fnp.ones(3)
    deleted.delete()
    refused = [(failing, x), (wrong_type, x), (fast, wide), (fast, deleted), (fast, None)]

    def call() -> None:
        fast(x), fast(single)
        for function, operand in refused:
            with pytest.raises(ValueError):
                function(operand)

    watched = [x, x.value, single.value, fast, refuse, eager.ufunc, None, True, False]
    assert growth(call) < 3000  # of 300 calls
    assert_counts_stay(call, watched)


def test_operators_of_no_operands_are_refused(native: ModuleType) -> None:
    for count, kinds in [(0, "f"), (3, "f"), (1, "biufcx")]:
        with pytest.raises(ValueError, match="1 to 2 operands and up to 5 kinds"):
            native.Operator(np.negative, abs, count, kinds, False)
