"""Attention as launches of hand-written kernels: one forwards, two for the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from funcdl.compiler.attention import attention_cost, broadcast_strides
from funcdl.compiler.cuda.attention_places import place_attention
from funcdl.compiler.cuda.placed_attention import (
    GRADIENTS,
    OPERANDS,
    named_atoms,
    placed_attention,
    placed_attention_gradient,
    plain_attention,
)
from funcdl.compiler.lower import LoweredKernel
from funcdl.config import config
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Var
from funcdl.kir.ir import Buffer, Kernel, Library, Role
from funcdl.ops.attention import attention, attention_gradient
from funcdl.ops.attention_formula import EXTRAS

Array = np.ndarray[Any, Any]

MAX_BYTES = 512
"""Largest size of a head, in bytes, whose tiles fit into registers and shared memory."""
_MAX_ELEMENTS = 2**31

# What each kernel takes after query, key, value and their extras, and what it gives.
_FORWARD = ((), ("out", "largest", "total"))
_QUERIES = (("out", "largest", "total", "cotangent"), ("query_gradient", "mean", "denominator"))
_KEYS = (
    ("largest", "total", "cotangent", "mean", "denominator"),
    ("key_gradient", "value_gradient"),
)

_PRODUCTS = {
    "attention_forward": 2,
    "attention_query_gradient": 3,
    "attention_key_gradient": 4,
}


def has_kernel(eqn: Eqn) -> bool:
    """Whether an equation is an attention whose kernels take its shapes and element type."""
    if eqn.primitive not in (attention, attention_gradient):
        return False
    query, key = (atom.aval for atom in eqn.invars[:2])
    fits = query.dtype.itemsize <= 4 and 0 < query.shape[3] * query.dtype.itemsize <= MAX_BYTES
    fits = fits and min(query.shape) > 0
    return fits and max(query.size // query.shape[0], key.size // key.shape[0]) < _MAX_ELEMENTS


def read_in_place(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program with attention that copies no operands (`attention_places`)."""
    return place_attention(program, has_kernel)


def attention_kernels(eqn: Eqn, name: str) -> list[LoweredKernel] | None:
    """The kernels of an attention, None of any other equation."""
    if eqn.primitive not in (placed_attention, placed_attention_gradient) and not has_kernel(eqn):
        return None
    call = _Call(eqn)
    if call.primitive is attention:
        return [call.kernel(name, "attention_forward", _FORWARD)]
    return [
        call.kernel(f"{name}_queries", "attention_query_gradient", _QUERIES),
        call.kernel(f"{name}_keys", "attention_key_gradient", _KEYS),
    ]


class _Call:
    """An attention or its gradient on its way to kernels."""

    def __init__(self, eqn: Eqn) -> None:
        self._eqn = eqn
        self.primitive, self._params, self._places = plain_attention(eqn)
        self._atoms = named_atoms(eqn)
        for own in ("mean", "denominator") if self.primitive is attention_gradient else ():
            aval = ShapedArray(self._atoms["largest"].aval.shape, np.dtype(np.float32))
            self._atoms[own] = Var(aval)
        self._extras = self._params["extra_names"]

    def kernel(
        self, name: str, function: str, own: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> LoweredKernel:
        extras = sorted(self._extras, key=EXTRAS.index)
        reads, writes = (*OPERANDS, *extras, *own[0]), own[1]
        variables: dict[str, Var] = {}
        for buffer in (*reads, *writes):
            atom = self._atoms[buffer]
            assert isinstance(atom, Var), "literal operands were turned into constants"
            variables[buffer] = atom
        buffers = [
            Buffer(
                buffer,
                var.aval.dtype,
                var.aval.size,
                "in" if buffer in reads else self._written(buffer),
                may_alias=buffer in writes and buffer in self._places,
            )
            for buffer, var in variables.items()
        ]

        def run(arrays: Mapping[str, Array]) -> None:
            self._run(function, {n: self._array(n, x) for n, x in arrays.items()})

        products = _PRODUCTS[function]
        cost = replace(
            attention_cost(self._eqn, products, self._shape("query"), self._shape("key")),
            bytes_read=self._nbytes(reads),
            bytes_written=self._nbytes(writes),
        )
        library = Library(function, self._problem((*reads, *writes)), cost, run)
        kernel = Kernel(name, tuple(buffers), (), (), library)
        return LoweredKernel(kernel, variables, self._eqn.source)

    def _written(self, buffer: str) -> Role:
        # Another kernel, or this one, writes the other parts.
        return "inout" if buffer in self._places else "out"

    def _shape(self, name: str) -> Shape:
        place = self._places.get(name)
        return self._atoms[name].aval.shape if place is None else place.shape

    def _nbytes(self, names: Sequence[str]) -> int:
        """The bytes of arrays, or of the parts of others that they are; each counts once."""
        found = {(self._atoms[name], self._places.get(name)): name for name in names}
        return sum(
            prod(self._shape(name)) * atom.aval.dtype.itemsize for (atom, _), name in found.items()
        )

    def _array(self, name: str, buffer: Array) -> Array:
        place = self._places.get(name)
        return buffer.reshape(self._shape(name)) if place is None else place.of(buffer)

    def _problem(self, arrays: Sequence[str]) -> tuple[tuple[str, Any], ...]:
        """What a kernel is made for, by the names of `library.attention_problem.Attention`."""
        batch, queries, heads, size = self._shape("query")
        _, keys, groups, _ = self._shape("key")
        params = self._params
        strides = {
            name: broadcast_strides(self._shape(name)) if name in self._extras else None
            for name in ("bias", "mask")
        }
        lengths = {name: name in self._extras for name in ("query_lengths", "key_lengths")}
        places = {
            name: (place.offset, *place.strides[:3])
            for name, place in self._places.items()
            if name in arrays
        }
        fields = {
            "batch": batch,
            "queries": queries,
            "keys": keys,
            "heads": heads,
            "groups": groups,
            "size": size,
            "dtype": self._atoms["query"].aval.dtype,
            "scale": params["scale"],
            "before": params["before"],
            "after": params["after"],
            **strides,
            **lengths,
            "dropout": params["dropout_rate"],
            "precision": config.matmul_precision,
            "places": tuple(places.items()),
        }
        return tuple(fields.items())

    def _run(self, function: str, arrays: Mapping[str, Array]) -> None:
        """What a kernel means, in NumPy."""
        assert self.primitive.impl is not None
        args = [arrays[name] for name in (*OPERANDS, *self._extras)]
        if self.primitive is attention:
            names = _FORWARD[1]
        else:
            names = GRADIENTS
            # The formula computes anew what the forward pass has found.
            unread = [np.zeros(0, np.float32)] * 3
            args += [*unread, arrays["cotangent"]]
        results = dict(zip(names, self.primitive.impl(*args, **self._params), strict=True))
        if function == "attention_query_gradient":
            products = arrays["out"].astype(np.float32) * arrays["cotangent"].astype(np.float32)
            results["mean"] = products.sum(-1).swapaxes(1, 2)
            with np.errstate(over="ignore"):  # of queries that see no key
                scaled = arrays["largest"] * np.float32(np.log2(np.e))
            results["denominator"] = scaled + np.log2(arrays["total"])
        for name in arrays.keys() & results.keys():
            arrays[name][...] = results[name]
