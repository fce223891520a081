"""Keys: data, splitting, typed arrays of keys under transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import random
from funcdl.errors import ArgumentError, DtypeError, ShapeError


def test_keys_are_those_of_jax() -> None:
    """Golden data: `jax.random` 0.10, threefry2x32, partitionable."""
    assert random.PRNGKey(42).tolist() == [0, 42]
    assert random.PRNGKey(-1).tolist() == [0, 2**32 - 1]
    assert random.PRNGKey(2**40 + 7).tolist() == [0, 7]
    with fd.config.override(x64="on"):
        assert random.PRNGKey(2**40 + 7).tolist() == [256, 7]
        assert random.PRNGKey(-1).tolist() == [2**32 - 1, 2**32 - 1]
    assert random.key_data(random.split(random.key(42))).tolist() == [
        [1832780943, 270669613],
        [64467757, 2916123636],
    ]
    assert random.fold_in(random.PRNGKey(42), 7).tolist() == [2547012911, 1371500959]


def test_typed_and_raw_keys_hold_the_same_data() -> None:
    typed, raw = random.key(3), random.PRNGKey(3)
    assert random.key_data(typed).tolist() == raw.tolist()
    assert random.key_data(raw) is raw
    assert (random.wrap_key_data(raw) == typed).item()
    assert isinstance(random.split(raw), fd.Array)
    np.testing.assert_array_equal(
        random.key_data(random.split(typed, (2, 3))), random.split(raw, (2, 3))
    )
    np.testing.assert_array_equal(random.normal(typed, (4,)), random.normal(raw, (4,)))
    assert random.key_impl(typed) == "threefry2x32"
    assert random.clone(typed) is typed


def test_arrays_of_keys() -> None:
    keys = random.split(random.key(0), (2, 3))
    assert (keys.shape, keys.ndim, keys.size, len(keys)) == ((2, 3), 2, 6, 2)
    assert repr(keys.dtype) == "key<fry>"
    assert repr(random.key(7)) == "Array((), dtype=key<fry>) overlaying:\n[0 7]"
    data = np.asarray(random.key_data(keys))
    np.testing.assert_array_equal(random.key_data(keys[1]), data[1])
    np.testing.assert_array_equal(random.key_data(keys[:, 1]), data[:, 1])
    np.testing.assert_array_equal(random.key_data(keys[..., 0]), data[:, 0])
    np.testing.assert_array_equal(random.key_data(keys[1, 2]), data[1, 2])
    np.testing.assert_array_equal(random.key_data(keys.reshape(6)), data.reshape(6, 2))
    assert [row.shape for row in keys] == [(3,), (3,)]
    assert (keys == keys).shape == (2, 3)
    first, second = random.split(random.key(1))
    assert not (first == second).item()


def test_keys_pass_through_transforms() -> None:
    key = random.key(5)

    def draw(key: Any) -> Any:
        return random.normal(random.fold_in(key, 1), (3,))

    wanted = np.asarray(draw(key))
    with fd.config.override(backend="reference"):
        np.testing.assert_array_equal(fd.jit(draw)(key), wanted)
        made = fd.jit(lambda seed: random.split(random.key(seed)))(5)
    assert (made == random.split(key)).all()
    keys = random.split(key, 3)
    np.testing.assert_array_equal(fd.vmap(draw)(keys), [draw(k) for k in keys])
    many = fd.vmap(lambda k: random.split(k, 2))(keys)
    assert many.shape == (3, 2)
    assert (many[1] == random.split(keys[1], 2)).all()
    assert fd.eval_shape(lambda k: random.split(k, 4), key).shape == (4,)
    assert fd.tree.leaves({"key": key})[0].dtype == np.uint32


def test_samples_are_differentiable_in_their_parameters() -> None:
    key = random.key(5)
    noise = np.asarray(random.normal(key, (3,)))
    gradient = fd.grad(lambda scale: (random.normal(key, (3,)) * scale).sum())(2.0)
    np.testing.assert_allclose(gradient, noise.sum(), rtol=1e-6)
    unit = np.asarray(random.uniform(key, (3,)))
    gradient = fd.grad(lambda low: random.uniform(key, (3,), minval=low, maxval=2.0).sum())(1.0)
    np.testing.assert_allclose(gradient, (1 - unit).sum(), rtol=1e-5)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: random.normal(42, (3,)),
        DtypeError,
        "normal: key must be made by funcdl.random.key(seed), got int: 42",
    ),
    (
        lambda: random.normal(fnp.ones(2)),
        DtypeError,
        "normal: a key is needed, made by funcdl.random.key(seed), or its data in uint32; got "
        "f32[2]",
    ),
    (
        lambda: random.uniform(random.split(random.key(0), 3)),
        ShapeError,
        "uniform: one key is needed, got an array of them of shape (3,); use vmap over keys, or "
        "take one: keys[0]",
    ),
    (lambda: random.key(1.5), DtypeError, "key: seed must be an integer, got ~f32[]"),
    (
        lambda: random.key(fnp.arange(3)),
        ShapeError,
        "key: seed must be a scalar, got i32[3]; for several keys, use split, or vmap over seeds",
    ),
    (lambda: random.key(2**64), ArgumentError, f"key: seed must fit in 64 bits, got {2**64}"),
    (
        lambda: random.key(0, impl="rbg"),
        ArgumentError,
        "key: impl must be 'threefry2x32' or None, got 'rbg'",
    ),
    (
        lambda: random.wrap_key_data(fnp.zeros(3, "uint32")),
        ShapeError,
        "wrap_key_data: the data of keys has a last dimension of size 2, got u32[3]",
    ),
    (
        lambda: random.uniform(random.key(0), (2,), "int32"),
        DtypeError,
        "uniform: dtype must be a floating type, got int32",
    ),
    (
        lambda: random.uniform(random.key(0), (2,), minval=fnp.ones(3)),
        ShapeError,
        "uniform: minval must broadcast to shape=(2,), got f32[3]",
    ),
    (
        lambda: random.randint(random.key(0), (2,), 0, 5, "float32"),
        DtypeError,
        "randint: dtype must be an integer type, got float32",
    ),
    (
        lambda: random.bernoulli(random.key(0), 1),
        DtypeError,
        "bernoulli: p must be floating, got ~i32[]",
    ),
    (
        lambda: random.fold_in(random.key(0), 1.5),
        DtypeError,
        "fold_in: data must be a scalar integer, got ~f32[]",
    ),
    (
        lambda: random.categorical(random.key(0), fnp.ones((4, 3)), shape=(5,)),
        ShapeError,
        "categorical: shape must end in a shape to which (4,) broadcasts, that of the logits "
        "without axis 1; got (5,)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:50] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_a_single_key_is_no_sequence() -> None:
    with pytest.raises(TypeError, match=r"funcdl\.random\.split\(key, num\)"):
        list(random.key(0))
    with pytest.raises(TypeError, match="single key"):
        len(random.key(0))
    with pytest.raises(TypeError, match="unhashable"):
        hash(random.key(0))
