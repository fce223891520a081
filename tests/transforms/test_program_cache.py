"""What is derived from a program lives as long as the program, and no longer."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.runtime.toolchain import find_compiler
from funcdl.transforms.weak_cache import cached_on_first

BACKENDS = ["reference", *(["cpu"] if find_compiler() else [])]


def living() -> set[int]:
    gc.collect()
    return {id(x) for x in gc.get_objects() if type(x) is ClosedJaxpr}


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
            counts.append(len(living()))
    if backend == "reference":
        assert counts[0] == counts[1] == counts[2]
    else:
        # Eager loops keep their latest programs, a bounded number of them.
        assert counts[2] - counts[1] <= counts[1]


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
