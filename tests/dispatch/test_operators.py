"""Eager operators of the extension and their twins, on operands of every kind."""

from __future__ import annotations

import operator
import threading
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.dispatch.compare import describe

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import quiet
from funcdl.core.dispatch import dispatch
from funcdl.numpy.operators import _EAGER

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
    return found


def outcome(function: Any, *operands: Any) -> Any:
    try:
        result = function(*operands)
    except Exception as error:
        return type(error), str(error)
    _ = result is NotImplemented or result.value  # which makes arrays of scalars
    return describe(result)


@pytest.fixture(params=[name for name, eager in _EAGER.items() if eager.ufunc.nin == 2])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The operator of the extension, and its twin."""
    name = request.param
    method = getattr(fd.Array, f"__{name}__")
    twin = getattr(method, "__wrapped__", method)
    return dispatch.operator(_EAGER[name], twin), twin


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operators_agree(pair: tuple[Any, Any]) -> None:
    fast, twin = pair
    operands = arrays()
    for left in operands:
        for right in [*operands, *SCALARS]:
            assert outcome(fast, left, right) == outcome(twin, left, right), (left, right)


@needs_numpy_2
def test_equal_arrays_are_served_and_others_are_not(native: ModuleType) -> None:
    asked = []
    add = native.Operator(np.add, lambda x, y: asked.append((x, y)), 2, "iufc", False)
    served = [
        (fnp.ones(3), fnp.ones(3)), (fnp.ones(3), 2.0), (fnp.ones(3), 2),
        (fnp.arange(3), fnp.arange(3)), (fnp.ones(()), fnp.ones(())),
    ]  # fmt: skip
    for left, right in served:
        assert type(add(left, right)) is fd.Array
    assert asked == []
    deleted = fnp.ones(3)
    deleted.delete()
    declined = [
        (fnp.ones(3), fnp.ones(4)), (fnp.ones(3), fnp.ones(1)), (fnp.ones(3), fnp.arange(3)),
        (fnp.ones(3), 1e300), (fnp.arange(3), 2), (fnp.ones(3), True), (fnp.ones(3), deleted),
        (deleted, fnp.ones(3)), (fnp.ones(3), np.ones(3)), (fnp.ones(3), None), (2.0, fnp.ones(3)),
    ]  # fmt: skip
    for left, right in declined:
        add(left, right)
    assert len(asked) == len(declined)


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
