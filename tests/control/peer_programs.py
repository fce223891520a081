"""Programs of control flow whose values, types and derivatives are compared with JAX's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}


def program(*args: Any) -> Any:
    """Add a program of (lax, numpy, *args), differentiated by those arguments that are float32."""

    def add(fun: Callable[..., Any]) -> Callable[..., Any]:
        PROGRAMS[fun.__name__] = fun, args
        return fun

    return add


def f32(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).uniform(0.3, 1.2, shape).astype("float32")


@program(f32(3), f32(4, 3))
def scan_rows(lax: Any, np: Any, h: Any, xs: Any) -> Any:
    return lax.scan(lambda h, x: (np.tanh(h * x), h.sum()), h, xs)


@program(f32(3), f32(4, 3))
def scan_reversed(lax: Any, np: Any, h: Any, xs: Any) -> Any:
    return lax.scan(lambda h, x: (np.sin(h) + x, h * x), h, xs, reverse=True, unroll=2)


@program()
def scan_weak_carry(lax: Any, np: Any) -> Any:
    return lax.scan(lambda c, _: (c + 1.0, c), 0.0, None, 3)


@program()
def scan_weak_carry_becomes_strong(lax: Any, np: Any) -> Any:
    return lax.scan(lambda c, _: (c + np.float32(1), 2.0), 0.0, None, 3)


@program(np.float32(1))
def scan_strong_carry_of_weak_results(lax: Any, np: Any, x: Any) -> Any:
    return lax.scan(lambda c, _: (2.0, c), x, None, 3)


@program(f32(2).astype("float16"))
def scan_weak_carry_takes_a_narrow_type(lax: Any, np: Any, xs: Any) -> Any:
    return lax.scan(lambda c, x: (c * x, (c, 1)), 1.0, xs)


@program(np.arange(3, dtype="int8"))
def scan_weak_integer_carry(lax: Any, np: Any, xs: Any) -> Any:
    return lax.scan(lambda c, x: (c + x, x > 1), 0, xs)


@program(f32(2, 3))
def scan_dicts(lax: Any, np: Any, xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        return {"i": c["i"] + 1, "s": c["s"] + x["x"].sum()}, {"y": c["i"], "n": None}

    return lax.scan(step, {"i": 0, "s": 0.0}, {"x": xs, "none": None})


@program(f32(3), f32(2, 3))
def scan_of_scans(lax: Any, np: Any, h: Any, xs: Any) -> Any:
    def inner(c: Any, x: Any) -> Any:
        return np.sin(c) * x, c

    return lax.scan(lambda h, x: lax.scan(inner, h + x, xs), h, xs)


@program(f32(3))
def fori_static(lax: Any, np: Any, x: Any) -> Any:
    return lax.fori_loop(1, 4, lambda i, c: np.sin(c) * i, x)


@program()
def fori_weak(lax: Any, np: Any) -> Any:
    return [lax.fori_loop(0, 3, lambda i, c: c + i, c) for c in (1, 1.0)]


@program(np.int8(3), f32(2).astype("float16"))
def fori_keeps_narrow_types(lax: Any, np: Any, n: Any, x: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, c: (c[0] + i, c[1] * i), (n, x))


@program(np.int32(4))
def fori_traced(lax: Any, np: Any, n: Any) -> Any:
    return lax.fori_loop(0, n, lambda i, c: c * 2 + i, 1)


@program(np.int16(3))
def fori_of_a_narrow_bound(lax: Any, np: Any, n: Any) -> Any:
    return lax.fori_loop(np.int16(1), n, lambda i, c: c + i, np.int16(0))


@program()
def while_weak(lax: Any, np: Any) -> Any:
    return lax.while_loop(lambda c: c < 10, lambda c: c * 2, 1)


@program(np.float32(0.5))
def while_weak_meets_strong(lax: Any, np: Any, x: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < 10, lambda s: (s[0] * 2 + x, s[1] + 1), (1.0, 0))


@program(np.int32(3))
def while_collatz(lax: Any, np: Any, n: Any) -> Any:
    def body(s: Any) -> Any:
        n, k = s
        return np.where(n % 2 == 0, n // 2, 3 * n + 1), k + 1

    return lax.while_loop(lambda s: s[0] != 1, body, (n, 0))


@program(np.bool_(True), f32(3))
def cond_on_bool(lax: Any, np: Any, p: Any, x: Any) -> Any:
    return lax.cond(p, lambda x: np.sin(x), lambda x: x * x, x)


@program(f32(3))
def cond_on_float(lax: Any, np: Any, x: Any) -> Any:
    return lax.cond(0.0, lambda x: np.sin(x), lambda x: x * x, x), lax.cond(
        2, lambda: (1, 2.0), lambda: (3, 4.0)
    )


@program()
def cond_weak_types(lax: Any, np: Any) -> Any:
    one = np.float32(1)
    return [
        lax.cond(True, *branches)
        for branches in (
            (lambda: 1.0, lambda: 2.0),
            (lambda: 1.0, lambda: one),
            (lambda: one, lambda: one),
        )
    ]


@program(np.bool_(True), f32(2))
def weak_types_of_branches(lax: Any, np: Any, p: Any, x: Any) -> Any:
    """A result is weak where it is weak in every branch.

    JAX asks the first branch only (for `cond` the one for false), so it comes out strong here.
    """
    return (
        lax.cond(p, lambda: (1.0, 2), lambda: (np.float32(2), 3)),
        lax.switch(p.astype("int32"), [lambda: x[0], lambda: 1.0, lambda: 2.0]),
        lax.cond(p, lambda y: (y * 2.0, 1.0), lambda y: (y, 3.0), x),
    )


@program(np.bool_(True), f32(3))
def weak_carries_through_branches(lax: Any, np: Any, p: Any, xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        a = lax.cond(p, lambda a: a, lambda a: a + 1.0, c[0])
        return (a, lax.cond(p, lambda b: b * x, lambda b: b + x, c[1]), 3.0), c

    return lax.scan(step, (0.0, 1, 2.0), xs)


@program(f32(3), f32(2))
def cond_with_captures(lax: Any, np: Any, x: Any, y: Any) -> Any:
    return lax.cond(x[0] > 0.1, lambda: y.sum() * x, lambda: x * x[1])


@program(np.int32(-4), np.int32(7), f32(3))
def switch_clamps(lax: Any, np: Any, i: Any, j: Any, x: Any) -> Any:
    branches = [np.sin, lambda x: x * 2, lambda x: x * x * x]
    return [lax.switch(k, branches, x) for k in (i, j, 1)]


@program(np.uint8(2), f32(2))
def switch_on_unsigned(lax: Any, np: Any, i: Any, x: Any) -> Any:
    return lax.switch(i, [np.sin, np.cos, np.exp], x), lax.switch(i, [lambda: 1, lambda: 2])


@program(f32(5, 2))
def map_in_batches(lax: Any, np: Any, xs: Any) -> Any:
    def f(x: Any) -> Any:
        return np.sin(x).sum(), 1.0

    return lax.map(f, xs), lax.map(f, xs, batch_size=2)


@program(f32(6, 2))
def associative_scans(lax: Any, np: Any, xs: Any) -> Any:
    def affine(a: Any, b: Any) -> Any:
        return a[0] * b[0], b[0] * a[1] + b[1]

    return (
        lax.associative_scan(affine, (xs, xs * 2)),
        lax.associative_scan(affine, (xs, xs * 2), reverse=True),
        lax.associative_scan(np.maximum, xs, axis=1),
    )


@program(f32(4), f32(3))
def everything_nested(lax: Any, np: Any, xs: Any, h: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = lax.cond(x > 0.7, lambda h: lax.fori_loop(0, 2, lambda i, c: c * x, h), np.sin, h)
        return lax.switch(h.sum().astype("int32"), [np.cos, lambda h: h], h), h

    return lax.scan(step, h, xs)
