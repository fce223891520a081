"""One program is one text in every process, so that the disk cache finds it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from benchmarks.transformer import Sizes, adam_step, parameters

padding = [object() for _ in range(int(sys.argv[1]))]  # other addresses
sizes = Sizes(depth=2, width=16, heads=2, vocabulary=32, length=8, batch=2)
p = fd.tree.map(lambda x: fd.ShapeDtypeStruct(x.shape, x.dtype), parameters(sizes))
ids = fd.ShapeDtypeStruct((2, 9), np.int32)
t = fd.ShapeDtypeStruct((), np.float32)
step = adam_step(fd, fnp, nn, sizes)
print(fd.jit(step, donate_argnums=(0, 1, 2)).lower(p, p, p, t, ids).as_text("c"))
"""


def digest(seed: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(int(seed) * 1000)]
    folders = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": folders}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "int64_t funcdl_run" in result.stdout
    return hashlib.sha256(result.stdout.encode()).hexdigest()


def test_a_training_step_has_one_text() -> None:
    assert len({digest(seed) for seed in ("1", "3", "7")}) == 1
