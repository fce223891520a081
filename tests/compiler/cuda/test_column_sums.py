"""Sums of columns that move into kernels over the same rows: results, kernels, bytes, cubins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.norm_programs import (
    PROGRAMS,
    difference,
)
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd

F32 = np.dtype(np.float32)


def lowered(function: Any, *args: Any) -> Any:
    with fd.config.override(backend="gpu"):
        return fd.jit(function).lower(*args)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_mean(name: str) -> None:
    with installed(StubGpu()) as gpu:
        assert difference(name, gpu) == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_launch_so_many_kernels(name: str) -> None:
    function, args, kernels = PROGRAMS[name]
    found = lowered(function, *args).cost_analysis()["kernels"]
    assert sum(kernel["calls"] for kernel in found) == kernels
