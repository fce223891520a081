"""Custom functions and rules that use values of the traced functions around them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import NotDifferentiableError
from funcdl.runtime.toolchain import find_compiler

BACKENDS = ["reference", *(["cpu"] if find_compiler() else [])]
XS = fnp.arange(3.0) + 1.0
Make = Callable[[Any], Callable[[Any], Any]]


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request: Any) -> Iterator[None]:
    with fd.config.override(backend=request.param):
        yield


def with_jvp(x: Any) -> Any:
    @fd.custom_jvp
    def f(y: Any) -> Any:
        return fnp.sin(y) * x

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        return f(*primals), 10 * tangents[0] * x

    return f


def with_vjp(x: Any) -> Any:
    @fd.custom_vjp
    def f(y: Any) -> Any:
        return fnp.sin(y) * x

    f.defvjp(lambda y: (f(y), ()), lambda _, ct: (10 * ct * x,))
    return f


def with_static(x: Any) -> Any:
    """The value is in an argument without derivative, beside what cannot be hashed."""

    @functools.partial(fd.custom_vjp, nondiff_argnums=(0,))
    def f(box: Any, y: Any) -> Any:
        return fnp.sin(y) * box[0]

    f.defvjp(lambda box, y: (f(box, y), ()), lambda box, _, ct: (10 * ct * box[0],))
    return lambda y: f([x], y)


def with_object(x: Any) -> Any:
    """The value is an attribute of a bound argument, and a default value."""

    class Scale:
        def __init__(self) -> None:
            self.x = x

        def apply(self, y: Any) -> Any:
            return fnp.sin(y) * self.x

    f = fd.custom_jvp(Scale().apply)

    def rule(primals: Any, tangents: Any, x: Any = x) -> Any:
        return f(*primals), 10 * tangents[0] * x

    f.defjvp(rule)
    return f


MAKES = [with_jvp, with_vjp, with_static, with_object]
each = pytest.mark.parametrize("make", MAKES)


def grad(make: Make) -> Callable[[Any, Any], Any]:
    return lambda x, y: fd.grad(lambda z: make(x)(z))(y)


DERIVATIVES: dict[str, Callable[[Make], Any]] = {
    "vmap of grad": lambda make: fd.vmap(lambda x: grad(make)(x, 2.0))(XS).sum(),
    "grad of vmap": lambda make: fd.grad(lambda y: fd.vmap(lambda x: make(x)(y))(XS).sum())(2.0),
    "grad of vmap over both": lambda make: fd.grad(
        lambda ys: fd.vmap(lambda x, y: make(x)(y))(XS, ys).sum()
    )(XS).sum(),
    "jit of grad": lambda make: fd.vmap(fd.jit(lambda x: grad(make)(x, 2.0)))(XS).sum(),
    "grad of jit": lambda make: sum(
        fd.grad(lambda y, x=x: fd.jit(lambda x: make(x)(y))(x))(2.0) for x in XS
    ),
    "grad of vmap of jit": lambda make: fd.grad(
        lambda y: fd.vmap(fd.jit(lambda x: make(x)(y)))(XS).sum()
    )(2.0),
    "grad of vmap around jit": lambda make: fd.grad(
        lambda y: fd.vmap(lambda x: fd.jit(lambda: make(x)(y))())(XS).sum()
    )(2.0),
    "jit of grad of vmap of jit": lambda make: fd.jit(
        fd.grad(lambda y: fd.vmap(fd.jit(lambda x: make(x)(y)))(XS).sum())
    )(2.0),
    "grad of scan": lambda make: fd.grad(
        lambda y: lax.scan(lambda c, x: (c + make(x)(y), None), 0.0, XS)[0]
    )(2.0),
    "scan of grad": lambda make: lax.scan(lambda c, x: (c + grad(make)(x, 2.0), None), 0.0, XS)[0],
    "grad of checkpoint": lambda make: sum(
        fd.grad(fd.checkpoint(lambda y, x: make(x)(y)))(2.0, x) for x in XS
    ),
    "grad of cond": lambda make: sum(
        fd.grad(lambda y, x=x: lax.cond(x > 0, lambda: make(x)(y), lambda: y))(2.0) for x in XS
    ),
    "linearize": lambda make: fd.vmap(lambda x: fd.vjp(lambda y: make(x)(y), 2.0)[1](1.0)[0])(
        XS
    ).sum(),
}


@pytest.mark.parametrize("name", DERIVATIVES)
@each
def test_derivatives_by_arguments(make: Make, name: str) -> None:
    assert DERIVATIVES[name](make) == pytest.approx(60.0)


@each
def test_values(make: Make) -> None:
    wanted = fnp.sin(2.0) * XS
    for found in (
        fd.vmap(lambda x: make(x)(2.0))(XS),
        fd.vmap(lambda x: make(x)(2.0 + 0 * x))(XS),
        fd.jit(fd.vmap(lambda x: make(x)(2.0)))(XS),
        fd.vmap(fd.jit(lambda x: make(x)(2.0)))(XS),
        fd.vmap(fd.vmap(lambda x: make(x)(2.0)))(XS[None])[0],
        fnp.stack([fd.grad(lambda y, x=x: y * make(x)(2.0))(1.0) for x in XS]),
    ):
        assert fnp.allclose(found, wanted)


@each
def test_closing_over_values_of_two_traces(make: Make) -> None:
    """A product of a batched value and one that an outer derivative is at."""

    def f(z: Any) -> Any:
        return fd.vmap(lambda x: fd.grad(lambda y: make(x * 2)(y))(z))(XS).sum()

    assert fd.jit(f)(2.0) == pytest.approx(120.0)
    assert fd.vmap(f)(XS).sum() == pytest.approx(360.0)


def test_second_derivatives_of_a_rule_that_uses_its_function() -> None:
    def loss(y: Any) -> Any:
        def one(x: Any) -> Any:
            @fd.custom_jvp
            def f(y: Any) -> Any:
                return fnp.exp(y * x)

            @f.defjvp
            def rule(primals: Any, tangents: Any) -> Any:
                return f(*primals), x * f(*primals) * tangents[0]

            return f(y)

        return fd.vmap(fd.jit(one))(XS).sum()

    wanted = (XS * XS * fnp.exp(0.5 * XS)).sum()
    assert fd.grad(fd.grad(loss))(0.5) == pytest.approx(float(wanted), rel=1e-5)
    assert fd.jit(fd.grad(fd.grad(loss)))(0.5) == pytest.approx(float(wanted), rel=1e-5)
    assert fd.jvp(fd.grad(loss), (0.5,), (1.0,))[1] == pytest.approx(float(wanted), rel=1e-5)


def test_rules_may_apply_transforms_to_closed_over_values() -> None:
    def f(x: Any, y: Any) -> Any:
        g = fd.custom_jvp(lambda y: x * y)
        g.defjvp(lambda p, t: (g(*p), t[0] * fd.jit(fd.grad(lambda z: z * z * z))(x)))
        return g(y)

    wanted = 3 * XS * XS
    assert fnp.allclose(fd.vmap(fd.jit(lambda x: fd.grad(f, 1)(x, 1.0)))(XS), wanted)
    total = fd.grad(lambda y: fd.vmap(fd.jit(lambda x: f(x, y)))(XS).sum())(1.0)
    assert total == pytest.approx(float(wanted.sum()))


def test_functions_may_return_what_they_close_over() -> None:
    def f(x: Any, y: Any) -> Any:
        g = fd.custom_vjp(lambda y: (x, y))
        g.defvjp(lambda y: ((x, y), x), lambda x, ct: (ct[0] * x + ct[1],))
        return g(y)

    x, y = fd.vmap(fd.jit(f), (0, None))(XS, 2.0)
    assert fnp.allclose(x, XS) and fnp.allclose(y, 2.0)
    found = fd.vmap(fd.grad(lambda y, x: sum(f(x, y))), (None, 0))(2.0, XS)
    assert fnp.allclose(found, XS + 1)


@pytest.mark.parametrize(
    "run",
    [
        lambda make: fd.grad(lambda x: make(x)(2.0))(3.0),
        lambda make: fd.grad(lambda x: make(x)(x))(3.0),
        lambda make: fd.grad(lambda x: grad(make)(x, 2.0))(3.0),
        lambda make: fd.grad(fd.jit(lambda x: make(x)(x)))(3.0),
        lambda make: fd.grad(lambda x: fd.jit(lambda: make(x)(2.0))())(3.0),
        lambda make: fd.grad(lambda x: fd.vmap(lambda y: make(x)(y))(XS).sum())(3.0),
    ],
)
@each
def test_derivatives_by_closed_over_values_are_refused(make: Make, run: Any) -> None:
    with pytest.raises(NotDifferentiableError, match=r"closes over a value .* argument"):
        run(make)


def test_closed_over_values_that_are_not_used_have_a_derivative() -> None:
    def f(x: Any) -> Any:
        g = fd.custom_jvp(lambda y: y if x is None else y * 2)
        g.defjvp(lambda p, t: (p[0] * 2, t[0] * (2 if x is not None else 1)))
        return g(x * x)

    assert fd.grad(f)(3.0) == 12.0
    assert fd.grad(fd.jit(f))(3.0) == 12.0


def test_values_of_traces_that_have_ended_are_no_operands() -> None:
    """A leaked value in a closure is no harm as long as nothing uses it."""
    leaked: list[Any] = []
    fd.jit(lambda x: leaked.append(x))(1.0)
    f = fd.custom_jvp(lambda y: y * 2 if leaked else y)
    f.defjvp(lambda p, t: (f(*p), t[0] * 2))
    assert fd.grad(fd.jit(f))(3.0) == 2.0
