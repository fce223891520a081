"""What branches update or pass on stays where it is; every other program keeps its meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.in_place_loops import COLUMNS, STEPS, by_fori, by_while, table

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler import branches, donations
from funcdl.compiler.rewrite import written_slices


def _sometimes(i: Any, x: Any) -> Any:
    return lax.cond(i % 2 == 0, lambda x: x.at[i].set(i), lambda x: x, x)


def _slice_or_element(i: Any, x: Any) -> Any:
    return lax.cond(
        x[i, 0] > 0,
        lambda: lax.dynamic_update_slice(x, x[1:3] * 2, (i, 0)),
        lambda: x.at[i, i].add(1),
    )


def _one_of_four(i: Any, x: Any) -> Any:
    branches = [
        lambda x: x,
        lambda x: x.at[i].set(0),
        lambda x: x * 0.5,
        lambda x: lax.dynamic_update_slice(x, x[:1], (i, 0)),
    ]
    return lax.switch(i % 4, branches, x)


def _nested(i: Any, x: Any) -> Any:
    def inner(x: Any) -> Any:
        return lax.cond(x[i, 1] > 0, lambda x: x.at[i].add(1), lambda x: x, x)

    return lax.cond(i % 2 == 0, inner, lambda x: inner(x.at[0].set(x[i])), x)


def _loop_in_branch(i: Any, x: Any) -> Any:
    def several(x: Any) -> Any:
        return lax.fori_loop(0, 3, lambda j, x: x.at[i + j].set(j), x)

    return lax.cond(i % 2 == 0, several, lambda x: x, x)


def _one_after_the_other(i: Any, x: Any) -> Any:
    x = lax.cond(i % 2 == 0, lambda x: x.at[i].set(1), lambda x: x, x)
    x = lax.dynamic_update_slice(x, fnp.full((1, COLUMNS), 3 * i, x.dtype), (i + 1, 0))
    return lax.cond(i % 3 == 0, lambda x: x, lambda x: x.at[i].add(2), x)


def _reversed_or_not(i: Any, x: Any) -> Any:
    return lax.cond(i % 3 == 0, lambda x: x[::-1], lambda x: x, x)


IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "sometimes": _sometimes,
    "slice or element": _slice_or_element,
    "one of four": _one_of_four,
    "nested": _nested,
    "loop in branch": _loop_in_branch,
    "one after the other": _one_after_the_other,
}


def by_scan(body: Callable[[Any, Any], Any], x: Any) -> Any:
    def step(x: Any, i: Any) -> Any:
        return body(i, x), x[i, 0]

    out, seen = lax.scan(step, x, fnp.arange(STEPS))
    return out.at[0].add(seen.max())


LOOPS = {"fori": by_fori, "while": by_while, "scan": by_scan}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", [*IN_PLACE, "reversed or not"])
@pytest.mark.parametrize("donated", [False, True])
def test_branches_in_loops(name: str, loop: str, donated: bool) -> None:
    body = IN_PLACE.get(name, _reversed_or_not)
    f = fd.jit(lambda x: LOOPS[loop](body, x), donate_argnums=0 if donated else ())
    with fd.disable_jit():
        wanted = np.asarray(LOOPS[loop](body, fnp.array(table())))
    given = fnp.array(table())
    np.testing.assert_array_equal(f(given), wanted)
    if not donated:
        np.testing.assert_array_equal(given, table())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_loop_with_branches_needs_no_second_array(name: str, loop: str) -> None:
    f = fd.jit(lambda x: LOOPS[loop](IN_PLACE[name], x), donate_argnums=0)
    memory = f.lower(table()).as_text("memory")
    assert "output, in the memory of slot 0" in memory
    assert f"u8[{table().nbytes}]" not in memory


def test_branches_of_donated_arguments() -> None:
    def f(x: Any, i: Any) -> Any:
        return _slice_or_element(i, x), x[2, 2]

    lowered = fd.jit(f, donate_argnums=0).lower(table(), 3)
    assert "output, in the memory of slot 0" in lowered.as_text("memory")
    with fd.disable_jit():
        wanted = f(fnp.array(table()), fnp.array(3))
    found = fd.jit(f, donate_argnums=0)(fnp.array(table()), 3)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_branches_of_temporaries() -> None:
    def f(x: Any, i: Any) -> Any:
        y = fnp.sin(x)
        return lax.cond(i > 0, lambda y: y.at[i].set(0), lambda y: y, y)

    lowered = fd.jit(f).lower(table(), 3)
    assert "f32[64,40]  steps" not in lowered.as_text("memory")
    for i in (0, 3):
        wanted = np.array(fd.jit(fnp.sin)(table()))
        wanted[i] = 0 if i else wanted[i]
        np.testing.assert_array_equal(fd.jit(f)(table(), i), wanted)


def test_operands_that_are_read_later_are_copied() -> None:
    def f(x: Any, i: Any) -> Any:
        y = x * 2
        return lax.cond(i > 0, lambda y: y.at[i].set(0), lambda y: y, y) + y[::-1], y

    with fd.disable_jit():
        wanted = f(fnp.array(table()), fnp.array(5))
    for a, b in zip(fd.jit(f)(table(), 5), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_operand_passed_twice() -> None:
    def f(x: Any, i: Any) -> Any:
        y = x * 2

        def both(a: Any, b: Any) -> Any:
            return a.at[i].set(b[i + 1]).at[i + 2].set(b[i]), b

        return lax.cond(i > 0, both, lambda a, b: (b, a.at[i].set(1)), y, y)

    for i in (0, 5):
        with fd.disable_jit():
            wanted = f(fnp.array(table()), fnp.array(i))
        for a, b in zip(fd.jit(f)(table(), i), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_results_exchanged_between_branches() -> None:
    def f(a: Any, b: Any) -> Any:
        def body(i: Any, state: Any) -> Any:
            def exchanged(a: Any, b: Any) -> Any:
                return b, a.at[i].set(i)

            return lax.cond(i % 2 == 0, exchanged, lambda a, b: (a, b.at[0].add(1)), *state)

        return lax.fori_loop(0, 5, body, (a, b))

    with fd.disable_jit():
        wanted = f(fnp.array(table()), fnp.array(table(1)))
    for a, b in zip(fd.jit(f, donate_argnums=(0, 1))(table(), table(1)), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_small_arrays_are_not_looked_at() -> None:
    f = fd.jit(lambda x, i: lax.cond(i > 0, lambda x: x.at[i].set(0), lambda x: x, x * 2))
    assert "alias" not in f.lower(np.ones(9, np.float32), 1).as_text("kernels")


_ARRAYS = ("a", "b")
_SIMPLE = ("set", "add", "slice", "rows", "double", "exchange", "same", "reverse", "transpose")
Statement = tuple[Any, ...]


def blocks(depth: int) -> st.SearchStrategy[list[Statement]]:
    array = st.sampled_from(_ARRAYS)
    simple = st.tuples(st.sampled_from(_SIMPLE), array, array)
    if depth == 0:
        return st.lists(simple, max_size=2)
    inner = blocks(depth - 1)
    nested = st.one_of(
        st.tuples(st.just("cond"), st.tuples(inner, inner)),
        st.tuples(st.just("switch"), st.tuples(inner, inner, inner)),
        st.tuples(st.sampled_from(["fori", "while", "scan"]), st.tuples(inner)),
    )
    return st.lists(st.one_of(simple, nested), min_size=1, max_size=3)


def run_block(block: list[Statement], i: Any, a: Any, b: Any) -> tuple[Any, Any]:
    state = {"a": a, "b": b}
    for kind, *rest in block:
        if len(rest) == 1:
            state["a"], state["b"] = _run_nested(kind, rest[0], i, state["a"], state["b"])
            continue
        target, source = rest
        x, y = state[target], state[source]
        if kind == "set":
            x = x.at[i].set(y[i + 1])
        elif kind == "add":
            x = x.at[fnp.array([1, 3]), i].add(y[2, :2])
        elif kind == "slice":
            x = lax.dynamic_update_slice(x, y[1:4, 2:5] * 3, (i, i + 1))
        elif kind == "rows":
            x = x.at[0].add(y.sum(0))
        elif kind == "double":
            x = x * 2 + y
        elif kind == "exchange":
            state[source], x = x, y
        elif kind == "same":
            x = y
        elif kind == "reverse":
            x = y[::-1]
        else:
            x = y.T
        state[target] = x
    return state["a"], state["b"]


def _run_nested(kind: str, inner: tuple[list[Statement], ...], i: Any, a: Any, b: Any) -> Any:
    def body(j: Any, state: Any) -> Any:
        return run_block(inner[0], j, *state)

    def branch(block: list[Statement]) -> Callable[..., Any]:
        return lambda a, b: run_block(block, i, a, b)

    if kind == "cond":
        return lax.cond((a[i, 0] + b[0, i]) % 2 == 0, *map(branch, inner), a, b)
    if kind == "switch":
        return lax.switch((a[0, i] + i) % 4 - 1, list(map(branch, inner)), a, b)
    if kind == "fori":
        return lax.fori_loop(0, 2, body, (a, b))
    if kind == "while":
        init = 0, (a, b)
        return lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, body(*s)), init)[1]

    def step(state: Any, j: Any) -> Any:
        new = body(j, state)
        return new, (state[0][j, 1], new[1][0, j])

    (a, b), (x, y) = lax.scan(step, (a, b), fnp.arange(2))
    return a.at[0, 0].add(x.sum()), b.at[1, 1].add(y.sum())


@settings(max_examples=25)
@given(blocks(2), st.sampled_from(sorted(LOOPS)), st.booleans())
def test_random_branches(block: list[Statement], loop: str, donated: bool) -> None:
    def f(a: Any, b: Any) -> Any:
        pair = _run_nested(loop, (block,), 0, a, b)
        return pair, run_block(block, 1, *pair)

    a, b = np.random.default_rng(3).integers(-99, 99, (2, 8, 8), np.int32)
    with pytest.MonkeyPatch.context() as patch:
        for module in (written_slices, branches, donations):
            patch.setattr(module, "MIN_BYTES", 0)
        jitted = fd.jit(f, donate_argnums=(0, 1) if donated else ())(fnp.array(a), fnp.array(b))
    with fd.disable_jit():
        wanted = f(fnp.array(a), fnp.array(b))
    for out, right in zip(fd.tree.leaves(jitted), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(out, right)
