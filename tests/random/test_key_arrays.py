"""Typed arrays of keys beside arrays of their data: rearranging, transforms, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, random
from funcdl.errors import ArgumentError, DtypeError, ShapeError

KEYS = random.split(random.key(0), (2, 3))
OTHERS = random.split(random.key(1), (2, 3))
DATA = np.asarray(random.key_data(KEYS))
MASK = np.array([[True, False, True], [False, False, True]])

# What is done to keys, and to an array of their numbers (0 to 5 for `k`, 6 to 11 for `o`).
REARRANGED: list[Callable[[Any, Any, Any], Any]] = [
    lambda m, k, o: k[1],
    lambda m, k, o: k[:, 1],
    lambda m, k, o: k[..., 0],
    lambda m, k, o: k[-1, ::-1],
    lambda m, k, o: k[None, :, None],
    lambda m, k, o: k[np.array([1, 0, 1])],
    lambda m, k, o: k[:, np.array([2, 0])],
    lambda m, k, o: k[np.array([0, 1]), np.array([2, 0])],
    lambda m, k, o: k[MASK],
    lambda m, k, o: k.reshape(3, 2),
    lambda m, k, o: k.reshape(-1),
    lambda m, k, o: k.reshape((6, 1)),
    lambda m, k, o: k.ravel(),
    lambda m, k, o: k.flatten(),
    lambda m, k, o: k.T,
    lambda m, k, o: k.transpose(1, 0),
    lambda m, k, o: k.transpose((1, 0)),
    lambda m, k, o: k.swapaxes(0, 1),
    lambda m, k, o: k[:, :1].squeeze(),
    lambda m, k, o: k.take(np.array([1, 2]), 1),
    lambda m, k, o: k.repeat(2, 0),
    lambda m, k, o: m.stack([k, o]),
    lambda m, k, o: m.stack([k, o], axis=-1),
    lambda m, k, o: m.stack(list(k)),
    lambda m, k, o: m.concatenate([k, o]),
    lambda m, k, o: m.concatenate([k, o], axis=1),
    lambda m, k, o: m.where(MASK, k, o),
    lambda m, k, o: m.where(MASK, k, o[0, 0]),
    lambda m, k, o: m.reshape(k, (6,)),
    lambda m, k, o: m.ravel(k),
    lambda m, k, o: m.expand_dims(k, 1),
    lambda m, k, o: m.squeeze(k[:1]),
    lambda m, k, o: m.broadcast_to(k, (4, 2, 3)),
    lambda m, k, o: m.moveaxis(k, 0, -1),
    lambda m, k, o: m.transpose(k),
    lambda m, k, o: m.flip(k, 1),
    lambda m, k, o: m.roll(k, 1, 1),
    lambda m, k, o: m.tile(k, (2, 1)),
    lambda m, k, o: m.take(k, np.array([0]), 0),
]


@pytest.mark.parametrize("number", range(len(REARRANGED)))
@pytest.mark.parametrize("jit", [False, True])
def test_rearranged_as_numbers(number: int, jit: bool) -> None:
    change = REARRANGED[number]
    numbers = np.arange(12).reshape(2, 2, 3)
    wanted = np.asarray(change(np, *numbers))
    both = np.concatenate([DATA.reshape(-1, 2), np.asarray(random.key_data(OTHERS)).reshape(-1, 2)])

    def run(keys: Any, others: Any) -> Any:
        return change(fnp, keys, others)

    with fd.config.override(backend="reference"):
        found = (fd.jit(run) if jit and number != 8 else run)(KEYS, OTHERS)
    assert isinstance(found, random.KeyArray)
    assert (found.shape, found.ndim, found.size) == (wanted.shape, wanted.ndim, wanted.size)
    np.testing.assert_array_equal(random.key_data(found), both[wanted])


def test_updates() -> None:
    new = random.key(9)
    found = KEYS.at[1, 0].set(new)
    wanted = DATA.copy()
    wanted[1, 0] = [0, 9]
    np.testing.assert_array_equal(random.key_data(found), wanted)
    np.testing.assert_array_equal(random.key_data(KEYS.at[:, 1].get()), DATA[:, 1])


def test_properties() -> None:
    assert (KEYS.itemsize, KEYS.nbytes) == (8, 48)
    assert KEYS.dtype == random.key_dtype() == random.key(0).dtype
    assert KEYS.copy() is KEYS
    assert KEYS.block_until_ready() is KEYS
    assert random.key(5, dtype=random.key_dtype()) == random.key(5)


def test_equality() -> None:
    np.testing.assert_array_equal(KEYS[0] == KEYS, [[True] * 3, [False] * 3])
    np.testing.assert_array_equal(KEYS[0] != KEYS, [[False] * 3, [True] * 3])
    assert (KEYS == 3) is False
    assert (KEYS != 3) is True


def test_printing() -> None:
    assert repr(random.split(random.key(0), 1)).splitlines() == [
        "Array((1,), dtype=key<fry>) overlaying:",
        str(np.asarray(random.key_data(random.split(random.key(0), 1)))),
    ]
    seen = []

    @fd.jit
    def look(keys: Any) -> Any:
        seen.append(repr(keys))
        return keys

    look(KEYS)
    assert seen[0].startswith("KeyArray(key<fry>[2,3], data=Tracer<u32[2,3,2]>")


def draw(key: Any) -> Any:
    return random.uniform(key, (2,))


def test_transforms() -> None:
    wanted = np.array([[draw(k) for k in row] for row in KEYS])
    np.testing.assert_array_equal(fd.vmap(fd.vmap(draw))(KEYS), wanted)
    columns = fd.vmap(fd.vmap(draw), in_axes=1)(KEYS)
    np.testing.assert_array_equal(columns, wanted.swapaxes(0, 1))
    out = fd.vmap(lambda k: k, out_axes=1)(KEYS)
    np.testing.assert_array_equal(random.key_data(out), DATA.swapaxes(0, 1))
    # The last dimension is that of keys, not of their data.
    columns = fd.vmap(fd.vmap(draw), in_axes=-1)(KEYS)
    np.testing.assert_array_equal(columns, wanted.swapaxes(0, 1))
    out = fd.vmap(lambda k: k, out_axes=-1)(KEYS)
    np.testing.assert_array_equal(random.key_data(out), DATA.swapaxes(0, 1))
    _, drawn = lax.scan(lambda c, k: (c, draw(k)), 0, KEYS[1])
    np.testing.assert_array_equal(drawn, wanted[1])
    last, _ = lax.scan(lambda k, _: (random.split(k)[0], None), KEYS[0, 0], None, 2)
    assert last == random.split(random.split(KEYS[0, 0])[0])[0]
    assert lax.fori_loop(0, 2, lambda i, k: random.fold_in(k, i), KEYS[0, 0]).shape == ()
    chosen = lax.cond(True, lambda a, b: a, lambda a, b: b, KEYS[0], KEYS[1])
    assert (chosen == KEYS[0]).all()
    np.testing.assert_array_equal(fd.jit(lambda i: draw(KEYS[i, 1]))(1), wanted[1, 1])
    shapes = fd.eval_shape(lambda k: {"keys": random.split(k, 4)}, KEYS[0, 0])
    assert (shapes["keys"].shape, shapes["keys"].dtype) == ((4,), random.key_dtype())
    assert fd.grad(lambda x, k: (x * draw(k)).sum())(1.0, KEYS[0, 0]) == wanted[0, 0].sum()
    tree = fd.tree.map(lambda x: x, {"a": KEYS})
    assert (tree["a"] == KEYS).all()


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: KEYS + 1,
        DtypeError,
        "keys cannot be computed with, got + with key<fry>[2,3]; draw numbers from them, such as "
        "funcdl.random.uniform(key), or see their data with funcdl.random.key_data(key)",
    ),
    (lambda: 2.0 * KEYS, DtypeError, "got * with key<fry>[2,3]"),
    (lambda: fnp.ones(3) - KEYS, DtypeError, "got - with key<fry>[2,3]"),
    (lambda: np.ones(3) - KEYS, DtypeError, "got - with key<fry>[2,3]"),
    (lambda: -KEYS, DtypeError, "got - with"),
    (lambda: KEYS < KEYS, DtypeError, "got < with"),
    (lambda: float(KEYS), DtypeError, "got float() with"),
    (lambda: np.asarray(KEYS), DtypeError, "an array of numbers is needed, got key<fry>[2,3]"),
    (lambda: bool(KEYS), TypeError, "a key has no truth value"),
    (lambda: fnp.sin(KEYS), DtypeError, "an array of numbers is needed, got key<fry>[2,3]"),
    (lambda: fnp.stack([KEYS[0, 0], 1.5]), DtypeError, "keys and numbers cannot be put into one"),
    (
        lambda: KEYS[0, 1, 1],
        ShapeError,
        "keys of shape (2, 3) have 2 dimensions, got an index with 3",
    ),
    (lambda: KEYS.reshape(4), ShapeError, "reshape"),
    (lambda: KEYS.at[0].set(fnp.ones(3)), DtypeError, "keys.at[...].set requires keys, got Array"),
    (
        lambda: random.key(0, dtype="uint32"),  # type: ignore[arg-type]
        ArgumentError,
        "dtype must be None or funcdl.random.key_dtype(), got 'uint32'",
    ),
    (
        lambda: fd.vmap(draw)(KEYS[0, 0]),
        ShapeError,
        "vmap cannot map key[0] of keys of shape () over axis 0: it has 0 dimensions; use None in "
        "in_axes to pass it whole",
    ),
    (lambda: random.permutation(KEYS[0, 0], KEYS), DtypeError, "permute indices instead"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
