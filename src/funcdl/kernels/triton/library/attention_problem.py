"""The shapes and options of an attention that its kernels are made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core.integers import power_of_two
from funcdl.kernels.triton.library import attention_dropout
from funcdl.kir.ir import DotPrecision
from funcdl.ops.attention_formula import least_kept

Strides = tuple[int, int, int, int]

_FLOAT, _INT = np.dtype(np.float32), np.dtype(np.int32)
_OF_QUERIES = ("query", "query_gradient")
MAX_BYTES = 512
"""Largest size of a head, in bytes, whose tiles fit into registers and shared memory."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention as `ops.attention` defines it.

    Query and result are [batch, queries, heads, size], key and value [batch, keys, groups, size],
    statistics float32[batch, heads, queries]. `places` are where query, key, value and their
    gradients are in their buffers, by name, if not alone and contiguous: the first element, and
    the elements from one to the next along batch, positions and heads. They are constants of the
    text, so that the compiler itself sees what divides them. `bias` and `mask` are the elements
    from one position to the next along batch, heads, queries and keys, 0 where all share one.
    `before` and `after` say how many positions before and after its own a query sees. `dropout` is
    the share of weights that are dropped, by random words (`library.attention_dropout`).
    """

    batch: int
    queries: int
    keys: int
    heads: int
    groups: int
    size: int
    dtype: np.dtype[Any]
    scale: float
    before: int | None = None
    after: int | None = None
    bias: Strides | None = None
    mask: Strides | None = None
    query_lengths: bool = False
    key_lengths: bool = False
    dropout: float = 0.0
    precision: DotPrecision = "ieee"
    places: tuple[tuple[str, Strides], ...] = ()

    def __post_init__(self) -> None:
        if self.dtype.itemsize > 4 or not 1 <= self.size * self.dtype.itemsize <= MAX_BYTES:
            raise ValueError(
                f"attention kernels take heads of 1 to {MAX_BYTES} bytes of float32 or a half "
                f"type, got {self.size} elements of {self.dtype}"
            )
        if min(self.batch, self.queries, self.keys, self.heads, self.groups) < 1:
            raise ValueError("attention kernels take no empty arrays")
        if self.queries * self.heads * self.size >= 2**31 or self.keys * self.groups >= 2**31 // (
            self.size
        ):
            raise ValueError("attention kernels take fewer than 2**31 elements of one sequence")
        if any(self._length(name) * step >= 2**31 for name, (_, _, step, _) in self.places):
            raise ValueError("attention kernels take sequences within fewer than 2**31 elements")

    def place(self, name: str) -> Strides:
        """Where an array is in its buffer."""
        row = (self.heads if name in _OF_QUERIES else self.groups) * self.size
        return dict(self.places).get(name, (0, self._length(name) * row, row, self.size))

    def _length(self, name: str) -> int:
        return self.queries if name in _OF_QUERIES else self.keys

    @property
    def padded_size(self) -> int:
        """The side of a tile that holds a head's elements: tensor cores take at least 16."""
        return max(16, power_of_two(self.size))

    @property
    def rows(self) -> int:
        return self.batch * self.heads * self.queries

    @property
    def query_elements(self) -> int:
        return self.rows * self.size

    @property
    def key_elements(self) -> int:
        return self.batch * self.keys * self.groups * self.size

    @property
    def pairs(self) -> int:
        """How many queries see how many keys, with respect to windows only."""
        row = np.arange(self.queries)
        first = 0 if self.before is None else np.clip(row - self.before, 0, self.keys)
        last = self.keys if self.after is None else np.clip(row + self.after + 1, 0, self.keys)
        seen = np.maximum(last - first, 0) + 0 * row
        return self.batch * self.heads * int(seen.sum())

    def inputs(self) -> dict[str, np.dtype[Any]]:
        """The buffers that the forward kernel reads."""
        given: Mapping[str, tuple[bool, np.dtype[Any]]] = {
            "bias": (self.bias is not None, _FLOAT),
            "mask": (self.mask is not None, np.dtype(np.bool_)),
            "query_lengths": (self.query_lengths, _INT),
            "key_lengths": (self.key_lengths, _INT),
            "dropout_keys": (self.dropout > 0, np.dtype(np.uint32)),
        }
        found = dict.fromkeys(("query", "key", "value"), self.dtype)
        return found | {name: dtype for name, (has, dtype) in given.items() if has}

    @staticmethod
    def statistics() -> dict[str, np.dtype[Any]]:
        """The buffers of the largest logit and the total of each row."""
        return {"largest": _FLOAT, "total": _FLOAT}

    def helpers(self) -> tuple[Callable[..., Any], ...]:
        """The functions that the kernels call."""
        return attention_dropout.FUNCTIONS if self.dropout else ()

    def constants(self, *arrays: str) -> dict[str, Any]:
        """The constants of a kernel, but for the sides of its tiles; `arrays` may have places."""
        windowed = self.before is not None or self.after is not None
        hides = self.mask is not None or self.query_lengths or self.key_lengths
        per_head = [strides for strides in (self.bias, self.mask) if strides is not None]
        far = any(s[2] * self.queries + s[3] * self.keys >= 2**31 for s in per_head)
        outside = self.queries > self.keys or min(self.before or 0, self.after or 0) < 0
        return {
            "QUERIES": self.queries,
            "KEYS": self.keys,
            "HEADS": self.heads,
            "GROUPS": self.groups,
            "SIZE": self.size,
            **{name.upper(): self.place(name) for name in arrays},
            "SCALE": float(self.scale),
            "BEFORE": self.before if self.before is None else min(self.before, 2**30),
            "AFTER": self.after if self.after is None else min(self.after, 2**30),
            "BIAS": self.bias,
            "MASK": self.mask,
            "QUERY_LENGTHS": self.query_lengths,
            "KEY_LENGTHS": self.key_lengths,
            # The least random word that leaves a weight, and what that is multiplied by.
            "DROPOUT": (least_kept(self.dropout), 1 / (1 - self.dropout)) if self.dropout else None,
            # Whether all keys that a query sees may weigh less than those that it is not compared
            # with, or it sees none.
            "LONELY": windowed and (hides or outside or self.bias is not None),
            "PRECISION": self.precision,
            # What positions in bias and mask of one head are counted in.
            "OFFSETS": np.dtype(np.int64 if far else np.int32),
        }
