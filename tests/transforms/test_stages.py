"""The stages of a jitted function, held one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp


def scaled(w: Any, x: Any) -> Any:
    return {"y": x @ w * 2.0}


def test_trace_lower_compile() -> None:
    w, x = fnp.ones((3, 2)), fnp.arange(12.0).reshape(4, 3)
    traced = fd.jit(scaled).trace(w, x)
    assert str(traced.jaxpr) == str(fd.make_jaxpr(scaled)(w, x))
    assert traced.fun_name == "scaled"
    lowered = traced.lower()
    assert lowered.out_info == traced.out_info == fd.eval_shape(scaled, w, x)
    out = lowered.compile()(w, x)
    np.testing.assert_array_equal(out["y"], scaled(w, x)["y"])


def test_one_trace_serves_both_back_ends() -> None:
    traced = fd.jit(scaled).trace(fnp.ones((3, 2)), fnp.ones((4, 3)))
    with fd.config.override(backend="reference"):
        reference = traced.lower().compile()
    args = (fnp.ones((3, 2)), fnp.ones((4, 3)))
    np.testing.assert_array_equal(reference(*args)["y"], traced.lower().compile()(*args)["y"])


def test_tracing_again_costs_nothing() -> None:
    calls = []

    @fd.jit
    def f(x: Any) -> Any:
        calls.append(1)
        return x + 1

    for _ in range(3):
        f.trace(fd.ShapeDtypeStruct((2,), np.float32))
    f(fnp.ones(2))
    assert len(calls) == 1
