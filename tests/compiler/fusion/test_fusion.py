"""What becomes one kernel, and why the rest does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.compiler.programs import P
from tests.compiler.run import interpret, kernels_of, pipeline_of, refusals_of

import funcdl.numpy as fnp
from funcdl import grad, make_jaxpr, value_and_grad
from funcdl.compiler.fusion.grouped import MAX_MEMBERS, MAX_OPERANDS
from funcdl.compiler.fusion.inlining import INLINE_READS
from funcdl.compiler.pipeline import Pipeline
from funcdl.config import config
from funcdl.core import tree
from funcdl.core.backend import ReferenceProgram

NDArray = np.ndarray[Any, Any]
Function = Callable[..., Any]

RNG = np.random.default_rng(0)


def array(*shape: int) -> NDArray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def compiled(f: Function, *args: Any, donated: Sequence[bool] | None = None) -> Pipeline:
    """The program after all passes, checked against the reference on the arguments."""
    closed = make_jaxpr(f)(*args)
    pipeline = pipeline_of(closed, donated)
    leaves = [np.asarray(leaf) for leaf in tree.leaves(args)]
    with config.override(backend="reference"):
        wanted = ReferenceProgram(closed)(leaves)
    for found, want in zip(interpret(pipeline, leaves), wanted, strict=True):
        np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)
    return pipeline


def kernels(f: Function, *args: Any) -> list[str]:
    return kernels_of(compiled(f, *args))


def softmax(x: Any) -> Any:
    e = fnp.exp(x - fnp.max(x, axis=-1, keepdims=True))
    return e / fnp.sum(e, axis=-1, keepdims=True)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - fnp.mean(x, axis=-1, keepdims=True)
    variance = fnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / fnp.sqrt(variance + 1e-5) * scale + shift


def batch_norm(x: Any) -> Any:
    centred = x - fnp.mean(x, axis=(0, 1, 2))
    return centred / fnp.sqrt(fnp.mean(centred * centred, axis=(0, 1, 2)) + 1e-5)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + fnp.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def cross_entropy(logits: Any, labels: Any) -> Any:
    shifted = logits - fnp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - fnp.log(fnp.sum(fnp.exp(shifted), axis=-1, keepdims=True))
    chosen = labels[:, None] == fnp.arange(logits.shape[-1])
    return -fnp.mean(fnp.sum(fnp.where(chosen, log_p, 0.0), axis=-1))


def weighted(f: Function) -> Function:
    """The sum of a function's outputs times weights, so that its gradient is no constant."""
    return lambda x, weights, *rest: fnp.sum(f(x, *rest) * weights)


X, Y, V = array(8, 16), array(8, 16), array(16)
IMAGES = array(2, 3, 4, 5)

ONE_KERNEL: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "a chain of elementwise operations": (lambda x, y: fnp.exp(x) * y + fnp.sin(x), (X, Y)),
    "elementwise operations on parts of arrays": (
        lambda x: fnp.exp(x[:, ::-1]) + x.reshape(16, 8).T,
        (X,),
    ),
    "softmax": (softmax, (X,)),
    "softmax over columns": (lambda x: softmax(x.T), (X,)),
    "the gradient of softmax": (grad(weighted(softmax)), (X, Y)),
    "layer norm": (layer_norm, (X, V, V)),
    "the gradient of layer norm by its input": (grad(weighted(layer_norm)), (X, Y, V, V)),
    "batch norm": (batch_norm, (IMAGES,)),
    "a dot, bias and gelu": (lambda x, w, b: gelu(x @ w + b), (X, array(16, 4), array(4))),
    "a dot of cheaply computed operands": (lambda x, w: (x * 2) @ fnp.maximum(w, 0).T, (X, Y)),
    "a batched dot of transposed operands": (
        lambda x, y: fnp.exp(x.transpose(0, 2, 1) @ y),
        (array(2, 3, 4), array(2, 3, 5)),
    ),
    "a transposed dot": (lambda x, y: (x @ y.T).T, (X, Y)),
    "rows of a table, and what is done with them": (
        lambda table, rows, b: fnp.tanh(table[rows] + b),
        (array(10, 16), np.array([3, 1, 3], np.int32), V),
    ),
    "a bias's gradient and its update": (lambda b, g: b - 0.1 * fnp.sum(g, axis=0), (V, X)),
    "a weight's gradient and its update by Adam": (
        lambda w, m, v, x, g: _adam(w, m, v, x.T @ g),
        (array(16, 4), array(16, 4), array(16, 4), X, array(8, 4)),
    ),
    "a mean": (lambda x: fnp.mean(x), (X,)),
    "the position of the largest": (lambda x: fnp.argmax(x * 2, axis=1), (X,)),
    "sums that several results share": (
        lambda x: (x - fnp.sum(x, axis=1, keepdims=True), fnp.sum(x, axis=1)),
        (X,),
    ),
}


def _adam(w: Any, m: Any, v: Any, g: Any) -> Any:
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    return w - 0.1 * m / (fnp.sqrt(fnp.abs(v)) + 1e-3), m, v


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_one_kernel(name: str) -> None:
    f, args = ONE_KERNEL[name]
    assert len(kernels(f, *args)) == 1


def test_nothing_to_compute_is_no_kernel() -> None:
    assert kernels(lambda x, y: (x, 1.0, y.reshape(16, 8)[:0]), X, Y) == []


def test_the_gradient_of_layer_norm() -> None:
    # By rows: the input's; by columns: the scale's and the shift's.
    pipeline = compiled(grad(weighted(layer_norm), (0, 2, 3)), X, Y, V, V)
    assert len(kernels_of(pipeline)) == 3


def test_a_training_step_of_a_perceptron() -> None:
    def loss(params: Any, x: Any, labels: Any) -> Any:
        for w, b in params[:-1]:
            x = fnp.maximum(x @ w + b, 0.0)
        (w, b) = params[-1]
        return cross_entropy(x @ w + b, labels)

    def step(params: Any, moments: Any, x: Any, labels: Any) -> Any:
        value, grads = value_and_grad(loss)(params, x, labels)
        new = tree.map(lambda w, mv, g: _adam(w, *mv, g), params, moments, grads)
        return value, new

    sizes = (16, 32, 24, 10)
    params = [(array(a, b), array(b)) for a, b in pairwise(sizes)]
    moments = [tuple((np.zeros_like(p), np.zeros_like(p)) for p in layer) for layer in params]
    labels = RNG.integers(0, 10, 8).astype(np.int32)
    names = kernels(step, params, moments, X, labels)
    # Forward 3; the loss by rows and its mean 2; for each layer the gradients of its weights and
    # of its bias, with their updates, 6; the gradients of two hidden layers 2.
    assert len(names) == 13
    assert sum(name.split("_")[1] == "dot" for name in names) == 8


def test_a_transposed_dot_whose_product_is_needed_is_done_once() -> None:
    names = kernels(lambda x, y: ((x @ y.T).T * 2, x @ y.T), X, Y)
    assert sum("dot" in name for name in names) == 1


def test_equal_kernels_are_compiled_once() -> None:
    def f(x: Any, w: Any) -> Any:
        for _ in range(4):
            x = fnp.tanh(x @ w)
        return x

    pipeline = compiled(f, array(4, 4), array(4, 4))
    (segment,) = pipeline.program.segments
    assert (len(segment.kernels), len(segment.calls)) == (1, 4)  # type: ignore[union-attr]


def sums(*axes: tuple[int, ...]) -> Function:
    """Sums that follow one another, each over other axes of an array."""

    def f(x: Any) -> Any:
        for a in axes:
            x = x - fnp.sum(x, axis=a, keepdims=True)
        return x

    return f


def long_chain(x: Any) -> Any:
    for _ in range(MAX_MEMBERS + 1):
        x = fnp.sin(x)
    return x


def many_operands(*xs: Any) -> Any:
    total = fnp.sin(xs[0])
    for x in xs[1:]:
        total = total + x
    return total


def around_a_loop(x: Any, w: Any) -> Any:
    # The product cannot run with the sines, since the scatter between them runs after these.
    a = fnp.sin(x)
    return a * a.at[w].add(1.0)


REFUSALS: list[tuple[str, Function, tuple[Any, ...]]] = [
    (
        "its loops do not fit shape (8, 16)",
        lambda x, v: fnp.sin(x) * fnp.sin(v),
        (X, V),
    ),
    (
        "a reduction needs whole rows, and a dot computes tiles",
        lambda x, y: fnp.max(x @ y.T, axis=1),
        (X, Y),
    ),
    (
        "it runs over (8, 16), the reduction over (8,)",
        lambda x: fnp.sum(fnp.exp(fnp.sum(x, axis=1))),
        (X,),
    ),
    ("it reduces dimensions (1,), this one reduces (0,)", sums((1,), (0,)), (X,)),
    (f"it has {MAX_MEMBERS} members already", long_chain, (X,)),
    (r"it computes \w+ at another index than is read", lambda x: _shifted(fnp.sin(x)), (X,)),
    (
        "another operand comes from a group that depends on it",
        around_a_loop,
        (X, np.array([1, 3], np.int32)),
    ),
    (
        f"together they read more than {MAX_OPERANDS} arrays",
        many_operands,
        tuple(array(3) for _ in range(2 * MAX_OPERANDS + 8)),
    ),
    ("a dot starts its own tiles", lambda x, y: fnp.sin(x) @ y.T @ x, (X, Y)),
    (
        "it accumulates or sorts, and a reduction passes over rows by itself",
        lambda x: fnp.sum(fnp.cumsum(x, axis=1), axis=1),
        (X,),
    ),
    (
        "an accumulation joins elementwise loops only",
        lambda x, y: fnp.cumsum(x @ y.T, axis=1),
        (X, Y),
    ),
    (
        "it runs over (8, 16), the accumulation over (128,)",
        lambda x: fnp.cumsum(fnp.sin(x)),
        (X,),
    ),
    (
        "it goes along dimension 1 forwards",
        lambda x: fnp.cumsum(fnp.cumsum(x, axis=1), axis=0),
        (X,),
    ),
    (
        "what is put in order is read at computed positions",
        lambda x: fnp.sort(fnp.sin(x)),
        (X,),
    ),
]


def _shifted(x: Any) -> Any:
    return x[:, ::-1] * fnp.exp(x)


@pytest.mark.parametrize(("reason", "f", "args"), REFUSALS, ids=[reason for reason, *_ in REFUSALS])
def test_refusals(reason: str, f: Function, args: tuple[Any, ...]) -> None:
    pipeline = compiled(f, *args)
    pattern = reason if r"\w" in reason else re.escape(reason)
    found = refusals_of(pipeline)
    assert any(re.fullmatch(pattern, refusal) for refusal in found), found
    assert re.search(pattern, pipeline.as_text("groups"))


def test_every_reason_is_tested() -> None:
    import inspect

    from funcdl.compiler.fusion import fuse, grouped

    literals = re.findall(r'(?:reason = |return |eqn, group, )f?"((?:it|a|an|its|tog)[^"]+)"',
                          inspect.getsource(fuse) + inspect.getsource(grouped))  # fmt: skip
    assert len(literals) > 8
    tested = " | ".join(reason for reason, *_ in REFUSALS)
    for text in literals:
        start = text.split("{")[0]
        assert start in tested, text


def test_values_that_reach_far_back_are_stored() -> None:
    def rolls(x: Any) -> Any:
        for _ in range(40):
            x = fnp.concatenate([x[1:], x[:1]])
        return x

    pipeline = compiled(rolls, array(50))
    loads = [k.count("load") for k in pipeline.as_text("kernels").split("kernel ")]
    assert max(loads) <= 2 * INLINE_READS


def test_operands_of_scatters_are_fused() -> None:
    def f(rows: Any, g: Any) -> Any:
        zeros = fnp.zeros((10, 16), np.float32)
        return zeros.at[rows].add(g * 2)

    names = kernels(f, np.array([1, 3, 1], np.int32), array(3, 16))
    assert len(names) == 2, "the zeros, and the sum into them"


def test_primitives_without_a_kernel_form_split_the_program() -> None:
    def f(x: Any) -> Any:
        z = P["reduce_prod"](P["complex"](fnp.sin(x), x), axes=(0,))
        return fnp.exp(P["imag"](P["mul"](z, z)))

    pipeline = compiled(f, X)
    kinds = [type(segment).__name__ for segment in pipeline.program.segments]
    assert kinds == ["KernelProgram", "HostStep", "KernelProgram"]
