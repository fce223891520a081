"""Methods that arrays of other libraries have: what `AttributeError` says to write instead.

Each is a descriptor of its own. A ``__getattr__`` would find all missing names, and make every
attribute of arrays slower.
"""

from __future__ import annotations

from typing import Any, NoReturn

_GRADIENTS = "derivatives are of functions, not of arrays: use funcdl.grad(loss)(params)"
_IN_PLACE = "arrays are immutable: write x = x.at[index].set(value), or x = x + y"
_GROW = "arrays have a fixed size: collect values in a list, and use funcdl.numpy.stack"
_DEVICE = "use funcdl.device_put(x, device), or x.astype(dtype)"

_ADVICE = {
    _GRADIENTS: "backward grad requires_grad requires_grad_ retain_grad",
    _IN_PLACE: "add_ sub_ mul_ div_ copy_ clamp_ fill fill_ zero_ put itemset resize_ setflags",
    _GROW: "append extend insert",
    _DEVICE: "cpu cuda to",
    "use funcdl.lax.stop_gradient(x)": "detach",
    "use numpy.asarray(x)": "numpy",
    "arrays are immutable: x itself serves": "clone contiguous",
    "use x.astype('float32')": "float",
    "use x.astype('float64')": "double",
    "use x.astype('float16')": "half",
    "use x.astype('int32')": "int",
    "use x.astype('int64')": "long",
    "use x.ndim": "dim",
    "use x.size": "numel",
    "use x.T": "t",
    "use x @ y": "bmm mm",
    "use x.transpose(axes)": "permute",
    "use funcdl.numpy.expand_dims(x, axis), or x[:, None]": "unsqueeze",
    "use funcdl.numpy.broadcast_to(x, shape)": "expand expand_as",
    "use funcdl.numpy.where(mask, value, x)": "masked_fill masked_fill_",
    "use funcdl.numpy.concatenate([x, y])": "cat",
    "use funcdl.numpy.resize(x, shape)": "resize",
    "use funcdl.numpy.linalg.norm(x)": "norm",
    **{
        f"use funcdl.numpy.{name}(x)": name
        for name in ("abs", "cos", "exp", "flip", "log", "matmul", "sin", "sqrt", "tanh", "where")
    },
    **{f"use funcdl.nn.{name}(x)": name for name in ("gelu", "relu", "sigmoid", "softmax")},
}
ABSENT = {name: advice for advice, names in _ADVICE.items() for name in names.split()}


class AbsentMethod:
    """An attribute that is not there."""

    __slots__ = ("_advice", "_name")

    def __init__(self, name: str, advice: str) -> None:
        self._name = name
        self._advice = advice

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError(
            f"{owner.__name__!r} object has no attribute {self._name!r}: {self._advice}",
            # Without the object, or Python adds the name of another method that looks alike.
            name=self._name,
        )


def install(cls: type) -> None:
    """Give a class the descriptors, but for what it has."""
    for name, advice in ABSENT.items():
        if not hasattr(cls, name):
            setattr(cls, name, AbsentMethod(name, advice))
