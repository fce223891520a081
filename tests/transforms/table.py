"""Functions of many kinds, each with arguments, that every transform is applied to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes


@dataclass(frozen=True)
class Case:
    """A function and where to call it.

    Args:
      argnums: the arguments to differentiate; their leaves are floats.
      fwd: whether forward mode is possible.
      order: up to which order derivatives exist in every mode.
    """

    name: str
    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    argnums: tuple[int, ...] = (0,)
    fwd: bool = True
    order: int = 2

    def __call__(self, *args: Any) -> Any:
        return self.fun(*args, **self.kwargs)


CASES: list[Case] = []


def case(*args: Any, kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
    """Add the decorated function to the table, called with these arguments."""

    def add(fun: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(fun.__name__, fun, args, kwargs or {}, **options))
        return fun

    return add


def draw(*shape: int, seed: int = 0) -> Any:
    """Numbers away from zero, and from each other's ties."""
    rng = np.random.default_rng(seed + 7 * sum(shape) + len(shape))
    values = rng.uniform(0.4, 1.6, shape) * rng.choice([-1.0, 1.0], shape)
    return fnp.asarray(values)


@dataclass(frozen=True)
class Layer:
    """Weights, bias, and a static name."""

    weight: Any
    bias: Any
    activation: str = field(default="tanh", metadata={"static": True})


fd.tree.register_dataclass(Layer)


class Point(NamedTuple):
    x: Any
    y: Any


@fd.custom_jvp
def softplus(x: Any) -> Any:
    return fnp.log1p(fnp.exp(x))


@softplus.defjvp
def _softplus_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return softplus(x), t / (1 + fnp.exp(-x))


@fd.custom_vjp
def scaled_sine(x: Any, y: Any) -> Any:
    return {"out": fnp.sin(x) * y}


scaled_sine.defvjp(
    lambda x, y: ({"out": fnp.sin(x) * y}, (x, y)),
    lambda res, ct: (ct["out"] * fnp.cos(res[0]) * res[1], ct["out"] * fnp.sin(res[0])),
)

CONSTANT = np.array([0.5, -1.5, 2.5])
ARRAY = fnp.asarray(CONSTANT)


@case(fnp.asarray(1.3))
def python_scalar(x: Any) -> Any:
    return x * x * x - 2 * x


@case(fnp.float64(0.7))
def scalar(x: Any) -> Any:
    return fnp.sin(x) / x


@case(draw(3).astype("float32"), order=1)
def single_precision(x: Any) -> Any:
    return fnp.exp(x) * 2 - x


@case(draw(3), draw(2, 3), argnums=(0, 1))
def broadcasting(x: Any, y: Any) -> Any:
    return x * y + fnp.exp(x)


@case({"w": draw(3), "b": draw()}, draw(3))
def dictionaries(params: Any, x: Any) -> Any:
    y = params["w"] * x + params["b"]
    return {"y": y, "both": (y * y, [params["b"]])}


@case({"a": draw(2), "b": None}, None, (draw(), None), argnums=(0, 2))
def none_leaves(x: Any, nothing: Any, pair: Any) -> Any:
    assert nothing is None and x["b"] is None
    return {"r": x["a"] * pair[0], "n": None}


@case({"x": draw(2), "e": {}, "l": [], "t": ()})
def empty_containers(x: Any) -> Any:
    return (), fnp.cos(x["x"]), {}, x["e"], []


@case(draw(4), 2, fnp.asarray([0, 3, 3]))
def integer_indices(x: Any, i: Any, many: Any) -> Any:
    return x[i] * x[many], i + many


@case(draw(3), fnp.asarray([True, False, True]), draw(3, seed=1), argnums=(0, 2))
def boolean_mask(x: Any, mask: Any, y: Any) -> Any:
    return fnp.where(mask, x * x, y), ~mask


@case(fnp.asarray([3, 4]), 5, argnums=())
def integers_only(x: Any, n: Any) -> Any:
    return x * n, x > n, (x + 1) // 2


@case(draw(4))
def several_outputs(x: Any) -> Any:
    return x.sum(), fnp.argmax(x), x > 0, [x.max(), x.min()]


@case(draw(3))
def constants_of_outer_scopes(x: Any) -> Any:
    return x * CONSTANT + ARRAY.sum()


@case(draw(3), draw(3, seed=2), argnums=(1,))
def second_argument(x: Any, y: Any) -> Any:
    return x * y * y


@case(draw(3), draw(), kwargs={"shift": 2.0, "power": 3}, argnums=(-2, 1))
def keyword_arguments(x: Any, scale: Any, *, power: int, shift: Any = 1.0) -> Any:
    return x**power * scale + shift


@case(draw(3), draw(2), argnums=(0, 1))
def inputs_as_outputs(x: Any, y: Any) -> Any:
    return y, 1.0, x, y, fnp.ones(2)


@case(draw(3), draw(2))
def unused_argument(x: Any, y: Any) -> Any:
    return x * x


@case(draw(3))
def constant_output(x: Any) -> Any:
    return fnp.arange(3.0) + 0 * fnp.floor(x)


@case(draw(2, 3), draw(3), argnums=(0, 1))
def matrix_vector(a: Any, x: Any) -> Any:
    return a @ x, a.T @ (a @ x)


@case(draw(4, 3), fnp.asarray([0, 2, 1, 1]))
def cross_entropy(logits: Any, labels: Any) -> Any:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - fnp.log(fnp.exp(shifted).sum(axis=-1, keepdims=True))
    return -fnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


@case(
    [{"w": draw(3, 4) / 2, "b": draw(4)}, {"w": draw(4, 2) / 2, "b": draw(2)}],
    draw(5, 3),
    draw(5, 2),
)
def mlp_loss(params: Any, x: Any, y: Any) -> Any:
    for layer in params[:-1]:
        x = fnp.tanh(x @ layer["w"] + layer["b"])
    error = x @ params[-1]["w"] + params[-1]["b"] - y
    return (error**2).mean()


@case(Layer(draw(3, 2), draw(2)), draw(3), argnums=(0, 1))
def dataclass_parameters(layer: Layer, x: Any) -> Any:
    assert layer.activation == "tanh"
    return Layer(fnp.tanh(x @ layer.weight), layer.bias * 2, "done")


@case(Point(draw(2), draw()))
def named_tuples(p: Point) -> Any:
    return Point(p.y * p.x, fnp.sin(p.x))


@case(draw(3))
def pieces(x: Any) -> Any:
    return fnp.abs(x), fnp.maximum(x, 0.0), fnp.floor(x) * x, fnp.clip(x, -1.0, 1.1)


@case(draw(2, 3))
def shapes(x: Any) -> Any:
    y = fnp.concatenate([x, x[:, ::-1] * 2], axis=0)
    return y.T.reshape(2, 6)[1:, 1:4], fnp.stack([x[0], x[1]], axis=-1), fnp.cumsum(x, axis=1)


@case(draw(3, 2))
def reductions(x: Any) -> Any:
    return x.max(axis=0), fnp.prod(x), x.mean(axis=1), fnp.var(x), x.sum()


@case(draw(4), draw(2), argnums=(0, 1))
def updates(x: Any, y: Any) -> Any:
    return x.at[fnp.asarray([1, 1])].add(y), x.at[0].set(y[0]), x.at[1:3].multiply(y)


@case(draw(3))
def through_complex_numbers(x: Any) -> Any:
    z = x + 1j * x * x
    return fnp.abs(z), (z * z).real


@case(draw(0, 2))
def no_elements(x: Any) -> Any:
    return x * x, x.sum(axis=0), x.sum()


@case(draw(3))
def jit_inside(x: Any) -> Any:
    twice = fd.jit(lambda y: (fnp.sin(y) * x, y * 2))
    a, b = twice(x * x)
    return a + b, twice(b)[0]


@case(draw(3), draw())
def grad_inside(x: Any, y: Any) -> Any:
    return fd.grad(lambda z: (fnp.sin(z * y) * x).sum())(x)


@case(draw(3), draw(2), argnums=(0, 1))
def vmap_inside(x: Any, y: Any) -> Any:
    return fd.vmap(lambda e: e * x.sum() + y)(fnp.sin(x))


@case(draw(3))
def jvp_inside(x: Any) -> Any:
    return fd.jvp(lambda z: fnp.sin(z) * x, (x * x,), (x,))


@case(draw(3))
def custom_jvp_inside(x: Any) -> Any:
    return softplus(x) * x, softplus(2.0)


@case(draw(3), draw(3, seed=3), argnums=(0, 1), fwd=False)
def custom_vjp_inside(x: Any, y: Any) -> Any:
    return scaled_sine(x, y)["out"] + scaled_sine(x * y, y)["out"]


def is_float(x: Any) -> bool:
    """Whether a leaf has derivatives."""
    return bool(dtypes.is_inexact(fnp.asarray(x).dtype))


NAMES = [c.name for c in CASES]
