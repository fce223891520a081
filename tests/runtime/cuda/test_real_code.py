"""Programs whose kernels Triton compiles, launched on the stub by what their cubins say.

The stub runs the kernel IR in their place: what is tested is that Triton takes each source, and
that the code suits the device and the launch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.ops.table import OPS
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.ops_on_gpu import check_derivative_on_gpu, check_on_gpu
from tests.runtime.cuda.stub_driver import Image
from tests.runtime.cuda.test_programs import PROGRAMS, X

import funcdl as fd
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.triton_kernel import TritonKernel

pytestmark = [
    pytest.mark.triton,
    pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning"),
]


class RealCode(StubGpu):
    """Cubins are Triton's, behind which stands what the launch must look like."""

    def _compile(
        self, kernels: Sequence[TritonKernel], arch: int, *, aligned: bool = True
    ) -> list[Cubin]:
        made = compile_all(kernels, arch, aligned=aligned)
        found = []
        for kernel, cubin in zip(kernels, made, strict=True):
            # Both variants may be the same code.
            code = cubin.data + repr((kernel.grid, aligned)).encode()
            (programs,) = kernel.grid
            own = self._kernels[kernel.source, kernel.grid]
            self.stub.images[code] = Image(own, programs, cubin.metadata)
            found.append(Cubin(code, cubin.metadata))
            assert cubin.metadata["registers"] * 32 * cubin.metadata["num_warps"] <= 1 << 16
        return found


@pytest.fixture
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubGpu]:
    folder = Path(tmp_path_factory.getbasetemp(), "cubins")
    with fd.config.override(cache_dir=str(folder)), installed(RealCode()) as stub:
        yield stub


def test_a_program_and_its_graph(real: StubGpu) -> None:
    function = fd.jit(PROGRAMS["gradient"])
    softmax = fd.jit(PROGRAMS["softmax"])
    for scale in (1.0, 0.5, -1.0, 2.0):
        x = X * np.float32(scale)
        for f in (function, softmax):
            found = f(fd.device_put(x, "gpu"))
            np.testing.assert_allclose(np.asarray(found), np.asarray(f(x)), 1e-5, 1e-5)
    assert real.stub.calls["cuGraphLaunch"] > 0


WARM = """
import json, sys
import numpy as np
started = []
sys.addaudithook(lambda event, args: event == "subprocess.Popen" and started.append(args[1]))
from tests.runtime.cuda.environment import installed
from tests.runtime.cuda.test_real_code import RealCode
import funcdl as fd
from funcdl import nn
with installed(RealCode()):
    x = fd.device_put(np.ones((5, 7), np.float32), "gpu")
    step = fd.jit(lambda x: (nn.softmax(x @ x.T), fd.grad(lambda x: nn.gelu(x).sum())(x)))
    total = [float(fd.tree.leaves(step(x))[0].sum()) for _ in range(4)]
print(json.dumps([total, "triton" in sys.modules, bool(started)]))
"""


def test_warm_start_imports_no_triton_and_starts_no_process(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FUNCDL_CACHE_DIR", str(tmp_path))
        cold, warm = (answer("-c", WARM, interpret=False) for _ in range(2))
    assert cold[0] == warm[0]
    assert cold[2] and warm[1:] == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str, real: StubGpu) -> None:
    function = fd.jit(PROGRAMS[name])
    for _ in range(2):
        fd.block_until_ready(function(fd.device_put(X, "gpu")))


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(OPS))
def test_primitives(name: str, real: StubGpu) -> None:
    dtypes = OPS[name].dtypes
    for dtype in [d for d in ("f32", "bf16", "f64", "i32", "u8", "bool") if d in dtypes]:
        check_on_gpu(name, dtype, count=1)
    check_derivative_on_gpu(name, 1, count=1)
