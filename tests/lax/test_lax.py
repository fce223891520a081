"""The functions of funcdl.lax: strict where funcdl.numpy is lenient, and JAX's in meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import ArgumentError, DtypeError, ShapeError

X = np.array([[0.5, -1.5, 2.25], [3.0, -0.25, 1.0]], np.float32)
Y = np.array([[1.5, 2.0, -0.5], [0.75, -2.0, 1.0]], np.float32)
P = np.abs(X) / 4 + 0.1
I = np.array([[7, -7, 5], [1, -2, 12]], np.int32)  # noqa: E741  # beside X and Y
J = np.array([[2, 3, -2], [4, -5, 1]], np.int32)
U = np.array([1, 200, 7], np.uint8)
B = np.array([[True, False, True], [False, False, True]])
C = np.array([1 + 2j, -0.5j], np.complex64)
ROWS = lax.GatherDimensionNumbers((1,), (0,), (0,))
SCATTER_ROWS = lax.ScatterDimensionNumbers((1,), (0,), (0,))
PLACES = np.array([[1], [0], [1]], np.int32)


def _calls(form: str, names: str) -> list[str]:
    return [form.format(name) for name in names.split()]


# Each is evaluated with `m` as funcdl.lax and as jax.lax.
CALLS = [
    *_calls("m.{}(X, Y)", "add sub mul div rem max min atan2 nextafter"),
    *_calls("m.{}(I, J)", "add sub mul div rem max min"),
    *_calls("m.{}(X, Y)", "eq ne lt le gt ge complex"),
    *_calls("m.{}(I, J)", "bitwise_and bitwise_or bitwise_xor"),
    *_calls("m.{}(U, np.uint8([1, 2, 9]))", "shift_left shift_right_logical"),
    "m.shift_right_arithmetic(I, np.ones_like(I))",
    *_calls("m.{}(X)", "neg abs sign square exp exp2 expm1 sin cos tan"),
    *_calls("m.{}(X)", "atan sinh cosh tanh asinh erf erfc floor ceil"),
    *_calls("m.{}(X)", "is_finite logistic cbrt reciprocal round"),
    *_calls("m.{}(P)", "log log1p sqrt rsqrt asin acos atanh erf_inv"),
    *_calls("m.{}(P)", "lgamma digamma"),
    *_calls("m.{}(C)", "real imag conj"),
    *_calls("m.{}(U)", "population_count clz bitwise_not"),
    "m.pow(P, Y)",
    "m.acosh(P + 1)",
    "m.add(X, 1.5)",
    "m.mul(2, I)",
    "m.integer_pow(X, -2)",
    "m.round(X * 2, m.RoundingMethod.TO_NEAREST_EVEN)",
    "m.clamp(-1.0, X, 1.0)",
    "m.clamp(Y - 1, X, Y + 1)",
    "m.select(B, X, Y)",
    "m.select_n(B, X, Y)",
    "m.select_n(np.int32([[0, 1, 2], [2, 1, 0]]), X, Y, P)",
    "m.convert_element_type(X, 'int32')",
    "m.bitcast_convert_type(X, 'uint32')",
    "m.full((2, 3), 7)",
    "m.full((2,), 7, 'bfloat16')",
    "m.full_like(X, 2)",
    "m.iota('int32', 4)",
    "m.broadcasted_iota('float32', (2, 3), 1)",
    "m.reshape(X, (3, 2))",
    "m.transpose(X, (1, 0))",
    "m.broadcast(X, (2,))",
    "m.broadcast_in_dim(X, (2, 4, 3), (0, 2))",
    "m.rev(X, (1,))",
    "m.expand_dims(X, (0, 2))",
    "m.squeeze(X[None], (0,))",
    "m.collapse(X[None], 1)",
    "m.collapse(X[None], 0, 2)",
    "m.collapse(X, 1, 1)",
    "m.collapse(X, -9, 9)",
    "m.slice(X, (0, 1), (2, 3))",
    "m.slice(X, (0, 0), (2, 3), (1, 2))",
    "m.slice_in_dim(X, 1, None, axis=1)",
    "m.slice_in_dim(X, -2, -1, axis=-1)",
    "m.slice_in_dim(X, None, 3, 2, axis=1)",
    "m.index_in_dim(X, -1, 1)",
    "m.index_in_dim(X, 0, keepdims=False)",
    "m.split(X, (1, 2), 1)",
    "m.pad(X, np.float32(9), ((1, 0, 0), (0, -1, 1)))",
    "m.concatenate([X, Y], 1)",
    "m.dynamic_slice(X, (1, 1), (1, 2))",
    "m.dynamic_slice(X, (0, -1), (1, 2))",
    "m.dynamic_slice(X, np.array([5, 5]), (1, 2))",
    "m.dynamic_slice_in_dim(X, 1, 2, axis=1)",
    "m.dynamic_index_in_dim(X, 1, axis=1)",
    "m.dynamic_index_in_dim(X, -1, axis=0, keepdims=False)",
    "m.dynamic_update_slice(X, Y[:1, :2], (1, 1))",
    "m.dynamic_update_slice_in_dim(X, Y[:, :1], -1, 1)",
    "m.dynamic_update_index_in_dim(X, Y[0], 1, 0)",
    "m.gather(X, PLACES, g, (1, 3))",
    "m.gather(X, PLACES * 3, g, (1, 3), mode='clip')",
    "m.gather(X, PLACES * 3, g, (1, 3), mode='fill', fill_value=5)",
    "m.scatter_add(X, PLACES, np.ones((3, 3), 'f4'), s)",
    "m.scatter(X, PLACES[:2], Y, s)",
    "m.scatter_mul(X, PLACES, np.full((3, 3), 2, 'f4'), s)",
    "m.scatter_min(X, PLACES[:2], Y, s)",
    "m.scatter_max(X, PLACES[:2] * 3, Y, s, mode='clip')",
    *_calls("m.reduce_{}(X, (0,))", "sum prod max min"),
    *_calls("m.reduce_{}(B, (1,))", "and or"),
    "m.argmax(X, 1, 'int32')",
    "m.argmin(X, 0, 'uint8')",
    "m.cumsum(X, 1)",
    "m.cumsum(X, 1, reverse=True)",
    "m.cumprod(X, 0)",
    "m.dot(X, Y.T)",
    "m.dot(X, Y[0])",
    "m.dot_general(X, Y, (((1,), (1,)), ((0,), (0,))))",
    "m.dot_general(U, U, (((0,), (0,)), ((), ())), preferred_element_type='uint32')",
    "m.batch_matmul(X[None], Y.T[None])",
    "m.stop_gradient(X)",
    "m.broadcast_shapes((2, 1), (3,))",
]


def evaluate(text: str, module: Any) -> Any:
    if module is lax:
        gather, scatter = ROWS, SCATTER_ROWS
    else:
        gather = module.GatherDimensionNumbers(*map(tuple, ROWS[:3]))
        scatter = module.ScatterDimensionNumbers(*map(tuple, SCATTER_ROWS[:3]))
    return eval(text, globals() | {"m": module, "g": gather, "s": scatter})


@pytest.mark.parametrize("text", CALLS)
def test_traced_as_eager(text: str) -> None:
    eager = fd.tree.leaves(evaluate(text, lax))
    with fd.config.override(backend="reference"):
        traced = fd.tree.leaves(fd.jit(lambda: evaluate(text, lax))())
    for found, wanted in zip(traced, eager, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_every_name_is_there_and_documented() -> None:
    for name in lax.__all__:
        assert getattr(lax, name).__doc__, name


def test_stop_gradient_of_a_pytree() -> None:
    tree = {"w": fnp.array(X), "n": 3}
    stopped = lax.stop_gradient(tree)
    np.testing.assert_array_equal(stopped["w"], X)
    assert stopped["n"].item() == 3
    gradient = fd.grad(lambda x: (x * lax.stop_gradient({"x": x})["x"]).sum())(fnp.array(X))
    np.testing.assert_array_equal(gradient, X)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: lax.add(X, Y[0]),
        ShapeError,
        "add requires operands of equal shape, got f32[2,3], f32[3].\nPrimitives do not broadcast; "
        "the functions of funcdl.numpy do.",
    ),
    (
        lambda: lax.add(X, I),
        DtypeError,
        "add requires operands of equal dtype, got f32[2,3], i32[2,3].\nPrimitives do not promote; "
        "the functions of funcdl.numpy do.",
    ),
    (
        lambda: lax.exp(I),
        DtypeError,
        "exp does not accept i32[2,3]; it takes f16, bf16, f32, f64, c64, c128",
    ),
    (lambda: lax.full((2,), X), ShapeError, "full: fill_value must be a scalar, got f32[2,3]"),
    (
        lambda: lax.dot(X[None], X),
        ShapeError,
        "dot: vectors or matrices are needed, got f32[1,2,3] and f32[2,3]",
    ),
    (
        lambda: lax.split(X, (1, 1), 1),
        ShapeError,
        "split: sizes must add up to 3, the size of axis 1, got (1, 1)",
    ),
    (
        lambda: lax.dynamic_slice(X, (0,), (1, 1)),
        ShapeError,
        "dynamic_slice: a start is needed for each of the 2 dimensions of f32[2,3], got 1",
    ),
    (lambda: lax.concatenate([], 0), ArgumentError, "concatenate: at least one operand is needed"),
    (
        lambda: lax.index_in_dim(X, 3, 1),
        IndexError,
        "index_in_dim: index 3 is out of range for axis 1, of size 3",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


MISFITS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: lax.broadcast_in_dim(x, (4, 3), (0, 1)), "broadcast_in_dim: cannot broadcast"),
    (lambda x: lax.broadcast_in_dim(x, (2, 3), (0,)), "broadcast_in_dim: cannot broadcast"),
    (lambda x: lax.slice(x, (-1, 0), (2, 3)), "slice: start_indices=(-1, 0)"),
    (lambda x: lax.slice(x, (0, 0), (2, 9)), "slice: start_indices=(0, 0)"),
    (lambda x: lax.slice(x, (0,), (2,)), "slice: start_indices=(0,)"),
    (lambda x: lax.slice_in_dim(x, 0, 1, 0), "slice_in_dim: start_indices=(0, 0)"),
    (lambda x: lax.pad(x, 0.0, ((0, 0, 0),)), "pad: padding_config ((0, 0, 0),)"),
    (lambda x: lax.pad(x, 0.0, ((-9, 0, 0), (0, 0, 0))), "pad: padding_config ((-9, 0, 0)"),
    (lambda x: lax.rev(x, (5,)), "rev: dimensions (5,)"),
    (lambda x: lax.transpose(x, (0, 0)), "transpose: permutation (0, 0)"),
    (lambda x: lax.reshape(x, (7,)), "reshape: cannot make shape (7,)"),
    (lambda x: lax.concatenate([x, x[:1]], 1), "concatenate: operands differ"),
    (lambda x: lax.concatenate([x, x], 5), "concatenate: dimension 5"),
    (lambda x: x + lax.broadcasted_iota("float32", (2, 3), 4), "iota: dimension 4"),
    (lambda x: fnp.full((2, 5), x), "full: fill_value f32[2,3] does not broadcast to shape (2, 5)"),
]


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(("function", "message"), MISFITS, ids=[row[1] for row in MISFITS])
def test_misfits_are_refused_eagerly_too(
    function: Callable[[Any], Any], message: str, jit: bool
) -> None:
    with pytest.raises(ShapeError) as caught:
        (fd.jit(function) if jit else function)(fnp.array(X))
    assert message in str(caught.value)
