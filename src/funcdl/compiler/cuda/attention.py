"""Attention as launches of hand-written kernels: one forwards, two for the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.compiler.attention import attention_cost, broadcast_strides
from funcdl.compiler.lower import LoweredKernel
from funcdl.config import config
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, Eqn, Var
from funcdl.kir.ir import Buffer, Kernel, Library
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


def attention_kernels(eqn: Eqn, name: str) -> list[LoweredKernel] | None:
    """The kernels of an attention, None of any other equation."""
    if not has_kernel(eqn):
        return None
    given = ("query", "key", "value", *eqn.params["extra_names"])
    operands = (*given[:3], *sorted(given[3:], key=EXTRAS.index))
    if eqn.primitive is attention:
        atoms = dict(zip((*given, *_FORWARD[1]), (*eqn.invars, *eqn.outvars), strict=True))
        return [_lowered(eqn, name, "attention_forward", operands, _FORWARD, atoms)]
    results = ("query_gradient", "key_gradient", "value_gradient")
    named = (*given, "out", "largest", "total", "cotangent", *results)
    atoms = dict(zip(named, (*eqn.invars, *eqn.outvars), strict=True))
    for own in ("mean", "denominator"):
        atoms[own] = Var(ShapedArray(atoms["largest"].aval.shape, np.dtype(np.float32)))
    return [
        _lowered(eqn, f"{name}_queries", "attention_query_gradient", operands, _QUERIES, atoms),
        _lowered(eqn, f"{name}_keys", "attention_key_gradient", operands, _KEYS, atoms),
    ]


def _lowered(
    eqn: Eqn,
    name: str,
    function: str,
    operands: Sequence[str],
    own: tuple[tuple[str, ...], tuple[str, ...]],
    atoms: Mapping[str, Atom],
) -> LoweredKernel:
    reads, writes = (*operands, *own[0]), own[1]
    variables: dict[str, Var] = {}
    for buffer in (*reads, *writes):
        atom = atoms[buffer]
        assert isinstance(atom, Var), "literal operands were turned into constants"
        variables[buffer] = atom
    buffers = [
        Buffer(buffer, var.aval.dtype, var.aval.size, "out" if buffer in writes else "in")
        for buffer, var in variables.items()
    ]
    shapes = {buffer: var.aval.shape for buffer, var in variables.items()}

    def run(arrays: Mapping[str, Array]) -> None:
        _run(eqn, function, {n: x.reshape(shapes[n]) for n, x in arrays.items()})

    cost = attention_cost(eqn, _PRODUCTS[function])
    library = Library(function, _problem(eqn, operands, variables), cost, run)
    kernel = Kernel(name, tuple(buffers), (), (), library)
    return LoweredKernel(kernel, variables, eqn.source)


def _problem(
    eqn: Eqn, operands: Sequence[str], variables: Mapping[str, Var]
) -> tuple[tuple[str, Any], ...]:
    """What the kernels are made for, by the names of `library.attention_problem.Attention`."""
    query, key = variables["query"].aval, variables["key"].aval
    batch, queries, heads, size = query.shape
    params = eqn.params
    strides = {
        name: broadcast_strides(variables[name].aval.shape) if name in operands else None
        for name in ("bias", "mask")
    }
    lengths = {name: name in operands for name in ("query_lengths", "key_lengths")}
    fields = {
        "batch": batch,
        "queries": queries,
        "keys": key.shape[1],
        "heads": heads,
        "groups": key.shape[2],
        "size": size,
        "dtype": query.dtype,
        "scale": params["scale"],
        "before": params["before"],
        "after": params["after"],
        **strides,
        **lengths,
        "dropout": params["dropout_rate"],
        "precision": config.matmul_precision,
    }
    return tuple(fields.items())


def _run(eqn: Eqn, function: str, arrays: Mapping[str, Array]) -> None:
    """What the kernel means, in NumPy."""
    assert eqn.primitive.impl is not None
    args = [arrays[name] for name in ("query", "key", "value", *eqn.params["extra_names"])]
    if eqn.primitive is attention:
        names = _FORWARD[1]
    else:
        names = ("query_gradient", "key_gradient", "value_gradient")
        # The formula computes anew what the forward pass has found.
        unread = [np.zeros(0, np.float32)] * 3
        args += [*unread, arrays["cotangent"]]
    results = dict(zip(names, eqn.primitive.impl(*args, **eqn.params), strict=True))
    if function == "attention_query_gradient":
        products = arrays["out"].astype(np.float32) * arrays["cotangent"].astype(np.float32)
        results["mean"] = products.sum(-1).swapaxes(1, 2)
        with np.errstate(over="ignore"):  # of queries that see no key
            scaled = arrays["largest"] * np.float32(np.log2(np.e))
        results["denominator"] = scaled + np.log2(arrays["total"])
    for name in arrays.keys() & results.keys():
        arrays[name][...] = results[name]
