"""tinygrad's versions of some cases: its tensors have methods, not a NumPy namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.cases.training import RATE, mlp_data
from benchmarks.frameworks import Built, normal
from benchmarks.peers import Tinygrad


def matmul(m: int, k: int, n: int) -> Built:
    """A float32 product [m, k] by [k, n]."""
    return Tinygrad().caller(lambda a, b: a @ b, normal(m, k), normal(k, n, seed=1))


def chain() -> Built:
    """tanh(a·b + c)·sigmoid(d) on four million elements."""
    arrays = [normal(1 << 22, seed=i) for i in range(4)]
    return Tinygrad().caller(lambda a, b, c, d: (a * b + c).tanh() * d.sigmoid(), *arrays)


def softmax() -> Built:
    """Row softmax of [4096, 1000]."""
    return Tinygrad().caller(lambda x: x.softmax(-1), normal(4096, 1000))


def softmax_gradient() -> Built:
    """The gradient of its sum with weights."""
    x, w = normal(4096, 1000), normal(4096, 1000, seed=1)
    return Tinygrad().gradients(lambda x, w: (x.softmax(-1) * w).sum(), x, w)


def mlp() -> Built:
    """The MLP 784-512-512-10, batch 128, with tinygrad's Adam."""
    tinygrad = Tinygrad()
    params, x, labels = mlp_data()

    def loss(layers: Any, x: Any, y: Any) -> Any:
        for layer in layers[:-1]:
            x = (x @ layer["w"] + layer["b"]).relu()
        logits = x @ layers[-1]["w"] + layers[-1]["b"]
        return logits.sparse_categorical_crossentropy(y)

    return tinygrad.stepping(loss, params, x, labels.astype("int32"), rate=RATE)


CASES: dict[str, Callable[[], Built]] = {
    "matmul 256": lambda: matmul(256, 256, 256),
    "matmul 512": lambda: matmul(512, 512, 512),
    "matmul 1024": lambda: matmul(1024, 1024, 1024),
    "matmul 64": lambda: matmul(64, 64, 64),
    "elementwise chain 4M": chain,
    "softmax 4096x1000": softmax,
    "softmax gradient": softmax_gradient,
    "MLP 784-512-512-10 + Adam": mlp,
}
