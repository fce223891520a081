"""Attention as calls of the back end's library, which takes arrays in memory and scratch memory.

The functions (kernels/cpu_c/include/fd_attention.h) compute in float32 or float64. Arrays of half
types are converted to float32 in scratch memory, and results back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.integers import round_up
from funcdl.core.jaxpr import Eqn, Var
from funcdl.kir.cost import Cost
from funcdl.kir.program import Address, LibraryCall, Pointer, Record, Value
from funcdl.ops.attention_formula import least_kept
from funcdl.ops.lowering import compute_dtype

HEADER = "fd_attention.h"

# Elements of the widest vector, to whole ones of which fd_attention.h pads rows of sums.
_LANES = 16
# So many tasks are made of the gradient where heads alone are fewer, and as long as each has so
# many queries: tasks have sums of their own for all keys and values of a head.
_TASKS = 8
_QUERIES = 128
_EVERYWHERE = 2**31
# Operations for a random word, half of a call of the generator.
_RANDOM_WORD = 60

AddressOf = Callable[[Var], Address]


def is_attention(eqn: Eqn) -> bool:
    """Whether an equation is one that the library computes."""
    return eqn.primitive.name in ("attention", "attention_gradient")


def attention_scratch(eqn: Eqn) -> dict[str, Var]:
    """Memory that the functions need: sums of the gradient, and converted arrays of half types.

    All of it is linear in the numbers of queries and keys.
    """
    query, key = (atom.aval for atom in eqn.invars[:2])
    batch, _, heads, size = query.shape
    wide = compute_dtype(query.dtype)
    scratch: dict[str, Var] = {}
    if eqn.primitive.name == "attention_gradient":
        rows = batch * heads * _chunks(query) * 2 * key.shape[1]
        scratch["sums"] = _array(rows * round_up(size, _LANES), wide)
    for kind, atoms in (("in", eqn.invars), ("out", eqn.outvars)):
        for number, atom in enumerate(atoms):
            if atom.aval.dtype in dtypes.HALF:
                scratch[f"{kind}{number}"] = _array(atom.aval.size, wide)
    return scratch


def attention_call(eqn: Eqn, scratch: dict[str, Var], name: str, address: AddressOf) -> LibraryCall:
    """The calls that compute an equation, once every variable has an address."""
    query = eqn.invars[0].aval
    wide = compute_dtype(query.dtype)
    short = dtypes.short_name(wide)
    before: list[tuple[str, tuple[Value | Record, ...]]] = []
    after: list[tuple[str, tuple[Value | Record, ...]]] = []

    def place(atom: object, kind: str, number: int) -> Pointer:
        assert isinstance(atom, Var), "literal operands were turned into constants"
        own = Pointer(address(atom), atom.aval.dtype)
        if f"{kind}{number}" not in scratch:
            return own
        converted = Pointer(address(scratch[f"{kind}{number}"]), wide)
        half = dtypes.short_name(atom.aval.dtype)
        if kind == "in":
            before.append((f"fd_widen_{half}", (converted, own, atom.aval.size)))
        else:
            after.append((f"fd_narrow_{half}", (own, converted, atom.aval.size)))
        return converted

    inputs = [place(atom, "in", number) for number, atom in enumerate(eqn.invars)]
    outputs = [place(var, "out", number) for number, var in enumerate(eqn.outvars)]
    names = ("query", "key", "value", *eqn.params["extra_names"])
    fields = tuple(zip(names, inputs[: len(names)], strict=True))
    own = [Pointer(address(scratch["sums"]), wide)] if "sums" in scratch else []
    arguments: tuple[Value | Record, ...] = (
        _sizes(eqn),
        Record(f"fd_attention_operands_{short}", fields),
        *inputs[len(names) :],
        *outputs,
        *own,
    )
    function = f"fd_{eqn.primitive.name}_{short}"
    cost = attention_cost(eqn, products=2 if eqn.primitive.name == "attention" else 5)
    return LibraryCall(name, HEADER, (*before, (function, arguments), *after), cost)


def _array(size: int, dtype: np.dtype[np.generic]) -> Var:
    return Var(ShapedArray((size,), dtype))


def _chunks(query: ShapedArray) -> int:
    batch, length, heads, _ = query.shape
    return max(1, min(_TASKS // max(batch * heads, 1), -(-length // _QUERIES)))


def _sizes(eqn: Eqn) -> Record:
    query, key = (atom.aval for atom in eqn.invars[:2])
    batch, length, heads, size = query.shape
    params = eqn.params
    fields: dict[str, Value] = {
        "batch": batch,
        "queries": length,
        "keys": key.shape[1],
        "heads": heads,
        "groups": key.shape[2],
        "size": size,
        "scale": params["scale"],
        "before": _EVERYWHERE if params["before"] is None else params["before"],
        "after": _EVERYWHERE if params["after"] is None else params["after"],
    }
    for number, extra in enumerate(params["extra_names"], start=3):
        if extra in ("bias", "mask"):
            fields[f"{extra}_strides"] = broadcast_strides(eqn.invars[number].aval.shape)
    if params["dropout_rate"]:
        fields["least_kept"] = least_kept(params["dropout_rate"])
        fields["kept_scale"] = 1 / (1 - params["dropout_rate"])
    if eqn.primitive.name == "attention_gradient":
        fields["chunks"] = _chunks(query)
    return Record("fd_attention_sizes", tuple(fields.items()))


def broadcast_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements between neighbours along each dimension; 0 along those of size 1."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step if extent > 1 else 0)
        step *= extent
    return tuple(reversed(strides))


def attention_cost(
    eqn: Eqn, products: int, query: Shape | None = None, key: Shape | None = None
) -> Cost:
    """As if every query saw every key, for so many products of matrices.

    `query` and `key` are shapes, by default those of the equation's operands.
    """
    batch, length, heads, size = query or eqn.invars[0].aval.shape
    keys = (key or eqn.invars[1].aval.shape)[1]
    pairs = batch * heads * length * keys
    random = _RANDOM_WORD if eqn.params["dropout_rate"] else 0
    return Cost(
        flops=pairs * (2 * products * size + 4),
        transcendentals=pairs,
        operations=pairs * (2 * products * size + 14 + random),
        bytes_read=sum(atom.aval.nbytes for atom in dict.fromkeys(eqn.invars)),
        bytes_written=sum(var.aval.nbytes for var in eqn.outvars),
    )
