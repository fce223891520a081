"""Every program of the table, its gradient and batches, compiled to C."""

from __future__ import annotations

from typing import Any

import pytest
from tests.control.table import NAMES, PAIRS, Pair
from tests.transforms.compare import assert_same, batches, loss_of, tangents_like

import funcdl as fd
from funcdl.runtime.toolchain import find_compiler


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_c_agrees_with_the_reference(pair: Pair) -> None:
    """Value, derivatives and batches as one program, since most of the time is the compiler's."""
    case = pair.program

    def everything(args: Any, stacked: Any) -> Any:
        tangents = tangents_like(pair.args)
        pushed = fd.jvp(case, args, tangents)
        if not pair.rev:
            return pushed, fd.vmap(case)(*stacked)
        gradient = fd.grad(loss_of(case), pair.argnums)
        return pushed, gradient(*args), fd.vmap(case)(*stacked), fd.vmap(gradient)(*stacked)

    arguments = pair.args, batches(case, 0)
    with fd.config.override(backend="cpu"):
        found = fd.jit(everything)(*arguments)
    with fd.config.override(backend="reference"):
        wanted = fd.jit(everything)(*arguments)
    assert_same(found, wanted, 20, weak=True)
