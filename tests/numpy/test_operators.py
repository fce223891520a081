"""Operators and methods of arrays and tracers."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core.trace import Tracer
from funcdl.errors import DtypeError, LeafTypeError, ShapeError
from funcdl.numpy import operators

A = np.array([[1.5, -2.0], [0.5, 3.0]], np.float32)
B = np.array([[2.0, 1.0], [-0.5, 1.5]], np.float32)
I = np.array([[7, -7], [5, 1]], np.int32)  # noqa: E741  # beside A and B
J = np.array([[2, 3], [-2, 4]], np.int32)

ARITHMETIC = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.matmul,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    divmod,
]
BITS = [operator.and_, operator.or_, operator.xor]


def both(f: Callable[..., Any], *operands: Any) -> list[Any]:
    """A function's results, eager and traced."""
    with fd.config.override(backend="reference"):
        return [f(*operands), fd.jit(f)(*operands)]


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize(("x", "y"), [(A, B), (I, J)], ids=["float", "int"])
def test_binary_operators(op: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> None:
    wanted = op(x, y)
    for found in both(op, fnp.array(x), fnp.array(y)):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-6)
    if op is not operator.matmul:
        for scalar in (2, -3):
            np.testing.assert_allclose(
                np.asarray(op(fnp.array(x), scalar)), np.asarray(op(x, scalar)), rtol=1e-6
            )
            np.testing.assert_allclose(
                np.asarray(op(scalar, fnp.array(x))), np.asarray(op(scalar, x)), rtol=1e-6
            )


@pytest.mark.parametrize("op", BITS)
def test_bit_operators(op: Callable[..., Any]) -> None:
    for found in both(op, fnp.array(I), fnp.array(J)):
        np.testing.assert_array_equal(found, op(I, J))
    np.testing.assert_array_equal(op(3, fnp.array(I)), op(3, I))
    np.testing.assert_array_equal(op(fnp.array(A) > 1, B > 1), op(A > 1, B > 1))


def test_shifts_unary_operators_and_powers() -> None:
    x, i = fnp.array(A), fnp.array(I)
    np.testing.assert_array_equal(i << 2, I << 2)
    np.testing.assert_array_equal(i >> 1, I >> 1)
    np.testing.assert_array_equal(1 << fnp.array([1, 3]), [2, 8])
    np.testing.assert_array_equal(-x, -A)
    np.testing.assert_array_equal(+x, A)
    np.testing.assert_array_equal(abs(i), abs(I))
    np.testing.assert_array_equal(~i, ~I)
    np.testing.assert_array_equal(~(x > 1), ~(A > 1))
    np.testing.assert_array_equal(i**3, I**3)
    np.testing.assert_allclose(x**-2, A**-2.0, rtol=1e-6)
    np.testing.assert_allclose(2.0**x, 2.0**A, rtol=1e-6)
    np.testing.assert_array_equal(round(x), np.round(A))
    assert 3.0 in x
    assert 4.0 not in x


def test_a_square_is_one_equation() -> None:
    for exponent, name in ((2, "square"), (3, "integer_pow"), (2.5, "pow")):
        eqns = fd.make_jaxpr(lambda x, y=exponent: x**y)(A).jaxpr.eqns
        assert [e.primitive.name for e in eqns if e.primitive.name != "broadcast_in_dim"] == [name]


def test_numpy_arrays_leave_the_operator_to_ours() -> None:
    for found in (fnp.array(A) + B, A + fnp.array(B), np.float32(1.5) * fnp.array(A)):
        assert isinstance(found, fd.Array)
    np.testing.assert_array_equal(A + fnp.array(B), A + B)
    np.testing.assert_array_equal(A @ fnp.array(B), A @ B)
    assert np.equal(A, fnp.array(A)).all()


def test_augmented_assignment_rebinds_the_name() -> None:
    x = before = fnp.array(A)
    x += 1
    x *= 2
    np.testing.assert_array_equal(x, (A + 1) * 2)
    np.testing.assert_array_equal(before, A)


@pytest.mark.parametrize("other", [[1, 2], "a", None, {}, object()])
def test_operands_that_are_no_arrays_are_refused_by_python(other: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        fnp.array(A) + other
    with pytest.raises(TypeError, match="unsupported operand"):
        other - fnp.array(A)


@pytest.mark.parametrize("other", [[1.0, 2.0], (), {"a": 1}])
@pytest.mark.parametrize("sign", ["==", "!="])
def test_equality_with_containers_is_refused(sign: str, other: Any) -> None:
    compare = {"==": operator.eq, "!=": operator.ne}[sign]
    message = (
        f"unsupported operand types for {sign}: an array and a {type(other).__name__}. Make an "
        "array of its numbers with funcdl.numpy.array, or compare pytrees leaf by leaf"
    )
    for pair in ((fnp.array(A), other), (other, fnp.array(A))):
        with pytest.raises(TypeError) as caught:
            compare(*pair)
        assert str(caught.value) == message
        with pytest.raises(TypeError, match="unsupported operand types"):
            fd.jit(lambda x: compare(x, other))(fnp.array(A))


@pytest.mark.parametrize("other", [None, "a", object()])
def test_what_could_be_no_array_is_unequal(other: Any) -> None:
    x = fnp.array(A)
    assert (x == other) is False and (other == x) is False
    assert (x != other) is True


def test_methods_are_the_functions() -> None:
    x = fnp.array(A)
    for name in ("sum", "prod", "max", "min", "mean", "std", "var", "cumsum", "argmax", "argmin"):
        np.testing.assert_allclose(getattr(x, name)(1), getattr(A, name)(1), rtol=1e-6)
    for name in ("all", "any"):
        np.testing.assert_array_equal(getattr(x > 0, name)(0), getattr(A > 0, name)(0))
    np.testing.assert_array_equal(x.reshape(4), A.reshape(4))
    np.testing.assert_array_equal(x.reshape(1, -1), A.reshape(1, -1))
    np.testing.assert_array_equal(x.reshape((4, 1)), A.reshape(4, 1))
    np.testing.assert_array_equal(x.transpose(1, 0), A.T)
    np.testing.assert_array_equal(x.transpose((1, 0)), A.T)
    np.testing.assert_array_equal(x.transpose(), A.T)
    np.testing.assert_array_equal(x.T, A.T)
    np.testing.assert_array_equal(x.mT, A.T)
    np.testing.assert_array_equal(x.ravel(), A.ravel())
    np.testing.assert_array_equal(x.flatten(), A.flatten())
    np.testing.assert_array_equal(x[None].squeeze(0), A)
    np.testing.assert_array_equal(x.swapaxes(0, 1), A.T)
    np.testing.assert_array_equal(x.clip(-1, 1), A.clip(-1, 1))
    np.testing.assert_array_equal(x.dot(x), A.dot(A))
    np.testing.assert_array_equal(x.take(fnp.array([0]), axis=1), A.take([0], axis=1))
    np.testing.assert_array_equal(x.repeat(2, 0), A.repeat(2, 0))
    np.testing.assert_array_equal(x.diagonal(), A.diagonal())
    assert x.trace() == A.trace()
    assert x.astype("int32").dtype == np.int32
    assert x.at[0, 0].add(1)[0, 0] == 2.5
    assert (x.real == A).all()
    assert not x.imag.any()
    assert x.conj() is not None
    assert x.copy() is x
    assert x.item(0, 1) == -2.0
    assert [row.shape for row in x] == [(2,), (2,)]
    assert len(x) == 2
    assert (x.ndim, x.size, x.nbytes, x.itemsize) == (2, 4, 16, 4)


@pytest.mark.parametrize("transform", [fd.jit, fd.vmap, fd.jacfwd, fd.jacrev, fd.checkpoint])
def test_traced_values_have_the_methods_of_arrays(transform: Callable[..., Any]) -> None:
    """No attribute of a tracer's own hides one."""
    seen: list[type[Tracer]] = []

    def see(x: Any) -> Any:
        seen.append(type(x))
        return x

    transform(see)(fnp.ones((2, 3)))
    for name in (*operators._METHODS, *operators._PROPERTIES):
        wanted = inspect.getattr_static(Tracer, name)
        assert all(inspect.getattr_static(kind, name) is wanted for kind in seen), name


def test_variance_of_a_traced_value() -> None:
    x = np.array([1.0, 2.0, 6.0])
    assert float(fd.jit(lambda x: x.var())(x)) == x.var()


def test_weak_types_give_way() -> None:
    strong, weak = fnp.ones(2, "bfloat16"), fnp.array(2.0)
    assert (strong * weak).dtype == fnp.bfloat16
    assert (strong * 2.5).dtype == fnp.bfloat16
    assert not (strong * weak).weak_type
    assert (weak * 3).weak_type
    assert (fnp.arange(2) * 0.5).weak_type
    assert (fnp.arange(2, dtype="int8") + 1).dtype == np.int8


INTEGERS = st.sampled_from(["int8", "uint8", "int16", "int32", "uint32", "int64"])


@given(st.data(), INTEGERS)
def test_integer_division_is_that_of_numpy(data: st.DataObject, dtype: str) -> None:
    x = data.draw(hnp.arrays(dtype, 4))
    y = data.draw(hnp.arrays(dtype, 4)) | np.array(1, dtype)
    if np.dtype(dtype).kind == "i":
        y[(x == np.iinfo(dtype).min) & (y == -1)] = 1  # NumPy warns of the overflow
    for found, wanted in zip(divmod(fnp.array(x), fnp.array(y)), np.divmod(x, y), strict=True):
        np.testing.assert_array_equal(found, wanted, strict=True)
    np.testing.assert_array_equal(fnp.fmod(x, y), np.fmod(x, y), strict=True)


FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False) | st.sampled_from(
    [0.0, -0.0, np.inf, -np.inf, np.nan]
)


@given(FLOATS, FLOATS)
def test_float_division_is_that_of_numpy(x: float, y: float) -> None:
    a, b = np.float64(x), np.float64(y)
    with np.errstate(all="ignore"):
        wanted = [a // b, a % b, np.fmod(a, b)]
    x64 = fnp.array(a), fnp.array(b)
    found = [fnp.floor_divide(*x64), fnp.remainder(*x64), fnp.fmod(*x64)]
    np.testing.assert_array_equal([np.asarray(v) for v in found], wanted)


@given(FLOATS, FLOATS)
def test_functions_of_special_values_are_those_of_numpy(x: float, y: float) -> None:
    a, b = np.float64(x), np.float64(y)
    for name in ("hypot", "logaddexp", "logaddexp2", "fmax", "fmin", "copysign", "heaviside"):
        with np.errstate(all="ignore"):
            wanted = getattr(np, name)(a, b)
        found = getattr(fnp, name)(fnp.array(a), fnp.array(b))
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-12, atol=1e-300)


def test_halves_are_added_up_in_float32() -> None:
    x = fnp.full(4096, 0.1, "float16")
    assert abs(float(x.mean()) - 0.1) < 1e-4
    assert float(fnp.full(70000, 1.0, "float16").mean()) == 1.0
    assert float(fnp.var(fnp.array([200.0, 400.0], "float16"))) == 10000.0


def test_64_bits_where_they_were_asked_for() -> None:
    assert fnp.zeros(2).dtype == np.float32
    assert fnp.arange(2).dtype == np.int32
    assert fnp.array(np.arange(2.0)).dtype == np.float64
    assert (fnp.array(np.arange(2.0)) * 2).dtype == np.float64
    with fd.config.override(x64="on"):
        assert fnp.zeros(2).dtype == np.float64
        assert fnp.arange(2).dtype == np.int64
        assert fnp.sum(fnp.ones(2, "int32")).dtype == np.int64
    with fd.config.override(x64="off"):
        assert fnp.array(np.arange(2.0)).dtype == np.float32
        assert fnp.zeros(2, "float64").dtype == np.float32


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: fnp.ones((2, 3)) + fnp.ones((2, 4)),
        ShapeError,
        "add: shapes (2, 3), (2, 4) do not broadcast: dimension -1 (from the end) has sizes 3 and "
        "4.\nSizes must be equal or 1. Insert dimensions with x[:, None], or change the layout "
        "with reshape or transpose.",
    ),
    (
        lambda: fnp.add([1, 2], 3),
        LeafTypeError,
        "add requires arrays or scalars, got list as argument x: [1, 2]; convert it with "
        "funcdl.numpy.array",
    ),
    (
        lambda: fnp.sin(None),
        LeafTypeError,
        "sin requires arrays or scalars, got NoneType as argument x: None",
    ),
    (
        lambda: fnp.ones(2, bool) - fnp.ones(2, bool),
        DtypeError,
        "subtract does not accept operands of dtype bool; it takes signed integers, unsigned "
        "integers, floats, complex numbers.\nConvert them with astype first.",
    ),
    (
        lambda: fnp.ones((2, 3)) @ fnp.ones((2, 3)),
        ShapeError,
        "matmul: dimension 1 of f32[2,3] and dimension 0 of f32[2,3] are multiplied and added up, "
        "so their sizes must be equal, got 3 and 2",
    ),
    (
        lambda: fnp.ones(2) @ 3.0,
        ShapeError,
        "matmul: operands must have at least one dimension, got f32[2] and f32[]; multiply by "
        "scalars with *",
    ),
    (
        lambda: fnp.arange(2, dtype="uint8") + 300,
        OverflowError,
        "add: Python int 300 does not fit in uint8, which holds 0 to 255; use a wider dtype or a "
        "float",
    ),
    (
        lambda: fnp.arange(3) ** -1,
        ValueError,
        "power: integers cannot be raised to a negative power, got i32[3] and -1; convert the base "
        "to float",
    ),
    (
        lambda: fnp.ones(6).reshape(4, -1),
        ShapeError,
        "reshape: an array of shape (6,) (6 elements) cannot take shape (4, -1)",
    ),
    (
        lambda: fnp.ones(6).reshape(4, 2),
        ShapeError,
        "reshape: an array of shape (6,) (6 elements) cannot take shape (4, 2) (8 elements)",
    ),
    (
        lambda: fnp.ones(6).reshape(2.0, 3),
        ShapeError,
        "reshape: shape must be an integer or a sequence of them, got (2.0, 3)",
    ),
    (
        lambda: fnp.ones((2, 3)).sum(2),
        ValueError,
        "sum: axis 2 is out of range for an array of 2 dimensions",
    ),
    (
        lambda: fnp.ones((2, 3)).sum((0, -2)),
        ValueError,
        "sum: axis names a dimension twice: (0, -2)",
    ),
    (
        lambda: fnp.ones((2, 0)).max(1),
        ValueError,
        "max: there is no max of no elements, along axis 1 of f32[2,0]; pass initial, the result "
        "for none",
    ),
    (
        lambda: fnp.ones((2, 3)).squeeze(0),
        ValueError,
        "squeeze: axis 0 of f32[2,3] has size 2, not 1",
    ),
    (
        lambda: fnp.ones((2, 3)).transpose(0, 0),
        ValueError,
        "transpose: axes must name each dimension of f32[2,3] once, got (0, 0)",
    ),
    (
        lambda: fnp.concatenate([fnp.ones((2, 3)), fnp.ones((3, 3))], 1),
        ShapeError,
        "concatenate: shapes must be equal apart from axis 1, got (2, 3), (3, 3)",
    ),
    (
        lambda: fnp.concatenate([]),
        ValueError,
        "concatenate: at least one array is needed",
    ),
    (
        lambda: fnp.stack([fnp.ones(2), fnp.ones(3)]),
        ShapeError,
        "stack: shapes must be equal, got (2,), (3,)",
    ),
    (
        lambda: fnp.split(fnp.ones(5), 2),
        ValueError,
        "split: axis 0 of f32[5] cannot be cut in 2 equal parts; use array_split, or give the "
        "places to cut at",
    ),
    (
        lambda: fnp.broadcast_to(fnp.ones(3), (3, 2)),
        ShapeError,
        "broadcast_to: shape (3,) does not broadcast to (3, 2)",
    ),
    (
        lambda: fnp.zeros((2, -1)),
        ShapeError,
        "zeros: shape must have no negative sizes, got (2, -1)",
    ),
    (
        lambda: fnp.array([[1], [1, 2]]),
        ShapeError,
        "array: nested sequences must have equal lengths, got 1 element in a[0] and 2 elements in "
        "a[1]; pad them, or keep a list of arrays",
    ),
    (
        lambda: fnp.array([fnp.ones(2), fnp.ones(3)]),
        ShapeError,
        "array: nested sequences must have equal lengths, got parts of shapes (2,) and (3,)",
    ),
    (
        lambda: fnp.array(["a"]),
        LeafTypeError,
        "array: elements must be numbers or arrays, got 'a'",
    ),
    (lambda: fnp.arange(1, 5, 0), ValueError, "arange: step must not be zero"),
    (
        lambda: fnp.pad(fnp.ones(3), -1),
        ValueError,
        "pad: widths must not be negative, got -1",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), ERRORS, ids=[row[2].replace("\n", " ")[:50] for row in ERRORS]
)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
