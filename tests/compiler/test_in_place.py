"""Updates in place: of donated inputs, of what loops carry, of temporaries, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.in_place_loops import COLUMNS, ROWS, STEPS, NDArray, by_fori, by_while, table

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.rewrite import written_slices


def _fill(i: Any, x: Any) -> Any:
    return lax.dynamic_update_slice(x, fnp.full((1, COLUMNS), i, x.dtype), (i, 0))


def _previous(i: Any, x: Any) -> Any:
    return x.at[i + 1].set(x[i] * 2 + x[i + 1])


def _swap(i: Any, x: Any) -> Any:
    a, b = x[i], x[ROWS - 1 - i]
    return x.at[i].set(b).at[ROWS - 1 - i].set(a)


def _whole_first(i: Any, x: Any) -> Any:
    return x.at[i].add(x.mean(0))


def _at_own_positions(i: Any, x: Any) -> Any:
    return x.at[fnp.argmax(x[:, 0]), i].set(-1)


def _shifted(i: Any, x: Any) -> Any:
    return lax.dynamic_update_slice(x, x[1:3] + x[:2], (i, 0))


def _rounded(i: Any, x: Any) -> Any:
    return x.astype(fnp.float16).astype(x.dtype).at[i].set(0)


def _nested(i: Any, x: Any) -> Any:
    return lax.fori_loop(0, 3, lambda j, y: y.at[i, j].add(y[j, i]), x)


def _read_later(i: Any, x: Any) -> Any:
    y = x.at[i].set(0)
    return y.at[i + 1].set(x[i])


BODIES: dict[str, Callable[[Any, Any], Any]] = {
    "fill": _fill,
    "previous": _previous,
    "swap": _swap,
    "whole first": _whole_first,
    "own positions": _at_own_positions,
    "shifted": _shifted,
    "rounded": _rounded,
    "nested": _nested,
    "read later": _read_later,
}


def by_scan(body: Callable[[Any, Any], Any], x: Any) -> Any:
    def step(x: Any, i: Any) -> Any:
        return body(i, x), x[i, 0]

    return lax.scan(step, x, fnp.arange(STEPS))[0]


def by_reverse_scan(body: Callable[[Any, Any], Any], x: Any) -> Any:
    def step(x: Any, i: Any) -> Any:
        new = body(i, x)
        return new, new[i, 0]

    out, seen = lax.scan(step, x, fnp.arange(STEPS), reverse=True)
    return out + seen.sum()


LOOPS = {"fori": by_fori, "while": by_while, "scan": by_scan, "reverse scan": by_reverse_scan}


def in_python(loop: str, body: Callable[[Any, Any], Any], x: NDArray) -> NDArray:
    """What the loop returns, step by step without a compiler."""
    with fd.disable_jit():
        return np.asarray(LOOPS[loop](body, x))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("donated", [False, True])
def test_loops_of_updates(name: str, loop: str, donated: bool) -> None:
    f = fd.jit(lambda x: LOOPS[loop](BODIES[name], x), donate_argnums=0 if donated else ())
    wanted = in_python(loop, BODIES[name], table())
    given = fnp.array(table())
    np.testing.assert_allclose(f(given), wanted, rtol=1e-5, atol=1e-6)
    if not donated:
        np.testing.assert_array_equal(given, table())


@pytest.mark.parametrize("loop", ["fori", "while", "reverse scan"])
@pytest.mark.parametrize("name", ["fill", "previous", "swap", "own positions", "shifted", "nested"])
def test_loops_keep_what_they_update_where_it_is(name: str, loop: str) -> None:
    lowered = fd.jit(lambda x: LOOPS[loop](BODIES[name], x), donate_argnums=0).lower(table())
    assert "output, in the memory of slot 0" in lowered.as_text("memory") or "scan" in loop
    assert f"u8[{table().nbytes}]" not in lowered.as_text("memory")


def test_updates_one_after_the_other_are_one_memory() -> None:
    def f(x: Any, v: Any) -> Any:
        y = (x * 2).at[0].set(v).at[1].add(v)
        return lax.fori_loop(0, 3, lambda i, y: y.at[i + 2].set(v * i), y)

    v = table(1)[0]
    lowered = fd.jit(f).lower(table(), v)
    assert "f32[64,40]  steps" not in lowered.as_text("memory")
    wanted = table() * 2
    wanted[0] = v
    wanted[1] += v
    wanted[2:5] = v * np.arange(3, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(fd.jit(f)(table(), v), wanted)


def test_donated_inputs_are_not_copied() -> None:
    def f(x: Any, v: Any, i: Any) -> Any:
        return lax.dynamic_update_slice(x, v, (i, 0)), x[3, 0]

    args = table(), table(1)[:2], 5
    text = fd.jit(f, donate_argnums=0).lower(*args).as_text("c")
    assert "if (out0 == x) return; /* updated in place */" in text
    x = fnp.array(args[0])
    out, element = fd.jit(f, donate_argnums=0)(x, *args[1:])
    wanted = args[0].copy()
    wanted[5:7] = args[1]
    np.testing.assert_array_equal(out, wanted)
    assert element == args[0][3, 0]


def test_whole_operands_and_small_arrays_are_still_views() -> None:
    whole = fd.jit(lambda x, v: lax.dynamic_update_slice(x, v, (0, 0)))
    assert "scatter" not in whole.lower(table(), table(1)).as_text("simplified")
    small = fd.jit(lambda x, v: lax.dynamic_update_slice(x, v, (1,)))
    assert "scatter" not in small.lower(np.ones(9), np.ones(2)).as_text("simplified")


_ARRAYS = ("a", "b")


@st.composite
def statements(draw: st.DrawFn) -> list[tuple[str, ...]]:
    array = st.sampled_from(_ARRAYS)
    kinds = st.sampled_from(["set", "add", "slice", "rows", "double", "exchange"])
    return draw(st.lists(st.tuples(kinds, array, array), min_size=1, max_size=4))


def run_statements(program: list[tuple[str, ...]], i: Any, a: Any, b: Any) -> tuple[Any, Any]:
    state = {"a": a, "b": b}
    for kind, target, source in program:
        x, y = state[target], state[source]
        if kind == "set":
            x = x.at[i].set(y[i + 1])
        elif kind == "add":
            x = x.at[fnp.array([1, 3]), i].add(y[2, :2])
        elif kind == "slice":
            x = lax.dynamic_update_slice(x, y[1:4, 2:5] * 0.5, (i, i + 1))
        elif kind == "rows":
            x = x.at[0].add(y.mean(0))
        elif kind == "double":
            x = x * 0.5 + y
        else:
            state[source], x = x, y
        state[target] = x
    return state["a"], state["b"]


@settings(max_examples=25)
@given(statements(), st.sampled_from(sorted(LOOPS)), st.booleans())
def test_random_updates(program: list[tuple[str, ...]], loop: str, donated: bool) -> None:
    def f(x: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            return fnp.stack(run_statements(program, i, x[0], x[1]))

        def step(i: Any, state: Any) -> Any:
            return run_statements(program, i, *state)

        pair = lax.fori_loop(0, 3, step, (x[0], x[1]))
        return pair, run_statements(program, 2, *pair), body(1, x)

    x = np.random.default_rng(3).normal(size=(2, 8, 9)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written_slices, "MIN_BYTES", 0)
        jitted = fd.jit(f, donate_argnums=0 if donated else ())(fnp.array(x))
    with fd.disable_jit():
        wanted = f(fnp.array(x))
    for out, right in zip(fd.tree.leaves(jitted), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-5)
