"""Eager operators and functions of two arrays: the extension's and their twins, on all operands."""

from __future__ import annotations

import inspect
import operator
import threading
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.dispatch.compare import describe
from tests.dispatch.test_lifetimes import assert_counts_stay

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes, quiet
from funcdl.core.dispatch import dispatch
from funcdl.numpy.operators import _BINARY, EAGER_METHODS
from funcdl.numpy.ufunc import EAGER

DTYPES = [
    np.bool_, np.int8, np.uint8, np.int32, np.int64, np.uint32, np.float16, ml_dtypes.bfloat16,
    np.float32, np.float64, np.complex64,
]  # fmt: skip
VALUES = [[3, 0, 1, 100], [2, 0, 1, 120]]
EDGES = [[np.nan, np.inf, -0.0, 3e38, 1e-45], [np.inf, -np.inf, 0.0, 3e38, 1e-45]]
SCALARS = [
    0, 2, -1, True, 2.5, -0.0, float("nan"), float("inf"), 3.5e38, 1e300, 2**24, 2**24 + 1, 2**40,
    2**70, -(2**63), 1j, np.float32(2), np.int64(3), None, "text", [1.0],
]  # fmt: skip

# Before, NumPy's state cannot be set, and the twins serve all calls.
needs_numpy_2 = pytest.mark.skipif(quiet.STATE[0] is None, reason="needs NumPy 2")


def arrays() -> list[Any]:
    found = [fnp.asarray(np.array(values, dtype)) for dtype in DTYPES for values in VALUES]
    found += [fnp.asarray(np.array(values, np.float32)) for values in EDGES]
    found += [fnp.asarray(1.5), fnp.asarray(2), fnp.float32(3) * fnp.ones(()), fnp.ones(4).sum()]
    found += [fnp.zeros((0, 3)), fnp.ones((2, 3)), fnp.ones((3, 2)).T, fnp.ones(1)]
    found += [fnp.full((2, 1), 3.0), fnp.full((3, 2, 1), 3), fnp.full((3, 1, 1), 3)]
    found += [fnp.arange(4.0)[::2], fnp.arange(6.0).reshape(3, 1, 2).T, fnp.zeros((2, 0, 1))]
    return found


def outcome(function: Any, *operands: Any) -> Any:
    try:
        result = function(*operands)
    except Exception as error:
        return type(error), str(error)
    _ = result is NotImplemented or result.value  # which makes arrays of scalars
    return describe(result)


FUNCTIONS = {function.__name__: function for function in EAGER}
METHODS = [name for name, eager in EAGER_METHODS.items() if eager.ufunc.nin == 2]
REFLECTED = [f"r{name}" for name in METHODS if name in _BINARY]
BINARY = [name for name, function in FUNCTIONS.items() if EAGER[function].ufunc.nin == 2]


def twin_of(function: Any) -> Any:
    """What serves where the extension does not."""
    if inspect.isfunction(function) and "served" in function.__code__.co_freevars:
        function = inspect.getclosurevars(function).nonlocals["served"]
    return getattr(function, "__wrapped__", function)


def pair(name: str) -> tuple[Any, Any]:
    """What the extension makes of a method or function, and its twin."""
    if name in BINARY:
        twin = twin_of(FUNCTIONS[name])
        return dispatch.operator(EAGER[FUNCTIONS[name]], twin), twin
    twin = twin_of(getattr(fd.Array, f"__{name}__"))
    eager = EAGER_METHODS[name.removeprefix("r") if name in REFLECTED else name]
    return dispatch.operator(eager, twin, name in REFLECTED), twin


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [*METHODS, *REFLECTED, *BINARY])
def test_operators_agree(name: str) -> None:
    fast, twin = pair(name)
    operands = arrays()
    for left in operands:
        for right in [*operands, *SCALARS]:
            assert outcome(fast, left, right) == outcome(twin, left, right), (left, right)
            if name in BINARY and not isinstance(right, fd.Array):
                assert outcome(fast, right, left) == outcome(twin, right, left), (right, left)
    for left, right in [(1, 2), (True, 2.5), (None, 1), (1.0, None), ([1], [2])]:
        if name in BINARY:
            assert outcome(fast, left, right) == outcome(twin, left, right), (left, right)


@needs_numpy_2
def test_the_usual_operators_are_served() -> None:
    usual = "add subtract multiply divide maximum minimum equal less greater_equal arctan2 power"
    usual += " logical_and logical_or bitwise_and left_shift fmod"
    assert set(usual.split()) <= set(BINARY)
    methods = "add sub mul truediv and or xor lshift eq ne lt le gt ge"
    assert set(methods.split()) <= set(METHODS)
    # A power to a Python integer is another function than that of two arrays.
    assert "pow" not in METHODS
    for name in [*METHODS, *BINARY]:
        eager = EAGER_METHODS.get(name) or EAGER[FUNCTIONS[name]]
        asked: list[Any] = []
        fast = dispatch.operator(eager, lambda x, y, asked=asked: asked.append((x, y)))
        for dtype in dtypes.SUPPORTED:
            fast(fnp.ones(3, dtype), fnp.ones(3, dtype))
            served = dtypes.kind(dtype) in eager.kinds and dtype not in dtypes.HALF
            assert len(asked) == (not served), (name, dtype)
            asked.clear()


def test_functions_of_two_arrays_stay_functions() -> None:
    for name in BINARY:
        function = FUNCTIONS[name]
        assert inspect.isfunction(function) and function.__module__ == "funcdl.numpy"
        for wrong in (lambda f: f(1), lambda f: f(1, 2, 3), lambda f: f(x=1, y=2)):
            with pytest.raises(TypeError, match=rf"^{name}\(\)"):
                wrong(function)


@pytest.mark.parametrize("name", BINARY)
def test_errors_name_the_function(name: str) -> None:
    function = getattr(fnp, name)
    x, y = fnp.ones(3, bool), fnp.ones(4, bool)
    with pytest.raises((fd.errors.ShapeError, fd.errors.DtypeError), match=f"^{name}"):
        function(x, y)
    with pytest.raises(fd.errors.LeafTypeError, match=f"^{name} requires .* argument y: "):
        function(x, [True])


@pytest.mark.parametrize("x64", ["on", "off"])
def test_modes_of_wide_types_change_nothing(x64: str) -> None:
    operands = arrays()
    with fd.config.override(x64=x64):
        for name in ["add", "maximum", "less", "mul"]:
            fast, twin = pair(name)
            for left in operands:
                for right in [*operands, 2, 2.5, 2**40]:
                    assert outcome(fast, left, right) == outcome(twin, left, right), (left, right)


@needs_numpy_2
def test_equal_arrays_are_served_and_others_are_not(native: ModuleType) -> None:
    asked = []
    add = native.Operator(np.add, lambda x, y: asked.append((x, y)), 2, "iufc", False)
    served = [
        (fnp.ones(3), fnp.ones(3)), (fnp.ones(3), 2.0), (fnp.ones(3), 2), (2.0, fnp.ones(3)),
        (fnp.arange(3), fnp.arange(3)), (fnp.ones(()), fnp.ones(())), (fnp.ones(3), fnp.ones(1)),
        (fnp.arange(3), 127), (-128, fnp.arange(3)), (fnp.ones((2, 1)), fnp.ones((3, 1, 4))),
    ]  # fmt: skip
    for left, right in served:
        assert type(add(left, right)) is fd.Array
    assert asked == []
    deleted = fnp.ones(3)
    deleted.delete()
    declined = [
        (fnp.ones(3), fnp.ones(4)), (fnp.ones((3, 2)).T, fnp.ones(3)), (fnp.ones(3), fnp.arange(3)),
        (fnp.ones(3), 1e300), (fnp.arange(3), 128), (fnp.ones(3), True), (fnp.ones(3), deleted),
        (deleted, fnp.ones(3)), (fnp.ones(3), np.ones(3)), (fnp.ones(3), None), (2.0, 2.0),
        (-129, fnp.arange(3)), (1.0, fnp.arange(3)), (1, fnp.arange(3, dtype=np.uint8)),
        (2, deleted), (np.float64(2), fnp.ones(3)),
    ]  # fmt: skip
    for left, right in declined:
        add(left, right)
    assert len(asked) == len(declined)


@needs_numpy_2
def test_reflected_operators_swap_their_operands(native: ModuleType) -> None:
    minus = native.Operator(np.subtract, lambda x, y: None, 2, "iuf", False, True)
    assert minus(fnp.ones(3), 5.0).value.tolist() == [4, 4, 4]
    assert minus(5.0, fnp.ones(3)).value.tolist() == [-4, -4, -4]
    assert minus(fnp.ones(3), fnp.arange(3.0)).value.tolist() == [-1, 0, 1]
    assert (1 - fnp.arange(3)).value.tolist() == [1, 0, -1]


@needs_numpy_2
def test_operators_leave_nothing_behind(native: ModuleType) -> None:
    def refuse(x: Any, y: Any) -> None:
        raise ValueError(x, y)

    def fail(x: Any, y: Any) -> None:
        raise MemoryError

    fast = native.Operator(np.add, refuse, 2, "iuf", False)
    back = native.Operator(np.add, refuse, 2, "iuf", False, True)
    failing = native.Operator(fail, refuse, 2, "f", False)
    wrong_type = native.Operator(np.less, refuse, 2, "f", False)
    x, y, wide = fnp.ones(3), fnp.ones((2, 1)), fnp.ones(3, np.float16)
    number, deleted = 1234.5, fnp.ones(3)
    deleted.delete()
    served = [(x, x), (x, y), (x, number), (number, y)]
    refused = [(x, wide), (deleted, x), (x, deleted), (x, fnp.ones(4)), (number, number), (None, x)]

    def call() -> None:
        for operands in served:
            fast(*operands), back(*operands)
        for operands in refused:
            for function in (fast, back, failing, wrong_type):
                with pytest.raises(ValueError):
                    function(*operands)
        for function in (failing, wrong_type):
            with pytest.raises(ValueError):
                function(x, x)

    watched = [x, x.value, y, y.value, wide, number, deleted, fast, refuse, None, True, False]
    assert_counts_stay(call, watched)


def test_operators_leave_traces_alone(native: ModuleType) -> None:
    method = fd.Array.__mul__
    twin = getattr(method, "__wrapped__", method)
    multiply = native.Operator(np.multiply, twin, 2, "iufc", False)
    x = fnp.ones(3)
    assert fd.grad(lambda y: multiply(x, y).sum())(x).tolist() == [1, 1, 1]
    jaxpr = fd.make_jaxpr(lambda: multiply(x, x))()
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["mul"]
    zero = fnp.zeros(3)
    with fd.config.override(debug_nans=True), pytest.raises(fd.errors.NonFiniteError):
        multiply(zero, fnp.full((3,), np.inf))
    assert np.isnan(multiply(zero, fnp.full((3,), np.inf)).value).all()


def test_operators_as_methods(native: ModuleType) -> None:
    class Holder:
        plus = native.Operator(
            operator.add, lambda self, y: (type(self).__name__, y), 2, "f", False
        )

    assert Holder().plus(3) == ("Holder", 3)
    assert Holder.plus(Holder(), 4) == ("Holder", 4)
    with pytest.raises(TypeError):
        Holder().plus(1, 2, 3)


@needs_numpy_2
def test_errors_of_numpy_stay_the_users(native: ModuleType) -> None:
    divide = native.Operator(np.true_divide, lambda x, y: None, 2, "iufc", False)
    x, zero = fnp.ones(3), fnp.zeros(3)
    with np.errstate(all="raise"):
        assert np.isinf(divide(x, zero).value).all()
        with pytest.raises(FloatingPointError):
            np.ones(3) / np.zeros(3)


@needs_numpy_2
def test_operators_in_threads(native: ModuleType) -> None:
    add = native.Operator(np.add, lambda x, y: None, 2, "iufc", False)
    wrong: list[Any] = []

    def run(n: int) -> None:
        x = fnp.full((50,), float(n))
        for _ in range(500):
            if add(x, x).value[7] != 2 * n:
                wrong.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
