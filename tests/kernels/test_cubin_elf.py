"""What is read from a cubin's sections, beside what the assembler says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from funcdl.kernels.triton.cubin_elf import resources

PROGRAM = """
import json
import triton
from triton.backends.nvidia.compiler import get_ptxas
from funcdl.kernels.triton.compile import compile_cubin, ptxas_report
from funcdl.kernels.triton.cubin_elf import resources
from funcdl.kernels.triton.triton_kernel import TritonKernel
made, make = {}, triton.compile
def compile(*args, **options):
    compiled = make(*args, **options)
    made[compiled.asm["cubin"]] = compiled.asm["ptx"]
    return compiled
triton.compile = compile
body = "i = tl.arange(0, {0})\\n    j = tl.arange(0, {0})[:, None]\\n"
body += "    x = tl.load(x_ptr + i + j)\\n"
body += "    y = tl.load(x_ptr + i * 3 + j)\\n    tl.store(x_ptr + i + j, x * tl.sum(y) + y)\\n"
for size in (16, 64):
    source = "import triton\\nimport triton.language as tl\\n\\n@triton.jit\\ndef k(x_ptr):\\n    "
    source += body.format(size)
    kernel = TritonKernel(source, "k", (1,), 1, 1, {"x_ptr": "*fp32"})
    cubin = compile_cubin(kernel, 80)
    ways = [[], ["--regAllocOptLevel=2"]]  # which of them depends on Triton's release
    told = [ptxas_report(made[cubin.data], get_ptxas(80).path, options=way) for way in ways]
    print(json.dumps([resources(cubin.data), cubin.metadata, told]))
"""


@pytest.mark.triton
def test_registers_and_stack_are_those_of_the_assembler(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    names = ("registers", "stack_bytes", "spill_bytes")
    for found, metadata, told in results:
        assert found == {name: metadata[name] for name in names[:2]}
        assert {name: metadata[name] for name in names} in told
    (small, _, _), (large, metadata, _) = results
    assert small["stack_bytes"] == 0 and large["registers"] > small["registers"]
    assert (large["stack_bytes"] > 0) == (metadata["spill_bytes"] > 0)


def test_other_files_say_nothing() -> None:
    assert resources(b"") == resources(b"not an ELF file") == {}
