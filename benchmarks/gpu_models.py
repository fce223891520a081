"""Training steps that `benchmarks.gpu` measures end to end, all with Adam.

Losses of the first steps are compared with those in float64, on the CPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import lstm, resnet, transformer
from benchmarks.cases.training import RATE, adam
from benchmarks.frameworks import Framework, normal


@dataclass(frozen=True)
class Model:
    """A training step.

    `loss` takes the framework's names, parameters and the batch; `torch` makes a module of
    parameters, and `torch_loss` its loss. `checked` losses are compared with float64; where `half`,
    large products are in bfloat16.
    """

    name: str
    parameters: Callable[[], Any]
    batch: Callable[[], Sequence[np.ndarray[Any, Any]]]
    loss: Callable[..., Any]
    torch: Callable[[Any, Any], Any]
    torch_loss: Callable[..., Any]
    tolerance: float
    checked: int = 3
    half: bool = False

    def step(self, framework: Framework) -> Any:
        """``step(p, m, v, t, *batch) -> (loss, p, m, v, t)`` for funcdl and JAX."""

        def step(p: Any, m: Any, v: Any, t: Any, *batch: Any) -> Any:
            value, g = framework.fd.value_and_grad(
                lambda p: self.loss(framework, p, *batch).astype(t.dtype)
            )(p)
            return value, *adam(framework, p, m, v, t, g)

        return step


def models(full: bool) -> list[Model]:
    """All training steps; small ones, for a try, unless `full`."""
    return [_mlp(full), _lstm(full), _resnet(full), _gpt(full)]


def _picked(framework: Framework, logits: Any, labels: Any) -> Any:
    """Mean cross-entropy."""
    fnp = framework.np
    logs = framework.nn.log_softmax(logits)
    return -fnp.mean(fnp.take_along_axis(logs, labels[..., None], axis=-1))


def _mlp(full: bool) -> Model:
    sizes, count = ((784, 2048, 2048, 10), 1024) if full else ((6, 8, 8, 3), 16)

    def parameters() -> list[dict[str, np.ndarray]]:
        return [
            {"w": normal(m, n, scale=(2 / m) ** 0.5), "b": np.zeros(n, np.float32)}
            for m, n in itertools.pairwise(sizes)
        ]

    def loss(framework: Framework, p: Any, x: Any, y: Any) -> Any:
        for layer in p[:-1]:
            x = framework.nn.relu(x @ layer["w"] + layer["b"])
        return _picked(framework, x @ p[-1]["w"] + p[-1]["b"], y)

    def module(torch: Any, p: Any) -> Any:
        layers: list[Any] = []
        for layer in p:
            linear = torch.nn.Linear(*layer["w"].shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(layer["w"].T.copy()))
                linear.bias.zero_()
            layers += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    return Model(
        "MLP step",
        parameters,
        lambda: (normal(count, sizes[0]), _labels(count, sizes[-1])),
        loss,
        module,
        lambda torch, model, x, y: torch.nn.functional.cross_entropy(model(x), y.long()),
        2e-2,
    )


def _labels(count: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, count).astype(np.int32)


def _resnet(full: bool) -> Model:
    count, side = (256, 32) if full else (2, 8)

    def loss(framework: Framework, p: Any, x: Any, y: Any) -> Any:
        return resnet.loss(framework.np, framework.lax, framework.nn, p, x, y)

    def torch_loss(torch: Any, model: Any, x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x.permute(0, 3, 1, 2)), y.long())

    return Model(
        "ResNet-9 step, 32 × 32",
        resnet.parameters,
        lambda: (normal(count, side, side, 3), _labels(count, 10)),
        loss,
        resnet.torch_model,
        torch_loss,
        5e-2,
        checked=2,
    )


def _lstm(full: bool) -> Model:
    inputs, units, steps, count = (128, 512, 64, 64) if full else (3, 4, 5, 2)

    def loss(framework: Framework, p: Any, xs: Any) -> Any:
        for layer in p:
            xs = lstm.layer(framework.np, framework.lax, framework.nn, layer, xs)
        return (xs * xs).mean()

    return Model(
        "LSTM step, 2 layers",
        lambda: lstm.parameters(inputs, units, 2),
        lambda: (normal(steps, count, inputs, seed=9),),
        loss,
        lstm.torch_model,
        lambda torch, model, xs: (model(xs)[0] ** 2).mean(),
        2e-2,
    )


def _gpt(full: bool) -> Model:
    sizes = transformer.Sizes(2, 16, 2, 32, 8, 2)
    if full:  # GPT-2 small
        sizes = transformer.Sizes(12, 768, 12, 50257, 1024, 8)

    def loss(framework: Framework, p: Any, ids: Any) -> Any:
        fnp = framework.np
        wide = p["embedding"].dtype
        dtype = fnp.bfloat16 if wide == np.float32 else wide
        half = framework.fd.tree.map(lambda x: x.astype(dtype), p)
        x = half["embedding"][ids[:, :-1]] + half["position"]
        for block in half["blocks"]:
            x = transformer.block(fnp, framework.nn, block, x, sizes.heads)
        logits = transformer.norm(fnp, half["norm"], x) @ half["embedding"].T
        return _picked(framework, logits.astype(wide), ids[:, 1:])

    def torch_loss(torch: Any, model: Any, ids: Any) -> Any:
        with torch.autocast(ids.device.type, torch.bfloat16):
            return model(ids.long())

    return Model(
        "GPT-2 small step, bfloat16",
        lambda: transformer.parameters(sizes),
        lambda: (transformer.tokens(sizes),),
        loss,
        lambda torch, p: transformer.torch_model(torch, sizes, p),
        torch_loss,
        1e-2,
        checked=1,
        half=True,
    )


def torch_optimizer(torch: Any, model: Any) -> Any:
    """PyTorch's Adam at its best."""
    return torch.optim.Adam(model.parameters(), lr=RATE, fused=True)


def reference_losses(model: Model) -> list[float]:
    """The first losses in float64, by the CPU's back end."""
    import funcdl

    with funcdl.config.override(x64="on", backend="cpu"):
        framework = Framework("funcdl")
        p = funcdl.tree.map(lambda x: x.astype(np.float64), model.parameters())
        batch = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in model.batch()]
        if model.checked == 1:
            return [float(funcdl.jit(lambda p, *xs: model.loss(framework, p, *xs))(p, *batch))]
        zeros = funcdl.tree.map(np.zeros_like, p)
        state: Any = (p, zeros, zeros, np.float64(0))
        step, found = funcdl.jit(model.step(framework)), []
        for _ in range(model.checked):
            value, *state = step(*state, *batch)
            found.append(float(value))
        return found
