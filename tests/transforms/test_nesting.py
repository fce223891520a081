"""Transforms nested at random, compared with their definitions.

The oracle uses neither `jit` nor `vmap` nor reverse mode: a loop for each batch, and for each
gradient one directional derivative along each basis vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transforms.compare import assert_same
from tests.transforms.test_laws import SIZE, Program, pairs, programs

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.runtime.toolchain import find_compiler

Fun = Callable[[Any, Any], Any]
SCALES = fnp.asarray(np.array([0.5, 1.25]))
EYE = fnp.asarray(np.eye(SIZE))


def loss(f: Fun) -> Fun:
    return lambda x, y: fnp.sin(f(x, y)).sum()


def along(f: Fun, x: Any, y: Any, s: Any, t: Any) -> Any:
    return fd.jvp(f, (x, y), (s, t))[1]


def by_basis(f: Fun) -> Fun:
    """The gradient of a scalar function by its first argument."""
    return lambda x, y: fnp.stack([along(f, x, y, e, y * 0) for e in EYE])


def pullback_by_basis(f: Fun) -> Fun:
    return lambda x, y: fnp.stack([(along(f, x, y, y * 0, e) * x).sum() for e in EYE])


LEVELS: dict[str, tuple[Callable[[Fun], Fun], Callable[[Fun], Fun]]] = {
    "jit": (fd.jit, lambda f: f),
    "checkpoint": (fd.checkpoint, lambda f: f),
    "vmap": (
        lambda f: lambda x, y: fd.vmap(lambda s: f(x * s, y))(SCALES).sum(axis=0),
        lambda f: lambda x, y: f(x * SCALES[0], y) + f(x * SCALES[1], y),
    ),
    "vmap of both": (
        lambda f: (
            lambda x, y: fd.vmap(f, (0, 1), 1)(fnp.stack([x, y]), fnp.stack([y, x], axis=1)).sum(
                axis=1
            )
        ),
        lambda f: lambda x, y: f(x, y) + f(y, x),
    ),
    "grad": (lambda f: fd.grad(loss(f)), lambda f: by_basis(loss(f))),
    "value_and_grad": (
        lambda f: lambda x, y: sum(fd.value_and_grad(loss(f), 0)(x, y)),
        lambda f: lambda x, y: loss(f)(x, y) + by_basis(loss(f))(x, y),
    ),
    "vjp": (lambda f: lambda x, y: fd.vjp(f, x, y)[1](x)[1], pullback_by_basis),
    "jvp": (
        lambda f: lambda x, y: along(f, x, y, y, x),
        lambda f: lambda x, y: along(f, x, y, y, x),
    ),
    "linearize": (
        lambda f: lambda x, y: fd.linearize(lambda z: f(z, y), x)[1](y),
        lambda f: lambda x, y: along(f, x, y, y, y * 0),
    ),
    "aux": (
        lambda f: lambda x, y: fd.grad(lambda z: (loss(f)(z, y), f(z, x)), has_aux=True)(x)[1],
        lambda f: lambda x, y: f(x, x),
    ),
}

chains = st.lists(st.sampled_from(sorted(LEVELS)), min_size=1, max_size=3)


def first(program: Program) -> Fun:
    return lambda x, y: program(x, y)[0]


def nested(program: Program, chain: list[str], which: int) -> Fun:
    f = first(program)
    for level in chain:
        f = LEVELS[level][which](f)
    return f


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def check(program: Program, chain: list[str], at: Any) -> None:
    wanted = nested(program, chain, 1)(*at)
    if np.abs(wanted.value).max() < 1e6:
        assert_same(nested(program, chain, 0)(*at), wanted, 1e4)


@settings(max_examples=60)
@given(programs, chains, pairs)
def test_nested_transforms_agree_with_their_definitions(
    program: Program, chain: list[str], at: Any
) -> None:
    check(program, chain, at)


@pytest.mark.slow
@settings(max_examples=400)
@given(programs, chains, pairs)
def test_many_nested_transforms(program: Program, chain: list[str], at: Any) -> None:
    check(program, chain, at)


@pytest.mark.exhaustive
@pytest.mark.slow
@settings(max_examples=3000)
@given(programs, chains, pairs)
def test_very_many_nested_transforms(program: Program, chain: list[str], at: Any) -> None:
    check(program, chain, at)


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@settings(max_examples=100)
@given(programs, chains, pairs)
def test_nested_transforms_in_c(program: Program, chain: list[str], at: Any) -> None:
    with fd.config.override(backend="cpu"):
        check(program, [*chain, "jit"], at)


@pytest.mark.parametrize("outer", LEVELS)
@pytest.mark.parametrize("inner", LEVELS)
def test_every_pair_of_transforms(inner: str, outer: str) -> None:
    steps = [("scan", 0, 0), ("multiply", 2, 1), ("cond", 3, 0), ("softplus", 4, 0), ("add", 5, 2)]
    x, y = (fnp.asarray(np.array(v)) for v in ([0.3, -0.8, 1.2], [-0.6, 0.4, 0.9]))
    check(Program(steps), [inner, outer], (x, y))
