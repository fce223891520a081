"""Models whose training steps are traced for several batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn, optim

ADAM = optim.adam(1e-3)


@dataclass(frozen=True)
class Model:
    """`params`, a loss of them and a batch, and `batch`, which makes one of so many examples."""

    params: dict[str, Any]
    loss: Callable[..., Any]
    batch: Callable[[int], tuple[Any, ...]]

    def step(self, params: Any, state: Any, *batch: Any) -> Any:
        """One step of Adam: parameters, state and loss."""
        loss, grads = fd.value_and_grad(self.loss)(params, *batch)
        updates, state = ADAM.update(grads, state, params)
        return optim.apply_updates(params, updates), state, loss

    def arguments(self, size: int) -> tuple[Any, ...]:
        return self.params, ADAM.init(self.params), *self.batch(size)


def _array(*shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return fnp.asarray(rng.normal(size=shape).astype(np.float32) * 0.3)


def _labels(*shape: int, below: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return fnp.asarray(rng.integers(0, below, shape).astype(np.int32))


def _cross_entropy(logits: Any, labels: Any) -> Any:
    picked = fnp.take_along_axis(nn.log_softmax(logits), labels[..., None], axis=-1)
    return -fnp.mean(picked)


def _normalized(x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / fnp.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)


def mlp() -> Model:
    """Three layers, relu, cross-entropy."""
    widths = (20, 64, 64, 10)
    params = {f"w{i}": _array(*widths[i : i + 2]) for i in range(3)}
    params |= {f"b{i}": _array(widths[i + 1]) for i in range(3)}

    def loss(params: Any, x: Any, y: Any) -> Any:
        for i in range(3):
            x = x @ params[f"w{i}"] + params[f"b{i}"]
            x = nn.relu(x) if i < 2 else x
        return _cross_entropy(x, y)

    return Model(params, loss, lambda size: (_array(size, 20), _labels(size, below=10)))


def norms() -> Model:
    """Layer norm, gelu and softmax, without a product."""
    params = {"scale": _array(48), "shift": _array(48)}

    def loss(params: Any, x: Any) -> Any:
        h = nn.gelu(_normalized(x) * params["scale"] + params["shift"]) + x
        return fnp.mean(nn.softmax(h, axis=-1) * x)

    return Model(params, loss, lambda size: (_array(size, 48),))


def transformer() -> Model:
    """Two layers of attention and a gated layer, on tokens."""
    width, heads, length, words = 32, 4, 12, 40
    params = {"words": _array(words, width), "places": _array(length, width)}
    for i in range(2):
        params |= {f"{name}{i}": _array(width, width) for name in "qkvo"}
        params |= {f"up{i}": _array(width, 4 * width), f"down{i}": _array(4 * width, width)}

    def split(x: Any) -> Any:
        return x.reshape(-1, length, heads, width // heads).transpose(0, 2, 1, 3)

    def loss(params: Any, tokens: Any) -> Any:
        x = params["words"][tokens] + params["places"]
        past = np.tril(np.ones((length, length), np.bool_))
        for i in range(2):
            h = _normalized(x)
            q, k, v = (split(h @ params[f"{name}{i}"]) for name in "qkv")
            scores = q @ k.transpose(0, 1, 3, 2) * (width // heads) ** -0.5
            weights = nn.softmax(fnp.where(past, scores, -1e9), axis=-1)
            mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(-1, length, width)
            x = x + mixed @ params[f"o{i}"]
            x = x + nn.gelu(_normalized(x) @ params[f"up{i}"]) @ params[f"down{i}"]
        return _cross_entropy(x @ params["words"].T, tokens)

    return Model(params, loss, lambda size: (_labels(size, length, below=words),))


MODELS: dict[str, Model] = {"mlp": mlp(), "norms": norms(), "transformer": transformer()}
