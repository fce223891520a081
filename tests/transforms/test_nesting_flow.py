"""Transforms nested at random over random programs of loops, branches and custom rules.

A program is run as it is, and as plain Python: its loops unrolled, its branches taken, its rules
and calls left out. Transforms of the latter have definitions that use forward mode alone, as in
test_nesting.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.transforms.compare import assert_same
from tests.transforms.test_laws import pairs
from tests.transforms.test_nesting import LEVELS, chains

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import NotDifferentiableError
from funcdl.runtime.toolchain import find_compiler
from funcdl.test_util import check_grads

Fun = Callable[[Any, Any], Any]

LEAVES: dict[str, Fun] = {
    "sine": lambda x, y: fnp.sin(x) + y / 2,
    "product": lambda x, y: fnp.tanh(x) * y,
    "difference": lambda x, y: x / 2 - fnp.cos(y),
    "sums": lambda x, y: fnp.cumsum(x)[::-1] / 3 + y[fnp.asarray([1, 1, 0])],
    "outer": lambda x, y: (x[:, None] * fnp.sin(y)).mean(axis=0),
    "second": lambda x, y: fnp.sin(y),
    "constant": lambda x, y: fnp.asarray(np.array([0.3, -0.2, 0.9])) * x.sum(),
}


@dataclass(frozen=True)
class Node:
    """An operation on two arrays, with the programs that it applies."""

    kind: str
    bodies: tuple[tuple[Node, ...], ...] = ()
    number: int = 0

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.bodies))
        return f"{self.kind}[{self.number}]({inner})" if inner else self.kind

    def kinds(self) -> Iterator[str]:
        """Of this node and all within."""
        yield self.kind
        for body in self.bodies:
            for node in body:
                yield from node.kinds()


def run(nodes: tuple[Node, ...], real: bool) -> Fun:
    """The function of a program; its meaning in plain Python unless `real`."""

    def fun(x: Any, y: Any) -> Any:
        for node in nodes:
            if node.kind in LEAVES:
                x = LEAVES[node.kind](x, y)
            else:
                kinds = REAL if real else MEANING
                bodies = [run(body, real) for body in node.bodies]
                x = kinds[node.kind](bodies, node.number, x, y)
        return x

    return fun


def scan(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    def step(c: Any, e: Any) -> Any:
        new = bodies[0](c[0], e["e"])
        return (new, c[1] + 1, c[2]), (new * c[1], e["k"], c[2] * c[0])

    rows = fnp.stack([y * (k + 1) / 2 for k in range(2)])
    xs = {"e": rows, "k": fnp.arange(2)}
    (c, k, _), (ys, _, _) = lax.scan(step, (x, 1, y.sum()), xs, reverse=bool(n % 2))
    return c / k + ys.sum(axis=0) / 3


def scan_meaning(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    total, order = y * 0, (1, 0) if n % 2 else (0, 1)
    for count, k in enumerate(order):
        x = bodies[0](x, y * (k + 1) / 2)
        total = total + x * (count + 1)
    return x / 3 + total / 3


def while_loop(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    def body(s: Any) -> Any:
        i, x, count = s
        return i + 1, bodies[0](x, y), count + 2

    _, out, count = lax.while_loop(lambda s: s[0] < n % 3, body, (0, x, 1))
    return out * count


def while_meaning(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    for _ in range(n % 3):
        x = bodies[0](x, y)
    return x * (1 + 2 * (n % 3))


def counted(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    """A while loop on integers alone: reverse mode passes around it."""
    limit = lax.stop_gradient(x)[0]
    k = lax.while_loop(lambda i: i < fnp.where(limit > 0, 3, 2), lambda i: i + 1, 0)
    return bodies[0](x, y) * k


def fori(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    return lax.fori_loop(0, 1 + n % 3, lambda i, v: bodies[0](v, y + i / 4), x)


def fori_meaning(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    for i in range(1 + n % 3):
        x = bodies[0](x, y + i / 4)
    return x


def custom_jvp(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    fixed = lax.stop_gradient(y) * (n % 2)
    f = fd.custom_jvp(lambda x, y: bodies[0](x, y) + fixed)

    def rule(primals: Any, tangents: Any) -> Any:
        return fd.jvp(lambda x, y: bodies[0](x, y) + fixed, primals, tangents)

    f.defjvp(rule)
    return f(x, y)


def custom_vjp(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    fixed = lax.stop_gradient(y) * (n % 2)

    def plain(x: Any, y: Any) -> Any:
        return bodies[0](x, y) + fixed

    f = fd.custom_vjp(plain)
    f.defvjp(lambda x, y: (plain(x, y), (x, y)), lambda res, ct: fd.vjp(plain, *res)[1](ct))
    return f(x, y)


def custom_meaning(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    return bodies[0](x, y) + lax.stop_gradient(y) * (n % 2)


def linear_solve(bodies: list[Fun], n: int, x: Any, y: Any) -> Any:
    def solve(matvec: Any, b: Any) -> Any:
        return b / matvec(fnp.ones_like(b))

    scale = 2 + fnp.sin(y)
    return lax.custom_linear_solve(lambda z: scale * z, bodies[0](x, y), solve, solve)


REAL: dict[str, Callable[[list[Fun], int, Any, Any], Any]] = {
    "scan": scan,
    "while": while_loop,
    "counted": counted,
    "fori": fori,
    "cond": lambda b, n, x, y: lax.cond(x[n % 3] > 0.1, b[0], b[1], x, y),
    "switch": lambda b, n, x, y: lax.switch(fnp.argmax(x), [b[0], b[1], lambda x, y: y], x, y),
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "linear_solve": linear_solve,
    "jit": lambda b, n, x, y: fd.jit(b[0])(x, y),
    "closed jit": lambda b, n, x, y: fd.jit(lambda x: b[0](x, y))(x),
    "checkpoint": lambda b, n, x, y: fd.checkpoint(b[0])(x, y),
    "vmap": lambda b, n, x, y: fd.vmap(lambda s: b[0](x * s, y))(fnp.arange(2) + 0.5).sum(axis=0),
    "map": lambda b, n, x, y: lax.map(lambda s: b[0](x * s, y), fnp.arange(2) + 0.5).sum(axis=0),
}
MEANING: dict[str, Callable[[list[Fun], int, Any, Any], Any]] = {
    "scan": scan_meaning,
    "while": while_meaning,
    "counted": lambda b, n, x, y: b[0](x, y) * fnp.where(lax.stop_gradient(x)[0] > 0, 3, 2),
    "fori": fori_meaning,
    "cond": lambda b, n, x, y: fnp.where(x[n % 3] > 0.1, b[0](x, y), b[1](x, y)),
    "switch": lambda b, n, x, y: fnp.where(
        fnp.argmax(x) == 0, b[0](x, y), fnp.where(fnp.argmax(x) == 1, b[1](x, y), y)
    ),
    "custom_jvp": custom_meaning,
    "custom_vjp": custom_meaning,
    "linear_solve": lambda b, n, x, y: b[0](x, y) / (2 + fnp.sin(y)),
    **dict.fromkeys(["jit", "closed jit", "checkpoint"], lambda b, n, x, y: b[0](x, y)),
    **dict.fromkeys(["vmap", "map"], lambda b, n, x, y: b[0](x * 0.5, y) + b[0](x * 1.5, y)),
}

leaves = st.sampled_from(sorted(LEAVES)).map(Node)


def inner(children: Any) -> Any:
    body = st.lists(children, min_size=1, max_size=2).map(tuple)
    return st.builds(
        lambda kind, a, b, n: Node(kind, (a, b) if kind in ("cond", "switch") else (a,), n),
        st.sampled_from(sorted(REAL)),
        body,
        body,
        st.integers(0, 5),
    )


flows = st.recursive(leaves, inner, max_leaves=4)
programs = st.lists(st.one_of(inner(leaves), inner(flows)), min_size=1, max_size=2).map(tuple)


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def applied(f: Fun, chain: list[str], which: int) -> Fun:
    for level in chain:
        f = LEVELS[level][which](f)
    return f


def one_way(program: tuple[Node, ...]) -> bool:
    """Whether only one of forward and reverse mode passes through."""
    return any({"while", "custom_vjp"} & set(node.kinds()) for node in program)


def compare(program: tuple[Node, ...], chain: list[str], at: Any) -> None:
    wanted = applied(run(program, False), chain, 1)(*at)
    if np.abs(wanted.value).max() < 1e6:
        assert_same(applied(run(program, True), chain, 0)(*at), wanted, 1e4)


def check(program: tuple[Node, ...], chain: list[str], at: Any) -> None:
    """As `compare`, for programs of all kinds."""
    try:
        compare(program, chain, at)
    except NotDifferentiableError:
        assume(not one_way(program))
        raise


@settings(max_examples=100)
@given(programs, chains, pairs)
def test_nested_transforms_of_control_flow(
    program: tuple[Node, ...], chain: list[str], at: Any
) -> None:
    check(program, chain, at)


def without_stops(node: Node) -> Node:
    """The node without values whose derivative is left out on purpose."""
    number = node.number * 2 if node.kind.startswith("custom") else node.number
    return Node(node.kind, tuple(tuple(map(without_stops, b)) for b in node.bodies), number)


@settings(max_examples=50)
@given(programs, pairs)
def test_derivatives_agree_with_differences(program: tuple[Node, ...], at: Any) -> None:
    x = at[0]
    # Away from where branches change.
    assume(np.abs(x.value - 0.1).min() > 0.02 and np.ptp(x.value) > 0.05)
    kinds = {kind for node in program for kind in node.kinds()}
    assume(not kinds & {"cond", "switch", "counted"})
    f = run(tuple(map(without_stops, program)), True)
    for mode, stops in (("fwd", "custom_vjp"), ("rev", "while")):
        if stops not in kinds:
            check_grads(lambda x, y: fnp.tanh(f(x, y)), at, 1, mode, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(programs, chains, pairs)
def test_many_nested_transforms_of_control_flow(
    program: tuple[Node, ...], chain: list[str], at: Any
) -> None:
    check(program, chain, at)


@pytest.mark.exhaustive
@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(programs, chains, pairs)
def test_very_many_nested_transforms_of_control_flow(
    program: tuple[Node, ...], chain: list[str], at: Any
) -> None:
    check(program, chain, at)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(programs, chains, pairs)
def test_without_jit(program: tuple[Node, ...], chain: list[str], at: Any) -> None:
    with fd.disable_jit():
        check(program, chain, at)


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@settings(max_examples=60, deadline=None)
@given(programs, chains, pairs)
def test_in_c(program: tuple[Node, ...], chain: list[str], at: Any) -> None:
    with fd.config.override(backend="cpu"):
        check(program, [*chain, "jit"], at)


def body(*names: str) -> tuple[Node, ...]:
    return tuple(map(Node, names))


EVERYTHING = (
    Node("scan", ((Node("custom_vjp", (body("product"),), 1), Node("sine")),), 1),
    Node("cond", ((Node("fori", (body("sine"),), 1),), (Node("jit", (body("product"),)),)), 2),
    Node("checkpoint", ((Node("scan", (body("difference", "product"),)),),)),
    Node("counted", ((Node("linear_solve", (body("outer"),)),),)),
)
AT = tuple(fnp.asarray(np.array(v)) for v in ([0.3, -0.8, 1.2], [-0.6, 0.4, 0.9]))


@pytest.mark.parametrize("outer", ["grad", "jit", "vjp", "vmap", "vmap of both"])
@pytest.mark.parametrize("inner", ["checkpoint", "grad", "jit", "vjp", "vmap"])
def test_every_pair_of_transforms_of_everything(inner: str, outer: str) -> None:
    compare(EVERYTHING, [inner, outer], AT)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_everything_in_c() -> None:
    with fd.config.override(backend="cpu"):
        compare(EVERYTHING, ["grad", "vmap", "jit"], AT)
        compare(EVERYTHING, ["jit", "vjp"], AT)


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("level", sorted(LEVELS))
def test_every_kind_under_every_transform(kind: str, level: str) -> None:
    bodies = body("sine", "product"), body("difference")
    node = Node(kind, bodies if kind in ("cond", "switch") else bodies[:1], 1)
    refused = {
        "while": ("grad", "value_and_grad", "vjp", "aux"),
        "custom_vjp": ("jvp", "linearize"),
    }
    if level in refused.get(kind, ()):
        with pytest.raises(NotDifferentiableError, match="is not possible"):
            compare((node,), [level], AT)
    else:
        compare((node,), [level], AT)
