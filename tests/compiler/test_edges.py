"""No program touches memory beyond its operands: these end, or begin, at a page without access."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from funcdl.runtime.toolchain import find_compiler

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="calls mprotect of Linux"),
]

PROGRAM = """
import ctypes, mmap, sys
import numpy as np
import funcdl as fd, funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.core.array import Array
from funcdl.runtime.cpu_memory import address

at_end = sys.argv[1] == "end"
fd.config.backend = "cpu"
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
held = []

def guarded(x):
    # Between two pages that nobody may touch, close to one of them.
    page, room = mmap.PAGESIZE, -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + 2 * page)
    held.append(memory)
    offset = page + (room - x.nbytes if at_end else 0)
    y = np.frombuffer(memory, x.dtype, x.size, offset).reshape(x.shape)
    y[...] = x
    for start in (0, page + room):
        assert libc.mprotect(address(memory) + start, page, 0) == 0
    return Array(y)  # an argument that is a NumPy array would be copied

def depthwise(x, k, pad):
    return fnp.maximum(lax.conv_general_dilated(
        x, k, (1, 1), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3]), 0).transpose(0, 3, 1, 2)

def conv(x, k, pad):
    return fnp.maximum(lax.conv_general_dilated(
        x, k, (1, 1), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")), 0)

rng = np.random.default_rng(0)
def a(*shape, dtype=np.float32):
    return rng.integers(0, 3, shape).astype(dtype)

calls = {}
for n in (1, 5, 17, 35):
    calls |= {
        f"depthwise {n}": (lambda x, k: depthwise(x, k, "VALID"), a(1, 5, 7, n), a(3, 3, 1, n)),
        f"depthwise same {n}": (lambda x, k: depthwise(x, k, "SAME"), a(1, 5, 7, n), a(3, 3, 1, n)),
        f"conv {n}": (lambda x, k: conv(x, k, "VALID"), a(2, 5, 7, n), a(3, 3, n, n)),
        f"product {n}": (lambda x, y: x @ y, a(n, 33), a(33, n)),
        f"product T {n}": (lambda x, y: x.T @ y.T, a(33, n), a(n, 33)),
        f"sum {n}": (lambda x: (x.sum(0), x.sum(1), x.max(), x.argmax(1)), a(n, 13)),
        f"softmax {n}": (lambda x: nn.softmax(x), a(3, n)),
        f"half {n}": (lambda x: x * 2 + 1, a(n, 3, dtype=np.float16)),
        f"sort {n}": (lambda x: (fnp.sort(x), fnp.cumsum(x, 1), fnp.flip(x)), a(3, n)),
        f"take {n}": (lambda x, i: x[i], a(n, 3), np.array([-9, n + 9, 0], np.int32)),
        f"transpose {n}": (lambda x: x.T + 1, a(n, 37)),
    }
f = fd.jit(lambda operands: {k: calls[k][0](*v) for k, v in operands.items()})
found = f({k: tuple(map(guarded, v[1:])) for k, v in calls.items()})
wanted = f({k: v[1:] for k, v in calls.items()})
for k in calls:
    fd.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, k), found[k], wanted[k])
grad = fd.jit(lambda operands: {k: fd.grad(lambda *v: calls[k][0](*v).sum(), (0, 1))(*v)
                                for k, v in operands.items()})
operands = {k: v[1:] for k, v in calls.items() if k.startswith(("depth", "conv", "product"))}
found = grad({k: tuple(map(guarded, v)) for k, v in operands.items()})
fd.tree.map(np.testing.assert_array_equal, found, grad(operands))
print("done")
"""


@pytest.mark.parametrize("place", ["end", "begin"])
def test_nothing_beyond_an_operand_is_touched(place: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, place],
        env=os.environ,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr[-3000:]
