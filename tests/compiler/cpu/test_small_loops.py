"""Loops over small kernels, as one function each: which they are, their text, and their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.run import pipeline_of
from tests.golden import assert_golden

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.pipeline import native_segments
from funcdl.kernels.cpu_c.program import native
from funcdl.kernels.cpu_c.render import render_function
from funcdl.kernels.cpu_c.small_loops.carried import Carried, carried
from funcdl.kernels.cpu_c.small_loops.choice import storage
from funcdl.kernels.cpu_c.small_loops.loop import SmallLoop, small_loops
from funcdl.kernels.cpu_c.small_loops.uses import IrregularError, slot_uses
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.program import Address, Binding, Call, KernelProgram, all_kernels
from funcdl.kir.schedule import Schedule
from funcdl.runtime.toolchain import find_compiler

GOLDEN = Path(__file__).parents[2] / "kernels/golden_c"
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def edit_distance(a: Any, b: Any) -> Any:
    def row(above: Any, x: Any) -> Any:
        i, letter = x

        def cell(left: Any, y: Any) -> Any:
            corner, up, other = y
            best = fnp.minimum(fnp.minimum(left, up) + 1, corner + (letter != other))
            return best, best

        _, rest = lax.scan(cell, i + 1, (above[:-1], above[1:], b))
        return fnp.concatenate([(i + 1)[None], rest]), None

    first = fnp.arange(len(b) + 1, dtype=np.int32)
    return lax.scan(row, first, (fnp.arange(len(a), dtype=np.int32), a))[0][-1]


def tridiagonal(lower: Any, middle: Any, upper: Any, right: Any) -> Any:
    def forward(carry: Any, row: Any) -> Any:
        a, b, c, d = row
        w = 1 / (b - a * carry[0])
        carry = c * w, (d - a * carry[1]) * w
        return carry, carry

    def backward(x: Any, row: Any) -> Any:
        x = row[1] - row[0] * x
        return x, x

    zero = fnp.zeros((), middle.dtype)
    _, rows = lax.scan(forward, (zero, zero), (lower, middle, upper, right))
    return lax.scan(backward, zero, rows, reverse=True)[1]


def counts(start: Any, at: Any) -> Any:
    return lax.fori_loop(0, at.shape[0], lambda i, x: x.at[at[i]].add(1), start)


def collatz(n: Any) -> Any:
    def step(carry: Any) -> Any:
        n, steps = carry
        return lax.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n), steps + 1

    return lax.while_loop(lambda c: c[0] > 1, step, (n, fnp.zeros_like(n)))[1]


def recurrent(w: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = fnp.tanh(h @ w + x)
        return h, h

    return lax.scan(step, fnp.zeros(w.shape[0], w.dtype), xs)


def most_likely(scores: Any, moves: Any) -> Any:
    def step(best: Any, score: Any) -> Any:
        all_ = best[:, None] + moves
        return fnp.max(all_, axis=0) + score, fnp.argmax(all_, axis=0)

    best, back = lax.scan(step, fnp.zeros_like(scores[0]), scores)

    def trace(state: Any, row: Any) -> Any:
        return row[state], state

    return lax.scan(trace, fnp.argmax(best), back, reverse=True)


def history(x: Any, n: int) -> Any:
    def step(i: Any, carry: Any) -> Any:
        table, x, v = carry
        x, v = x + v / 8, v - x / 8
        return table.at[i].set(fnp.stack([x, v])), x, v

    return lax.fori_loop(0, n, step, (fnp.zeros((n, 2), x.dtype), x, x))


def kinds(x: Any, flags: Any) -> Any:
    """Carried values of several types, sizes and uses; the second never changes."""

    def step(carry: Any, y: Any) -> Any:
        a, same, flag, (vector, large) = carry
        y, other = y
        flag = flag ^ other
        new = fnp.where(flag, a + y, a * y + same)
        vector = fnp.roll(vector, 1).at[0].set(new)
        return (new, same, flag, (vector, large + new)), (a, flag, vector)

    start = x[0], x[1], fnp.zeros((), bool), (x[:3], fnp.zeros(80, x.dtype))
    return lax.scan(step, start, (x, flags), reverse=True)


def sums(x: Any, n: int) -> Any:
    """A long sum, whose order a compiler chooses by what it knows."""

    def step(x: Any, _: Any) -> Any:
        total = fnp.sum(x) / 64 + fnp.max(x)
        return fnp.cos(x * total), total

    return lax.scan(step, x, None, length=n)


def row_sums(x: Any, n: int) -> Any:
    """Short sums, which lanes share as well."""

    def step(x: Any, _: Any) -> Any:
        totals = fnp.sum(x, axis=1)
        return fnp.sin(x - totals[:, None] / 32), totals

    return lax.scan(step, x, None, length=n)


def bubbles(x: Any) -> Any:
    def swap(j: Any, x: Any) -> Any:
        a, b = x[j], x[j + 1]
        return x.at[j].set(fnp.minimum(a, b)).at[j + 1].set(fnp.maximum(a, b))

    n = x.shape[0]
    return lax.fori_loop(0, n, lambda _, x: lax.fori_loop(0, n - 1, swap, x), x)


def steps_of_steps(x: Any, n: Any) -> Any:
    """A while loop in a scan, with a number of steps that may be 0."""

    def step(x: Any, i: Any) -> Any:
        x = lax.while_loop(lambda c: c[1] < i, lambda c: (c[0] * c[0] - 1, c[1] + 1), (x, n))[0]
        return x, x

    return lax.scan(step, x, fnp.arange(4, dtype=np.int32))


def choices(x: Any, which: Any) -> Any:
    branches = [lambda x: x * 2, lambda x: fnp.flip(x), lambda x: x - x[0], lambda x: x]
    return lax.scan(lambda x, i: (lax.switch(i, branches, x), fnp.sum(x)), x, which)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def integers(high: int, n: int, dtype: Any = np.int32) -> Any:
    return np.random.default_rng(n).integers(0, high, n).astype(dtype)


ROWS = [normal(9, seed=i) for i in range(4)]
ROWS[1] = ROWS[1] + 5
Program = tuple[Callable[..., Any], tuple[Any, ...], int]
# With the number of loops that are functions.
SMALL: dict[str, Program] = {
    "edit distance": (edit_distance, (integers(3, 5), integers(3, 7)), 1),
    "rows as long as no variable": (edit_distance, (integers(3, 5), integers(3, 90)), 1),
    "tridiagonal": (tridiagonal, tuple(ROWS), 2),
    "counts": (counts, (np.zeros(7, np.int32), integers(7, 30)), 1),
    "counts of many": (counts, (np.zeros(3000, np.float32), integers(3000, 30)), 1),
    "collatz": (collatz, (np.int32(27),), 1),
    "no step": (collatz, (np.int32(1),), 1),
    "recurrent": (recurrent, (normal(4, 4), normal(6, 4)), 1),
    "most likely": (most_likely, (normal(6, 5), normal(5, 5)), 2),
    "history": (lambda x: history(x, 5), (np.float32(1),), 1),
    "one step": (lambda x: history(x, 1), (np.float32(1),), 1),
    "sums": (lambda x: sums(x, 5), (normal(37),), 1),
    "row sums": (lambda x: row_sums(x, 5), (normal(7, 13),), 1),
    "bubbles": (bubbles, (normal(6),), 1),
    "steps of steps": (steps_of_steps, (np.float32(0.3), np.int32(1)), 1),
    "no kernels": (
        lambda x, y: lax.scan(lambda x, y: (x, x), x, y),
        (normal(0), np.ones((2, 0), np.uint32)),
        1,
    ),
    "choices": (choices, (normal(3), np.array([3, 1, 9, -5, 0, 2], np.int32)), 1),
}
for dtype in ("int8", "uint16", "int32", "float16", "bfloat16", "float32", "complex64"):
    x = (normal(5) * 4).astype(fd.numpy.dtype(dtype))
    SMALL[f"kinds of {dtype}"] = kinds, (x, normal(5) > 0), 1
LARGE: dict[str, Program] = {
    "no length": (recurrent, (normal(4, 4), normal(0, 4)), 0),
    "large kernels": (recurrent, (normal(80, 80), normal(3, 80)), 0),
    "a library": (
        lambda x: lax.scan(lambda x, _: (fnp.linalg.inv(x), None), x, None, length=2)[0],
        (normal(3, 3) + 4 * np.eye(3, dtype="f"),),
        0,
    ),
    "nothing in it": (
        lambda x: lax.scan(lambda x, _: (x * 2, None), x, None, length=3)[0],
        (normal(0),),
        0,
    ),
    "too many kernels": (
        lambda x: lax.scan(
            lambda x, _: (fnp.stack([x[i] * fnp.sum(x[i:]) for i in range(40)]), None),
            x,
            None,
            length=2,
        )[0],
        (normal(40),),
        0,
    ),
    "a small loop in a large one": (
        lambda w, x: lax.scan(
            lambda x, _: (
                fnp.tanh(x @ w) + lax.fori_loop(0, 3, lambda _, y: y * y - 1, x[0]),
                None,
            ),
            x,
            None,
            length=2,
        )[0],
        (normal(80, 80), normal(80)),
        1,
    ),
}


def loops_of(f: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, SmallLoop]:
    pipeline = pipeline_of(fd.make_jaxpr(f)(*args), scheduler=schedule_cpu)
    found = {}
    for segment in native_segments(pipeline.program):
        functions = {k.name: render_function(k, plan) for k, plan in all_kernels(segment)}
        found |= small_loops(segment, functions)
    return found


def leaves(tree: Any) -> list[Any]:
    return [np.asarray(leaf) for leaf in fd.tree.leaves(tree)]


def assert_same_as_by_table(
    f: Callable[..., Any], args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as by the table of calls, and about the values that NumPy finds."""
    found = leaves(fd.jit(lambda *xs: f(*xs))(*args))
    with monkeypatch.context() as patch:
        patch.setattr(native, "small_loops", lambda program, functions: {})
        by_table = leaves(fd.jit(lambda *xs: f(*xs))(*args))
    with fd.disable_jit():
        wanted = leaves(f(*map(fnp.asarray, args)))
    for ours, theirs, meant in zip(found, by_table, wanted, strict=True):
        assert ours.dtype == theirs.dtype == meant.dtype
        assert ours.tobytes() == theirs.tobytes()
        rough = 3e-2 if ours.dtype.itemsize == 2 else 1e-4
        wide = np.complex128 if ours.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(ours.astype(wide), meant.astype(wide), rough, rough)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_which_loops_are_small(name: str) -> None:
    f, args, number = (SMALL | LARGE)[name]
    assert len(loops_of(f, args)) == number


@needs_compiler
@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_bits_are_those_of_the_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, args, _ = (SMALL | LARGE)[name]
    assert_same_as_by_table(f, args, monkeypatch)


def total(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        return sum(fnp.sum(x * x) for x in fd.tree.leaves(f(*args)) if x.dtype.kind == "f")

    return run


TRANSFORMED: dict[str, Program] = {
    "gradient": (fd.grad(total(tridiagonal), argnums=(0, 1, 2, 3)), tuple(ROWS), 4),
    "second derivative": (
        lambda x: fd.grad(lambda x: fd.grad(total(lambda x: history(x, 4)))(x))(x),
        (np.float32(0.5),),
        0,
    ),
    "batch": (fd.vmap(collatz), (np.array([1, 7, 6, 27, 2], np.int32),), 1),
    "batch of gradients": (
        fd.vmap(fd.grad(total(recurrent)), in_axes=(None, 0)),
        (normal(4, 4), normal(3, 6, 4)),
        0,
    ),
    "tangent": (
        lambda x, t: fd.jvp(lambda x: steps_of_steps(x, np.int32(1)), (x,), (t,)),
        (np.float32(0.3), np.float32(1)),
        1,
    ),
    "gradient of a batch": (
        fd.grad(lambda w, xs: fnp.sum(fd.vmap(lambda x: total(recurrent)(w, x))(xs))),
        (normal(3, 3), normal(2, 5, 3)),
        0,
    ),
}


@needs_compiler
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformed_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, args, number = TRANSFORMED[name]
    assert len(loops_of(f, args)) >= max(number, 1)
    assert_same_as_by_table(f, args, monkeypatch)


@needs_compiler
@pytest.mark.parametrize("start", [np.zeros(7, np.float32), np.zeros(5000, np.float32)])
def test_what_is_given_up_is_updated_in_place(start: Any) -> None:
    at = integers(7, 40)
    wanted = np.bincount(at, minlength=len(start)).astype(np.float32)
    given = fnp.asarray(start) + 0
    np.testing.assert_array_equal(fd.jit(counts, donate_argnums=0)(given, at), wanted)
    assert given.is_deleted()
    kept = fnp.asarray(start) + 0
    np.testing.assert_array_equal(fd.jit(counts)(kept, at), wanted)
    np.testing.assert_array_equal(kept, start)


@needs_compiler
def test_profiles_name_the_kernels_inside() -> None:
    step = fd.jit(collatz)
    with fd.profile() as p:
        step(np.int32(6))
    calls = {row.name: row.calls for row in p.rows if row.kind == "kernel"}
    # 6 3 10 5 16 8 4 2 1: six halves, and two others.
    assert sorted(n for name, n in calls.items() if "cond" in name) == [2, 6]
    assert max(calls.values()) == 9


def test_text() -> None:
    texts = []
    for name in ("edit distance", "collatz", "counts"):
        f, args, _ = SMALL[name]
        text = fd.jit(f).lower(*args).as_text("c")
        for at, loop in loops_of(f, args).items():
            short = at.removeprefix("program_")
            texts.append(loop.declared(short))
            assert loop.body in text
    assert_golden(GOLDEN / "small_loops.c", "\n".join(texts))


def test_sums_in_lanes_are_called_as_they_are() -> None:
    (loop,) = loops_of(*SMALL["row sums"][:2]).values()
    assert {"FD_APART static"} <= set(map(storage, loop.kernels))
    (loop,) = loops_of(*SMALL["collatz"][:2]).values()
    assert {"FD_INLINE"} == set(map(storage, loop.kernels))


def test_the_text_is_the_same_for_other_lengths() -> None:
    texts = []
    for n in (3, 30):
        xs = tuple(np.ones(n, np.float32) for _ in range(4))
        texts.append([loop.body for loop in loops_of(tridiagonal, xs).values()])
    assert texts[0] == texts[1]


A, B, C = Address(0), Address(1, 64), Address(1, 128)
INTO, STACK = Address(2), Address(3, 256)


@pytest.mark.parametrize(
    ("slots", "reverse", "wanted"),
    [
        (
            [Binding(B, first=A, alternate=(C, B)), Binding(B, last=INTO, alternate=(B, C))],
            False,
            "buffers",
        ),
        ([Binding(B, first=A, alternate=(C, B)), Binding(B, alternate=(B, C))], False, "buffers"),
        ([Binding(INTO, first=A), Binding(INTO)], False, "place"),
        ([Binding(STACK, stride=8), Binding(Address(3, 264), stride=8, last=INTO)], False, "stack"),
        ([Binding(STACK, stride=8), Binding(Address(3, 248), stride=8, last=INTO)], True, "stack"),
        ([Binding(STACK, stride=8), Binding(Address(3, 248), stride=8, last=INTO)], False, None),
        ([Binding(STACK, stride=8), Binding(Address(3, 264), stride=8)], False, None),
        ([Binding(B, first=A, alternate=(C, B)), Binding(B, alternate=(C, B))], False, None),
        ([Binding(INTO, first=A), Binding(INTO), Binding(INTO)], False, None),
    ],
)
def test_carried_values_by_their_bindings(slots: Any, reverse: bool, wanted: Any) -> None:
    found = carried(slots, reverse=reverse)
    assert found == ([] if wanted is None else [Carried(0, 1, wanted)])


def copying(*moves: tuple[Address, str, Address, str]) -> KernelProgram:
    """A program that copies an element from the first address to the second, by dtypes."""
    kernels, calls = [], []
    for number, (source, source_type, target, target_type) in enumerate(moves):
        builder = KernelBuilder(f"k{number}")
        builder.buffer("a", np.dtype(source_type), 1, "in")
        builder.buffer("b", np.dtype(target_type), 1, "out")
        value = builder.load("a", kindex.constant(0))
        builder.store("b", kindex.constant(0), builder.cast(value, np.dtype(target_type)))
        kernels.append((builder.build(), Schedule(())))
        calls.append(Call(number, (source, target)))
    return KernelProgram("program", tuple(kernels), tuple(calls), 3)


IN, OUT, TEMP = Address(0), Address(1), Address(2)


def test_memory_that_is_used_again() -> None:
    uses = slot_uses(
        copying(
            (IN, "f4", TEMP, "f4"),
            (TEMP, "f4", Address(2, 64), "i4"),
            (Address(2, 64), "i4", TEMP, "u1"),
            (TEMP, "u1", OUT, "f8"),
        )
    )
    assert [uses[0].written, uses[1].written] == [False, True]
    assert [uses[0].array.dtype, uses[1].array.dtype] == [np.float32, np.float64]


@pytest.mark.parametrize(
    "moves",
    [
        [(TEMP, "f4", OUT, "f4")],
        [(IN, "f4", TEMP, "f4"), (TEMP, "i4", OUT, "i4")],
        [(IN, "f8", TEMP, "f8"), (IN, "f8", Address(2, 4), "f4"), (TEMP, "f8", OUT, "f8")],
        [(IN, "f4", OUT, "f4"), (IN, "i4", OUT, "f4")],
        [(Address(0, 4), "f4", OUT, "f4")],
    ],
)
def test_memory_that_is_not_regular(moves: Any) -> None:
    with pytest.raises(IrregularError):
        slot_uses(copying(*moves))
