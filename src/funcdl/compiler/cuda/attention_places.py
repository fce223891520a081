"""Attention that reads its operands, and writes its gradients, inside of larger arrays.

A model makes queries, keys and values by one product, whose result is cut into three, and the
gradients of the three are joined again. Kernels of attention take strides, so that nothing need be
copied: this pass, one on programs before fusion, puts `placed_attention` and its gradient in the
place of attention whose operands are strided parts of another array, or whose gradients a
concatenation joins. Cuts, reshapes and transpositions that nothing else reads go.

Rejected: *operands of the kernels that fusion sees as views*, which every pass after it would have
to know of; *strides as arguments of the launch*, since they are known with the shapes, and as
constants tell the compiler which accesses are aligned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np

from funcdl.compiler.cuda.placed_attention import GRADIENTS, OPERANDS, PLACED, Places
from funcdl.compiler.cuda.strided import Strided, contiguous
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.ops.arithmetic import add
from funcdl.ops.attention import attention_gradient
from funcdl.ops.shape import broadcast_in_dim, reshape, transpose
from funcdl.ops.slicing import concatenate, slice_

_VECTOR_BYTES = 16
_VIEWS = (slice_, reshape, transpose)


def place_attention(program: ClosedJaxpr, takes: Callable[[Eqn], bool]) -> ClosedJaxpr:
    """Attention that `takes`, a function of its equation, says kernels take, without copies."""
    jaxpr = program.jaxpr
    calls = [eqn for eqn in jaxpr.eqns if eqn.primitive in PLACED and takes(eqn)]
    if not calls:
        return program
    search = _Search(jaxpr)
    operands = search.operands(calls)
    replaced: dict[int, Eqn | None] = {}
    for eqn in calls:
        parts = [
            (n, operands[x]) for n, x in zip(OPERANDS, eqn.invars, strict=False) if x in operands
        ]
        joined = search.joined(eqn) if eqn.primitive is attention_gradient else None
        outvars: Sequence[Var] = eqn.outvars
        if joined is not None:
            outvars = [joined.var, *(v for v in eqn.outvars if v not in joined.parts)]
            named = zip(GRADIENTS, eqn.outvars, strict=True)
            parts += [(name, joined.parts[v]) for name, v in named if v in joined.parts]
            replaced |= dict.fromkeys(map(id, joined.eqns))
        if parts:
            shape = None if joined is None else joined.var.aval.shape
            roots = [operands[x].root if x in operands else x for x in eqn.invars]
            places = Places(tuple((n, p.part) for n, p in parts), shape)
            params = {**eqn.params, "places": places}
            primitive = PLACED[eqn.primitive]
            replaced[id(eqn)] = Eqn(primitive, roots, outvars, params, eqn.source)
    if not replaced:
        return program
    eqns = [replaced.get(id(eqn), eqn) for eqn in jaxpr.eqns]
    kept = _without_unread_views([eqn for eqn in eqns if eqn is not None], jaxpr.outvars)
    return ClosedJaxpr(jaxpr.replace(eqns=tuple(kept)), program.consts)


def _without_unread_views(eqns: Sequence[Eqn], outs: Sequence[Atom]) -> list[Eqn]:
    read = {atom for atom in outs if isinstance(atom, Var)}
    kept = []
    for eqn in reversed(eqns):
        if eqn.primitive not in (*_VIEWS, broadcast_in_dim) or eqn.outvars[0] in read:
            kept.append(eqn)
            read.update(atom for atom in eqn.invars if isinstance(atom, Var))
    return kept[::-1]


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of an array."""

    root: Var
    part: Strided


@dataclass(frozen=True, slots=True)
class _Joined:
    """A concatenation of gradients: its result, their places, and the equations that make it."""

    var: Var
    parts: Mapping[Var, _Place]
    eqns: Sequence[Eqn]


class _Search:
    """Finds where operands come from and where gradients go, in one program."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self._given = {*jaxpr.invars, *jaxpr.constvars}
        self._made = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
        atoms = [*jaxpr.outvars, *(atom for eqn in jaxpr.eqns for atom in eqn.invars)]
        self._uses = Counter(atom for atom in atoms if isinstance(atom, Var))
        self._joining: dict[Atom, Eqn] = {}
        for eqn in jaxpr.eqns:
            if eqn.primitive is concatenate:
                for atom, _, uses in self._joined(eqn)[:1]:
                    chain = list(self._back(atom, uses))
                    self._joining[chain[-1].invars[0] if chain else atom] = eqn
        self._places: dict[Var, _Place] = {}

    def operands(self, calls: Sequence[Eqn]) -> dict[Atom, _Place]:
        """The operands that are parts of an array which is in memory, or all of which is read.

        An array that nothing else needs in memory would be stored for a part of it alone.
        """
        found: dict[Atom, _Place] = {}
        for var in (atom for eqn in calls for atom in eqn.invars[:3]):
            place = self._place(var) if isinstance(var, Var) else None
            if place is None or (
                place.root.aval.size == var.aval.size and place.part == contiguous(var.aval.shape)
            ):
                continue  # the array itself, which its kernel writes in this shape
            if _fits(place.part, var.aval.dtype):
                found[var] = place
        read: Counter[Var] = Counter()
        for root, part in {(place.root, place.part) for place in found.values()}:
            read[root] += prod(part.shape)
        return {
            var: place
            for var, place in found.items()
            if place.root in self._given or read[place.root] >= place.root.aval.size
        }

    def _place(self, var: Var) -> _Place:
        """Where the elements of a variable are, in the array that views were made of."""
        chain: list[Eqn] = []
        while var not in self._places:
            eqn = self._made.get(var)
            source = eqn.invars[0] if eqn is not None and eqn.primitive in _VIEWS else None
            if eqn is None or not isinstance(source, Var):
                self._places[var] = _Place(var, contiguous(var.aval.shape))
                break
            chain.append(eqn)
            var = source
        place = self._places[var]
        for eqn in reversed(chain):
            (var,) = eqn.outvars
            part = _viewed(place.part, eqn)
            place = _Place(place.root, part) if part else _Place(var, contiguous(var.aval.shape))
            self._places[var] = place
        return place

    def joined(self, eqn: Eqn) -> _Joined | None:
        """The concatenation that does nothing but join gradients of an attention."""
        found = (self._join(eqn, self._joining[var]) for var in eqn.outvars if var in self._joining)
        return next(filter(None, found), None)

    def _join(self, eqn: Eqn, concatenation: Eqn) -> _Joined | None:
        (whole,) = concatenation.outvars
        dimension, place = concatenation.params["dimension"], contiguous(whole.aval.shape)
        eqns, parts, start = [concatenation], {}, 0
        for atom, cuts, uses in self._joined(concatenation):
            chain = list(self._back(atom, uses))
            source = chain[-1].invars[0] if chain else atom
            wanted = 1 if chain else uses
            if source not in eqn.outvars or source in parts or self._uses[source] != wanted:
                return None
            assert isinstance(source, Var)
            size = atom.aval.shape[dimension]
            part: Strided | None = place.cut(dimension, start, size)
            for step in chain:
                part = part and _unviewed(part, step)
            if part is None or not _fits(part, source.aval.dtype):
                return None
            parts[source] = _Place(whole, part)
            eqns += [*cuts, *chain]
            start += size
        return _Joined(whole, parts, eqns) if parts else None

    def _joined(self, concatenation: Eqn) -> list[tuple[Var, list[Eqn], int]]:
        """What a concatenation joins, with the equations that cut it, and how many cuts read it.

        An array all of whose pieces are joined again, side by side, counts as itself.
        """
        dimension, atoms = concatenation.params["dimension"], concatenation.invars
        found: list[tuple[Var, list[Eqn], int]] = []
        number = 0
        while number < len(atoms):
            atom = atoms[number]
            if not isinstance(atom, Var):
                return []
            whole = self._whole(atoms[number:], dimension)
            found.append(whole or (atom, [], 1))
            number += 1 if whole is None else whole[2]
        return found

    def _whole(self, atoms: Sequence[Atom], dimension: int) -> tuple[Var, list[Eqn], int] | None:
        """An array whose pieces are the first atoms, how they are cut, and how many they are."""
        eqns: list[Eqn] = []
        whole: Var | None = None
        end = 0
        for count, atom in enumerate(atoms, 1):
            piece = self._piece(atom, dimension)
            if piece is None or piece[1] != end or whole not in (None, piece[0]):
                return None
            whole = piece[0]
            eqns += piece[2]
            end += atom.aval.shape[dimension]
            if end == whole.aval.shape[dimension]:
                return whole, eqns, count
        return None

    def _piece(self, atom: Atom, dimension: int) -> tuple[Var, int, list[Eqn]] | None:
        """The array that an atom is cut from along one dimension, where, and how it comes here."""
        chain = list(self._back(atom))
        last = chain[-1].invars[0] if chain else atom
        cut = self._made.get(last) if isinstance(last, Var) else None
        whole = cut.invars[0] if cut is not None and cut.primitive is slice_ else None
        if cut is None or not isinstance(whole, Var) or self._uses[cut.outvars[0]] != 1:
            return None
        every, size = contiguous(whole.aval.shape), atom.aval.shape[dimension]
        start = cut.params["start_indices"][dimension]
        sums = all(step.primitive is add for step in chain)
        if not sums or _viewed(every, cut) != every.cut(dimension, start, size):
            return None
        return whole, start, [*chain, cut]

    def _back(self, var: Atom, uses: int = 1) -> Iterator[Eqn]:
        """The views through which alone a value reaches its reader, and sums with zeros.

        A zero may so have another sign than the sum has. `uses` are those of the last view.
        """
        while isinstance(var, Var) and self._uses[var] == uses and var in self._made:
            eqn = self._made[var]
            rest = eqn.primitive is add and self._is_zero(eqn.invars[1])
            if not rest and eqn.primitive not in (reshape, transpose):
                return
            yield eqn
            var, uses = eqn.invars[0], 1

    def _is_zero(self, atom: Atom) -> bool:
        eqn = self._made.get(atom) if isinstance(atom, Var) else None
        if eqn is not None and eqn.primitive is broadcast_in_dim:
            return self._is_zero(eqn.invars[0])
        return isinstance(atom, Literal) and not np.any(atom.value.value)


def _fits(part: Strided, dtype: np.dtype[Any]) -> bool:
    """Whether rows of heads lie side by side, and no less aligned than in an array of their own."""
    *outer, size = part.shape
    *steps, step = part.strides
    aligned = gcd(_VECTOR_BYTES, size * dtype.itemsize)
    moved = [part.offset, *(s for s, n in zip(steps, outer, strict=True) if n > 1)]
    near = part.strides[1] * part.shape[1] < 2**31
    level = all(m * dtype.itemsize % aligned == 0 for m in moved)
    return near and level and (step == 1 or size == 1)


def _viewed(part: Strided, eqn: Eqn) -> Strided | None:
    if eqn.primitive is transpose:
        return part.permuted(eqn.params["permutation"])
    if eqn.primitive is reshape:
        return part.reshaped(eqn.outvars[0].aval.shape)
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    if eqn.params["strides"] is not None:
        return None
    for dimension, (start, limit) in enumerate(zip(starts, limits, strict=True)):
        part = part.cut(dimension, start, limit - start)
    return part


def _unviewed(part: Strided, eqn: Eqn) -> Strided | None:
    """Where the operand of a view, or of a sum with zeros, is if its result is here."""
    if eqn.primitive is transpose:
        permutation = eqn.params["permutation"]
        return part.permuted([permutation.index(d) for d in range(len(permutation))])
    return part.reshaped(eqn.invars[0].aval.shape)
