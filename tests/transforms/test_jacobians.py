"""jacfwd, jacrev and hessian: shapes, trees, laws, errors, and JAX's results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transforms.compare import assert_same
from tests.transforms.table import CASES, Case, Point, draw

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes, tree
from funcdl.errors import ArgumentError, NotDifferentiableError


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def floats_only(case: Case) -> Callable[..., Any]:
    """The case without results that have no derivative."""

    def fun(*args: Any) -> Any:
        leaves = map(fnp.asarray, fd.tree.leaves(case(*args)))
        return [x for x in leaves if dtypes.is_float(x.dtype)]

    return fun


SMOOTH = [c for c in CASES if c.argnums and c.fwd]


@pytest.mark.parametrize("case", SMOOTH, ids=[c.name for c in SMOOTH])
def test_both_modes_agree_and_have_the_documented_shapes(case: Case) -> None:
    fun = floats_only(case)
    forward = fd.jacfwd(fun, case.argnums)(*case.args)
    backward = fd.jacrev(fun, case.argnums)(*case.args)
    outs = fun(*case.args)
    chosen = tuple(case.args[i] for i in case.argnums)
    assert len(forward) == len(backward) == len(outs)
    for left, right, out in zip(forward, backward, outs, strict=True):
        assert fd.tree.structure(left) == fd.tree.structure(right) == fd.tree.structure(chosen)
        leaves = zip(*map(fd.tree.leaves, (left, right, chosen)), strict=True)
        for a, b, x in leaves:
            assert a.shape == b.shape == out.shape + fnp.asarray(x).shape
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(0, 2**31))
def test_a_hessian_is_symmetric_and_does_not_depend_on_the_modes(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, x = (fnp.asarray(rng.uniform(-1, 1, shape)) for shape in ((n, n), (n,)))

    def f(x: Any) -> Any:
        return (fnp.tanh(w @ x) * fnp.exp(x)).sum() + fnp.sin(x).prod()

    found = fd.hessian(f)(x)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    for outer in (fd.jacfwd, fd.jacrev):
        for inner in (fd.jacfwd, fd.jacrev):
            np.testing.assert_allclose(outer(inner(f))(x), found, atol=1e-12)
    assert_same(fd.jit(fd.hessian(f))(x), found)


def test_hessian_of_trees() -> None:
    p = {"a": draw(2), "b": draw()}
    found = fd.hessian(lambda p: (p["a"] ** 2).sum() * p["b"])(p)
    eye = fnp.eye(2, dtype="float64")
    wanted = {
        "a": {"a": 2 * eye * p["b"], "b": 2 * p["a"]},
        "b": {"a": 2 * p["a"], "b": fnp.zeros((), "float64")},
    }
    assert_same(found, wanted)


def test_jacobians_under_vmap_jit_and_each_other() -> None:
    w, xs = draw(3, 2), draw(4, 2)

    def f(x: Any) -> Any:
        return fnp.sin(w @ x)

    wanted = fnp.stack([fnp.cos(w @ x)[:, None] * w for x in xs])
    for jacobian in (fd.jacfwd, fd.jacrev, fd.jacobian):
        assert_same(fd.vmap(jacobian(f))(xs), wanted)
        assert_same(fd.jit(fd.vmap(jacobian(fd.jit(f))))(xs), wanted)


@pytest.mark.parametrize("jacobian", [fd.jacfwd, fd.jacrev, fd.hessian])
def test_derivatives_by_weakly_typed_arguments_are_weakly_typed(jacobian: Any) -> None:
    derivative = jacobian(lambda x, y: fnp.sin(x * y), (0, 1))
    assert all(x.weak_type for x in tree.leaves(derivative(1.0, 2.0)))
    strong = np.float32(1.0)
    assert not any(x.weak_type for x in tree.leaves(derivative(strong, strong)))
    assert (fnp.ones(2, "bfloat16") * fd.hessian(fnp.sin)(1.0)).dtype == "bfloat16"


@pytest.mark.parametrize("jacobian", [fd.jacfwd, fd.jacrev])
def test_keywords_and_trees_of_arguments(jacobian: Any) -> None:
    def f(x: Any, y: Any, *, scale: Any) -> Any:
        return {"r": x * y * scale}

    found = jacobian(f, (0, 1))(draw(2), fnp.float64(3.0), scale=2.0)
    assert_same(found, {"r": (6.0 * fnp.eye(2, dtype="float64"), 2 * draw(2))})


@pytest.mark.parametrize("jacobian", [fd.jacfwd, fd.jacrev, fd.hessian])
def test_aux_is_returned_beside_the_jacobian(jacobian: Any) -> None:
    found, aux = jacobian(lambda x: ((x**3).sum(), {"x": x, "n": 3}), has_aux=True)(draw(2))
    plain = jacobian(lambda x: (x**3).sum())(draw(2))
    assert_same((found, aux), (plain, {"x": draw(2), "n": 3}))


def test_holomorphic_jacobians() -> None:
    z = fnp.asarray([1 + 2j, 0.5 - 1j])
    wanted = fnp.diag(2 * z)
    assert_same(fd.jacfwd(lambda z: z * z, holomorphic=True)(z), wanted)
    assert_same(fd.jacrev(lambda z: z * z, holomorphic=True)(z), wanted)


def test_integers_are_allowed_on_request() -> None:
    i = fnp.asarray([1, 2])
    found = fd.jacrev(lambda i, x: x[i] * 2, (0, 1), allow_int=True)(i, draw(3))
    assert found[0].dtype == dtypes.float0 and found[0].shape == (2, 2)
    assert found[1].shape == (2, 3)


def f(x: Any, y: Any = 0) -> Any:
    return x * 2


@pytest.mark.parametrize(
    ("jacobian", "args", "error", "message"),
    [
        (fd.jacfwd(f), (3,), NotDifferentiableError, r"jacfwd requires floats, got x of type ~i32"),
        (fd.jacrev(f), ({"a": [1]},), NotDifferentiableError, r"got x\['a'\]\[0\] of type ~i32"),
        (fd.jacfwd(f), (1j,), NotDifferentiableError, "pass holomorphic=True, or take real"),
        (
            fd.jacrev(f, holomorphic=True),
            (1.0,),
            NotDifferentiableError,
            "jacrev requires complex numbers with holomorphic=True, got x of type ~f32",
        ),
        (
            fd.jacrev(lambda x: (x, 1)),
            (1.0,),
            NotDifferentiableError,
            r"jacrev requires floats, got the output of <lambda>\[1\] of type ~i32",
        ),
        (fd.jacrev(f, 2), (1.0, 1.0), ArgumentError, "argnums=2 is out of range: f was called"),
        (fd.jacfwd(f, has_aux=True), (1.0,), ArgumentError, "requires f to return a pair"),
    ],
)
def test_errors(jacobian: Any, args: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        jacobian(*args)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["jacfwd", "jacrev", "hessian"])
def test_as_jax(name: str) -> None:
    import jax
    import jax.numpy as jnp

    def program(np: Any) -> Any:
        def g(p: Any, x: Any) -> Any:
            y = np.tanh(p["w"] @ x) * p["c"]
            return Point(y, {"s": (y * y).sum(), "p": np.prod(x)})

        return g

    w, x = np.arange(6, dtype="float32").reshape(2, 3) / 7, np.ones(3, "float32") * 0.3
    for argnums in (0, (1, 0)):
        p = {"w": w, "c": np.float32(2)}
        wanted = getattr(jax, name)(program(jnp), argnums)(
            {k: jnp.asarray(v) for k, v in p.items()}, jnp.asarray(x)
        )
        found = getattr(fd, name)(program(fnp), argnums)(p, x)
        theirs, ours = jax.tree.leaves(wanted), fd.tree.leaves(found)
        assert [(t.shape, t.dtype) for t in theirs] == [(o.shape, o.dtype) for o in ours]
        for a, b in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
