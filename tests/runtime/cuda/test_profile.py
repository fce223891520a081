"""Profiles of programs on the stub driver, whose kernels take as long as a test says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")


@fd.jit
def step(x: Any) -> Any:
    total, _ = lax.scan(lambda c, row: (fnp.tanh(c + row), None), x[0], x)
    return x.T @ x, total


def kernels(profile: fd.Profile) -> dict[str, Any]:
    return {row.name: row for row in profile.rows if row.kind == "kernel"}


def test_kernels_have_the_times_between_their_events(gpu: StubGpu) -> None:
    x = fd.device_put(X, "gpu")
    step(x)  # the variants that are profiled are others
    gpu.stub.duration = lambda image: 3e-4 if "dot" in image.metadata["name"] else 1e-4
    with fd.profile() as p:
        for _ in range(4):
            step(x)
    found = kernels(p)
    (product,) = (row for name, row in found.items() if "dot" in name)
    assert product.calls == 4 and product.program == "step"
    assert product.seconds == pytest.approx(4 * 3e-7, abs=8e-9)
    assert product.min_seconds == pytest.approx(3e-7, abs=2e-9)
    assert product.flops == 4 * 2 * 7 * 5 * 7 and product.nbytes > 0
    assert product.source is not None and "x.T @ x" in product.source.text
    assert product.platform == "gpu" and p.peak_share(product) is None
    (loop,) = (row for name, row in found.items() if "tanh" in name)
    assert loop.calls == 4 * 5
    (call,) = (row for row in p.rows if row.kind == "call")
    assert call.calls == 4


def test_calls_are_not_replayed_while_profiled_and_are_again_afterwards(gpu: StubGpu) -> None:
    x = fd.device_put(X, "gpu")
    f = fd.jit(lambda x: (fnp.sum(fnp.exp(x)), x.T @ x))
    with fd.profile():
        for _ in range(5):
            f(x)
    assert gpu.stub.calls["cuGraphLaunch"] == 0
    timed = gpu.stub.calls["cuEventElapsedTime"]
    for _ in range(5):
        found = f(x)
    assert gpu.stub.calls["cuGraphLaunch"] == 3
    assert gpu.stub.calls["cuEventElapsedTime"] == timed
    np.testing.assert_allclose(np.asarray(found[1]), X.T @ X, 1e-5, 1e-5)


def test_work_on_the_host_has_rows_of_its_own(gpu: StubGpu) -> None:
    x = fd.device_put(X, "gpu")
    f = fd.jit(lambda x: fnp.linalg.svd(x * 2, compute_uv=False) + 1)
    f(x)
    with fd.profile() as p:
        f(x)
    kinds = [(row.kind, row.name) for row in p.rows]
    assert ("host", "svd") in kinds and sum(kind == "kernel" for kind, _ in kinds) == 2


def test_trace_has_an_event_for_each_launch(gpu: StubGpu, tmp_path: Path) -> None:
    x = fd.device_put(X, "gpu")
    gpu.stub.duration = lambda image: 1e-3
    step(x)
    with fd.profile() as p:
        step(x)
        step(x)
    p.trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    launches = [e for e in events if e["cat"] == "kernel"]
    assert len(launches) == sum(row.calls for row in kernels(p).values())
    assert all(e["dur"] == pytest.approx(1, abs=2e-3) for e in launches)
    ends = [(e["ts"], e["ts"] + e["dur"]) for e in launches]
    assert all(a[1] <= b[0] + 2e-3 for a, b in pairwise(ends))
