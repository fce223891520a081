"""Single operations: products, elementwise chains, reductions and normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.frameworks import TORCH, Built, Case, Framework, Torch, flatten, normal


def matmul(m: int, k: int, n: int, transposed: str = "") -> Case:
    """A float32 product [m, k] by [k, n]; `transposed` names the operands ("a", "b") stored so."""

    def product(x: Any, y: Any) -> Any:
        return (x.T if "a" in transposed else x) @ (y.T if "b" in transposed else y)

    def build(name: str) -> Built:
        a = normal(*((k, m) if "a" in transposed else (m, k)))
        b = normal(*((n, k) if "b" in transposed else (k, n)), seed=1)
        if name == "numpy":
            return (lambda: product(a, b)), (lambda: flatten(product(a, b)))
        if name in TORCH:
            return Torch(name).caller(product, a, b)
        framework = Framework(name)
        return framework.caller(framework.fd.jit(product), a, b)

    return build


def chain(name: str) -> Built:
    """tanh(a·b + c)·sigmoid(d) on four million elements."""
    arrays = [normal(1 << 22, seed=i) for i in range(4)]
    if name in TORCH:
        torch = Torch(name).torch
        return Torch(name).caller(
            lambda a, b, c, d: torch.tanh(a * b + c) * torch.sigmoid(d), *arrays
        )
    framework = Framework(name)
    tanh, sigmoid = framework.np.tanh, framework.nn.sigmoid
    f = framework.fd.jit(lambda a, b, c, d: tanh(a * b + c) * sigmoid(d))
    return framework.caller(f, *arrays)


def gelu(gradient: bool) -> Case:
    """GELU in the tanh form of [4096, 3072], or the gradient of its sum with weights."""

    def build(name: str) -> Built:
        x, w = normal(4096, 3072), normal(4096, 3072, seed=1)
        if name in TORCH:
            torch = Torch(name)

            def apply(x: Any) -> Any:
                return torch.functional.gelu(x, approximate="tanh")

            if gradient:
                return torch.gradients(lambda x, w: (apply(x) * w).sum(), [x], (w,))
            return torch.caller(apply, x)
        framework = Framework(name)
        fd, activation = framework.fd, framework.nn.gelu
        if gradient:
            return framework.caller(
                fd.jit(fd.value_and_grad(lambda x, w: (activation(x) * w).sum())), x, w
            )
        return framework.caller(fd.jit(activation), x)

    return build


def softmax(gradient: bool) -> Case:
    """Row softmax of [4096, 1000], or the gradient of its sum with weights."""

    def build(name: str) -> Built:
        x, w = normal(4096, 1000), normal(4096, 1000, seed=1)
        if name in TORCH:
            torch = Torch(name)
            if gradient:
                return torch.gradients(lambda x, w: (x.softmax(-1) * w).sum(), [x], (w,))
            return torch.caller(lambda x: x.softmax(-1), x)
        framework = Framework(name)
        fd, f = framework.fd, framework.nn.softmax
        if gradient:
            return framework.caller(fd.jit(fd.value_and_grad(lambda x, w: (f(x) * w).sum())), x, w)
        return framework.caller(fd.jit(f), x)

    return build


def layer_norm(gradient: bool) -> Case:
    """Layer norm of [4096, 768], or the gradient by input, scale and shift."""

    def build(name: str) -> Built:
        x, g, b = normal(4096, 768), normal(768, seed=1), normal(768, seed=2)
        w = normal(4096, 768, seed=3)
        if name in TORCH:
            torch = Torch(name)

            def apply(x: Any, g: Any, b: Any) -> Any:
                return torch.functional.layer_norm(x, (768,), g, b, 1e-5)

            if gradient:
                return torch.gradients(
                    lambda x, g, b, w: (apply(x, g, b) * w).sum(), [x, g, b], (w,)
                )
            return torch.caller(apply, x, g, b)
        framework = Framework(name)
        fd, fnp = framework.fd, framework.np

        def norm(x: Any, g: Any, b: Any) -> Any:
            centred = x - x.mean(axis=-1, keepdims=True)
            variance = (centred * centred).mean(axis=-1, keepdims=True)
            return centred / fnp.sqrt(variance + 1e-5) * g + b

        if gradient:
            f = fd.value_and_grad(lambda x, g, b, w: (norm(x, g, b) * w).sum(), (0, 1, 2))
            return framework.caller(fd.jit(f), x, g, b, w)
        return framework.caller(fd.jit(norm), x, g, b)

    return build


def cross_entropy_gradient(name: str) -> Built:
    """Mean cross-entropy of [2048, 10000] logits and its gradient."""
    logits = normal(2048, 10000)
    labels = np.random.default_rng(1).integers(0, 10000, 2048)
    if name in TORCH:
        torch = Torch(name)
        return torch.gradients(torch.functional.cross_entropy, [logits], (labels,))
    framework = Framework(name)
    fd, fnp, nn = framework.fd, framework.np, framework.nn

    def loss(x: Any, y: Any) -> Any:
        return -fnp.mean(fnp.take_along_axis(nn.log_softmax(x), y[:, None], axis=-1))

    return framework.caller(fd.jit(fd.value_and_grad(loss)), logits, labels.astype(np.int32))


def attention(gradient: bool) -> Case:
    """Causal attention, 8 heads of 64, 1024 positions, batch 2."""

    def build(name: str) -> Built:
        shape = (2, 1024, 8, 64)
        q, k, v, w = (normal(*shape, seed=i) for i in range(4))
        if name in TORCH:
            torch = Torch(name)

            def apply(q: Any, k: Any, v: Any) -> Any:
                parts = (x.transpose(1, 2) for x in (q, k, v))
                out = torch.functional.scaled_dot_product_attention(*parts, is_causal=True)
                return out.transpose(1, 2)

            if gradient:
                return torch.gradients(
                    lambda q, k, v, w: (apply(q, k, v) * w).sum(), [q, k, v], (w,)
                )
            return torch.caller(apply, q, k, v)
        framework = Framework(name)
        fd, nn = framework.fd, framework.nn

        def attend(q: Any, k: Any, v: Any) -> Any:
            return nn.dot_product_attention(q, k, v, is_causal=True)

        if gradient:
            f = fd.value_and_grad(lambda q, k, v, w: (attend(q, k, v) * w).sum(), (0, 1, 2))
            return framework.caller(fd.jit(f), q, k, v, w)
        return framework.caller(fd.jit(attend), q, k, v)

    return build


def reduction(op: str, axis: int | None) -> Case:
    """A sum, maximum or index of the maximum over one axis of [4096, 2048], or over all."""

    def build(name: str) -> Built:
        x = normal(4096, 2048)
        if name in TORCH:
            method = {"max": "amax"}.get(op, op)
            dims = (0, 1) if axis is None else axis
            return Torch(name).caller(lambda x: getattr(x, method)(dims), x)
        if name == "numpy":
            return (lambda: getattr(x, op)(axis)), (lambda: flatten(getattr(x, op)(axis)))
        framework = Framework(name)
        f = framework.fd.jit(lambda x: getattr(framework.np, op)(x, axis=axis))
        return framework.caller(f, x)

    return build


def embedding_gradient(name: str) -> Built:
    """Rows of a [10000, 256] table for 8192 indices, and the scatter-add of its gradient."""
    table, w = normal(10000, 256), normal(8192, 256, seed=1)
    indices = np.random.default_rng(2).integers(0, 10000, 8192)
    if name in TORCH:
        torch = Torch(name)

        def loss(t: Any, i: Any, w: Any) -> Any:
            return (torch.functional.embedding(i, t) * w).sum()

        return torch.gradients(loss, [table], (indices, w))
    framework = Framework(name)
    fd = framework.fd
    f = fd.jit(fd.value_and_grad(lambda t, i, w: (t[i] * w).sum()))
    return framework.caller(f, table, indices.astype(np.int32), w)


CASES: dict[str, Case] = {
    "matmul 256": matmul(256, 256, 256),
    "matmul 512": matmul(512, 512, 512),
    "matmul 1024": matmul(1024, 1024, 1024),
    "matmul 2048": matmul(2048, 2048, 2048),
    "matmul 512 a.T": matmul(512, 512, 512, "a"),
    "matmul 512 b.T": matmul(512, 512, 512, "b"),
    "matmul 64": matmul(64, 64, 64),
    "matmul 128x784x10": matmul(128, 784, 10),
    "matmul 8x1024x1024": matmul(8, 1024, 1024),
    "matmul 1024x1024x1": matmul(1024, 1024, 1),
    "elementwise chain 4M": chain,
    "gelu 4096x3072": gelu(False),
    "gelu gradient": gelu(True),
    "softmax 4096x1000": softmax(False),
    "softmax gradient": softmax(True),
    "layer norm 4096x768": layer_norm(False),
    "layer norm gradient": layer_norm(True),
    "cross-entropy gradient": cross_entropy_gradient,
    "attention 2x8x1024x64": attention(False),
    "attention gradient": attention(True),
    "sum rows": reduction("sum", 1),
    "sum columns": reduction("sum", 0),
    "sum all": reduction("sum", None),
    "max rows": reduction("max", 1),
    "argmax rows": reduction("argmax", 1),
    "embedding gradient": embedding_gradient,
}
