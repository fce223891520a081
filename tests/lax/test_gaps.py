"""More of funcdl.lax against JAX: shapes, patches, ragged products, selection, precision."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes, lattice
from funcdl.errors import ArgumentError, DtypeError, NotDifferentiableError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 5)).astype(np.float32)
I = RNG.integers(0, 5, (2, 3, 5)).astype(np.int32)  # noqa: E741  # beside X
IMAGE = RNG.normal(size=(2, 3, 6, 5)).astype(np.float32)
LOCAL = RNG.normal(size=(4, 12, 3, 4)).astype(np.float32)
ROWS = RNG.normal(size=(7, 3)).astype(np.float32)
MATRICES = RNG.normal(size=(4, 3, 2)).astype(np.float32)
COLUMNS = RNG.normal(size=(7, 2)).astype(np.float32)
SIZES = np.array([2, 0, 3, 1], np.int32)
PLACES = np.array([[1], [0], [1]], np.int32)
UNIQUE = np.array([[1], [0]], np.int32)
POINT = lax.ScatterDimensionNumbers((), (0,), (0,))
WINDOW = lax.ScatterDimensionNumbers((1,), (0,), (0,))
SPECIAL = np.array([0, -0.0, 1e-5, -7e-5, 65519, 65520, np.inf, -np.inf, np.nan, 1 / 3], np.float32)


def numbers(m: Any, fields: Any) -> Any:
    """Dimension numbers of a scatter, of the module's own class."""
    return m.ScatterDimensionNumbers(*fields)


def minus(m: Any, x: int) -> Any:
    """A negative index that is no constant to the module."""
    return m.neg(np.int32(x))


CALLS = [
    "m.stack([X, X + 1], 1)",
    "m.stack([X], -1)",
    "m.unstack(X, 1)",
    "m.tile(X, (2, 1, 3))",
    "m.broadcast_like(X[0, 0], X)",
    "m.broadcast_to_rank(X[0], 4)",
    "m.shape_as_value((2, 3))",
    "m.empty((2, 0), 'int32')",
    "m.dtype(X)",
    "m.dtype(1.5)",
    "m.dtype(True)",
    "m.dtype('bfloat16')",
    "m.full_like(X, 2, shape=(3,))",
    "m.reshape(X, (15, 2), (2, 1, 0))",
    "m.index_take(X, (I[0, 0], I[0, 1]), (0, 2))",
    "m.index_take(X, (I[0, 0] - 7,), (1,))",
    "m.dynamic_slice(X, (minus(m, 1), 0, 2), (1, 1, 2), allow_negative_indices=False)",
    "m.dynamic_slice(X, (-1, 0, minus(m, 2)), (1, 1, 2), "
    "allow_negative_indices=[True, True, False])",
    "m.dynamic_slice_in_dim(X, minus(m, 1), 2, 1, allow_negative_indices=False)",
    "m.dynamic_index_in_dim(X, minus(m, 1), 1, allow_negative_indices=False)",
    "m.dynamic_update_slice(X, X[:1, :1], (minus(m, 1),) * 3, allow_negative_indices=False)",
    "m.dynamic_update_slice_in_dim(X, X[:, :1], minus(m, 1), 1, allow_negative_indices=False)",
    "m.dynamic_update_index_in_dim(X, X[:, 0], minus(m, 1), 1, allow_negative_indices=False)",
    "m.scatter_sub(X[0], PLACES, X[0, [0, 1, 2]], numbers(m, WINDOW))",
    "m.scatter_apply(X[0, 0], PLACES, lambda v: v * 2 + 1, numbers(m, POINT), update_shape=(3,))",
    "m.scatter_apply(I[0, 0], UNIQUE, abs, numbers(m, POINT), update_shape=(2,), "
    "unique_indices=True)",
    "m.scatter_apply(X[0], PLACES * 9, lambda v: v - 1, numbers(m, WINDOW), update_shape=(3, 5))",
    "m.mul(I[0], I[0], out_dtype='float32')",
    "m.exp(X, accuracy=m.AccuracyMode.HIGHEST)",
    "m.tanh(X, accuracy=m.Tolerance(rtol=1e-3))",
    "m.reduce_precision(SPECIAL, 5, 10)",
    "m.reduce_precision(X, 8, 0)",
    "m.approx_max_k(X, 2)",
    "m.approx_min_k(X, 3, reduction_dimension=1, recall_target=0.5)",
    "m.conv_general_dilated_patches(IMAGE, (2, 3), (1, 2), 'SAME')",
    "m.conv_general_dilated_patches(IMAGE, (2, 2), (2, 1), [(1, 0), (2, -1)], (1, 2), (2, 1))",
    "m.conv_general_dilated_patches(IMAGE, (2, 3), (1, 1), 'VALID', "
    "dimension_numbers=('NHWC', 'OIHW', 'NHWC'))",
    "m.conv_general_dilated_patches(IMAGE, (9, 3), (1, 1), 'VALID')",
    "m.conv_general_dilated_patches(IMAGE[0], (3,), (2,), 'SAME_LOWER', "
    "dimension_numbers=('NCH', 'OIH', 'HNC'))",
    "m.conv_general_dilated_local(IMAGE, LOCAL, (2, 1), 'VALID', (2, 2))",
    "m.conv_general_dilated_local(IMAGE.transpose(0, 2, 3, 1), LOCAL, (2, 1), 'VALID', (2, 2), "
    "dimension_numbers=('NHWC', 'OIHW', 'NHWC'))",
    "m.conv_shape_tuple((4, 3, 9, 8), (5, 3, 2, 3), (2, 1), [(1, 0), (1, 1)], 2)",
    "m.conv_shape_tuple((4, 3, 9, 8), (5, 3, 2, 3), (2, 1), [(1, 0), (0, -2)])",
    "m.conv_general_shape_tuple((4, 9, 8, 3), (2, 3, 3, 5), (2, 1), 'VALID', "
    "('NHWC', 'HWIO', 'NHWC'))",
    "m.conv_transpose_shape_tuple((4, 9, 8, 3), (2, 3, 3, 5), (2, 1), 'VALID', "
    "('NHWC', 'HWIO', 'NHWC'))",
    "m.conv_transpose_shape_tuple((4, 9, 8, 3), (2, 3, 3, 5), (2, 1), 'SAME', "
    "('NHWC', 'HWIO', 'NHWC'))",
    "m.reduce_window_shape_tuple((9, 8), (2, 3), (2, 1), [(0, 1), (3, -1)], (1, 2), (3, 1))",
    "m.dot(X[0], X[1].T, precision=m.Precision.HIGHEST)",
    "m.dot(X, X, dimension_numbers=(((2,), (2,)), ((0,), (0,))), precision='high')",
    "m.dot_general(X, X, (((2,), (2,)), ((0,), (0,))), precision=m.DotAlgorithmPreset.F32_F32_F32)",
    "m.ragged_dot(ROWS, MATRICES, SIZES)",
    "m.ragged_dot(I[0, :, :3], np.ones((2, 3, 2), np.int32), SIZES[[0, 3]])",
    "m.ragged_dot_general(ROWS, COLUMNS, SIZES, m.RaggedDotDimensionNumbers("
    "(((0,), (0,)), ((), ())), [0], []))",
    "m.ragged_dot_general(np.stack([ROWS, -ROWS]), np.stack([MATRICES, MATRICES], 1), SIZES, "
    "m.RaggedDotDimensionNumbers((((2,), (2,)), ((0,), (1,))), [1], [0]))",
    "m.optimization_barrier((X, {'n': I}))",
    "m.platform_dependent(X, cpu=lambda x: x + 1, cuda=lambda x: x - 1)",
    "m.platform_dependent(X, tpu=lambda x: x, default=lambda x: x * 2)",
    "m.argmax(X, 1, np.int16)",
    "m.argmin(X, 2, np.uint8)",
    "m.top_k(X, 2, axis=1)",
    "m.top_k(I, 2, axis=0)",
    "m.sort((I, X), 2, True, 2)",
    "m.sort([I, X, I + 1], dimension=0, num_keys=2)",
    "m.sort((I[..., ::-1] % 2, X), 2, num_keys=1)",
    "m.sort_key_val(I % 2, X, 1)",
    "m.RandomAlgorithm.RNG_PHILOX.value",
    "[a.name for a in m.DotAlgorithmPreset]",
]


def evaluate(text: str, m: Any) -> Any:
    return eval(text, globals() | {"m": m})


@pytest.mark.parametrize("text", CALLS)
def test_traced_as_eager(text: str) -> None:
    eager = fd.tree.leaves(evaluate(text, lax))
    if not all(isinstance(x, fd.Array) for x in eager):
        return
    with fd.config.override(backend="reference"):
        traced = fd.tree.leaves(fd.jit(lambda: evaluate(text, lax))())
    for found, wanted in zip(traced, eager, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
def test_mulhi_of_narrow_integers(dtype: str) -> None:
    info = np.iinfo(dtype)
    edges = [info.min, info.min + 1, -1, 0, 1, 2, info.max - 1, info.max, info.max // 3]
    values = [v for v in edges if v >= info.min]
    x, y = np.array(list(itertools.product(values, values)), dtype).T
    wanted = (x.astype(object) * y.astype(object)) >> info.bits
    found = lax.mulhi(x, y)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, wanted.astype(dtype))
    np.testing.assert_array_equal(fd.jit(lax.mulhi)(x, y), wanted.astype(dtype))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32"])
def test_mulhi_of_wide_integers(dtype: str) -> None:
    info = np.iinfo(dtype)
    values = [info.min, info.max, info.max // 5, 2**31, 2**32 - 1, 3, 0]
    values += [int(v) for v in RNG.integers(info.min, info.max, 20, dtype=dtype)]
    if info.min < 0:
        values += [-1, -(2**31), -(2**32) - 1]
    x, y = np.array(list(itertools.product(values, values)), dtype).T
    wanted = (x.astype(object) * y.astype(object)) >> info.bits
    np.testing.assert_array_equal(lax.mulhi(x, y), wanted.astype(dtype))


def test_patches_keep_what_they_copy() -> None:
    x = IMAGE.copy()
    x[0, 0, 0, 0], x[1, 2, 3, 3] = np.inf, np.nan
    found = lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "SAME")
    assert np.isinf(np.asarray(found)).sum() == 1
    assert np.isnan(np.asarray(found)).sum() == 4
    integers = lax.conv_general_dilated_patches(I[None], (2, 2), (1, 1), "VALID")
    assert integers.dtype == np.int32
    wide = lax.conv_general_dilated_patches(
        I[None], (2, 2), (1, 1), "VALID", preferred_element_type="float32"
    )
    assert wide.dtype == np.float32
    weights = np.cos(np.arange(found.size, dtype=np.float32)).reshape(found.shape)
    slope = fd.grad(
        lambda x: (lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "SAME") * weights).sum()
    )(IMAGE)
    wanted = np.zeros((2, 3, 7, 6), np.float32)
    for k, (i, j) in enumerate(itertools.product(range(2), range(2))):
        wanted[:, :, i : i + 6, j : j + 5] += weights[:, k::4]
    np.testing.assert_allclose(slope, wanted[:, :, :6, :5], rtol=1e-5, atol=1e-6)


def test_ragged_dot_and_its_derivatives_against_a_loop() -> None:
    def loop(rows: Any, matrices: Any) -> Any:
        parts, at = [], 0
        for size, matrix in zip(SIZES, matrices, strict=True):
            parts.append(rows[at : at + size] @ matrix)
            at += int(size)
        return fnp.concatenate([*parts, fnp.zeros((len(rows) - at, 2))])

    def ragged(rows: Any, matrices: Any) -> Any:
        return lax.ragged_dot(rows, matrices, SIZES)

    rows, matrices = fnp.asarray(ROWS), fnp.asarray(MATRICES)
    np.testing.assert_allclose(ragged(rows, matrices), loop(rows, matrices), rtol=1e-5, atol=1e-6)
    for f in (ragged, fd.jit(ragged)):
        for position in (0, 1):
            found = fd.grad(lambda *xs, f=f: fnp.sin(f(*xs)).sum(), position)(rows, matrices)
            wanted = fd.grad(lambda *xs: fnp.sin(loop(*xs)).sum(), position)(rows, matrices)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    batched = fd.vmap(lax.ragged_dot, (None, None, 0))(
        ROWS, MATRICES, np.stack([SIZES, SIZES[::-1]])
    )
    np.testing.assert_allclose(batched[1], lax.ragged_dot(ROWS, MATRICES, SIZES[::-1].copy()))


KINDS = ["bool", "int8", "uint8", "int32", "uint32", "float16", "bfloat16", "float32", "complex64"]


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
def test_preferred_element_types_as_jax(kind: str) -> None:
    """Every pair that JAX computes and that loses nothing is computed here, to the same values."""
    jax = pytest.importorskip("jax")
    x = (RNG.integers(0, 3, (2, 3)) % 2).astype(bool)
    args = [fnp.asarray(x, kind), fnp.asarray(x.T, kind)]
    peers = [jax.numpy.asarray(x, kind), jax.numpy.asarray(x.T, kind)]
    for preferred in [None, *KINDS]:
        numbers = (((1,), (0,)), ((), ()))
        source, target = dtypes.as_dtype(kind), dtypes.as_dtype(preferred or kind)
        floats = dtypes.is_float(source) and dtypes.is_float(target)
        holds = lattice.result_type(source, target) == target
        narrower = target.itemsize < source.itemsize
        if not floats and (narrower or not holds):
            with pytest.raises(DtypeError):
                lax.dot_general(args[0], args[1], numbers, preferred_element_type=preferred)
            continue
        found = lax.dot_general(args[0], args[1], numbers, preferred_element_type=preferred)
        wanted = jax.lax.dot_general(peers[0], peers[1], numbers, preferred_element_type=preferred)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(
            np.asarray(found).astype(complex), np.asarray(wanted).astype(complex)
        )


def test_reduce_precision_is_linear_to_derivatives() -> None:
    x = np.array([1 / 3, 2.5], np.float32)
    value, push = fd.linearize(lambda x: lax.reduce_precision(x * x, 8, 3), x)
    np.testing.assert_array_equal(
        push(np.array([1, 1], np.float32)), lax.reduce_precision(2 * x, 8, 3)
    )
    slope = fd.grad(lambda x: lax.reduce_precision(x, 8, 3).sum() / 3)(x)
    np.testing.assert_array_equal(slope, np.full(2, lax.reduce_precision(np.float32(1 / 3), 8, 3)))
    assert value.shape == (2,)


def test_scatter_apply_can_be_differentiated_forwards_and_where_indices_are_unique() -> None:
    def apply(x: Any, unique: bool) -> Any:
        return lax.scatter_apply(
            x, UNIQUE, fnp.sin, POINT, update_shape=(2,), unique_indices=unique
        )

    x = fnp.asarray(X[0, 0])
    wanted = np.where(np.arange(5) < 2, np.cos(X[0, 0]), 1)
    np.testing.assert_allclose(fd.grad(lambda x: apply(x, True).sum())(x), wanted, rtol=1e-6)
    _, tangent = fd.jvp(lambda x: apply(x, False), (x,), (fnp.ones(5),))
    np.testing.assert_allclose(tangent, wanted, rtol=1e-6)
    with pytest.raises(NotDifferentiableError):
        fd.grad(fd.jit(lambda x: apply(x, False).sum()))(x)


@pytest.mark.parametrize("key", [np.arange(4, dtype=np.uint32), np.array([7, 2**40], np.uint64)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_rng_bit_generator(key: Any, dtype: str) -> None:
    state, bits = lax.rng_bit_generator(key, (3, 500), dtype)
    assert (state.shape, state.dtype) == (key.shape, key.dtype)
    assert (bits.shape, bits.dtype) == ((3, 500), np.dtype(dtype))
    again, same = fd.jit(lambda k: lax.rng_bit_generator(k, (3, 500), dtype))(key)
    np.testing.assert_array_equal(same, bits)
    np.testing.assert_array_equal(again, state)
    _, more = lax.rng_bit_generator(state, (3, 500), dtype)
    assert not np.array_equal(more, bits)
    # Each bit is set half of the time: five standard deviations.
    info = np.iinfo(dtype)
    for bit in range(info.bits):
        share = np.mean((np.asarray(bits) >> np.dtype(dtype).type(bit)) & np.dtype(dtype).type(1))
        assert abs(share - 0.5) < 2.5 / math.sqrt(bits.size)


def test_generating_in_two_calls_continues_the_sequence() -> None:
    key = np.array([3, 5, 2**32 - 3, 9], np.uint32)  # whose counter carries into its second word
    _, whole = lax.rng_bit_generator(key, (16,))
    state, first = lax.rng_bit_generator(key, (8,))
    _, second = lax.rng_bit_generator(state, (8,), algorithm=lax.RandomAlgorithm.RNG_THREE_FRY)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert len(np.unique(whole)) == 16


def test_primitives_by_name() -> None:
    jaxpr = fd.make_jaxpr(lambda x: lax.scan(lambda c, x: (c + x, c), 0.0, x))(X[0, 0])
    assert [eqn.primitive for eqn in jaxpr.jaxpr.eqns][-1:] == [lax.scan_p]
    assert lax.add_p.name == "add" and lax.while_p.name == "while" and lax.cond_p.name == "cond"
    with pytest.raises(AttributeError) as caught:
        lax.psend_p  # noqa: B018
    assert str(caught.value) == "module 'funcdl.lax' has no attribute 'psend_p'"
    with pytest.raises(AttributeError) as caught:
        lax.rng_uniform  # noqa: B018
    assert str(caught.value) == (
        "module 'funcdl.lax' has no attribute 'rng_uniform', unlike JAX: draws from a hidden "
        "state, which no pure function can have; use funcdl.random.uniform"
    )


def test_barrier_keeps_computations_apart() -> None:
    def f(x: Any) -> Any:
        y, z = lax.optimization_barrier((x, x * 2))
        return fnp.sin(y) + fnp.sin(x) + z

    x = fnp.asarray(X)
    np.testing.assert_allclose(fd.jit(f)(x), 2 * np.sin(X) + 2 * X, rtol=1e-5, atol=1e-6)
    slope = fd.grad(lambda x: f(x).sum())(x)
    np.testing.assert_allclose(slope, 2 * np.cos(X) + 2, rtol=1e-5, atol=1e-6)


F32 = np.ones((2, 3), np.float32)
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: lax.stack([]), ArgumentError, "stack: at least one operand is needed"),
    (
        lambda: lax.stack([F32, F32[0]]),
        ShapeError,
        "stack: operands must have one shape, got f32[2,3], f32[3]",
    ),
    (
        lambda: lax.tile(F32, (2,)),
        ShapeError,
        "tile: reps must have one entry for each dimension of f32[2,3], got (2,)",
    ),
    (
        lambda: lax.broadcast_to_rank(F32, 1),
        ShapeError,
        "broadcast_to_rank: f32[2,3] has more than 1 dimensions",
    ),
    (
        lambda: lax.mulhi(F32, F32),
        DtypeError,
        "mulhi requires integers of one dtype, got f32[2,3] and f32[2,3]",
    ),
    (
        lambda: lax.reduce_precision(F32, 0, 3),
        ArgumentError,
        "reduce_precision requires exponent_bits >= 1 and mantissa_bits >= 0, got exponent_bits=0, "
        "mantissa_bits=3",
    ),
    (
        lambda: lax.approx_max_k(I, 1),
        DtypeError,
        "approx_max_k requires floats, got i32[2,3,5]; use top_k",
    ),
    (
        lambda: lax.approx_min_k(X, 1, recall_target=0.0),
        ArgumentError,
        "approx_min_k: recall_target must be above 0 and at most 1, got 0.0",
    ),
    (
        lambda: lax.approx_min_k(X, 6),
        ArgumentError,
        "approx_min_k: k must be from 1 to 5, the size of dimension 2 of f32[2,3,5], got 6",
    ),
    (
        lambda: lax.approx_max_k(X, 1, aggregate_to_topk=False),
        ArgumentError,
        "approx_max_k: aggregate_to_topk must be True; there are no candidates besides the 1 found",
    ),
    (
        lambda: lax.dot(F32, F32.T, precision="exact"),
        ArgumentError,
        "dot: precision must be None, a lax.Precision or its name ('default', 'high', "
        "'highest'), a pair of these, or a dot algorithm; got 'exact'",
    ),
    (
        lambda: lax.dynamic_slice(F32, (0, 0), (1, 1), allow_negative_indices=(True,)),
        ArgumentError,
        "dynamic_slice: allow_negative_indices must be a bool, or one for each of the 2 dimensions "
        "of f32[2,3], got (True,)",
    ),
    (
        lambda: lax.conv_general_dilated_patches(F32, (2, 2), (1, 1), "SAME"),
        ShapeError,
        "conv_general_dilated_patches: filter_shape=(2, 2) requires an operand with 4 dimensions, "
        "got f32[2,3]",
    ),
    (
        lambda: lax.conv_general_dilated_local(IMAGE, LOCAL, (1, 1), "SAME", (2, 2)),
        ShapeError,
        "conv_general_dilated_local: rhs must have 12 input features and the output's spatial "
        "shape (6, 5), got f32[4,12,3,4]",
    ),
    (
        lambda: lax.conv_shape_tuple((4, 3, 9), (5, 3, 2), (1,), "SAME", 3),
        ShapeError,
        "conv_shape_tuple: the batch size 4 must be a multiple of batch_group_count=3",
    ),
    (
        lambda: lax.ragged_dot(ROWS, MATRICES, SIZES[:3]),
        ShapeError,
        "ragged_dot: rhs f32[4,3,2] must have size 3 along dimension 0, one "
        "for each of group_sizes",
    ),
    (
        lambda: lax.ragged_dot(ROWS, MATRICES, ROWS[0]),
        DtypeError,
        "ragged_dot: group_sizes must be integers, got f32[3]",
    ),
    (
        lambda: lax.ragged_dot(ROWS, MATRICES, SIZES, group_offset=SIZES[:1]),  # type: ignore[arg-type]
        ArgumentError,
        "ragged_dot: group_offset must be None; slice rhs and group_sizes instead",
    ),
    (
        lambda: lax.rng_bit_generator(np.arange(2, dtype=np.uint32), (3,)),
        ShapeError,
        "rng_bit_generator: key must be u32[4] or u64[2], got u32[2].\nKeys of funcdl.random are "
        "for funcdl.random.bits.",
    ),
    (
        lambda: lax.rng_bit_generator(np.arange(4, dtype=np.uint32), (3,), "int32"),
        DtypeError,
        "rng_bit_generator: dtype must be an unsigned integer type, got int32",
    ),
    (
        lambda: lax.platform_dependent(X, tpu=abs),
        ArgumentError,
        "platform_dependent requires a function for the platform 'cpu' or a default, got ['tpu']",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
