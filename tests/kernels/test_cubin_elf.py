"""What is read from a cubin's sections, beside what the assembler says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from funcdl.kernels.triton.cubin_elf import resources

PROGRAM = """
import json
from funcdl.kernels.triton.compile import compile_cubin
from funcdl.kernels.triton.cubin_elf import resources
from funcdl.kernels.triton.triton_kernel import TritonKernel
body = "i = tl.arange(0, {0})\\n    j = tl.arange(0, {0})[:, None]\\n"
body += "    x = tl.load(x_ptr + i + j)\\n"
body += "    y = tl.load(x_ptr + i * 3 + j)\\n    tl.store(x_ptr + i + j, x * tl.sum(y) + y)\\n"
for size in (16, 64):
    source = "import triton\\nimport triton.language as tl\\n\\n@triton.jit\\ndef k(x_ptr):\\n    "
    source += body.format(size)
    kernel = TritonKernel(source, "k", (1,), 1, 1, {"x_ptr": "*fp32"})
    cubin = compile_cubin(kernel, 80, report=True)
    print(json.dumps([resources(cubin.data), cubin.metadata]))
"""


@pytest.mark.triton
def test_registers_and_stack_are_those_of_the_assembler(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pairs = [json.loads(line) for line in done.stdout.splitlines()]
    for found, metadata in pairs:
        assert found == {name: metadata[name] for name in ("registers", "stack_bytes")}
    (small, _), (large, metadata) = pairs
    assert small["stack_bytes"] == 0 and large["registers"] > small["registers"]
    assert (large["stack_bytes"] > 0) == (metadata["spill_bytes"] > 0)


def test_other_files_say_nothing() -> None:
    assert resources(b"") == resources(b"not an ELF file") == {}
