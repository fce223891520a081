"""What is timed: each case builds one function for each framework, on the same data.

A case is a function of the framework's name that returns ``(call, result)``: `call()` runs once and
waits, `result()` gives one flat float64 array to compare between frameworks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]
Case = Callable[[str], tuple[Call, Callable[[], np.ndarray]]]

MLP_SIZES = (784, 512, 512, 10)


class Framework:
    """The few names that the cases need, from funcdl or JAX, which share them."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "jax":
            import jax
            import jax.numpy as jnp

            self.fd, self.np, self.scan = jax, jnp, jax.lax.scan
            self.tree_map = jax.tree.map
        elif name == "funcdl":
            import funcdl
            import funcdl.numpy as fnp
            from funcdl.control import scan

            self.fd, self.np, self.scan = funcdl, fnp, scan
            self.tree_map = funcdl.tree.map
        else:
            raise LookupError(f"no {name} version")

    def put(self, x: Any) -> Any:
        return self.fd.device_put(x)

    def caller(self, f: Callable[..., Any], *args: Any) -> tuple[Call, Callable[[], np.ndarray]]:
        """Calls `f` on arrays that are already on the device."""
        args = tuple(self.put(x) for x in args)
        wait = self.fd.block_until_ready

        def call() -> Any:
            return wait(f(*args))

        return call, lambda: flatten(call())


def flatten(x: Any) -> np.ndarray:
    """All numbers of a nested result, in the order of its containers."""
    if isinstance(x, dict):
        parts = [flatten(x[key]) for key in sorted(x)]
    elif isinstance(x, list | tuple):
        parts = [flatten(item) for item in x]
    else:
        detach = getattr(x, "detach", None)
        return np.asarray(x if detach is None else detach(), np.float64).ravel()
    return np.concatenate(parts) if parts else np.zeros(0)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (_rng().normal(size=shape) * scale).astype(np.float32)


def _torch() -> Any:
    import torch

    return torch


def matmul(n: int) -> Case:
    """A square float32 product."""

    def build(name: str) -> Any:
        a, b = _normal(n, n), _normal(n, n)
        if name == "numpy":
            return (lambda: a @ b), (lambda: (a @ b).astype(np.float64).ravel())
        if name == "torch":
            x, y = _torch().from_numpy(a), _torch().from_numpy(b)
            return (lambda: x @ y), (lambda: flatten(x @ y))
        framework = Framework(name)
        return framework.caller(framework.fd.jit(lambda x, y: x @ y), a, b)

    return build


def chain(name: str) -> Any:
    """tanh(a·b + c)·sigmoid(d) on four million elements."""
    arrays = [_normal(1 << 22) for _ in range(4)]
    if name == "torch":
        torch = _torch()
        xs = [torch.from_numpy(x) for x in arrays]

        def run() -> Any:
            a, b, c, d = xs
            return torch.tanh(a * b + c) * torch.sigmoid(d)

        return run, lambda: flatten(run())
    framework = Framework(name)
    tanh, exp = framework.np.tanh, framework.np.exp
    f = framework.fd.jit(lambda a, b, c, d: tanh(a * b + c) * (1 / (1 + exp(-d))))
    return framework.caller(f, *arrays)


def softmax(name: str) -> Any:
    """Row softmax of [4096, 1000]."""
    x = _normal(4096, 1000)
    if name == "torch":
        value = _torch().from_numpy(x)
        return (lambda: value.softmax(-1)), (lambda: flatten(value.softmax(-1)))
    framework = Framework(name)
    np_ = framework.np

    def f(x: Any) -> Any:
        e = np_.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    return framework.caller(framework.fd.jit(f), x)


def layer_norm_gradient(name: str) -> Any:
    """Gradient of a sum over layer norm of [4096, 768], by input, scale and shift."""
    x, g, b = _normal(4096, 768), _normal(768), _normal(768)
    if name == "torch":
        torch = _torch()
        xs = [torch.from_numpy(v).requires_grad_() for v in (x, g, b)]
        w = torch.from_numpy(_normal(4096, 768))

        def run() -> Any:
            out = torch.nn.functional.layer_norm(xs[0], (768,), xs[1], xs[2], 1e-5)
            return torch.autograd.grad((out * w).sum(), xs)

        return run, lambda: flatten(run())
    framework = Framework(name)
    np_ = framework.np

    def loss(x: Any, g: Any, b: Any, w: Any) -> Any:
        mean = x.mean(axis=-1, keepdims=True)
        centred = x - mean
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return ((centred / np_.sqrt(variance + 1e-5) * g + b) * w).sum()

    step = framework.fd.jit(framework.fd.grad(loss, (0, 1, 2)))
    return framework.caller(step, x, g, b, _normal(4096, 768))


def _mlp_params() -> list[dict[str, np.ndarray]]:
    return [
        {"w": _normal(m, n, scale=(2 / m) ** 0.5), "b": np.zeros(n, np.float32)}
        for m, n in itertools.pairwise(MLP_SIZES)
    ]


def mlp_adam(name: str) -> Any:
    """One training step of an MLP 784-512-512-10, batch 128, Adam."""
    params, x = _mlp_params(), _normal(128, 784)
    labels = _rng().integers(0, 10, 128).astype(np.int32)
    if name == "torch":
        return _torch_mlp(params, x, labels)
    framework = Framework(name)
    fd, np_, tree_map = framework.fd, framework.np, framework.tree_map

    def loss(params: Any, x: Any, y: Any) -> Any:
        for layer in params[:-1]:
            x = np_.maximum(x @ layer["w"] + layer["b"], 0)
        z = x @ params[-1]["w"] + params[-1]["b"]
        top = z.max(axis=-1, keepdims=True)
        logp = z - top - np_.log(np_.exp(z - top).sum(axis=-1, keepdims=True))
        hot = (y[:, None] == np_.arange(10)).astype(np_.float32)
        return -(logp * hot).sum() / x.shape[0]

    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = fd.value_and_grad(loss)(params, x, y)
        m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = 1e-3 * np_.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        params = tree_map(lambda p, m, v: p - rate * m / (np_.sqrt(v) + 1e-8), params, m, v)
        return value, params, m, v

    zeros = [{k: np.zeros_like(v) for k, v in layer.items()} for layer in params]
    state = tuple(framework.put(p) for p in (params, zeros, zeros))
    jitted = fd.jit(step, donate_argnums=(0, 1, 2))
    return _stepping(framework, jitted, state, [np.float32(1.0), x, labels])


def _stepping(framework: Framework, step: Any, state: Any, rest: list[Any]) -> Any:
    """Calls a training step on its own results, so that donation works as in training."""
    rest = [framework.put(x) for x in rest]
    holder = {"state": state}

    def call() -> Any:
        value, *holder["state"] = step(*holder["state"], *rest)
        return framework.fd.block_until_ready(holder["state"]), value

    def result() -> np.ndarray:
        _, value = call()
        return flatten([value, holder["state"][0]])

    return call, result


def _torch_mlp(params: Any, x: np.ndarray, labels: np.ndarray) -> Any:
    torch = _torch()
    layers: list[Any] = []
    for i, layer in enumerate(params):
        linear = torch.nn.Linear(*layer["w"].shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer["w"].T))
            linear.bias.copy_(torch.from_numpy(layer["b"]))
        layers += [linear] + [torch.nn.ReLU()] * (i < len(params) - 1)
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels.astype(np.int64))

    def call() -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = torch.nn.functional.cross_entropy(model(inputs), targets)
        value.backward()
        optimizer.step()
        return value

    def result() -> np.ndarray:
        value = call()
        parts = [{"w": m.weight.T, "b": m.bias} for m in model if hasattr(m, "weight")]
        return flatten([value, parts])

    return call, result


def lstm(name: str) -> Any:
    """Loss and gradient of an LSTM scan: batch 32, 50 steps, 64 inputs, 128 units."""
    batch, steps, inputs, units = 32, 50, 64, 128
    xs = _normal(steps, batch, inputs)
    wx, wh = _normal(inputs, 4 * units, scale=0.1), _normal(units, 4 * units, scale=0.1)
    if name == "torch":
        return _torch_lstm(xs, wx, wh)
    framework = Framework(name)
    np_ = framework.np

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np_.exp(-x))

    def loss(wx: Any, wh: Any, xs: Any) -> Any:
        def cell(carry: Any, x: Any) -> Any:
            h, c = carry
            z = x @ wx + h @ wh
            i, f = z[:, :units], z[:, units : 2 * units]
            g, o = z[:, 2 * units : 3 * units], z[:, 3 * units :]
            c = sigmoid(f) * c + sigmoid(i) * np_.tanh(g)
            h = sigmoid(o) * np_.tanh(c)
            return (h, c), h

        zero = np_.zeros((batch, units), np_.float32)
        _, hs = framework.scan(cell, (zero, zero), xs)
        return (hs * hs).mean()

    step = framework.fd.jit(framework.fd.value_and_grad(loss, (0, 1)))
    return framework.caller(step, wx, wh, xs)


def _torch_lstm(xs: np.ndarray, wx: np.ndarray, wh: np.ndarray) -> Any:
    torch = _torch()
    model = torch.nn.LSTM(wx.shape[0], wh.shape[0], bias=False)
    with torch.no_grad():
        model.weight_ih_l0.copy_(torch.from_numpy(wx.T))
        model.weight_hh_l0.copy_(torch.from_numpy(wh.T))
    inputs = torch.from_numpy(xs)

    def call() -> Any:
        hs, _ = model(inputs)
        value = (hs * hs).mean()
        grads = torch.autograd.grad(value, [model.weight_ih_l0, model.weight_hh_l0])
        return value, (grads[0].T, grads[1].T)

    return call, lambda: flatten(call())


def per_example_gradients(name: str) -> Any:
    """vmap(grad) of a small MLP's loss over a batch of 256."""
    framework = Framework(name)
    fd, np_ = framework.fd, framework.np
    w1, w2 = _normal(64, 128, scale=0.1), _normal(128, 10, scale=0.1)

    def loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
        out = np_.tanh(x @ w1) @ w2
        return ((out - y) ** 2).sum()

    f = fd.jit(fd.vmap(fd.grad(loss, (0, 1)), in_axes=(None, None, 0, 0)))
    return framework.caller(f, w1, w2, _normal(256, 64), _normal(256, 10))


CASES: dict[str, Case] = {
    "matmul 256": matmul(256),
    "matmul 512": matmul(512),
    "matmul 1024": matmul(1024),
    "elementwise chain 4M": chain,
    "softmax 4096x1000": softmax,
    "layer norm gradient 4096x768": layer_norm_gradient,
    "MLP 784-512-512-10 + Adam": mlp_adam,
    "LSTM 32x50, 128 units": lstm,
    "per-example gradients": per_example_gradients,
}
