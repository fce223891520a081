"""Whole training steps, and the two transforms that libraries find hardest."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks import lstm, resnet, transformer
from benchmarks.frameworks import TORCH, Built, Case, Framework, Torch, normal

MLP_SIZES = (784, 512, 512, 10)
RATE = 1e-3


def adam(framework: Framework, p: Any, m: Any, v: Any, t: Any, g: Any) -> tuple[Any, Any, Any, Any]:
    """Adam (Kingma and Ba 2015) as PyTorch computes it: ``(p, m, v, t)`` after the step."""
    fnp, tree_map = framework.np, framework.fd.tree.map
    t = t + 1
    m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    first, second = 1 - 0.9**t, fnp.sqrt(1 - 0.999**t)
    p = tree_map(lambda p, m, v: p - RATE / first * m / (fnp.sqrt(v) / second + 1e-8), p, m, v)
    return p, m, v, t


def adam_training(framework: Framework, loss: Any, params: Any, *batch: Any) -> Built:
    """Steps of ``loss(params, *batch)`` with Adam."""
    fd = framework.fd

    def step(p: Any, m: Any, v: Any, t: Any, *batch: Any) -> Any:
        value, g = fd.value_and_grad(loss)(p, *batch)
        return value, *adam(framework, p, m, v, t, g)

    zeros = fd.tree.map(np.zeros_like, params)
    return framework.stepping(step, (params, zeros, zeros, np.float32(0)), *batch)


def torch_adam(torch: Any, model: Any) -> Any:
    """PyTorch's Adam at its best."""
    return torch.torch.optim.Adam(model.parameters(), lr=RATE, fused=True)


def mlp_data() -> tuple[list[dict[str, np.ndarray]], np.ndarray, np.ndarray]:
    """Parameters of an MLP, a batch of 128, and its labels."""
    params = [
        {"w": normal(m, n, scale=(2 / m) ** 0.5), "b": np.zeros(n, np.float32)}
        for m, n in itertools.pairwise(MLP_SIZES)
    ]
    return params, normal(128, 784), np.random.default_rng(0).integers(0, 10, 128)


def mlp(name: str) -> Built:
    """An MLP 784-512-512-10, batch 128, Adam."""
    params, x, labels = mlp_data()
    if name in TORCH:
        return _torch_mlp(name, params, x, labels)
    framework = Framework(name)
    fnp, nn = framework.np, framework.nn

    def loss(params: Any, x: Any, y: Any) -> Any:
        for layer in params[:-1]:
            x = nn.relu(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        return -fnp.mean(fnp.take_along_axis(nn.log_softmax(logits), y[:, None], axis=-1))

    return adam_training(framework, loss, params, x, labels.astype(np.int32))


def _torch_mlp(name: str, params: Any, x: np.ndarray, labels: np.ndarray) -> Built:
    torch = Torch(name)
    layers: list[Any] = []
    for i, layer in enumerate(params):
        linear = torch.torch.nn.Linear(*layer["w"].shape)
        with torch.torch.no_grad():
            linear.weight.copy_(torch.put(layer["w"].T))
            linear.bias.copy_(torch.put(layer["b"]))
        layers += [linear] + [torch.torch.nn.ReLU()] * (i < len(params) - 1)
    model = torch.torch.nn.Sequential(*layers)
    return torch.stepping(
        model,
        lambda model, x, y: torch.functional.cross_entropy(model(x), y),
        torch_adam(torch, model),
        (x, labels),
        lambda: [{"w": m.weight.T, "b": m.bias} for m in model if hasattr(m, "weight")],
    )


def resnet9(name: str) -> Built:
    """A ResNet-9 of widths 32 to 256 on 32×32 images, batch 32, SGD with momentum."""
    params = resnet.parameters()
    x, labels = normal(32, 32, 32, 3), np.random.default_rng(0).integers(0, 10, 32)
    if name in TORCH:
        torch = Torch(name)
        model = resnet.torch_model(torch.torch, params)
        return torch.stepping(
            model,
            lambda model, x, y: torch.functional.cross_entropy(model(x.permute(0, 3, 1, 2)), y),
            torch.torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True),
            (x, labels),
            lambda: resnet.read(model),
        )
    framework = Framework(name)
    fd = framework.fd

    def step(p: Any, m: Any, x: Any, y: Any) -> Any:
        value, g = fd.value_and_grad(
            lambda p: resnet.loss(framework.np, framework.lax, framework.nn, p, x, y)
        )(p)
        m = fd.tree.map(lambda m, g: 0.9 * m + g, m, g)
        return value, fd.tree.map(lambda p, m: p - 0.01 * m, p, m), m

    zeros = fd.tree.map(np.zeros_like, params)
    return framework.stepping(step, (params, zeros), x, labels.astype(np.int32))


def lstm_two_layers(name: str) -> Built:
    """A 2-layer LSTM of 128 units over 50 steps of 64 inputs, batch 32, Adam."""
    params, xs = lstm.parameters(64, 128, 2), normal(50, 32, 64, seed=9)
    if name in TORCH:
        torch = Torch(name)
        model = lstm.torch_model(torch.torch, params)
        return torch.stepping(
            model,
            lambda model, xs: (model(xs)[0] ** 2).mean(),
            torch_adam(torch, model),
            (xs,),
            lambda: lstm.read(model),
        )
    framework = Framework(name)

    def loss(params: Any, xs: Any) -> Any:
        for p in params:
            xs = lstm.layer(framework.np, framework.lax, framework.nn, p, xs)
        return (xs * xs).mean()

    return adam_training(framework, loss, params, xs)


def gpt(name: str) -> Built:
    """A 4-layer transformer of width 256 on 8 sequences of 128 tokens, Adam."""
    sizes = transformer.Sizes(4, 256, 4, vocabulary=1024, length=128, batch=8)
    params, ids = transformer.parameters(sizes), transformer.tokens(sizes)
    if name in TORCH:
        torch = Torch(name)
        model = transformer.torch_model(torch.torch, sizes, params)
        return torch.stepping(
            model,
            lambda model, ids: model(ids),
            torch_adam(torch, model),
            (ids.astype(np.int64),),
            lambda: transformer.read(model),
        )
    framework = Framework(name)

    def loss(p: Any, ids: Any) -> Any:
        return transformer.loss(framework.fd, framework.np, framework.nn, sizes, p, ids)

    return adam_training(framework, loss, params, ids)


def per_example_gradients(name: str) -> Built:
    """vmap(grad) of a small MLP's loss over a batch of 256."""
    w1, w2 = normal(64, 128, scale=0.1), normal(128, 10, scale=0.1, seed=1)
    x, y = normal(256, 64, seed=2), normal(256, 10, seed=3)
    if name in TORCH:
        torch = Torch(name)

        def torch_loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
            return (((x @ w1).tanh() @ w2 - y) ** 2).sum()

        func = torch.torch.func
        per_example = func.vmap(func.grad(torch_loss, (0, 1)), (None, None, 0, 0))
        return torch.caller(per_example, w1, w2, x, y)
    framework = Framework(name)
    fd, fnp = framework.fd, framework.np

    def loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
        return ((fnp.tanh(x @ w1) @ w2 - y) ** 2).sum()

    f = fd.jit(fd.vmap(fd.grad(loss, (0, 1)), in_axes=(None, None, 0, 0)))
    return framework.caller(f, w1, w2, x, y)


def hessian_vector_product(name: str) -> Built:
    """jvp of grad of an MLP 256-512-512-1 with tanh, batch 256."""
    weights = [normal(m, n, scale=m**-0.5, seed=i) for i, (m, n) in enumerate(_HVP_SIZES)]
    tangents = [normal(*w.shape, seed=10 + i) for i, w in enumerate(weights)]
    x = normal(256, 256, seed=20)
    if name in TORCH:
        torch = Torch(name)

        def torch_product(*args: Any) -> Any:
            ws, ts, x = list(args[:3]), list(args[3:6]), args[6]

            def loss(ws: Any) -> Any:
                h = x
                for w in ws[:-1]:
                    h = (h @ w).tanh()
                return ((h @ ws[-1]) ** 2).mean()

            func = torch.torch.func
            return func.jvp(func.grad(loss), (ws,), (ts,))[1]

        return torch.caller(torch_product, *weights, *tangents, x)
    framework = Framework(name)
    fd, fnp = framework.fd, framework.np

    def product(*args: Any) -> Any:
        ws, ts, x = list(args[:3]), list(args[3:6]), args[6]

        def loss(ws: Any) -> Any:
            h = x
            for w in ws[:-1]:
                h = fnp.tanh(h @ w)
            return ((h @ ws[-1]) ** 2).mean()

        if name == "autograd":
            return fd.hessian_vector_product(loss)(ws, ts)
        return fd.jvp(fd.grad(loss), (ws,), (ts,))[1]

    return framework.caller(fd.jit(product), *weights, *tangents, x)


_HVP_SIZES = ((256, 512), (512, 512), (512, 1))

CASES: dict[str, Case] = {
    "MLP 784-512-512-10 + Adam": mlp,
    "ResNet-9 + momentum": resnet9,
    "LSTM 2x128 + Adam": lstm_two_layers,
    "transformer 4x256 + Adam": gpt,
    "per-example gradients": per_example_gradients,
    "Hessian-vector product": hessian_vector_product,
}
