"""Programs that run on JAX and on this library: equal structures, types and values."""

# ruff: noqa: E731  # programs read best as one-line functions

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes

pytestmark = pytest.mark.peers

Program = Callable[..., Any]
PROGRAMS: list[Program] = []


def program(f: Program) -> Program:
    """Add a function of ``(jax, jnp)``, either JAX's modules or ours, that returns a pytree."""
    PROGRAMS.append(f)
    return f


class Pair(NamedTuple):
    a: Any
    b: Any


X = np.array([0.5, -1.25, 2.0], np.float32)
M = np.arange(6, dtype=np.float32).reshape(2, 3) / 4


@program
def scalar_gradients(jax: Any, jnp: Any) -> Any:
    f = lambda x: x * x * jnp.sin(x)
    return [f(1.5), jax.grad(f)(1.5), jax.grad(jax.grad(f))(1.5), jax.value_and_grad(f)(2.0)]


@program
def gradients_of_arrays(jax: Any, jnp: Any) -> Any:
    f = lambda x: jnp.sum(jnp.tanh(x) ** 2)
    return jax.grad(f)(X), jax.grad(f)(jnp.asarray(M)), jax.jit(jax.grad(f))(X)


@program
def argnums_of_all_forms(jax: Any, jnp: Any) -> Any:
    f = lambda x, y, z: (x * y).sum() * z
    return [jax.grad(f, n)(X, 2.0, 3.0) for n in (0, 1, -1, (0,), (2, 0), [1], (-1, -3))]


@program
def gradients_of_trees(jax: Any, jnp: Any) -> Any:
    f = lambda p, x: (p["w"] @ x + p["b"][0]).sum() * p["s"].a
    params = {"w": jnp.asarray(M), "b": [jnp.ones(2)], "s": Pair(2.0, ()), "n": None}
    return jax.value_and_grad(f)(params, X)


@program
def unused_leaves(jax: Any, jnp: Any) -> Any:
    return jax.grad(lambda p: p["a"] * 2.0)({"a": 1.0, "b": jnp.ones(2, jnp.float16)})


@program
def half_precision(jax: Any, jnp: Any) -> Any:
    x = jnp.asarray(X, jnp.bfloat16)
    f = lambda x: (x * 2.0).sum()
    return jax.value_and_grad(f)(x), jax.jvp(f, (x,), (x,)), jax.vmap(lambda e: e * 2)(x)


@program
def has_aux_everywhere(jax: Any, jnp: Any) -> Any:
    f = lambda x: ((x * x).sum(), {"x": x, "k": 3, "n": None})
    value, pull, aux = jax.vjp(f, jnp.asarray(X), has_aux=True)
    return (
        jax.grad(f, has_aux=True)(X),
        jax.value_and_grad(f, has_aux=True)(X),
        jax.jvp(f, (X,), (X,), has_aux=True),
        (value, pull(1.0 * value / value), aux),
    )


@program
def tangents_of_integers(jax: Any, jnp: Any) -> Any:
    f = lambda x, i, b: (x * i, i + 1, b)
    zero = np.zeros((), dtypes.float0)
    return jax.jvp(f, (2.0, 3, True), (1.0, zero, zero))


@program
def cotangents_of_integers(jax: Any, jnp: Any) -> Any:
    f = lambda x, i: (x * i.sum(), i + 1)
    out, pull = jax.vjp(f, 2.0, jnp.asarray([3, 4]))
    return out, pull((jnp.float32(1.0), np.zeros(2, dtypes.float0)))


@program
def integer_outputs(jax: Any, jnp: Any) -> Any:
    return jax.jvp(lambda x: (jnp.argmax(x), x > 0), (X,), (X,))


@program
def linearize_and_push(jax: Any, jnp: Any) -> Any:
    f = lambda x, p: {"a": jnp.exp(x) * p[0], "b": p[1]}
    out, push = jax.linearize(f, jnp.asarray(X), (2.0, jnp.ones(2)))
    return out, push(jnp.ones(3), (jnp.float32(0.5), jnp.ones(2)))


@program
def linear_transposes(jax: Any, jnp: Any) -> Any:
    f = lambda x: (jnp.asarray(M) @ x, 2 * x)
    transposed = jax.linear_transpose(f, jax.ShapeDtypeStruct((3,), np.float32))
    return transposed((jnp.ones(2), jnp.ones(3)))


@program
def vmap_axes(jax: Any, jnp: Any) -> Any:
    m = jnp.asarray(M)
    f = lambda a, b: (a.sum() * b, a)
    return [
        jax.vmap(f)(m, X[:2]),
        jax.vmap(f, in_axes=(1, 0))(m, X),
        jax.vmap(f, in_axes=(None, 0), out_axes=(0, None))(m, X),
        jax.vmap(f, in_axes=(-1, None), out_axes=(0, -1))(m, 2.0),
        jax.vmap(f, (0, None), out_axes=1)(m, X),
        jax.vmap(lambda a: 1.0, axis_size=4, in_axes=None)(m),
    ]


@program
def vmap_over_trees(jax: Any, jnp: Any) -> Any:
    m = jnp.asarray(M)
    f = lambda p, q: {"s": p["m"].sum() + q, "n": None, "c": p["k"]}
    tree = {"m": m, "k": jnp.arange(3)}
    return [
        jax.vmap(f, in_axes=({"m": 1, "k": 0}, None))(tree, 1),
        jax.vmap(f, in_axes=({"m": 0, "k": None}, None), out_axes={"s": 0, "n": 0, "c": None})(
            tree, 1.0
        ),
        jax.vmap(lambda p: p["a"], in_axes=({"a": 0, "b": None},))({"a": m, "b": None}),
    ]


@program
def vmap_of_keyword_arguments(jax: Any, jnp: Any) -> Any:
    return jax.vmap(lambda x, *, y: x * y.sum(), in_axes=(None,))(2.0, y=jnp.asarray(M))


@program
def weak_types_through_vmap(jax: Any, jnp: Any) -> Any:
    return [
        jax.vmap(lambda x: x * 2)(jnp.arange(3)),
        jax.vmap(lambda x: 2.0)(X),
        jax.vmap(lambda x, y: x + y, (0, None))(jnp.arange(3), 1.5),
    ]


@program
def weak_types_through_jit(jax: Any, jnp: Any) -> Any:
    f = jax.jit(lambda x: (x, x * 2, x + 1.0, 3, jnp.sin(x)))
    return [f(1), f(1.0), f(True), f(np.float32(1)), f(jnp.int8(1)), f(np.float16(1))]


@program
def weak_types_through_derivatives(jax: Any, jnp: Any) -> Any:
    f = lambda x: x * 2
    return [
        jax.jvp(f, (1.0,), (1.0,)),
        jax.value_and_grad(f)(1.0),
        jax.vjp(f, 1.0)[1](1.0),
        jax.jvp(f, (jnp.float32(1),), (1.0,)),
    ]


@program
def outputs_of_jit(jax: Any, jnp: Any) -> Any:
    return jax.jit(lambda x: {"x": x, "n": None, "t": (), "l": [x, 1.0], "p": Pair(x, None)})(X)


@program
def static_arguments(jax: Any, jnp: Any) -> Any:
    f = lambda x, n, mode="a": x * n if mode == "a" else x + n
    return [
        jax.jit(f, static_argnums=(1, 2))(X, 3, "a"),
        jax.jit(f, static_argnums=1, static_argnames="mode")(X, 3, mode="b"),
        jax.jit(f, static_argnums=(1, 2))(X, n=2, mode="b"),
        functools.partial(jax.jit, static_argnames=("n", "mode"))(f)(X, 2),
    ]


@program
def shapes_without_values(jax: Any, jnp: Any) -> Any:
    f = lambda x, y: {"a": x @ y, "b": (x.sum(), y.astype(jnp.int8)), "c": 1.0}
    x = jax.ShapeDtypeStruct((2, 3), jnp.float16)
    return jax.tree.map(
        lambda s: np.zeros(s.shape, s.dtype),
        jax.eval_shape(f, x, jnp.asarray(M.T)),
        is_leaf=lambda s: hasattr(s, "dtype"),
    )


@program
def gradient_of_vmap(jax: Any, jnp: Any) -> Any:
    f = lambda w, x: jnp.tanh(w @ x)
    loss = lambda w: jax.vmap(f, (None, 0))(w, jnp.asarray(M)).sum()
    return jax.grad(loss)(jnp.asarray(X)), jax.jit(jax.grad(loss))(jnp.asarray(X))


@program
def vmap_of_gradient(jax: Any, jnp: Any) -> Any:
    f = lambda w, x: jnp.tanh(w @ x)
    per_example = jax.vmap(jax.value_and_grad(f), (None, 0))
    return per_example(jnp.asarray(X), jnp.asarray(M)), jax.jit(per_example)(X, M)


@program
def hessians(jax: Any, jnp: Any) -> Any:
    f = lambda x: jnp.sum(jnp.sin(x) * x[::-1])
    product = lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1]
    eye = jnp.eye(3)
    return jax.vmap(product, (None, 0))(jnp.asarray(X), eye)


@program
def python_control_flow_under_grad(jax: Any, jnp: Any) -> Any:
    def f(x: Any) -> Any:
        total = 0.0
        for _ in range(int(x) + 1):
            total = total + x * x if x > 1 else total - x
        return total

    return jax.grad(f)(2.5), jax.grad(f)(0.5), jax.jvp(f, (2.0,), (1.0,))


@program
def custom_jvp_rules(jax: Any, jnp: Any) -> Any:
    @jax.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return x * y, x

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x, y), (s, t) = primals, tangents
        return f(x, y), (10 * s * y + 100 * x * t, s)

    loss = lambda x, y: (f(x, y)[0] + f(x, y)[1]).sum()
    return [
        f(2.0, 3.0),
        jax.jvp(f, (2.0, 3.0), (1.0, 0.5)),
        jax.grad(loss, (0, 1))(jnp.asarray(X), jnp.asarray(X)),
        jax.vmap(jax.grad(loss))(jnp.asarray(X), jnp.asarray(X)),
        jax.jit(jax.grad(loss, 1))(X, X),
    ]


@program
def custom_jvps_by_argument(jax: Any, jnp: Any) -> Any:
    @jax.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return x * y

    f.defjvps(lambda t, out, x, y: t * y * 3, None)
    return jax.jvp(f, (2.0, 3.0), (1.0, 1.0)), jax.grad(f, (0, 1))(2.0, 3.0)


@program
def custom_vjp_rules(jax: Any, jnp: Any) -> Any:
    @jax.custom_vjp
    def f(p: Any, x: Any) -> Any:
        return {"y": p["w"] * x}

    f.defvjp(
        lambda p, x: ({"y": p["w"] * x}, (p["w"], x)),
        lambda res, ct: ({"w": (7 * ct["y"] * res[1]).sum()}, None),
    )
    loss = lambda p, x: (f(p, x)["y"] ** 2).sum()
    params = {"w": jnp.float32(2.0)}
    return [
        f(params, X),
        jax.grad(loss, (0, 1))(params, jnp.asarray(X)),
        jax.jit(jax.grad(loss))(params, jnp.asarray(X)),
        jax.vmap(jax.grad(loss), (None, 0))(params, jnp.asarray(M)),
        jax.grad(lambda p: jax.vmap(loss, (None, 0))(p, jnp.asarray(M)).sum())(params),
    ]


@program
def custom_rules_with_static_arguments(jax: Any, jnp: Any) -> Any:
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
    def f(g: Any, x: Any, n: int) -> Any:
        return g(x) * n

    f.defvjp(
        lambda g, x, n: (g(x) * n, (x,)),
        lambda g, n, res, ct: (ct * n * res[0] * 100,),
    )

    @functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
    def h(x: Any, k: int) -> Any:
        return x**k

    h.defjvp(lambda k, primals, tangents: (h(primals[0], k), tangents[0] * k * 10))
    return [
        jax.value_and_grad(lambda x: f(jnp.sin, x, 3))(2.0),
        jax.grad(lambda x: h(x, 3))(2.0),
        jax.jit(jax.vmap(jax.grad(lambda x: h(x, 3) + f(jnp.cos, x, 2))))(X),
    ]


@program
def custom_gradients(jax: Any, jnp: Any) -> Any:
    @jax.custom_gradient
    def f(x: Any) -> Any:
        return x**2, lambda ct: ct * x * 5

    return f(3.0), jax.grad(f)(3.0), jax.vmap(jax.grad(f))(jnp.asarray(X))


@program
def nested_jit(jax: Any, jnp: Any) -> Any:
    @jax.jit
    def inner(x: Any, y: Any) -> Any:
        return {"s": x + y, "w": y * 2}

    @jax.jit
    def outer(x: Any) -> Any:
        first = inner(x, 1.0)
        return inner(first["s"], first["w"])

    return outer(X), jax.vmap(outer)(M), jax.jvp(outer, (X,), (X,))


@program
def closures_over_tracers(jax: Any, jnp: Any) -> Any:
    def f(x: Any) -> Any:
        inner = jax.jit(lambda y: (x * y).sum())
        return jax.grad(inner)(x * 2) + jax.vmap(lambda e: e * inner(x))(x)

    return f(jnp.asarray(X)), jax.jit(f)(X), jax.jvp(f, (X,), (X,)), jax.vmap(f)(jnp.asarray(M))


@program
def gather_and_scatter(jax: Any, jnp: Any) -> Any:
    i = jnp.asarray([2, 0, 2])
    f = lambda x: (x[i] * x.at[i].add(x)[1]).sum() + x[-1]
    return jax.value_and_grad(f)(jnp.asarray(X)), jax.vmap(lambda k: jnp.asarray(X)[k])(i)


@program
def select_and_where(jax: Any, jnp: Any) -> Any:
    f = lambda x: jnp.where(x > 0, x * x, -x).sum()
    return jax.value_and_grad(f)(jnp.asarray(X)), jax.vmap(jax.grad(f))(jnp.asarray(M))


@program
def ties_of_extrema(jax: Any, jnp: Any) -> Any:
    x = jnp.asarray([1.0, 3.0, 3.0])
    return [
        jax.grad(jnp.max)(x),
        jax.grad(lambda x: jnp.maximum(x, 3.0).sum())(x),
        jax.grad(lambda x: jnp.abs(x - 3).sum())(x),
        jax.grad(lambda x: jnp.clip(x, 1.0, 3.0).sum())(x),
    ]


@program
def softmax_cross_entropy(jax: Any, jnp: Any) -> Any:
    labels = jnp.asarray([0, 2])

    def loss(logits: Any) -> Any:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_p = shifted - jnp.log(jnp.exp(shifted).sum(axis=-1, keepdims=True))
        return -jnp.take_along_axis(log_p, labels[:, None], axis=-1).mean()

    return jax.value_and_grad(loss)(jnp.asarray(M)), jax.jit(jax.grad(loss))(M)


@program
def training_steps(jax: Any, jnp: Any) -> Any:
    def loss(params: Any, x: Any) -> Any:
        for layer in params:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return (x**2).mean()

    @jax.jit
    def step(params: Any, x: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    params = [{"w": jnp.ones((3, 3)) / 3, "b": jnp.zeros(3)} for _ in range(2)]
    values = []
    for _ in range(3):
        value, params = step(params, M)
        values.append(value)
    return values, params


@program
def trees(jax: Any, jnp: Any) -> Any:
    tree = {"b": [1, (2.0, None)], "a": Pair(jnp.ones(2), ())}
    leaves, treedef = jax.tree.flatten(tree)
    return [
        leaves,
        jax.tree.unflatten(treedef, leaves[::-1]),
        jax.tree.map(lambda x, y: x * 2 + y, tree, tree),
        jax.tree.reduce(lambda a, b: a + b, {"x": 1, "y": [2, 3]}),
        jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, tuple)),
        jax.tree.all({"x": True, "y": 0}),
    ]


@program
def empty_arrays(jax: Any, jnp: Any) -> Any:
    x = jnp.zeros((0, 3))
    f = lambda x: (x * x).sum()
    return jax.value_and_grad(f)(x), jax.vmap(f)(x.T), jax.jit(lambda x: x @ x.T)(x)


@program
def complex_inside(jax: Any, jnp: Any) -> Any:
    f = lambda x: jnp.abs(jnp.exp(1j * x) + x).sum()
    return jax.value_and_grad(f)(jnp.asarray(X)), jax.jvp(f, (X,), (X,))


@program
def complex_arguments(jax: Any, jnp: Any) -> Any:
    z = jnp.asarray([1 + 2j, -0.5j])
    f = lambda z: (jnp.abs(z) ** 2).sum()
    return [
        jax.grad(f)(z),
        jax.grad(lambda z: z * z, holomorphic=True)(1 + 2j),
        jax.vjp(jnp.conj, z)[1](z),
        jax.jvp(jnp.real, (z,), (z,)),
    ]


@program
def gradients_of_integers_when_allowed(jax: Any, jnp: Any) -> Any:
    return jax.grad(lambda x, n: x * n, argnums=(0, 1), allow_int=True)(2.0, 3)


@program
def donated_arguments(jax: Any, jnp: Any) -> Any:
    f = jax.jit(lambda x, y: (x + y, y), donate_argnums=(0,))
    x = jnp.arange(3.0)
    out = f(x, 2.0)
    return out, x.is_deleted()


def outcome(f: Program, jax: Any, jnp: Any) -> Any:
    """Structure, and for each leaf dtype, weak type, shape and value; or the exception's class."""
    leaves, treedef = fd.tree.flatten(f(jax, jnp))
    # Python scalars that JAX hands through are arrays here.
    scalars = (bool, int, float)
    leaves = [
        fnp.asarray(next(kind for kind in scalars if isinstance(x, kind))(x))
        if isinstance(x, scalars) and not isinstance(x, np.generic)
        else x
        for x in leaves
    ]
    return treedef, [
        (
            np.asarray(x).dtype,
            bool(getattr(x, "weak_type", not isinstance(x, np.ndarray | np.generic))),
            np.asarray(x),
        )
        for x in leaves
    ]


@pytest.fixture(scope="module")
def jax() -> Any:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return pytest.importorskip("jax")


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference", x64="off"):
        yield


def test_the_programs_are_all_there() -> None:
    source = inspect.getsource(inspect.getmodule(outcome))  # type: ignore[arg-type]
    assert source.count("\n@program\n") == len(PROGRAMS) >= 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_agrees_with_jax(f: Program, jax: Any) -> None:
    found_tree, found = outcome(f, fd, fnp)
    wanted_tree, wanted = outcome(f, jax, jax.numpy)
    assert found_tree == wanted_tree
    for i, ((dtype, weak, x), (jax_dtype, jax_weak, y)) in enumerate(
        zip(found, wanted, strict=True)
    ):
        assert (dtype, weak, x.shape) == (jax_dtype, jax_weak, y.shape), f"leaf {i}: {x} {y}"
        if dtype == dtypes.float0:
            continue
        rtol = 2e-2 if dtype.itemsize < 4 and dtype.kind not in "biu" else 2e-6
        wide = np.complex128 if dtype.kind == "c" else np.float64
        np.testing.assert_allclose(x.astype(wide), y.astype(wide), rtol=rtol, atol=rtol)
