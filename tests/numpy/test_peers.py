"""Dtypes and weak types of results against jax.numpy, on every kind of operands."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp

pytestmark = pytest.mark.peers

# Written as text, so that each library makes its own arrays.
OPERANDS = [
    "True",
    "3",
    "2.5",
    "1j",
    "np.int8(3)",
    "np.float32(2)",
    "m.array(2)",
    "m.array(2.0)",
    "m.array([True, False])",
    "m.array([1, 2])",
    "m.array([1, 2], 'uint8')",
    "m.array([1, 2], 'int16')",
    "m.array([1, 2], 'uint32')",
    "m.array([1.0, 2.0])",
    "m.array([1.0, 2.0], 'float16')",
    "m.array([1.0, 2.0], 'bfloat16')",
    "m.array([1j, 2.0])",
]

UNARY = """
    abs negative positive sign square reciprocal exp exp2 expm1 log log1p sqrt cbrt sin cos tan
    arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh deg2rad rad2deg floor ceil trunc
    rint real imag conj isnan isinf isfinite isposinf isneginf signbit logical_not invert fabs
    nan_to_num sum prod max min mean var std all any argmax argmin cumsum cumprod ravel ptp
    count_nonzero average zeros_like ones_like asarray array expand_dims0 atleast_2d flip tril
"""
BINARY = """
    add subtract multiply divide floor_divide remainder fmod maximum fmin arctan2 logaddexp
    nextafter equal less logical_and bitwise_xor left_shift float_power isclose where concatenate
    stack dot outer power
"""
# Operands of two kinds of weak type, scalars, and one array of each kind and odd case.
OPERANDS_OF_TWO = [OPERANDS[i] for i in (0, 1, 2, 4, 7, 8, 9, 10, 12, 13, 15, 16)]

# JAX's results of compositions with its own jitted functions lose the weak type here and there.
WEAK_DIFFERS = {"power", "heaviside", "average"}
# Complex numbers have no order here, and these functions no complex extension.
COMPLEX_IN_JAX_ONLY = {"max", "min", "ptp", "argmax", "argmin", "fmin", "less"}
COMPLEX_IN_JAX_ONLY |= {"deg2rad", "rad2deg", "arctan2", "logaddexp"}


def call(m: Any, name: str, operands: list[str]) -> Any:
    scope = {"np": np, "m": m}
    values = [eval(text, scope) for text in operands]
    match name:
        case "where":
            return m.where(True, *values)
        case "concatenate":
            return m.concatenate([m.ravel(x) for x in values])
        case "stack":
            return m.stack([m.broadcast_to(x, (2,)) for x in values])
        case "expand_dims0":
            return m.expand_dims(values[0], 0)
        case "tril":
            return m.tril(m.broadcast_to(values[0], (2, 2)))
        case _:
            return getattr(m, name)(*values)


def described(m: Any, name: str, operands: list[str], jax: Any = None) -> Any:
    """Shape, dtype and weak type of a result, or None where it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if jax is None:
                out = call(m, name, operands)
            else:
                out = jax.eval_shape(lambda: call(m, name, operands))
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        return None
    # Bools are never weak here; JAX lets weak operands make weak bools in places.
    weak = out.weak_type and out.dtype != np.dtype(bool) and name not in WEAK_DIFFERS
    return out.shape, np.dtype(out.dtype).name, weak


def differences(name: str, tuples: list[list[str]]) -> list[str]:
    jax = pytest.importorskip("jax")
    found = []
    for operands in tuples:
        ours = described(fnp, name, operands)
        theirs = described(jax.numpy, name, operands, jax)
        complex_only = name in COMPLEX_IN_JAX_ONLY and any("j" in text for text in operands)
        refused = (complex_only and ours is None) or (name == "dot" and theirs is None)
        if ours != theirs and not refused:
            found.append(f"{name}({', '.join(operands)}): {ours}, in JAX {theirs}")
    return found


@pytest.mark.parametrize("name", UNARY.split())
def test_types_of_functions_of_one_array(name: str) -> None:
    assert differences(name, [[x] for x in OPERANDS]) == []


@pytest.mark.parametrize("name", BINARY.split())
def test_types_of_functions_of_two_arrays(name: str) -> None:
    assert differences(name, [[x, y] for x in OPERANDS_OF_TWO for y in OPERANDS_OF_TWO]) == []


@pytest.mark.parametrize(
    "text",
    [
        "m.arange(5)",
        "m.arange(5.0)",
        "m.arange(2, 9, 3)",
        "m.arange(0, 1, 0.25)",
        "m.arange(5, 0, -2)",
        "m.arange(3, dtype='bfloat16')",
        "m.arange(np.int8(3))",
        "m.arange(m.array(3))",
        "m.linspace(0, 1, 5)",
        "m.linspace(0, 10, 4, dtype=int)",
        "m.linspace(2, 3, 1)",
        "m.zeros((2, 3))",
        "m.ones(3, 'int8')",
        "m.full((2,), 7)",
        "m.full((2,), 7.0)",
        "m.full((2, 2), m.arange(2))",
        "m.full((), True)",
        "m.full_like(m.arange(3), 2.7)",
        "m.eye(3, 4, 1)",
        "m.identity(2)",
        "m.tri(3, 2, -1)",
        "m.array([1, 2.5, True])",
        "m.array([[1, 2], [3, 4]], dtype=float)",
        "m.array([m.ones(2), m.arange(2)])",
        "m.array([np.float32(1), 2])",
        "m.array([])",
        "m.array(3, ndmin=2)",
        "m.asarray(np.arange(3, dtype='int16'))",
        "m.astype(m.arange(3), 'float16')",
        "m.sum(m.ones(3, 'bfloat16'), dtype='float32')",
        "m.sum(m.array([200, 100], 'uint8'), promote_integers=False)",
        "m.matmul(m.ones((2, 2), 'int8'), m.ones((2, 2), 'bfloat16'))",
        "m.dot(m.ones(2, 'int8'), m.ones(2, 'int8'), preferred_element_type='int32')",
        "m.take(m.arange(3.0), m.array([5, -1]))",
        "m.round(m.array([0.5, 1.5, -2.5]))",
        "m.clip(m.arange(5), 1, 3)",
        "m.clip(m.arange(3), 0.5)",
        "m.quantile(m.arange(4, dtype='bfloat16'), m.array([0.25, 0.5]))",
        "m.arange(7)[::-2]",
        "m.array([3, 1, 2])[m.array([True, False, True])]",
    ],
)
def test_values_are_those_of_jax(text: str) -> None:
    jax = pytest.importorskip("jax")
    ours, theirs = (eval(text, {"np": np, "m": m}) for m in (fnp, jax.numpy))
    assert (ours.shape, ours.dtype, ours.weak_type) == (
        theirs.shape,
        theirs.dtype,
        theirs.weak_type,
    )
    np.testing.assert_allclose(
        np.asarray(ours).astype(float), np.asarray(theirs).astype(float), rtol=1e-6
    )


def test_gathers_and_scatters_are_those_of_jax() -> None:
    """The jaxprs of indexing hold the operations of JAX's, with the same parameters."""
    jax = pytest.importorskip("jax")
    x, i = np.ones((3, 4), np.float32), np.array([0, 2], np.int32)
    for f in (lambda x, i: x[i], lambda x, i: x[:, i], lambda x, i: x.at[i].add(1.0)):
        ours = [str(eqn.primitive.name) for eqn in fd.make_jaxpr(f)(x, i).jaxpr.eqns]
        theirs = [eqn.primitive.name.replace("-", "_") for eqn in jax.make_jaxpr(f)(x, i).eqns]
        structural = {"gather", "scatter_add"}
        assert structural & set(ours) == structural & set(theirs) != set()
