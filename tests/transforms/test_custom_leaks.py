"""Custom derivatives keep no traced values that `checking_leaks` would take for a side effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.custom_batching import custom_vmap
from funcdl.errors import LeakedTracerError

pytestmark = pytest.mark.usefixtures("short_search")

XS = fnp.arange(3.0) + 1.0
Fun = Callable[[Any], Any]
Make = Callable[[Any], Fun]


def with_jvp(x: Any) -> Fun:
    f = fd.custom_jvp(lambda y: fnp.sin(y) * x)
    f.defjvp(lambda p, t: (f(*p), t[0] * x))
    return f


def with_vjp(x: Any) -> Fun:
    f = fd.custom_vjp(lambda y: fnp.sin(y) * x)
    f.defvjp(lambda y: (f(y), y), lambda y, ct: (ct * x * y,))
    return f


def with_vmap(x: Any) -> Fun:
    f = custom_vmap(lambda y: fnp.sin(y) * 2)
    f.def_vmap(lambda size, batched, y: (f(y), batched[0]))
    return lambda y: f(y) * x


PROGRAMS: dict[str, Callable[[Make], Any]] = {
    "jit": lambda make: fd.jit(lambda x: make(x)(2.0))(1.0),
    "jit, as an argument": lambda make: fd.jit(lambda x: make(2.0)(x))(1.0),
    "vmap": lambda make: fd.vmap(lambda x: make(x)(2.0))(XS),
    "vmap of jit": lambda make: fd.vmap(fd.jit(lambda x: make(x)(2.0)))(XS),
    "vmap of grad": lambda make: fd.vmap(lambda x: fd.grad(lambda y: make(x)(y))(2.0))(XS),
    "jit of grad": lambda make: fd.jit(lambda x: fd.grad(lambda y: make(x)(y))(2.0))(1.0),
    "grad of vmap": lambda make: fd.grad(lambda y: fd.vmap(lambda x: make(x)(y))(XS).sum())(2.0),
    "grad of vmap of jit": lambda make: fd.grad(
        lambda y: fd.vmap(fd.jit(lambda x: make(x)(y)))(XS).sum()
    )(2.0),
    "grad of jit": lambda make: fd.grad(lambda y: fd.jit(lambda x: make(x)(y))(1.0))(2.0),
    "jit of grad of vmap": lambda make: fd.jit(
        fd.grad(lambda y: fd.vmap(lambda x: make(x)(y))(XS).sum())
    )(2.0),
    "second derivative": lambda make: fd.jit(
        fd.grad(fd.grad(lambda y: fd.vmap(lambda x: make(x)(y))(XS).sum()))
    )(2.0),
    "grad of scan": lambda make: fd.grad(
        lambda y: lax.scan(lambda c, x: (c + make(x)(y), None), 0.0, XS)[0]
    )(2.0),
    "scan of grad": lambda make: lax.scan(
        lambda c, x: (c + fd.grad(lambda y: make(x)(y))(2.0), None), 0.0, XS
    )[0],
    "grad of checkpoint": lambda make: fd.grad(fd.checkpoint(lambda y, x: make(x)(y)))(2.0, 1.0),
    "grad of cond": lambda make: fd.grad(
        lambda y: lax.cond(True, lambda x: make(x)(y), lambda x: y, 1.0)
    )(2.0),
    "vjp": lambda make: fd.vjp(lambda y: make(1.0)(y), 2.0)[1](1.0),
    "a named axis": lambda make: fd.vmap(lambda x: make(2.0)(3.0) * x, axis_name="i")(XS),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("make", [with_jvp, with_vjp, with_vmap])
def test_nothing_leaks(make: Make, name: str) -> None:
    with fd.checking_leaks():
        PROGRAMS[name](make)


def test_side_effects_of_custom_functions_and_rules_are_leaks() -> None:
    kept: list[Any] = []

    def keep(x: Any) -> Any:
        kept.append(x * 2)
        return x

    def by_function(x: Any) -> Any:
        f = fd.custom_jvp(lambda y: keep(y) * x)
        f.defjvp(lambda p, t: (f(*p), t[0] * x))
        return f(x)

    def by_rule(x: Any) -> Any:
        f = fd.custom_vjp(lambda y: y * x)
        f.defvjp(lambda y: (f(y), y), lambda y, ct: (keep(ct) * x,))
        return fd.grad(f)(x)

    for f in (by_function, by_rule):
        with (
            fd.checking_leaks(),
            pytest.raises(LeakedTracerError, match=r"held by an element of a list of \d"),
        ):
            fd.jit(f)(1.0)
        kept.clear()
