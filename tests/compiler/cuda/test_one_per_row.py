"""Cross-entropies in every form: one pass over the logits, one to write the gradient."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.cuda.loss_programs import (
    FORMS,
    PROGRAMS,
    by_mask,
    difference,
    ignoring,
    inputs,
    masked,
    mean,
    of_sequences,
    weighted,
)
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.compiler.cuda.one_per_row import fuse_one_per_row
from funcdl.kernels.triton.library import cross_entropy
from funcdl.kernels.triton.library.cross_entropy import CrossEntropy

ROWS, CLASSES = 2048, 10000
LOGITS = fd.ShapeDtypeStruct((ROWS, CLASSES), np.float32)
LABELS = fd.ShapeDtypeStruct((ROWS,), np.int32)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_mean(name: str) -> None:
    with installed(StubGpu()) as gpu:
        assert difference(name, gpu) == ""


@pytest.mark.triton
def test_programs_in_tritons_interpreter() -> None:
    names = [n for n in PROGRAMS if n.endswith("outside")]
    names += ["three dimensions", "bf16", "smoothed ignoring", "sequences", "long labels"]
    found = answer("-m", "tests.compiler.cuda.loss_programs", *names, interpret=True)
    assert found == dict.fromkeys(names, "")


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("way", "passes", "kernels"),
    [
        (lambda loss: loss, 1, 1),
        (weighted, 2, 3),
        (mean, 2, 2),
        (masked, 2, 3),
        (ignoring, 2, 4),
        (by_mask, 2, 3),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_no_softmax_is_stored(name: str, way: Any, passes: int, kernels: int, wide: bool) -> None:
    """Of float32 with labels of 32 bits, and of a half type with labels of 64."""
    types = (np.float32, np.int32) if wide else (ml_dtypes.bfloat16, np.int64)
    logits = fd.ShapeDtypeStruct((ROWS, CLASSES), types[0])
    labels = fd.ShapeDtypeStruct((ROWS,), types[1])
    function = way(lambda x, y: FORMS[name](x.astype(np.float32), y))
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(function).lower(logits, labels)
    cost: Any = lowered.cost_analysis()
    size = np.dtype(types[0]).itemsize
    assert cost["bytes accessed"] <= 1.01 * passes * size * ROWS * CLASSES
    assert sum(kernel["calls"] for kernel in cost["kernels"]) <= kernels


def test_means_of_sequences_wait_for_their_own_lengths_only() -> None:
    logits = fd.ShapeDtypeStruct((8, 256, CLASSES), np.float32)
    labels = fd.ShapeDtypeStruct((8, 256), np.int32)
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(of_sequences).lower(logits, labels)
    cost: Any = lowered.cost_analysis()
    assert cost["bytes accessed"] <= 1.01 * 2 * 4 * ROWS * CLASSES


@pytest.mark.parametrize("name", FORMS)
def test_logits_of_a_product_are_stored_in_their_own_type(name: str) -> None:
    """They are widened by the loss, which reads them at the labels, too."""
    x = fd.ShapeDtypeStruct((ROWS, 64), ml_dtypes.bfloat16)
    w = fd.ShapeDtypeStruct((64, CLASSES), ml_dtypes.bfloat16)

    def loss(x: Any, w: Any, y: Any) -> Any:
        return FORMS[name]((x @ w).astype(np.float32), y).mean()

    with fd.config.override(backend="gpu"):
        lowered = fd.jit(fd.value_and_grad(loss, argnums=(0, 1))).lower(x, w, LABELS)
    cost: Any = lowered.cost_analysis()
    # Stored, read by the loss, its gradient stored, and that read by two products. A kernel that
    # joins the parts of a long sum reads no logits.
    parts = {k["name"].removesuffix("_parts") for k in cost["kernels"] if "_parts" in k["name"]}
    moved = [k["bytes accessed"] for k in cost["kernels"] if k["name"] not in parts]
    assert sum(moved) <= 5.3 * 2 * ROWS * CLASSES


# What is none of one element of each row, in order, or not of zeros.
OTHERS = {
    "two of each row": lambda x, i: fd.grad(
        lambda x: fnp.take_along_axis(fnp.log(x), fnp.stack([i, i], 1), 1).sum()
    )(x),
    "of columns": lambda x, i: fd.grad(lambda x: fnp.log(x)[i[:4], fnp.arange(4)].sum())(x[:, :4]),
    "rows in another order": lambda x, i: fd.grad(lambda x: fnp.log(x)[i % 9, i].sum())(x),
    "onto something": lambda x, i: x.at[fnp.arange(9), i].add(1.0),
    "whole rows": lambda x, i: fd.grad(lambda x: fnp.log(x)[i[:3]].sum())(x),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_gathers_and_scatters_stay(name: str) -> None:
    x, i = inputs(9, 21)
    program = fd.make_jaxpr(OTHERS[name])(np.abs(x) + 1, i % 9)
    assert fuse_one_per_row(program) is program


@pytest.mark.parametrize("name", FORMS)
def test_long_rows_are_read_as_often_as_by_the_hand_written_kernel(name: str) -> None:
    problem = CrossEntropy(ROWS, 50257, np.dtype(np.float32))
    by_hand = cross_entropy.estimate(problem, cross_entropy.candidates(problem)[0]).bytes
    logits = fd.ShapeDtypeStruct((ROWS, problem.classes), np.float32)
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(mean(FORMS[name])).lower(logits, LABELS)
    cost: Any = lowered.cost_analysis()
    assert cost["bytes accessed"] <= 1.001 * by_hand
    # Labels that are probabilities are asked where they are zero and the class impossible, by each
    # term of a sum that the gradient needs.
    more = name == "one_hot_labels"
    passes = cross_entropy.kernel(problem).source.count("for start in")
    loops = re.findall(r"for j_(?:start|left) in", lowered.as_text("triton"))
    assert len(loops) == passes + more == 2 + more
