"""Exported models on onnxruntime, beside what funcdl computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
from funcdl.core import dtypes
from funcdl.onnx import export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NDArray = np.ndarray[Any, Any]


def checked(model: Any) -> Any:
    """A model that keeps to the standard, inferred types and shapes included."""
    onnx.checker.check_model(model, full_check=True)
    return model


def session(model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: Any, *args: Any) -> list[NDArray]:
    """The outputs of a model for the leaves of some arguments."""
    loaded = session(model)
    leaves = [np.asarray(x) for x in fd.tree.leaves(args)]
    names = [found.name for found in loaded.get_inputs()]
    found: list[NDArray] = loaded.run(None, dict(zip(names, leaves, strict=True)))
    return found


def without_bfloat16(x: Any) -> Any:
    """What NumPy knows: onnxruntime takes no others from Python."""
    return x.astype(np.float32) if x.dtype == dtypes.bfloat16 else x


def compare(fun: Any, *args: Any, rtol: float = 1e-5, atol: float = 1e-5) -> Any:
    """Export a function, run it, and compare with the function itself; returns the model."""
    args = fd.tree.map(fd.numpy.asarray, args)
    model = checked(export(fun, *args))
    found = run(model, *args)
    wanted = fd.tree.leaves(fun(*args))
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        np.testing.assert_allclose(x, np.asarray(y), rtol=rtol, atol=atol)
    return model
