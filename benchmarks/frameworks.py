"""What the benchmark cases need of each framework: one way to build a timed call.

A case is a function of the framework's name that returns ``(call, result)``: `call()` runs once and
waits, `result()` gives one flat float64 array to compare between frameworks. It raises LookupError
where that framework has no version of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import peers

Call = Callable[[], Any]
Built = tuple[Call, Callable[[], np.ndarray]]
Case = Callable[[str], Built]

TORCH = ("torch", "torch.compile")
NUMPY_LIKE: dict[str, Callable[[], Any]] = {"autograd": peers.Autograd, "mlx": peers.Mlx}


class Framework:
    """The names that the cases need: funcdl and JAX share them; autograd and MLX are adapted."""

    def __init__(self, name: str) -> None:
        if name == "jax":
            import jax
            import jax.numpy as jnp

            self.fd, self.np, self.lax, self.nn = jax, jnp, jax.lax, jax.nn
        elif name == "funcdl":
            import funcdl
            import funcdl.lax
            import funcdl.nn
            import funcdl.numpy as fnp

            self.fd, self.np, self.lax, self.nn = funcdl, fnp, funcdl.lax, funcdl.nn
        elif name in NUMPY_LIKE:
            peer = NUMPY_LIKE[name]()
            self.fd, self.np, self.lax, self.nn = peer.fd, peer.np, peer.lax, peer.nn
        else:
            raise LookupError(f"no {name} version")
        self.name = name

    def caller(self, f: Callable[..., Any], *args: Any) -> Built:
        """Calls `f` on arrays that are already on the device."""
        args = tuple(self.fd.device_put(x) for x in args)
        wait = self.fd.block_until_ready

        def call() -> Any:
            return wait(f(*args))

        return call, lambda: flatten(call())

    def stepping(self, step: Any, state: tuple[Any, ...], *rest: Any) -> Built:
        """Calls a training step on its own results; its state is donated, as in training.

        ``step(*state, *rest)`` returns ``(loss, *state)``; compared are the first loss and the
        first part of the state after the first step.
        """
        jitted = self.fd.jit(step, donate_argnums=tuple(range(len(state))))
        rest = tuple(self.fd.device_put(x) for x in rest)
        # A copy: what is donated must not be the caller's memory.
        holder = self.fd.tree.map(lambda x: self.np.array(x), state)

        def call() -> Any:
            nonlocal holder
            value, *new = jitted(*holder, *rest)
            holder = tuple(new)
            # MLX computes what is waited for, and nothing else.
            self.fd.block_until_ready((value, holder) if self.name == "mlx" else value)
            return value

        def result() -> np.ndarray:
            value = call()
            return flatten([value, holder[0]])

        return call, result


class Torch:
    """PyTorch, eager or compiled."""

    def __init__(self, name: str) -> None:
        import torch

        self.torch = torch
        self.functional = torch.nn.functional
        self.compile = torch.compile if name == "torch.compile" else lambda f: f

    def put(self, x: Any) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(x))

    def caller(self, f: Callable[..., Any], *args: Any) -> Built:
        """Calls `f`, compiled where that is asked for, without recording gradients."""
        compiled = self.compile(f)
        tensors = [self.put(x) for x in args]

        def call() -> Any:
            with self.torch.no_grad():
                return compiled(*tensors)

        return call, lambda: flatten(call())

    def gradients(
        self, f: Callable[..., Any], args: list[Any], rest: tuple[Any, ...] = ()
    ) -> Built:
        """Value and gradients of a scalar function by its first arguments."""
        compiled = self.compile(f)
        tensors = [self.put(x).requires_grad_() for x in args]
        others = [self.put(x) for x in rest]

        def call() -> Any:
            value = compiled(*tensors, *others)
            return value, *self.torch.autograd.grad(value, tensors)

        return call, lambda: flatten(call())

    def stepping(
        self,
        model: Any,
        loss: Callable[..., Any],
        optimizer: Any,
        batch: tuple[Any, ...],
        read: Callable[[], Any],
    ) -> Built:
        """Training steps of ``loss(model, *batch)``; `read` gives the parameters to compare."""
        compiled = self.compile(functools.partial(loss, model))
        tensors = [self.put(x) for x in batch]

        def call() -> Any:
            optimizer.zero_grad(set_to_none=True)
            value = compiled(*tensors)
            value.backward()
            optimizer.step()
            return value

        def result() -> np.ndarray:
            value = call()
            return flatten([value, read()])

        return call, result


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


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """float32 normal numbers, the same in every process."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)
