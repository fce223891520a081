"""The search for random keys that are used twice, on behalf of ``config.debug_key_reuse``.

While the flag is on, an identity is put where a key is used up, and where one is made. Running it
looks keys up by value in a table of those that were used. It has an effect, so that no program
drops it or computes it again, and programs that hold it run on the reference evaluator.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import source
from funcdl.core.avals import ShapedArray
from funcdl.core.effects import Effect
from funcdl.core.jaxpr import ClosedJaxpr, sub_jaxprs
from funcdl.core.primitive import Primitive
from funcdl.core.source import SourceLine
from funcdl.core.symbolic_zero import Zero
from funcdl.errors import KeyReuseError
from funcdl.ops import registry
from funcdl.ops.lowering import View
from funcdl.ops.registry import Op, Sample
from funcdl.ops.shape import move_to_front

NDArray = np.ndarray[Any, Any]

key_use = Primitive("key_use")
"""``key_use[fresh=... place=...](data)``: `data` of keys, shape ``[..., 2]``, unchanged.

With `fresh`, the keys may be used from here on; without, they are used up at `place`.
"""

_used: dict[int, SourceLine | None] = {}


class _Watch(threading.local):
    paused: bool = False


_watch = _Watch()


def use_key(data: Any) -> Any:
    """The data of keys that are used up here."""
    return _look_at(data, False)


def fresh_key(data: Any) -> Any:
    """The data of keys that may be used from here on."""
    return _look_at(data, True)


def _look_at(data: Any, fresh: bool) -> Any:
    if not config.debug_key_reuse or _watch.paused:
        return data
    return key_use.bind(data, fresh=fresh, place=source.current())


@contextmanager
def unwatched() -> Iterator[None]:
    """Look at no key meanwhile: for samplers that know what they do."""
    paused, _watch.paused = _watch.paused, True
    try:
        yield
    finally:
        _watch.paused = paused


def looks_at_keys(program: ClosedJaxpr) -> bool:
    """Whether a program holds the primitive, and so needs an evaluator that runs it."""
    known = program.memo.get(looks_at_keys)
    if known is None:
        found = any(
            eqn.primitive is key_use or any(map(looks_at_keys, sub_jaxprs(eqn.params)))
            for eqn in program.eqns
        )
        known = program.memo[looks_at_keys] = {"found": found}
    return bool(known["found"])


def _impl(data: NDArray, *, fresh: bool, place: SourceLine | None) -> NDArray:
    if config.debug_key_reuse:
        words = data.reshape(-1, 2).astype(np.uint64)
        for key in (words[:, 0] << np.uint64(32) | words[:, 1]).tolist():
            if fresh:
                _used.pop(key, None)
            elif key in _used:
                raise KeyReuseError(_describe(_used[key], place))
            else:
                _used[key] = place
    return data[...]


def _describe(first: SourceLine | None, second: SourceLine | None) -> str:
    lines = [f"  first at {first.describe() if first else 'an unknown place'}"]
    if first == second:
        lines.append(
            "  again on that line: in another place, a later call or a later step of a loop"
        )
    else:
        lines.append(f"  again at {second.describe() if second else 'an unknown place'}")
    return (
        "a random key was used twice:\n"
        + "\n".join(lines)
        + "\nWhat is drawn from one key is not independent. Make a key for each use with "
        "funcdl.random.split(key), or fold_in(key, step) in a loop; where the same numbers are "
        "wanted, write funcdl.random.clone(key)."
    )


def _forget(_: bool) -> None:
    _used.clear()


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Zero]:
    out = key_use.bind(*primals, **params)
    return out, Zero(out.aval.to_tangent())


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[Any, int | None]:
    if dims[0] is None:
        return key_use.bind(args[0], **params), None
    # The words of a key must stay last.
    return key_use.bind(move_to_front(args[0], dims[0]), **params), 0


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in ((2,), (3, 2), (0, 2)):
        for fresh in (True, False):
            data = rng.integers(0, 2**32, shape, dtype)
            yield Sample((data,), {"fresh": fresh, "place": None})


key_use.impl = _impl
key_use.shape = lambda data, **params: ShapedArray(data.shape, data.dtype)
key_use.jvp = _jvp
key_use.batch = _batch
key_use.effect = lambda params: Effect.UNORDERED
key_use.lower = View(lambda reader, index, params: reader.read(0, index), alias=True)
registry.add(Op(key_use, ("u32",), _samples))
config.on_change("debug_key_reuse", _forget)
