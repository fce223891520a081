"""What real cubins say of their parameters, against what launches pass; generated Triton source,
run in Triton's interpreter as the stub driver's kernels."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from tests.process import answer

pytestmark = pytest.mark.triton

_PARAMETER = 0x17  # EIATTR_KPARAM_INFO, one record for each parameter
_FORMAT_BLOCK = 0x04


def parameter_sizes(cubin: bytes, name: str) -> dict[int, int]:
    """The size of each kernel parameter by its number, from the section ``.nv.info.<name>``."""
    offset, count = struct.unpack_from("<Q", cubin, 40)[0], struct.unpack_from("<H", cubin, 60)[0]
    names_at = struct.unpack_from("<H", cubin, 62)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, offset + 64 * i) for i in range(count)]
    strings = cubin[sections[names_at][4] :]
    for section in sections:
        title = strings[section[0] :].split(b"\0", 1)[0].decode()
        if title == f".nv.info.{name}":
            data = cubin[section[4] : section[4] + section[5]]
            break
    else:
        raise AssertionError(f"no section for {name}")
    sizes: dict[int, int] = {}
    at = 0
    while at < len(data):
        form, attribute, length = struct.unpack_from("<BBH", data, at)
        at += 4
        if form != _FORMAT_BLOCK:
            continue
        if attribute == _PARAMETER:
            _, number, _, packed = struct.unpack_from("<IHHI", data, at)
            sizes[number] = packed >> 18
        at += length
    return sizes


@pytest.mark.parametrize("arch", [80, 90])
def test_kernels_take_pointers_and_two_more_for_scratch_memory(arch: int, tmp_path: Path) -> None:
    from tests.kernels.triton_kernels import cases

    from funcdl.kernels.triton.compile_pool import compile_all
    from funcdl.runtime.cuda.launch import SCRATCH_POINTERS
    from funcdl.runtime.disk_cache import CacheDir

    kernel = cases()["softmax"].render()
    (cubin,) = compile_all([kernel], arch, cache=CacheDir(tmp_path))
    sizes = parameter_sizes(cubin.data, cubin.metadata["name"])
    assert sizes == dict.fromkeys(range(len(kernel.signature) + SCRATCH_POINTERS), 8)
    for key in ("name", "arch", "shared", "num_warps", "alignment", "num_ctas", "cuda"):
        assert cubin.metadata[key] is not None


PROGRAM = """
import json
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed
import funcdl as fd, funcdl.numpy as fnp
from funcdl import nn
from funcdl.kernels.triton.interpret import interpret

def loss(w, x, y):
    logits = fnp.tanh(x @ w["a"]) @ w["b"]
    return nn.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

def step(w, x, y):
    value, grads = fd.value_and_grad(loss)(w, x, y)
    return fd.tree.map(lambda p, g: p - 0.5 * g, w, grads), value

rng = np.random.default_rng(0)
w = {"a": rng.normal(size=(5, 6)).astype(np.float32), "b": rng.normal(size=(6, 3)).astype("f4")}
x = rng.normal(size=(9, 5)).astype(np.float32)
y = rng.integers(0, 3, 9).astype(np.int32)
results = {}
with installed(StubGpu(run=interpret)) as gpu:
    for device in ("cpu", "gpu"):
        now, losses = fd.device_put(w, device), []
        for _ in range(4):
            now, value = fd.jit(step)(now, x, y)
            losses.append(float(value))
        results[device] = losses
    results["launches"] = len(gpu.stub.launches)
print(json.dumps(results))
"""


def test_training_step_in_tritons_interpreter() -> None:
    results = answer("-c", PROGRAM, interpret=True)
    np.testing.assert_allclose(results["gpu"], results["cpu"], rtol=1e-5)
    assert results["launches"] >= 4 and results["gpu"][-1] < results["gpu"][0]
