"""Custom derivatives under a named vmap: which results belong to all members, and which to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.custom_batching import custom_vmap
from funcdl.custom_derivatives import SymbolicZero
from funcdl.errors import ArgumentError

ROWS = np.arange(3, dtype=np.float32) + 1
XS = fnp.asarray(ROWS)
Fun = Callable[[Any], Any]


def by_jvp(fun: Fun, rule: Fun = lambda t: t) -> Fun:
    f = fd.custom_jvp(fun)
    f.defjvp(lambda primals, tangents: (f(*primals), 2 * rule(tangents[0])))
    return f


def by_vjp(fun: Fun, rule: Fun = lambda ct: ct) -> Fun:
    f = fd.custom_vjp(fun)
    f.defvjp(lambda c: (f(c), ()), lambda _, ct: (2 * rule(ct),))
    return f


def by_vmap(fun: Fun) -> Fun:
    f = custom_vmap(fun)
    f.def_vmap(lambda size, batched, c: (fun(c), batched[0]))
    return f


def beside(m: Any, f: Fun, c: Any, out_axes: Any) -> Any:
    """The function of a value that is the same for all members, beside one that is not."""
    return m.vmap(lambda x: (x, f(c)), axis_name="i", out_axes=(0, out_axes))(ROWS)[1]


def unmapped(m: Any, f: Fun, c: Any) -> Any:
    return beside(m, f, c, None)


def mapped(f: Fun, c: Any) -> Any:
    return beside(fd, f, c, 0)


PROGRAMS: dict[str, tuple[Callable[[Any, Fun], Any], float]] = {
    "value": (lambda m, f: unmapped(m, f, 3.0), 6.0),
    "jit": (lambda m, f: m.jit(lambda c: unmapped(m, f, c))(3.0), 6.0),
    "of jit": (lambda m, f: unmapped(m, m.jit(f), 3.0), 6.0),
    "of cond": (
        lambda m, f: unmapped(m, lambda c: m.lax.cond(c > 0, f, lambda c: c, c), 3.0),
        6.0,
    ),
    "of scan": (
        lambda m, f: unmapped(
            m, lambda c: m.lax.scan(lambda a, _: (f(a), ()), c, length=2)[0], 1.5
        ),
        6.0,
    ),
    "grad": (lambda m, f: m.grad(lambda c: unmapped(m, f, c))(3.0), 2.0),
    "grad of jit": (lambda m, f: m.grad(m.jit(lambda c: unmapped(m, f, c)))(3.0), 2.0),
    "jit of grad": (lambda m, f: m.jit(m.grad(lambda c: unmapped(m, f, c)))(3.0), 2.0),
    "of grad": (lambda m, f: unmapped(m, m.grad(f), 3.0), 2.0),
    "of grad of jit": (lambda m, f: unmapped(m, m.grad(m.jit(f)), 3.0), 2.0),
    "vmap over another axis": (lambda m, f: m.vmap(lambda c: unmapped(m, f, c))(ROWS).sum(), 12.0),
    "within another axis": (
        lambda m, f: m.vmap(lambda c: unmapped(m, f, c), axis_name="j")(ROWS).sum(),
        12.0,
    ),
    "psum": (lambda m, f: unmapped(m, lambda c: m.lax.psum(f(c), "i"), 3.0), 18.0),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("make", [by_jvp, by_vjp, by_vmap])
def test_without_mapped_operands_nothing_is_mapped(make: Any, name: str) -> None:
    run, wanted = PROGRAMS[name]
    assert float(run(fd, make(lambda c: c * 2))) == wanted


@pytest.mark.parametrize("make", [by_jvp, by_vjp])
def test_functions_of_the_index_are_mapped(make: Any) -> None:
    f = make(lambda c: c * lax.axis_index("i"))
    for g in (f, fd.jit(f)):
        np.testing.assert_array_equal(mapped(g, 2.0), [0, 2, 4])
        with pytest.raises(ArgumentError, match="depends on the mapped axis"):
            unmapped(fd, g, 2.0)


WAYS: list[Callable[[Fun], Fun]] = [
    fd.grad,
    lambda f: fd.jit(fd.grad(f)),
    lambda f: fd.grad(fd.jit(f)),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("jit", [False, True])
def test_rules_of_the_index_see_each_member(way: Any, jit: bool) -> None:
    """The function is the same for all members, its derivative is not: as in a loop over them."""
    first = by_vjp(lambda c: c * 1, lambda ct: fnp.where(lax.axis_index("i") == 0, ct, 0))
    of_index = by_jvp(lambda c: c * 1, lambda t: t * lax.axis_index("i"))
    for f, wanted in ((first, 2 * 1), (of_index, 2 * (1 * 2 + 2 * 3))):
        g = fd.jit(f) if jit else f
        assert way(lambda c, g=g: (mapped(g, c) * XS).sum())(5.0) == wanted


def test_a_rule_that_uses_its_function_inside_a_program() -> None:
    """The answer for an inner program is not kept from a search that had left its rule out."""
    f = fd.custom_vjp(lambda c: c * 1)
    g = fd.jit(f)
    f.defvjp(lambda c: (g(c), ()), lambda _, ct: (ct * lax.axis_index("i"),))
    for h in (f, g, f):
        assert fd.grad(lambda c, h=h: (mapped(h, c) * XS).sum())(5.0) == 1 * 2 + 2 * 3


def test_second_derivatives() -> None:
    f = fd.custom_jvp(lambda c: c * c * c)
    f.defjvp(lambda p, t: (f(*p), 3 * square(p[0]) * t[0]))
    square = fd.custom_jvp(lambda c: c * c)
    square.defjvp(lambda p, t: (square(*p), t[0] * p[0] * lax.axis_index("i")))
    second = fd.grad(fd.grad(lambda c: (mapped(f, c) * XS).sum()))(2.0)
    assert second == sum(3 * 2.0 * i * (i + 1) for i in range(3))


def test_rules_that_cannot_run_matter_only_where_they_must() -> None:
    f = fd.custom_vjp(lambda c: c * 2)

    def missing(*_: Any) -> Any:
        raise NotImplementedError("no rule yet")

    f.defvjp(missing, missing)
    np.testing.assert_array_equal(mapped(f, 3.0), [6, 6, 6])
    with pytest.raises(NotImplementedError):
        fd.grad(lambda c: mapped(f, c).sum())(3.0)


def test_symbolic_zeros_and_integers() -> None:
    f = fd.custom_vjp(lambda c, n: (c * n, n))

    def backward(n: Any, cts: Any) -> Any:
        return None if isinstance(cts[0], SymbolicZero) else cts[0] * n, None

    f.defvjp(lambda c, n: (f(c.value, n.value), n.value), backward, symbolic_zeros=True)

    def g(c: Any) -> Any:
        return f(c, 4)[0]

    for h in (g, fd.jit(g)):
        assert unmapped(fd, h, 3.0) == 12.0
        assert fd.grad(lambda c, h=h: unmapped(fd, h, c))(3.0) == 4.0


@pytest.mark.peers
@pytest.mark.parametrize("name", PROGRAMS)
def test_jax_agrees(name: str) -> None:
    jax = pytest.importorskip("jax")
    f = jax.custom_vjp(lambda c: c * 2)
    f.defvjp(lambda c: (f(c), ()), lambda _, ct: (2 * ct,))
    run, wanted = PROGRAMS[name]
    assert float(run(jax, f)) == wanted
