"""Every function of the table, its gradient and batches, compiled to C."""

from __future__ import annotations

from typing import Any

import pytest
from tests.transforms.compare import assert_same, batches, loss_of
from tests.transforms.table import CASES, Case

import funcdl as fd
from funcdl.runtime.toolchain import find_compiler


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_c_agrees_with_eager(case: Case) -> None:
    """Value, gradient and batch as one program, since most of the time is the compiler's."""

    def everything(args: Any, stacked: Any) -> Any:
        gradient = fd.grad(loss_of(case), case.argnums)(*args) if case.argnums else ()
        mapped = fd.vmap(case)(*stacked)
        gradients = fd.vmap(fd.grad(loss_of(case), case.argnums))(*stacked) if case.argnums else ()
        return case(*args), gradient, mapped, gradients

    arguments = case.args, batches(case, 0)
    with fd.config.override(backend="cpu"):
        found = fd.jit(everything)(*arguments)
    assert_same(found, everything(*arguments), 20, weak=True)
