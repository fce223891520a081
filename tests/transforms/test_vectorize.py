"""numpy.vectorize: against loops over broadcast indices, NumPy and JAX, and its messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, ShapeError

Function = Callable[..., Any]

PROGRAMS: dict[str, tuple[str | None, Function, tuple[tuple[int, ...], ...]]] = {
    "scalars": (None, lambda x, y: x * y + 1, ((), ())),
    "two results": (None, lambda x, y: (x + y, x * 2), ((), ())),
    "product": ("(m,n),(n)->(m)", lambda a, b: a @ b, ((2, 3), (3,))),
    "matmul": ("(m,k),(k,n)->(m,n)", lambda a, b: a @ b, ((2, 3), (3, 4))),
    "new size": ("(n)->(k)", lambda a: a[:2] * 2, ((3,),)),
    "several": ("(n),()->(n),()", lambda a, b: (a * b, a.sum() + b), ((3,), ())),
    "one in a tuple": ("(n)->()", lambda a: a.sum(), ((4,),)),
    "fixed size": ("(3),(3)->(3)", lambda a, b: a - b, ((3,), (3,))),
}


def draw(shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


@st.composite
def leading_shapes(draw: Any, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast: parts of one shape, from its end, some sizes replaced by 1."""
    whole = draw(st.lists(st.integers(1, 3), max_size=3))
    found = []
    for _ in range(count):
        start = draw(st.integers(0, len(whole)))
        found.append(tuple(draw(st.sampled_from([1, n])) for n in whole[start:]))
    return found


@pytest.mark.parametrize("name", PROGRAMS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_it_is_numpys_vectorize(name: str, data: st.DataObject) -> None:
    signature, f, cores = PROGRAMS[name]
    leading = data.draw(leading_shapes(len(cores)))
    args = [
        draw((*lead, *core), i) for i, (lead, core) in enumerate(zip(leading, cores, strict=True))
    ]
    numpys = None if signature is None else signature.replace("3", "three")
    wanted = np.vectorize(f, signature=numpys)(*args)
    found = fnp.vectorize(f, signature=signature)(*args)
    assert isinstance(found, tuple) == isinstance(wanted, tuple)
    for x, y in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        assert_same(x, np.asarray(y, np.float32))


@pytest.mark.peers
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_as_in_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    signature, f, cores = PROGRAMS[name]
    leads = [(2, 1), (3,)][: len(cores)]
    args = [
        draw((*lead, *core), i) for i, (lead, core) in enumerate(zip(leads, cores, strict=True))
    ]

    def run(m: Any, xp: Any) -> Any:
        mapped = xp.vectorize(f, signature=signature)

        def loss(*xs: Any) -> Any:
            out = mapped(*xs)
            return sum(xp.sin(y).sum() for y in (out if isinstance(out, tuple) else (out,)))

        numbers = tuple(range(len(args)))
        return mapped(*args), m.grad(loss, numbers)(*args), m.jit(mapped)(*args)

    found, wanted = (run(fd, fnp), run(jax, jax.numpy))
    flat = fd.tree.leaves(found), jax.tree_util.tree_leaves(wanted)
    for x, y in zip(*flat, strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=2e-5, atol=2e-5)


def test_excluded_arguments_and_keywords() -> None:
    seen = []

    def f(x: Any, how: Any, y: Any = 1.0, *, scale: Any = 1.0) -> Any:
        seen.append((how, scale))
        return x * y * scale

    x = fnp.arange(3.0)
    assert_same(fnp.vectorize(f, excluded={1})(x, "slow", 2.0), 2 * x)
    assert_same(fnp.vectorize(f, excluded={"how"})(x, how="key", y=x), x * x)
    assert_same(fnp.vectorize(f, excluded={1, "scale"})(x, ["any"], scale=3.0), 3 * x)
    assert_same(fnp.vectorize(f)(x, None), x)
    assert [how for how, _ in seen] == ["slow", "key", ["any"], None]
    assert [scale for _, scale in seen] == [1.0, 1.0, 3.0, 1.0]


def test_as_a_decorator_and_under_transforms() -> None:
    import functools

    @functools.partial(fnp.vectorize, signature="(n)->()")
    def total(x: Any) -> Any:
        """The sum."""
        assert x.shape == (3,)
        return x.sum()

    x = fnp.arange(12.0).reshape(2, 2, 3)
    assert (total.__name__, total.__doc__) == ("total", "The sum.")
    assert_same(fd.vmap(fd.jit(total))(x), x.sum(-1))
    assert_same(fd.grad(lambda y: total(y * y).sum())(x), 2 * x)


MESSAGES: dict[str, tuple[Function, type[Exception], str]] = {
    "signature": (
        lambda: fnp.vectorize(lambda x: x, signature="(n)->n"),
        ArgumentError,
        "vectorize cannot read the signature '(n)->n'; write core dimensions in parentheses, such "
        "as '(m,n),(n)->(m)', '()' for scalars",
    ),
    "excluded": (
        lambda: fnp.vectorize(lambda x: x, excluded={-1}),
        ArgumentError,
        "vectorize requires excluded to have positions from 0 on and names of arguments, got -1",
    ),
    "number of arguments": (
        lambda: fnp.vectorize(max, signature="(n),(n)->()")(fnp.ones(3)),
        ArgumentError,
        "vectorize of max with signature '(n),(n)->()' takes 2 arrays that are not excluded, got 1",
    ),
    "too few dimensions": (
        lambda: fnp.vectorize(lambda a: a, signature="(m,n)->()")(fnp.ones(3)),
        ShapeError,
        "vectorize of <lambda> requires a to have at least 2 dimensions, (m,n), got f32[3]",
    ),
    "core size": (
        lambda: fnp.vectorize(lambda a, b: a, signature="(n),(n)->()")(fnp.ones(3), fnp.ones(4)),
        ShapeError,
        "vectorize of <lambda> requires core dimension n of b to have size 3, got 4 in (n) of "
        "f32[4]",
    ),
    "leading sizes": (
        lambda: fnp.vectorize(lambda a, b: a)(fnp.ones((2, 3)), fnp.ones(4)),
        ShapeError,
        "vectorize of <lambda> requires leading dimensions that broadcast, got (2, 3), (4,) of\n"
        "  a: f32[2,3]\n"
        "  b: f32[4]",
    ),
    "result's dimensions": (
        lambda: fnp.vectorize(lambda a: a, signature="(n)->()")(fnp.ones(3)),
        ShapeError,
        "vectorize of <lambda> requires the result to have the core dimensions (), got f32[3]",
    ),
    "result's size": (
        lambda: fnp.vectorize(lambda a: (a, a[1:]), signature="(n)->(n),(n)")(fnp.ones(3)),
        ShapeError,
        "vectorize of <lambda> requires core dimension n of result 1 to have size 3, got 2 in (n) "
        "of f32[2]",
    ),
    "number of results": (
        lambda: fnp.vectorize(lambda a: [a, a], signature="()->(),()")(fnp.ones(3)),
        ArgumentError,
        "vectorize of <lambda> requires a tuple of 2 results, as the signature says, got a list",
    ),
    "a scalar that is none": (
        lambda: fnp.vectorize(lambda a: fnp.ones(2))(fnp.ones(3)),
        ShapeError,
        "vectorize of <lambda> requires the result to have the core dimensions (), got f32[2]",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    call, kind, message = MESSAGES[name]
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
