"""Generated Triton source, run in Triton's interpreter, against the kernel IR's interpreter."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tests.kernels import triton_harness
from tests.kernels.triton_kernels import cases

from funcdl.kernels.triton.interpret import interpret
from funcdl.kernels.triton.triton_kernel import TritonKernel

REFUSED = {"example_scatter_set", "example_scatter_max"}
NAMES = [name for name in cases() if name not in REFUSED]


@pytest.fixture(scope="module")
def differences() -> dict[str, Any]:
    return triton_harness.run("interpret", NAMES)


@pytest.mark.triton
@pytest.mark.parametrize("name", NAMES)
def test_source_computes_what_the_kernel_means(name: str, differences: dict[str, Any]) -> None:
    assert differences[name] == "", differences[name]


WRITES = {
    "tl.store(x_ptr + tl.arange(0, 16), 1.0)": "wrote out of bounds of x_ptr",
    "tl.store(x_ptr - 1, 1.0)": "wrote out of bounds of x_ptr",
    "tl.store(x_ptr + 1, tl.load(x_ptr + 10))": "[1.0, nan]",
    "tl.store(x_ptr + 1, 2.0)": "[1.0, 2.0]",
}

GUARD = """
import sys
import numpy as np
from funcdl.kernels.triton.interpret import interpret
from funcdl.kernels.triton.triton_kernel import TritonKernel
for line in sys.argv[1:]:
    source = "import triton\\nimport triton.language as tl\\n\\n@triton.jit\\ndef k(x_ptr):\\n    "
    x = np.ones(2, np.float32)
    try:
        kernel = TritonKernel(source + line + "\\n", "k", (1,), 1, 1, {"x_ptr": "*fp32"})
        interpret(kernel, {"x": x})
        print(x.tolist())
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.triton
def test_accesses_out_of_bounds_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    command = [sys.executable, "-c", GUARD, *WRITES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for line, wanted in zip(done.stdout.splitlines(), WRITES.values(), strict=True):
        assert wanted in line


def test_interpreter_must_be_chosen_before_triton_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    kernel = TritonKernel("", "k", (1,), 1, 1, {"x_ptr": "*fp32"})
    with pytest.raises(RuntimeError, match="set TRITON_INTERPRET=1 before"):
        interpret(kernel, {"x": np.ones(2, np.float32)})
