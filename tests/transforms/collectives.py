"""The table of collectives: each as a function of one member, and what it means for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl import lax

NDArray = np.ndarray[Any, Any]
SIZE = 4
SHAPE = (4, 8, 3)


@dataclass(frozen=True)
class Collective:
    """`call(lax, x, name)` on one member; `meaning` on all of them, along dimension 0.

    `call` takes the module, ours or JAX's. `linear` says whether it is its own derivative.
    """

    name: str
    call: Callable[[Any, Any, Any], Any]
    meaning: Callable[[NDArray], NDArray]
    linear: bool = True

    def __call__(self, x: Any, name: Any = "i") -> Any:
        return self.call(lax, x, name)


def _repeat(x: NDArray, count: int) -> NDArray:
    return np.broadcast_to(x, (count, *x.shape))


def _extreme(f: Any) -> Callable[[NDArray], NDArray]:
    return lambda x: _repeat(f.reduce(x, 0), len(x))


def _gather(axis: int, tiled: bool) -> Callable[[NDArray], NDArray]:
    join = np.concatenate if tiled else np.stack
    return lambda x: _repeat(join(list(x), axis=axis), len(x))


def _scatter(dim: int, tiled: bool) -> Callable[[NDArray], NDArray]:
    def meaning(x: NDArray) -> NDArray:
        parts = np.split(x.sum(0), len(x), axis=dim)
        return np.stack([p if tiled else p.squeeze(dim) for p in parts])

    return meaning


def _permute(pairs: list[tuple[int, int]]) -> Callable[[NDArray], NDArray]:
    def meaning(x: NDArray) -> NDArray:
        out = np.zeros_like(x)
        for source, target in pairs:
            out[target] = x[source]
        return out

    return meaning


def _exchange(split: int, concat: int, tiled: bool) -> Callable[[NDArray], NDArray]:
    def meaning(x: NDArray) -> NDArray:
        parts = [np.split(member, len(x), axis=split) for member in x]
        if tiled:
            return np.stack(
                [np.concatenate([row[to] for row in parts], axis=concat) for to in range(len(x))]
            )
        return np.stack(
            [
                np.stack([row[to].squeeze(split) for row in parts], axis=concat)
                for to in range(len(x))
            ]
        )

    return meaning


_RING = [(i, (i + 1) % SIZE) for i in range(SIZE)]
_SOME = [(0, 2), (3, 0)]
_ORDER = [2, 0, 3, 1]


def _member_scale(x: NDArray) -> NDArray:
    return x * (1.0 + np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1)))


COLLECTIVES = [
    Collective("psum", lambda lax, x, i: lax.psum(x, i), lambda x: _repeat(x.sum(0), len(x))),
    Collective("pmean", lambda lax, x, i: lax.pmean(x, i), lambda x: _repeat(x.mean(0), len(x))),
    Collective("pmax", lambda lax, x, i: lax.pmax(x, i), _extreme(np.maximum), False),
    Collective("pmin", lambda lax, x, i: lax.pmin(x, i), _extreme(np.minimum), False),
    *(
        Collective(
            f"all_gather{axis}{'tiled' * tiled}",
            lambda lax, x, i, a=axis, t=tiled: lax.all_gather(x, i, axis=a, tiled=t),
            _gather(axis % (len(SHAPE) + (not tiled)), tiled),
        )
        for axis, tiled in [(0, False), (1, False), (-1, False), (0, True), (2, True)]
    ),
    *(
        Collective(
            f"psum_scatter{dim}{'tiled' * tiled}",
            lambda lax, x, i, d=dim, t=tiled: lax.psum_scatter(x, i, scatter_dimension=d, tiled=t),
            _scatter(dim, tiled),
        )
        for dim, tiled in [(0, False), (0, True), (1, True)]
    ),
    Collective("ppermute", lambda lax, x, i: lax.ppermute(x, i, _RING), _permute(_RING)),
    Collective(
        "pshuffle",
        lambda lax, x, i: lax.pshuffle(x, i, _ORDER),
        _permute([(s, d) for d, s in enumerate(_ORDER)]),
    ),
    Collective("pswapaxes", lambda lax, x, i: lax.pswapaxes(x, i, 0), _exchange(0, 0, False)),
    *(
        Collective(
            f"all_to_all{split}{concat}{'tiled' * tiled}",
            lambda lax, x, i, s=split, c=concat, t=tiled: lax.all_to_all(x, i, s, c, tiled=t),
            _exchange(split, concat, tiled),
        )
        for split, concat, tiled in [
            *((0, c, False) for c in range(3)),
            *((s, c, True) for s in (0, 1) for c in range(3)),
        ]
    ),
    Collective("axis_index", lambda lax, x, i: x * (1.0 + lax.axis_index(i)), _member_scale),
    Collective("axis_size", lambda lax, x, i: x * lax.psum(1, i), lambda x: x * len(x)),
]
"""All that JAX has under vmap too."""

PARTIAL = Collective("ppermute_some", lambda lax, x, i: lax.ppermute(x, i, _SOME), _permute(_SOME))
"""JAX's vmap takes whole permutations only."""


def operand(seed: int = 0, *leading: int) -> NDArray:
    """All values of all members: different, and their squares too, so extremes have one winner."""
    shape = (*(leading or (SIZE,)), *SHAPE)
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    return ((rng.permutation(count).reshape(shape) + 0.3) / count - 0.5).astype(np.float32)
