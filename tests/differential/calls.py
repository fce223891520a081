"""Calls as text, for this library and for JAX alike, on operands of any dtype and size.

In a text, `m` is the namespace under test; `jax`, `jnp`, `lax`, `nn` and `random` are modules of
the library, and `key` is a random key. An operand is written with its shape, like ``f[N, 4]``:

* ``f`` floats between -2 and 2, or rather numbers of the dtype under test; ``pos`` positive ones,
  ``unit`` between -0.9 and 0.9, ``between(a, b)`` as said, ``spd`` positive definite matrices;
* ``i`` integers from -4 to 4, ``nat`` from 0 to 2, ``b`` booleans, ``c`` complex numbers.

The sizes ``N K L`` may be zero; ``P Q R`` are at least one.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core import dtypes

NDArray = np.ndarray[Any, Any]
Sizes = Mapping[str, int]

USUAL: Sizes = {"N": 3, "K": 4, "L": 2, "P": 3, "Q": 2, "R": 4}
OTHERS: tuple[Sizes, ...] = (
    {"N": 0, "K": 4, "L": 2, "P": 1, "Q": 1, "R": 1},
    {"N": 1, "K": 1, "L": 1, "P": 2, "Q": 5, "R": 3},
    {"N": 5, "K": 0, "L": 3, "P": 4, "Q": 3, "R": 2},
)

_OPERAND = re.compile(
    r"(?<![\w.'])(?P<what>f|pos|unit|spd|i|nat|b|c|between\([^)]*\))\[(?P<shape>[^\]]*)\]"
)
_RANGES = {
    "f": (-2.0, 2.0),
    "pos": (0.1, 3.0),
    "unit": (-0.9, 0.9),
    "spd": (-1.0, 1.0),
    "i": (-4, 5),
    "nat": (0, 3),
    "b": (0, 2),
    "c": (-2.0, 2.0),
}
_KINDS = {"i": "i32", "nat": "i32", "b": "bool", "c": "c64"}


@dataclass(frozen=True)
class Call:
    """One call of a public function.

    Args:
      name: the function, as an attribute of the namespace.
      text: what identifies the call.
      function: takes the library's modules, by name, and the operands.
      operands: makes the operands, for the short name of the dtype under test and sizes.
      grad: whether derivatives are compared.
      traced: whether it can be traced; others are called eagerly, for their values.
      sized: whether its operands have sizes that vary.
      typed: whether its operands have the dtype under test.
    """

    name: str
    text: str
    function: Callable[..., Any]
    operands: Callable[[str, Sizes], list[Any]]
    grad: bool = True
    traced: bool = True
    sized: bool = False
    typed: bool = True


def draw(
    rng: np.random.Generator, shape: tuple[int, ...], kind: str, low: float, high: float
) -> NDArray:
    """Numbers of a dtype in a range, without ties of floats, where derivatives may not exist."""
    dtype = dtypes.from_short_name(kind)
    if dtypes.is_bool(dtype):
        return np.asarray(rng.random(shape) < 0.5)
    if dtypes.is_integer(dtype):
        start = max(int(np.ceil(low)), 0) if kind.startswith("u") else int(np.ceil(low))
        return np.asarray(rng.integers(start, max(int(np.ceil(high)), start + 1), shape), dtype)
    values = np.asarray(rng.uniform(low, high, shape))
    if dtypes.is_complex(dtype):
        values = values + 1j * rng.uniform(-1, 1, shape)
    return np.asarray(values.astype(dtype))


def _operand(what: str, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> NDArray:
    low, high = _RANGES.get(what) or map(float, what[len("between(") : -1].split(","))
    x = draw(rng, shape, _KINDS.get(what, kind), low, high)
    if what != "spd":
        return x
    wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    product = wide @ np.swapaxes(wide, -1, -2).conj() + 2 * np.eye(shape[-1])
    return np.asarray(product.astype(x.dtype))


def call(
    text: str,
    *,
    name: str | None = None,
    constants: Mapping[str, Any] | None = None,
    grad: bool = True,
    traced: bool = True,
) -> Call:
    """A call from its text; the first attribute of `m` in it is what it tests."""
    attribute = re.search(r"\bm\.(\w+)", text)
    found = list(_OPERAND.finditer(text))
    numbers = iter(range(len(found)))
    program = compile(_OPERAND.sub(lambda _: f"_{next(numbers)}", text), f"<{text}>", "eval")
    scope = {"np": np, **(constants or {})}
    seed = zlib.crc32(text.encode())

    def run(library: Mapping[str, Any], *args: Any) -> Any:
        return eval(program, {**scope, **library, **{f"_{i}": x for i, x in enumerate(args)}})

    def operands(kind: str, sizes: Sizes) -> list[Any]:
        rng = np.random.default_rng(seed)
        shapes = [eval(f"np.index_exp[{o['shape']}]", {"np": np, **sizes}) for o in found]
        return [_operand(o["what"], s, kind, rng) for o, s in zip(found, shapes, strict=True)]

    return Call(
        name or (attribute[1] if attribute else text),
        text,
        run,
        operands,
        grad,
        traced,
        any(re.search("[NKLPQR]", o["shape"]) for o in found),
        any(o["what"] not in _KINDS for o in found),
    )


def calls(texts: Iterable[str], **options: Any) -> list[Call]:
    return [call(text, **options) for text in texts]


def each(names: str, form: str, **options: Any) -> list[Call]:
    """One call for each name, which stands where `{}` is."""
    return [call(form.replace("{}", name), **options) for name in names.split()]
