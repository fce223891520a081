"""A primitive's test calls as programs of the back end "gpu", whatever stands behind it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from tests.ops.table import OPS, assert_close, differentiable, function_of, outputs, samples

import funcdl as fd
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.errors import NotDifferentiableError
from funcdl.transforms import jit


def check_on_gpu(name: str, dtype: str, count: int | None = None) -> None:
    """The first `count` calls agree with the primitive's reference."""
    primitive = OPS[name].primitive
    for sample in islice(samples(name, dtype), count):
        function = jit(lambda *xs, p=primitive, s=sample: outputs(p(*xs, **s.params)))
        operands = [Array(x).to_device("gpu") for x in sample.args]
        found = function(*operands) if operands else []
        assert primitive.impl is not None
        wanted = outputs(primitive.impl(*sample.args, **sample.params)) if operands else []
        for x, y in zip(found, wanted, strict=True):
            # Programs that look at keys run on the host, equation by equation.
            assert x.platform == ("cpu" if name == "key_use" else "gpu")
            assert x.dtype == np.asarray(y).dtype
            assert_close(x, y, 8, x.dtype)


def check_map_on_gpu(name: str, count: int) -> None:
    """Under `vmap`, over operands stacked three times, calls compute what they do on the CPU."""
    op = OPS[name]
    if "vmap" in op.missing:
        return
    for sample in islice(samples(name, quickest_dtype(name)), count):
        if not sample.args:
            continue
        stacked = [np.stack([x, x[...], x]) for x in sample.args]
        mapped = fd.vmap(lambda *xs, p=op.primitive, s=sample: outputs(p(*xs, **s.params)))
        compare_with_cpu(mapped, stacked, 8)


def check_derivative_on_gpu(name: str, order: int, count: int) -> None:
    """Derivatives of some order along ones are what they are on the CPU."""
    if "jvp" in OPS[name].missing:
        return
    for sample in islice(samples(name, quickest_dtype(name)), count):
        places = differentiable(sample)
        if not places:
            continue
        push: Any = function_of(name, sample, places)
        for _ in range(order):
            push = _pushed(push)
        primals = [sample.args[i] for i in places]
        try:
            fd.make_jaxpr(push)(*primals)
        except NotDifferentiableError:  # such as of a derivative that has none itself
            return
        compare_with_cpu(push, primals, 64)


def _pushed(function: Any) -> Any:
    def push(*xs: Any) -> Any:
        return fd.jvp(function, list(xs), [fd.numpy.ones_like(x) for x in xs])[1]

    return push


def quickest_dtype(name: str) -> str:
    """The dtype of the tests that try one: float32 where there is a choice."""
    found = OPS[name].dtypes
    return "f32" if "f32" in found else found[0]


def compare_with_cpu(function: Any, operands: list[np.ndarray[Any, Any]], ulps: float) -> None:
    """Compile a function for the CPU and for the GPU, and compare what they return."""
    wanted = fd.tree.leaves(fd.jit(function)(*operands))
    found = fd.tree.leaves(fd.jit(function)(*(fd.device_put(x, "gpu") for x in operands)))
    for x, y in zip(found, wanted, strict=True):
        if not dtypes.is_inexact(x.dtype):
            assert x.dtype == fd.dtypes.float0 or np.array_equal(x, y)
            continue
        # What is zero but for rounding has no scale of its own.
        eps = float(dtypes.finfo(dtypes.real_dtype(x.dtype)).eps)
        wide = np.asarray(y, np.complex128)
        scale = max(1.0, np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
        tolerance = ulps * eps
        np.testing.assert_allclose(
            np.asarray(x, np.complex128), wide, rtol=tolerance, atol=tolerance * scale
        )
