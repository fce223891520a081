"""Calls of functions of the C headers, in C."""

from __future__ import annotations

import numpy as np

from funcdl.kernels.cpu_c.render import render_program
from funcdl.kir.cost import Cost
from funcdl.kir.program import Address, KernelProgram, LibraryCall, Pointer, Record

F32, F16 = np.dtype(np.float32), np.dtype(np.float16)
CALL = LibraryCall(
    "attention0",
    "fd_attention.h",
    (
        ("fd_widen_f16", (Pointer(Address(2, 64), F32), Pointer(Address(0), F16), 6)),
        (
            "fd_f",
            (
                Record("fd_sizes", (("batch", 2), ("scale", 0.125), ("strides", (0, 3)))),
                Record("fd_operands", (("query", Pointer(Address(2, 64), F32)),)),
                Pointer(Address(1), F32),
            ),
        ),
    ),
    Cost(),
)
WANTED = """\
static void (attention0)(void **slots, fd_missing *missing) {
  fd_widen_f16((float *)((char *)slots[2] + 64), (fd_f16 *)((char *)slots[0] + 0), 6, missing);
  const fd_sizes record1_0 = {
    .batch = 2,
    .scale = 0.125,
    .strides = {0, 3},
  };
  const fd_operands record1_1 = {
    .query = (float *)((char *)slots[2] + 64),
  };
  fd_f(record1_0, record1_1, (float *)((char *)slots[1] + 0), missing);
}

__attribute__((visibility("default"))) int64_t funcdl_run(void **slots);

int64_t funcdl_run(void **slots) {
  fd_missing missing = 0;
  attention0(slots, &missing);
  if (missing != 0) return missing;
  return 0;
}
"""


def test_text() -> None:
    found = render_program(KernelProgram("p", (), (CALL,), 3))
    assert found.endswith(WANTED)
    assert '#include "fd_attention.h"' in found


def test_headers_of_calls_that_are_not_made_stay_out() -> None:
    assert "fd_attention.h" not in render_program(KernelProgram("p", (), (), 1))
