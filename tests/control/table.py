"""Programs with control flow, each beside the same program in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.transforms.table import Case, draw

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.control import cond, fori_loop, scan, switch, while_loop


@dataclass(frozen=True)
class Pair:
    """A program, what it means, and where to call both.

    Args:
      rev: whether reverse mode is possible.
    """

    program: Case
    meaning: Case
    rev: bool

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def args(self) -> tuple[Any, ...]:
        return self.program.args

    @property
    def argnums(self) -> tuple[int, ...]:
        return self.program.argnums


PAIRS: list[Pair] = []


def pair(*args: Any, argnums: tuple[int, ...] = (0,), rev: bool = True) -> Any:
    """Add a function of the control flow (`Flow`) that it uses, called with these arguments."""

    def add(fun: Callable[..., Any]) -> Callable[..., Any]:
        def case(flow: Flow) -> Case:
            return Case(fun.__name__, lambda *xs: fun(flow, *xs), args, argnums=argnums)

        PAIRS.append(Pair(case(PRIMITIVES), case(PYTHON), rev))
        return fun

    return add


@dataclass(frozen=True)
class Flow:
    """The functions under test, or the loops and branches that they stand for."""

    scan: Callable[..., Any]
    while_loop: Callable[..., Any]
    fori_loop: Callable[..., Any]
    cond: Callable[..., Any]
    switch: Callable[..., Any]


def python_scan(
    f: Any, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> Any:
    leaves, treedef = fd.tree.flatten(xs)
    count = leaves[0].shape[0] if leaves else length
    assert count, "a loop without steps gives no type for its outputs"
    carry, ys = fd.tree.map(fnp.asarray, init), []
    for i in range(count - 1, -1, -1) if reverse else range(count):
        carry, y = f(carry, treedef.unflatten([x[i] for x in leaves]))
        ys.append(fd.tree.map(fnp.asarray, y))
    if reverse:
        ys.reverse()
    return carry, fd.tree.map(lambda *parts: fnp.stack(parts), *ys)


def python_while(cond_fun: Any, body_fun: Any, init: Any) -> Any:
    value = fd.tree.map(fnp.asarray, init)
    while cond_fun(value):
        value = body_fun(value)
    return value


def python_fori(lower: Any, upper: Any, body_fun: Any, init: Any) -> Any:
    value = fd.tree.map(fnp.asarray, init)
    for i in range(int(lower), int(upper)):
        value = body_fun(fnp.asarray(i), value)
    return value


def python_cond(pred: Any, true_fun: Any, false_fun: Any, *operands: Any) -> Any:
    return true_fun(*operands) if pred else false_fun(*operands)


def python_switch(index: Any, branches: Any, *operands: Any) -> Any:
    return branches[min(max(int(index), 0), len(branches) - 1)](*operands)


PRIMITIVES = Flow(scan, while_loop, fori_loop, cond, switch)
PYTHON = Flow(python_scan, python_while, python_fori, python_cond, python_switch)


@fd.custom_jvp
def logistic(x: Any) -> Any:
    return 1 / (1 + fnp.exp(-x))


@logistic.defjvp
def _logistic_jvp(primals: Any, tangents: Any) -> Any:
    y = logistic(primals[0])
    return y, 3 * y * (1 - y) * tangents[0]


@fd.custom_vjp
def scaled(x: Any, y: Any) -> Any:
    return x * fnp.sin(y)


scaled.defvjp(
    lambda x, y: (scaled(x, y), (x, y)),
    lambda res, ct: (2 * ct * fnp.sin(res[1]), ct * res[0] * fnp.cos(res[1])),
)


@pair(draw(3), draw(5, 3), argnums=(0, 1))
def scan_recurrence(flow: Flow, h: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = fnp.tanh(h * 0.7 + x)
        return h, h * x

    return flow.scan(step, h, xs)


@pair(draw(3), draw(3, 3), draw(4, 3), argnums=(0, 1, 2))
def scan_with_captured_weights(flow: Flow, h: Any, w: Any, xs: Any) -> Any:
    return flow.scan(lambda h, x: (fnp.tanh(h @ w + x), (h @ (w * w)).sum()), h, xs, reverse=True)


@pair(
    {"a": draw(2), "b": (draw(), None)}, {"u": draw(3, 2), "n": None, "v": draw(3)}, argnums=(0, 1)
)
def scan_over_trees(flow: Flow, init: Any, xs: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        a, (b, _) = carry["a"], carry["b"]
        new = {"a": a * x["u"] + b, "b": (b * 0.5 + x["v"], None)}
        return new, {"y": a.sum() * x["v"], "none": None, "pair": [x["u"], b]}

    return flow.scan(step, init, xs)


@pair(draw(2))
def scan_without_inputs(flow: Flow, x: Any) -> Any:
    return flow.scan(lambda c, _: (fnp.sin(c) + x, None), x * 2, None, 3)


@pair(draw(4), 3, fnp.asarray([2, 0, 1]))
def scan_with_integers(flow: Flow, x: Any, start: Any, steps: Any) -> Any:
    def step(carry: Any, k: Any) -> Any:
        i, total = carry
        return (i + k, total * x[k] + x[i % 4]), (i, total)

    return flow.scan(step, (start, x.sum()), steps)


@pair(draw(2), draw(), draw(4, 2), argnums=(0, 1, 2))
def scan_with_unused_values(flow: Flow, a: Any, unused: Any, xs: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        a, u, k = carry
        return (a, u, k + 1), (x[0], k, fnp.ones(2))

    return flow.scan(step, (a, unused, 0), xs)


@pair(draw(2, seed=1), draw(3, 2, seed=2), argnums=(0, 1))
def scan_swaps_carries(flow: Flow, a: Any, xs: Any) -> Any:
    """Only the last carry starts with a tangent of `a`; the others get it step by step."""
    zero = fnp.zeros(2, "float64")

    def step(carry: Any, x: Any) -> Any:
        p, q, r = carry
        return (q, r * 2, p * x + 1), p

    return flow.scan(step, (zero, zero, a), xs)


@pair(draw(1, 3), draw(1, 3, seed=8), argnums=(0, 1))
def scan_of_one_step(flow: Flow, xs: Any, ys: Any) -> Any:
    return flow.scan(lambda c, p: (c * p[0], c + fnp.exp(p[1])), fnp.ones(3, "float64"), (xs, ys))


@pair(draw(3), draw(2, 3), draw(4, 3), argnums=(0, 1, 2))
def scan_in_scan(flow: Flow, h: Any, inner: Any, outer: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        final, ys = flow.scan(lambda c, y: (fnp.sin(c) * y + x, c * x), h, inner)
        return final * 0.5, ys.sum(axis=0)

    return flow.scan(step, h, outer)


@pair(draw(4), draw(2), argnums=(0, 1))
def cond_in_scan(flow: Flow, xs: Any, x: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = flow.cond(x > 0, lambda c: fnp.sin(c) * x, lambda c: c * c - x, c)
        return c, c.sum()

    return flow.scan(step, x, xs)


@pair(draw(3, 2), draw(2), argnums=(0, 1), rev=False)
def scan_in_while(flow: Flow, xs: Any, x: Any) -> Any:
    def body(state: Any) -> Any:
        i, c = state
        return i + 1, flow.scan(lambda c, x: (fnp.cos(c) + x * i, None), c, xs)[0]

    return flow.while_loop(lambda s: s[0] < 3, body, (0, x))


@pair(draw(2), draw(3, 2), argnums=(0, 1))
def while_in_scan(flow: Flow, x: Any, xs: Any) -> Any:
    """The inner loop only counts, so that reverse mode passes around it."""

    def step(c: Any, x: Any) -> Any:
        n = flow.while_loop(lambda n: n < 5, lambda n: n + 2, 0)
        return c * x + n, n

    return flow.scan(step, x, xs)


@pair(draw(3), draw(4, 3), argnums=(0, 1))
def custom_jvp_in_scan(flow: Flow, h: Any, xs: Any) -> Any:
    return flow.scan(lambda h, x: (logistic(h * x), logistic(x)), h, xs)


@pair(draw(2), draw(3, 2))
def jit_and_grad_in_scan(flow: Flow, h: Any, xs: Any) -> Any:
    inner = fd.jit(lambda c, x: fnp.sin(c) * x)

    def step(h: Any, x: Any) -> Any:
        return inner(h, x), fd.grad(lambda z: inner(z, x).sum())(h)

    return flow.scan(step, h, xs)


@pair(draw(3), draw(2, 4, 3))
def vmap_in_scan(flow: Flow, h: Any, xs: Any) -> Any:
    return flow.scan(lambda h, x: (h * 0.5 + fd.vmap(fnp.dot)(x, x).sum(), h), h, xs)


@pair(draw(2), draw(2, seed=4), argnums=(0, 1))
def fori_with_fixed_bounds(flow: Flow, x: Any, y: Any) -> Any:
    return flow.fori_loop(1, 5, lambda i, c: fnp.sin(c) * y + i, x), flow.fori_loop(
        3, 1, lambda i, c: c * 7, y
    )


@pair(draw(2), draw(2, seed=4), fnp.asarray(4), argnums=(0, 1), rev=False)
def fori_with_traced_bounds(flow: Flow, x: Any, y: Any, n: Any) -> Any:
    return flow.fori_loop(n - 2, n, lambda i, c: fnp.sin(c) * y + i, x)


@pair(draw(), draw(seed=2), argnums=(0, 1), rev=False)
def while_on_a_float(flow: Flow, x: Any, y: Any) -> Any:
    """How often it runs depends on a differentiated value."""
    start = (fnp.abs(x), y, 0)

    def body(state: Any) -> Any:
        a, b, n = state
        return a * 1.7, b * a + fnp.sin(b), n + 1

    return flow.while_loop(lambda s: s[0] < 6.0, body, start)


@pair(draw(3), fnp.asarray(2.5), rev=False)
def while_with_captured_bound(flow: Flow, x: Any, bound: Any) -> Any:
    return flow.while_loop(
        lambda s: (s["i"] < bound * 2) & (s["i"] < 9),
        lambda s: {"i": s["i"] + 1.0, "x": s["x"] * x + bound},
        {"i": fnp.asarray(0.0), "x": x},
    )


@pair(draw(3), rev=False)
def while_never_runs(flow: Flow, x: Any) -> Any:
    return flow.while_loop(lambda s: s.sum() > 1e6, lambda s: s * 2, x)


@pair(draw(2), rev=False)
def while_shifts_carries(flow: Flow, x: Any) -> Any:
    def body(s: Any) -> Any:
        i, a, b, c = s
        return i - 1, b, c * 2, a + x

    return flow.while_loop(lambda s: s[0] > 0, body, (4, x, fnp.zeros_like(x), fnp.ones_like(x)))


@pair(draw(3), 3)
def while_of_integers_beside_floats(flow: Flow, x: Any, n: Any) -> Any:
    k = flow.while_loop(lambda k: k < 20, lambda k: k * 2 + 1, n)
    return x * k, k


@pair(draw(3), draw(3, seed=2), fnp.asarray(True), argnums=(0, 1))
def cond_true(flow: Flow, x: Any, y: Any, p: Any) -> Any:
    return flow.cond(p, lambda x: {"r": fnp.sin(x) * y}, lambda x: {"r": x * x}, x)


@pair(draw(3), draw(3, seed=2), 0, argnums=(0, 1))
def cond_on_an_integer(flow: Flow, x: Any, y: Any, p: Any) -> Any:
    return flow.cond(p, lambda x, y: (x, y, 1), lambda x, y: (y * x, x, 2), x, y)


@pair(draw(), draw(3), argnums=(0, 1))
def cond_on_a_differentiated_value(flow: Flow, x: Any, y: Any) -> Any:
    return flow.cond(x > 0.1, lambda y: y * x, lambda y: fnp.cos(y) * y + x * x, y)


@pair(draw(3), fnp.asarray(True))
def cond_with_constant_branches(flow: Flow, x: Any, p: Any) -> Any:
    return flow.cond(p, lambda: (fnp.ones_like(x), x), lambda: (x * x, fnp.zeros_like(x)))


@pair(draw(3), draw(2), argnums=(0, 1))
def cond_in_cond(flow: Flow, x: Any, y: Any) -> Any:
    def inner(x: Any) -> Any:
        return flow.cond(y[0] > 0, lambda x: x * y[1], lambda x: fnp.sin(x), x)

    return flow.cond(x.sum() > 0, inner, lambda x: inner(x * x) * 2, x)


@pair(draw(4), fnp.asarray(False))
def loops_in_cond(flow: Flow, x: Any, p: Any) -> Any:
    return flow.cond(
        p,
        lambda x: flow.fori_loop(0, 3, lambda i, c: c * x, x),
        lambda x: flow.scan(lambda c, e: (c + fnp.exp(e), None), x, x)[0],
        x,
    )


@pair(draw(3), draw(3, seed=9), fnp.asarray(1), argnums=(0, 1))
def switch_in_the_middle(flow: Flow, x: Any, y: Any, i: Any) -> Any:
    branches = [lambda x: x * y, lambda x: logistic(x) + 1, lambda x: y]
    return flow.switch(i, branches, x)


@pair(draw(3), draw(3, seed=9), fnp.asarray([-3, 0, 5, 2]), argnums=(0, 1))
def switch_out_of_range(flow: Flow, x: Any, y: Any, many: Any) -> Any:
    branches = [lambda x: x * y, fnp.sin, lambda x: y - x]
    return [flow.switch(many[k], branches, x) for k in range(4)]


@pair(draw(3), fnp.asarray(4))
def switch_with_one_branch(flow: Flow, x: Any, i: Any) -> Any:
    return flow.switch(i, [lambda x: x * x], x)


@pair(draw(2, 3), draw(3), argnums=(0, 1))
def scan_of_booleans(flow: Flow, xs: Any, x: Any) -> Any:
    def step(seen: Any, row: Any) -> Any:
        found = seen | (row > 0)
        return found, fnp.where(found, row * x, x)

    return flow.scan(step, fnp.asarray([False, True, False]), xs)


@pair(draw(3, 2).astype("float32"), np.float32(0.5))
def scan_in_float32(flow: Flow, xs: Any, scale: Any) -> Any:
    return flow.scan(lambda c, x: (c * scale + x, c), fnp.zeros(2), xs)


NAMES = [p.name for p in PAIRS]
