"""A decoder-only transformer (pre-norm, GELU, learned positions), written once for funcdl and JAX.

Vaswani et al. 2017 with the layer norm in front (Xiong et al. 2020), as in GPT-2. `np` and `nn` are
the framework's namespaces; parameters are nested dicts of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as onp


@dataclass(frozen=True)
class Sizes:
    """`depth` blocks of width `width`; a batch of `batch` sequences of `length` tokens."""

    depth: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 1024
    length: int = 128
    batch: int = 4


def parameters(sizes: Sizes, seed: int = 0) -> dict[str, Any]:
    """Random float32 parameters: weights of scale 0.02, as in GPT-2."""
    rng = onp.random.default_rng(seed)

    def normal(*shape: int) -> onp.ndarray:
        return (0.02 * rng.standard_normal(shape)).astype(onp.float32)

    def dense(rows: int, columns: int) -> dict[str, onp.ndarray]:
        return {"w": normal(rows, columns), "b": onp.zeros(columns, onp.float32)}

    def norm() -> dict[str, onp.ndarray]:
        return {"scale": onp.ones(d, onp.float32), "shift": onp.zeros(d, onp.float32)}

    d = sizes.width
    blocks = [
        {
            "norm1": norm(),
            "qkv": dense(d, 3 * d),
            "out": dense(d, d),
            "norm2": norm(),
            "up": dense(d, 4 * d),
            "down": dense(4 * d, d),
        }
        for _ in range(sizes.depth)
    ]
    return {
        "embedding": normal(sizes.vocabulary, d),
        "position": normal(sizes.length, d),
        "blocks": blocks,
        "norm": norm(),
    }


def tokens(sizes: Sizes, seed: int = 1) -> onp.ndarray:
    """int32[batch, length + 1]: inputs, and the same shifted by one as targets."""
    rng = onp.random.default_rng(seed)
    return rng.integers(0, sizes.vocabulary, (sizes.batch, sizes.length + 1)).astype(onp.int32)


def norm(np: Any, p: Any, x: Any) -> Any:
    """Layer norm along the last axis."""
    mean = np.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * p["scale"] + p["shift"]


def _dense(p: Any, x: Any) -> Any:
    return x @ p["w"] + p["b"]


def _attention(nn: Any, p: Any, x: Any, heads: int) -> Any:
    batch, length, width = x.shape
    qkv = _dense(p["qkv"], x).reshape(batch, length, 3, heads, width // heads)
    q, k, v = (qkv[:, :, i] for i in range(3))
    mixed = nn.dot_product_attention(q, k, v, is_causal=True)
    return _dense(p["out"], mixed.reshape(batch, length, width))


def block(np: Any, nn: Any, p: Any, x: Any, heads: int) -> Any:
    """f32[batch, length, width] to the same."""
    x = x + _attention(nn, p, norm(np, p["norm1"], x), heads)
    return x + _dense(p["down"], nn.gelu(_dense(p["up"], norm(np, p["norm2"], x))))


def loss(fd: Any, np: Any, nn: Any, sizes: Sizes, p: Any, ids: Any, remat: bool = False) -> Any:
    """Mean cross-entropy of the next token; the embedding serves as output layer too."""

    def apply(q: Any, y: Any) -> Any:
        return block(np, nn, q, y, sizes.heads)

    if remat:
        apply = fd.checkpoint(apply)
    x = p["embedding"][ids[:, :-1]] + p["position"]
    for q in p["blocks"]:
        x = apply(q, x)
    logits = norm(np, p["norm"], x) @ p["embedding"].T
    chosen = np.take_along_axis(nn.log_softmax(logits), ids[:, 1:, None], axis=-1)
    return -np.mean(chosen)


def adam_step(fd: Any, np: Any, nn: Any, sizes: Sizes, rate: float = 1e-3) -> Any:
    """``step(params, m, v, t, ids) -> (loss, params, m, v, t)``, Kingma and Ba 2015."""

    def step(p: Any, m: Any, v: Any, t: Any, ids: Any) -> Any:
        value, g = fd.value_and_grad(lambda q: loss(fd, np, nn, sizes, q, ids))(p)
        t = t + 1
        m = fd.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = fd.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)

        def update(w: Any, a: Any, b: Any) -> Any:
            return w - rate * (a / (1 - 0.9**t)) / (np.sqrt(b / (1 - 0.999**t)) + 1e-8)

        return value, fd.tree.map(update, p, m, v), m, v, t

    return step


def torch_model(torch: Any, sizes: Sizes, params: dict[str, Any]) -> Any:
    """The same as a torch.nn.Module: token ids to the loss."""
    nn, functional = torch.nn, torch.nn.functional
    d = sizes.width

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            qkv = self.qkv(self.norm1(x)).view(batch, length, 3, sizes.heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, length, d))
            hidden = functional.gelu(self.up(self.norm2(x)), approximate="tanh")
            return x + self.down(hidden)

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Parameter(torch.empty(sizes.vocabulary, d))
            self.position = nn.Parameter(torch.empty(sizes.length, d))
            self.blocks = nn.ModuleList(Block() for _ in range(sizes.depth))
            self.norm = nn.LayerNorm(d)

        def forward(self, ids: Any) -> Any:
            x = functional.embedding(ids[:, :-1], self.embedding) + self.position
            for block in self.blocks:
                x = block(x)
            logits = self.norm(x) @ self.embedding.T
            return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    model = Transformer()

    def copy(target: Any, source: onp.ndarray) -> None:
        target.copy_(torch.from_numpy(onp.ascontiguousarray(source)))

    with torch.no_grad():
        copy(model.embedding, params["embedding"])
        copy(model.position, params["position"])
        for module, p in zip(model.blocks, params["blocks"], strict=True):
            for name in ("qkv", "out", "up", "down"):
                copy(getattr(module, name).weight, p[name]["w"].T)
                copy(getattr(module, name).bias, p[name]["b"])
    return model


def read(model: Any) -> dict[str, Any]:
    """The parameters in the layout of `parameters`."""

    def dense(module: Any) -> dict[str, Any]:
        return {"w": module.weight.T, "b": module.bias}

    def norm(module: Any) -> dict[str, Any]:
        return {"scale": module.weight, "shift": module.bias}

    return {
        "embedding": model.embedding,
        "position": model.position,
        "blocks": [
            {name: dense(getattr(b, name)) for name in ("qkv", "out", "up", "down")}
            | {name: norm(getattr(b, name)) for name in ("norm1", "norm2")}
            for b in model.blocks
        ],
        "norm": norm(model.norm),
    }
