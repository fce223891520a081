"""Every primitive as a program of the back end "gpu", on the stub driver."""

from __future__ import annotations

import pytest
from tests.ops.table import OPS
from tests.runtime.cuda.environment import StubGpu
from tests.runtime.cuda.ops_on_gpu import (
    check_derivative_on_gpu,
    check_map_on_gpu,
    check_on_gpu,
)


@pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")
@pytest.mark.parametrize("name", sorted(OPS))
def test_primitive_computes_what_its_reference_does(name: str, gpu: StubGpu) -> None:
    dtypes = OPS[name].dtypes
    check_on_gpu(name, "f32" if "f32" in dtypes else dtypes[0], count=2)
    gpu.platform.open(0).stream.synchronize()


SOME = ("dot_general", "reduce_max", "tanh", "cumsum", "gather", "sort", "scatter_add", "igamma")


@pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")
@pytest.mark.parametrize(
    "name", [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in sorted(OPS)]
)
def test_primitive_maps_and_differentiates_twice(name: str, gpu: StubGpu) -> None:
    check_map_on_gpu(name, count=1)
    check_derivative_on_gpu(name, 1, count=1)
    check_derivative_on_gpu(name, 2, count=1)
    gpu.platform.open(0).stream.synchronize()
