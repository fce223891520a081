"""Calls of functions of structure: contractions, editing, index helpers, blocks, number parts."""

from __future__ import annotations

import numpy as np
from tests.numpy.cases import Case, M, case

EINSUM: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("ij,jk->ik", ((2, 3), (3, 4))),
    ("ij,jk", ((2, 3), (3, 4))),
    ("ij,kj->ki", ((2, 3), (4, 3))),
    ("bij,bjk->bik", ((5, 2, 3), (5, 3, 4))),
    ("bqhd,bkhd->bhqk", ((2, 4, 3, 5), (2, 6, 3, 5))),
    ("ii", ((3, 3),)),
    ("ii->i", ((3, 3),)),
    ("iji->j", ((3, 2, 3),)),
    ("iii->i", ((2, 2, 2),)),
    ("ba", ((2, 3),)),
    ("ij->j", ((2, 3),)),
    ("ij->", ((2, 3),)),
    ("i,j->ji", ((2,), (3,))),
    ("ij,ij->ij", ((1, 3), (2, 3))),
    ("ij,ij->", ((2, 3), (2, 3))),
    ("ij,k->i", ((2, 3), (4,))),
    ("...ij,...jk", ((5, 2, 3), (3, 4))),
    ("...ij,...jk->...ik", ((5, 1, 2, 3), (7, 3, 4))),
    ("i...->...", ((2, 3, 4),)),
    ("b...c,c->...b", ((2, 3, 4, 5), (5,))),
    ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5))),
    ("ijk,jk,k->i", ((2, 3, 4), (3, 4), (4,))),
    ("ii,ij,jk->k", ((3, 3), (3, 2), (2, 4))),
    (",ij->ji", ((), (2, 3))),
    ("ij,jk->ik", ((2, 0), (0, 3))),
    ("Ab, bC -> AC", ((2, 3), (3, 4))),
]

CONTRACTIONS = [
    *(
        case(f"einsum({text})", lambda m, *xs, t=text: m.einsum(t, *xs), *shapes)
        for text, shapes in EINSUM
    ),
    *(
        case(
            f"einsum(optimize={optimize})",
            lambda m, x, y, z, o=optimize: m.einsum("ij,jk,kl->il", x, y, z, optimize=o),
            (2, 3),
            (3, 4),
            (4, 5),
        )
        for optimize in (False, True, "greedy", ["einsum_path", (1, 2), (0, 1)])
    ),
    case(
        "einsum(lists)",
        lambda m, x, y: m.einsum(x, [0, ..., 1], y, [1, 2], [2, ..., 0]),
        (2, 5, 3),
        (3, 4),
    ),
    case("einsum(lists, implicit)", lambda m, x, y: m.einsum(x, [1, 0], y, [1, 2]), M, (3, 2)),
    *(
        case(name, lambda m, x, y, n=name: getattr(m, n)(x, y), *shapes, np_=hasattr(np, name))
        for name, shapes in [
            ("matvec", ((5, 2, 3), (3,))),
            ("matvec", ((2, 3), (5, 3))),
            ("vecmat", ((5, 2), (5, 2, 3))),
        ]
    ),
    case("cross", lambda m, x, y: m.cross(x, y), (4, 3), (3,)),
    case("cross(axis)", lambda m, x, y: m.cross(x, y, axis=0), (3, 4), (3, 4)),
]

_PLACES = np.array([2, 0, 2])

EDITING = [
    case("delete", lambda m, x: m.delete(x, np.array([0, -1]), axis=1)),
    case("delete(slice)", lambda m, x: m.delete(x, slice(0, 3, 2), axis=0)),
    case("delete(None)", lambda m, x: m.delete(x, 3)),
    case("insert", lambda m, x, v: m.insert(x, 1, v, axis=1), M, (3,)),
    case("insert(places)", lambda m, x, v: m.insert(x, _PLACES, v, axis=1), M, (3, 3)),
    case("insert(None)", lambda m, x, v: m.insert(x, np.array([5, 1]), v), M, (2,)),
    case("resize", lambda m, x: m.resize(x, (4, 5))),
    case("block", lambda m, x, y: m.block([[x, y], [m.ones((1, 6))]]), M, (3, 2)),
    case("hsplit", lambda m, x: m.hsplit(x, 2)),
    case("vsplit", lambda m, x: m.vsplit(x, np.array([1]))),
    case("dsplit", lambda m, x: m.dsplit(x, 2), (2, 3, 4)),
    case("rollaxis", lambda m, x: m.rollaxis(x, 2, 1), (2, 3, 4)),
    case("diagflat", lambda m, x: m.diagflat(x, 1), (2, 2)),
    case("r_", lambda m, x, y: m.r_[x, y, 0:2], (3,), (2,)),
    case("c_", lambda m, x, y: m.c_[x, y], (3,), (3,)),
    case("ix_", lambda m, x: x[m.ix_(np.array([2, 0]), np.array([True, False, True, True]))]),
    case("choose", lambda m, x, y: m.choose(np.array([0, 1, 1, 0]), [x, y]), M, M),
    case(
        "piecewise",
        lambda m, x: m.piecewise(x, [x < 0, x > 1], [lambda t: -t, lambda t: t * t, 0.25]),
    ),
    case("apply_along_axis", lambda m, x: m.apply_along_axis(m.cumsum, 1, x), (2, 3, 4)),
    case("apply_over_axes", lambda m, x: m.apply_over_axes(m.sum, x, [0, 2]), (2, 3, 4)),
    case("meshgrid(sparse)", lambda m, x, y: list(m.meshgrid(x, y, sparse=True)), (3,), (4,)),
    case("logspace", lambda m, x, y: m.logspace(x, y, 4, base=2.0), (3,), ()),
]

NUMBERS = [
    case("sinc", lambda m, x: m.sinc(x)),
    case("sinc(near 0)", lambda m, x: m.sinc(x / 100)),
    case("i0", lambda m, x: m.i0(x)),
    case("ldexp", lambda m, x: m.ldexp(x, np.array([2, -3, 0, 5]))),
    case("frexp", lambda m, x: m.frexp(x)[0]),
    case("frexp(exponent)", lambda m, x: m.frexp(x)[1], diff=False),
    case("modf", lambda m, x: m.modf(x)[0]),
    case("spacing", lambda m, x: m.spacing(x), diff=False),
    case("isreal", lambda m, x: m.isreal(x), diff=False),
    case("packbits", lambda m, x: m.packbits(x > 0, axis=0), diff=False),
    case("unpackbits", lambda m, x: m.unpackbits(m.packbits(x > 0), count=5), diff=False),
    case("gcd", lambda m, x: m.gcd(m.asarray(x * 50, dtype=int), 12), diff=False),
    case("lcm", lambda m, x: m.lcm(m.asarray(x * 50, dtype=int), 12), diff=False),
    case("bitwise_count", lambda m, x: m.bitwise_count(m.asarray(x * 50, dtype=int)), diff=False),
]

CASES: list[Case] = [*CONTRACTIONS, *EDITING, *NUMBERS]
