"""Outputs of branches that differ in weak type only are promoted, whichever branch is first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

Branch = Callable[[Any], Any]


def strong(x: Any) -> Any:
    return x * 1, fnp.ones((), np.int32)


def weak(x: Any) -> Any:
    return 2.0, 3


PAIRS = [(strong, weak), (weak, strong), (strong, strong), (weak, weak)]
X = fnp.float32(1)
FLAGS = np.array([True, False])
RUNS: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "eager": lambda f: f(True, X),
    "jit": lambda f: fd.jit(f)(True, X),
    "eval_shape": lambda f: fd.eval_shape(f, True, X),
    "vmap over the predicate": lambda f: fd.vmap(f, (0, None))(FLAGS, X),
    "jit of vmap over the predicate": lambda f: fd.jit(fd.vmap(f, (0, None)))(FLAGS, X),
    "vmap over the operand": lambda f: fd.vmap(f, (None, 0))(True, fnp.ones(2)),
    "jvp": lambda f: fd.jvp(lambda x: f(True, x), (X,), (X,))[0],
    "vjp": lambda f: fd.vjp(lambda x: f(True, x), X)[0],
    "jit of jvp": lambda f: fd.jit(lambda x: fd.jvp(lambda x: f(True, x), (x,), (x,))[0])(X),
    "checkpoint": lambda f: fd.vjp(fd.checkpoint(lambda x: f(True, x)), X)[0],
    "scan": lambda f: lax.scan(lambda c, p: (c, f(p, c)), X, FLAGS)[1],
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("branches", PAIRS, ids=lambda pair: "-".join(f.__name__ for f in pair))
def test_an_output_is_weak_where_it_is_in_every_branch(
    branches: tuple[Branch, Branch], name: str
) -> None:
    wanted = branches == (weak, weak)

    def by_switch(p: Any, x: Any) -> Any:
        return lax.switch(fnp.asarray(p).astype(np.int32), [*branches, branches[0]], x)

    for f in (lambda p, x: lax.cond(p, *branches, x), by_switch):
        outs = RUNS[name](f)
        assert [x.weak_type for x in outs] == [wanted, wanted]
        assert [x.dtype for x in outs] == [np.float32, np.int32]


def test_the_dtype_of_what_follows() -> None:
    for first, second in ((strong, weak), (weak, strong)):
        out = lax.cond(True, first, second, X)[0] + fnp.ones((), np.float16)
        assert out.dtype == np.float32
    assert (lax.cond(True, weak, weak, X)[0] + fnp.ones((), np.float16)).dtype == np.float16


@pytest.mark.parametrize("p", [True, False])
@pytest.mark.parametrize("branches", [(strong, weak), (weak, strong)])
def test_derivatives_are_those_of_the_branch(branches: tuple[Branch, Branch], p: bool) -> None:
    f = fd.grad(lambda x: lax.cond(p, *branches, x)[0])
    assert f(X) == fd.jit(f)(X) == float(branches[not p] is strong)
