"""Which kernels the operations of networks become on a GPU: the table of docs/gpu_kernels.md."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.cuda.loss_programs import integer_labels, masked, mean, take_along_axis
from tests.compiler.cuda.norm_programs import before_product, gradient, layer_norm, rms_norm
from tests.compiler.cuda.test_traffic import adam

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.kir.program import Call, all_kernels

DOCS = Path(__file__).parents[3] / "docs/gpu_kernels.md"
F32, BF16 = np.float32, ml_dtypes.bfloat16


def array(*shape: int, dtype: Any = F32) -> Any:
    return fd.ShapeDtypeStruct(shape, dtype)


def convolution(x: Any, w: Any) -> Any:
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=names)


def pool(op: Any, start: float) -> Callable[..., Any]:
    return lambda x: lax.reduce_window(x, start, op, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def loss_of_product(x: Any, w: Any, labels: Any) -> Any:
    """A language model's last layer and loss, with the gradients of both."""

    def loss(x: Any, w: Any) -> Any:
        counts = labels != 0
        losses = take_along_axis((x @ w).astype(F32), labels)[:, 0]
        return fnp.where(counts, losses, 0).sum() / counts.sum()

    return fd.value_and_grad(loss, argnums=(0, 1))(x, w)


def attention(query: Any, key: Any, value: Any) -> Any:
    return nn.dot_product_attention(query, key, value, is_causal=True)


ROWS, WEIGHT = array(4096, 1024), array(1024)
IMAGES, HALF, FILTERS = array(8, 28, 28, 64), array(8, 14, 14, 64), array(3, 3, 64, 64)
LABELS = array(4096, dtype=np.int32)
HEADS = array(2, 1024, 8, 64)

PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "product, bias, activation, residual": (
        lambda x, w, b, r: nn.gelu(x @ w + b) + r,
        (array(4096, 1024), array(1024, 1024), array(1024), array(4096, 1024)),
    ),
    "product of bf16 in batches": (
        lambda x, w: x @ w,
        (array(8, 256, 64, dtype=BF16), array(8, 64, 256, dtype=BF16)),
    ),
    "product with a long sum": (lambda x, y: x.T @ y, (array(16384, 128), array(16384, 128))),
    "softmax": (nn.softmax, (ROWS,)),
    "softmax, 50257 classes": (nn.softmax, (array(4096, 50257),)),
    "log-softmax": (nn.log_softmax, (ROWS,)),
    "softmax, gradient": (gradient(nn.softmax), (ROWS, ROWS)),
    "layer norm": (layer_norm, (ROWS, WEIGHT, WEIGHT)),
    "layer norm, gradients": (gradient(layer_norm), (ROWS, ROWS, WEIGHT, WEIGHT)),
    "layer norm before a product, gradients": (
        before_product,
        (ROWS, ROWS, WEIGHT, WEIGHT, array(1024, 1024)),
    ),
    "RMS norm": (rms_norm, (ROWS, WEIGHT)),
    "RMS norm, gradients": (gradient(rms_norm), (ROWS, ROWS, WEIGHT)),
    "cross-entropy": (integer_labels, (ROWS, LABELS)),
    "cross-entropy, mean and gradient": (mean(integer_labels), (ROWS, LABELS)),
    "the same by `take_along_axis`": (mean(take_along_axis), (ROWS, LABELS)),
    "the same, masked": (masked(take_along_axis), (ROWS, LABELS)),
    "the same, 50257 classes": (mean(take_along_axis), (array(4096, 50257), LABELS)),
    "the same in bfloat16, behind a product, masked": (
        loss_of_product,
        (array(4096, 768, dtype=BF16), array(768, 50257, dtype=BF16), LABELS),
    ),
    "attention": (attention, (HEADS, HEADS, HEADS)),
    "attention, gradients": (gradient(attention), (HEADS, HEADS, HEADS, HEADS)),
    "convolution": (convolution, (IMAGES, FILTERS)),
    "convolution, gradients": (gradient(convolution), (IMAGES, IMAGES, FILTERS)),
    "max pooling": (pool(lax.max, -np.inf), (IMAGES,)),
    "max pooling, gradient": (gradient(pool(lax.max, -np.inf)), (HALF, IMAGES)),
    "average pooling, gradient": (
        lambda ct: fd.vjp(pool(lax.add, 0.0), fnp.zeros(IMAGES.shape))[1](ct / 4),
        (HALF,),
    ),
    "embedding": (lambda table, ids: table[ids], (array(50257, 768), LABELS)),
    "embedding, gradient": (
        lambda ct, ids: fnp.zeros((50257, 768)).at[ids].add(ct),
        (array(4096, 768), LABELS),
    ),
    "Adam": (adam, (ROWS, ROWS, ROWS, ROWS)),
}


def route(name: str) -> list[str]:
    """A row of the table: kernels, hand-written ones by name, and what they move."""
    function, args = PROGRAMS[name]
    with fd.config.override(backend="gpu"):
        lowered: Any = fd.jit(function).lower(*args)
    segments = lowered._lowered._pipeline.program.segments
    libraries, launches = [], 0
    for segment in segments:
        kernels = [kernel for kernel, _ in all_kernels(segment)]
        assert all(isinstance(call, Call) for call in segment.calls), "a step of the host"
        launches += len(segment.calls)
        libraries += [k.library.function for k in kernels if k.library is not None]
    generated = launches - len(libraries)
    found = [f"`{function}`" for function in libraries]
    found += [f"{generated} generated"] * (generated > 0)
    outs = fd.tree.leaves(fd.eval_shape(function, *args))
    least = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in (*args, *outs))
    return [", ".join(found), f"{lowered.cost_analysis()['bytes accessed'] / least:.2f}"]


def table() -> dict[str, list[str]]:
    """The rows of the page's table, by their first cell."""
    section = DOCS.read_text().split("## What becomes of what")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", section, re.MULTILINE)
    return {first: list(rest) for first, *rest in rows[1:]}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_table_says_what_happens(name: str) -> None:
    assert table()[name] == route(name)


def test_the_table_has_no_other_rows() -> None:
    assert list(table()) == list(PROGRAMS)
