"""What is derived from a program lives as long as the program, and no longer."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.control import programs
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.runtime.toolchain import find_compiler
from funcdl.transforms.weak_cache import cached_on_first

BACKENDS = ["reference", *(["cpu"] if find_compiler() else [])]


def living() -> int:
    """How many programs there are that were made in this test, but for the latest of eager loops.

    Those that others have left behind may go at any time.
    """
    programs._wrapped.clear()
    gc.collect()
    return sum(type(x) is ClosedJaxpr for x in gc.get_objects())


def use_everything() -> None:
    @fd.jit
    def f(x: Any) -> Any:
        return lax.scan(lambda c, e: (fnp.sin(c) * e, c), x.sum(), x)[0]

    x = fnp.arange(3.0)
    fd.grad(f)(x)
    fd.jit(fd.grad(fd.vmap(f)))
    fd.vmap(fd.grad(f))(x[None])
    fd.jvp(f, (x,), (x,))
    fd.grad(fd.checkpoint(f))(x)


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("backend", BACKENDS)
def test_programs_are_freed_with_their_functions(backend: str) -> None:
    with fd.config.override(backend=backend):
        use_everything()
        counts = []
        for _ in range(3):
            use_everything()
            counts.append(living())
    assert counts[0] == counts[1] == counts[2]


def loop(count: int) -> list[weakref.ref[ClosedJaxpr]]:
    """Run an eager loop; the programs that are kept of it."""
    before = set(map(id, programs._wrapped.values()))
    lax.fori_loop(0, 3, lambda i, x: x + count, fnp.zeros(count))
    entries = programs._wrapped.values()
    return [weakref.ref(entry[0]) for entry in entries if id(entry) not in before]


@pytest.mark.skipif("cpu" not in BACKENDS, reason="no C compiler")
@pytest.mark.usefixtures("short_search")
def test_eager_loops_keep_their_latest_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_wrapped", {})
    monkeypatch.setattr(programs, "_MAX_WRAPPED", 3)
    with fd.config.override(backend="cpu"):
        made = [ref for count in range(1, 6) for ref in loop(count)]
    assert len(made) == 5
    gc.collect()
    assert [ref() is not None for ref in made] == [False, False, True, True, True]


@pytest.mark.skipif("cpu" not in BACKENDS, reason="no C compiler")
@pytest.mark.usefixtures("short_search")
def test_cleared_caches_keep_no_program_of_an_eager_loop() -> None:
    with fd.config.override(backend="cpu"):
        made = loop(6)
    assert made
    fd.clear_caches()
    gc.collect()
    assert [ref() for ref in made] == [None] * len(made)


@pytest.mark.usefixtures("short_search")
def test_results_that_refer_to_the_program_do_not_keep_it() -> None:
    calls = []

    @cached_on_first
    def derive(program: ClosedJaxpr, n: int) -> tuple[ClosedJaxpr, int]:
        calls.append(n)
        return program, n

    program = fd.make_jaxpr(lambda x: x * 2)(1.0)
    assert derive(program, 1) is derive(program, 1)
    assert derive(program, 2) == (program, 2)
    assert calls == [1, 2]
    alive = weakref.ref(program)
    del program
    gc.collect()
    assert alive() is None
