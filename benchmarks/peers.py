"""More peers: autograd and MLX behind the names that the cases use, and tinygrad.

A case that is written once for funcdl and JAX asks for ``fd.jit``, ``fd.value_and_grad``,
``fd.tree.map``, ``np``, ``nn`` and so on; the first two classes answer with what their library has.
What it has not is absent, and `benchmarks.cases` says which cases a peer takes part in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from shutil import which
from types import SimpleNamespace
from typing import Any

import numpy as np

Built = tuple[Callable[[], Any], Callable[[], np.ndarray[Any, Any]]]


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`f` at the leaves of nested dicts, lists and tuples."""
    if isinstance(tree, dict):
        return {key: tree_map(f, tree[key], *(x[key] for x in rest)) for key in tree}
    if isinstance(tree, list | tuple):
        return type(tree)(tree_map(f, *items) for items in zip(tree, *rest, strict=True))
    return f(tree, *rest)


class Autograd:
    """autograd: NumPy, recorded. Nothing is compiled, so `jit` is the function itself."""

    def __init__(self) -> None:
        import autograd
        import autograd.numpy as anp

        def softmax(x: Any) -> Any:
            e = anp.exp(x - anp.max(x, axis=-1, keepdims=True))
            return e / anp.sum(e, axis=-1, keepdims=True)

        def log_softmax(x: Any) -> Any:
            shifted = x - anp.max(x, axis=-1, keepdims=True)
            return shifted - anp.log(anp.sum(anp.exp(shifted), axis=-1, keepdims=True))

        def gelu(x: Any) -> Any:
            return 0.5 * x * (1 + anp.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))

        def along_rows(x: Any, indices: Any, axis: int) -> Any:
            return x[np.arange(len(x))[:, None], indices]

        def hessian_vector_product(f: Callable[..., Any]) -> Callable[..., Any]:
            def slope(ws: Any, ts: Any) -> Any:
                gradients = autograd.grad(f)(ws)
                return sum(anp.sum(gradients[i] * ts[i]) for i in range(len(ts)))

            return autograd.grad(slope)

        self.np = SimpleNamespace(**(vars(anp) | {"take_along_axis": along_rows}))
        self.lax = SimpleNamespace()
        self.nn = SimpleNamespace(
            relu=lambda x: anp.maximum(x, 0),
            sigmoid=lambda x: 0.5 * (1 + anp.tanh(0.5 * x)),
            softmax=softmax,
            log_softmax=log_softmax,
            gelu=gelu,
        )

        def value_and_grad(f: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
            if isinstance(argnums, int):
                return autograd.value_and_grad(f, argnums)

            def call(*args: Any) -> Any:
                def of_tuple(some: Any) -> Any:
                    every = list(args)
                    for i, x in zip(argnums, some, strict=True):
                        every[i] = x
                    return f(*every)

                return autograd.value_and_grad(of_tuple)(tuple(args[i] for i in argnums))

            return call

        self.fd = SimpleNamespace(
            jit=lambda f, donate_argnums=(): f,
            device_put=lambda x: x,
            block_until_ready=lambda x: x,
            value_and_grad=value_and_grad,
            hessian_vector_product=hessian_vector_product,
            tree=SimpleNamespace(map=tree_map),
        )


class Mlx:
    """MLX: lazy arrays; `jit` is its compiler, and waiting evaluates."""

    def __init__(self) -> None:
        import mlx.core as mx
        import mlx.nn

        def put(x: Any) -> Any:
            return mx.array(np.ascontiguousarray(x))

        def wait(x: Any) -> Any:
            mx.eval(x)
            return x

        def value_and_grad(f: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
            chosen = list(argnums) if isinstance(argnums, tuple) else argnums
            return mx.value_and_grad(f, chosen)

        def grad(f: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
            chosen = list(argnums) if isinstance(argnums, tuple) else argnums
            return mx.grad(f, chosen)

        def vmap(f: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
            return mx.vmap(f, in_axes=in_axes)

        def jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
            (xs,), (ts,) = primals, tangents
            return mx.jvp(lambda *parts: f(list(parts)), xs, ts)

        self.np = mx
        self.lax = SimpleNamespace()
        self.nn = SimpleNamespace(
            relu=mlx.nn.relu,
            sigmoid=mx.sigmoid,
            softmax=lambda x, axis=-1: mx.softmax(x, axis=axis),
            log_softmax=lambda x: mlx.nn.log_softmax(x, axis=-1),
            gelu=mlx.nn.gelu_approx,
        )
        self.fd = SimpleNamespace(
            jit=lambda f, donate_argnums=(): mx.compile(f),
            device_put=lambda x: tree_map(put, x),
            block_until_ready=wait,
            value_and_grad=value_and_grad,
            grad=grad,
            vmap=vmap,
            jvp=jvp,
            tree=SimpleNamespace(map=tree_map),
        )


class Tinygrad:
    """tinygrad: lazy tensors, replayed by TinyJit. Its CPU code is compiled with clang."""

    def __init__(self) -> None:
        if "DEV" not in os.environ:
            os.environ["DEV"] = "CPU"
        found = (which(name) for name in ("clang", "clang-15", "clang-16", "clang-18", "clang-19"))
        clang = next((path for path in found if path), None)
        if clang is None:
            raise LookupError("tinygrad needs clang")
        os.environ["CC"] = clang
        import tinygrad

        self.tensor = tinygrad.Tensor
        self.jit = tinygrad.TinyJit

    def put(self, x: Any) -> Any:
        return self.tensor(np.ascontiguousarray(x)).realize()

    def caller(self, f: Callable[..., Any], *args: Any) -> Built:
        """Calls `f`, which returns one tensor or a tuple."""
        tensors = [self.put(x) for x in args]

        def run(*xs: Any) -> Any:
            out = f(*xs)
            return tuple(x.realize() for x in out) if isinstance(out, tuple) else out.realize()

        jitted = self.jit(run)
        return lambda: jitted(*tensors), lambda: _numbers(jitted(*tensors))

    def gradients(self, f: Callable[..., Any], x: Any, *rest: Any) -> Built:
        """Value and gradient of a scalar function by its first argument."""

        def both(x: Any, *rest: Any) -> Any:
            value = f(x, *rest)
            return value, value.gradient(x)[0]

        return self.caller(both, x, *rest)

    def stepping(
        self, loss: Callable[..., Any], params: list[dict[str, Any]], *batch: Any, rate: float
    ) -> Built:
        """Steps of ``loss(params, *batch)`` with its Adam, which has PyTorch's formula."""
        from tinygrad.helpers import Context
        from tinygrad.nn import optim

        layers = [{key: self.put(x) for key, x in layer.items()} for layer in params]
        tensors = [layer[key] for layer in layers for key in sorted(layer)]
        for tensor in tensors:
            tensor.is_param_(True)
        adam = optim.Adam(tensors, lr=rate)
        inputs = [self.put(x) for x in batch]

        def step(*batch: Any) -> Any:
            adam.zero_grad()
            with Context(TRAINING=1):
                value = loss(layers, *batch).backward()
                return value.realize(*adam.schedule_step())

        jitted = self.jit(step)
        return lambda: jitted(*inputs), lambda: _numbers((jitted(*inputs), *tensors))


def _numbers(x: Any) -> np.ndarray[Any, Any]:
    parts = x if isinstance(x, tuple) else (x,)
    return np.concatenate([part.numpy().astype(np.float64).ravel() for part in parts])
