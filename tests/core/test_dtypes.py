from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.config import config
from funcdl.core import dtypes, lattice
from funcdl.core.dtypes import SUPPORTED
from funcdl.core.lattice import LatticeType

MODES = ("explicit", "off", "on")
SUPPORTED_NAMES = (
    "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, "
    "float64, complex64, complex128"
)
SHORT = ["bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32"]
SHORT += ["f64", "c64", "c128"]
D = dict(zip(SHORT, SUPPORTED, strict=True))
TO_32 = {D["i64"]: D["i32"], D["u64"]: D["u32"], D["f64"]: D["f32"], D["c128"]: D["c64"]}
EVERY_TYPE = [(dtype, weak) for dtype in SUPPORTED for weak in (False, True)]


class Shade(enum.IntEnum):
    DARK = 1


@dataclass
class Typed:
    dtype: Any
    weak_type: bool = False


@pytest.fixture(autouse=True, scope="module")
def default_mode() -> Iterator[None]:
    with config.override(x64="explicit"):
        yield


@pytest.fixture(params=MODES)
def x64(request: pytest.FixtureRequest) -> Iterator[str]:
    with config.override(x64=request.param):
        yield request.param


# Names


def test_supported_dtypes_and_their_names() -> None:
    assert ", ".join(dtype.name for dtype in SUPPORTED) == SUPPORTED_NAMES
    assert [dtypes.short_name(dtype) for dtype in SUPPORTED] == SHORT
    for name in [*SHORT, "float0"]:
        assert dtypes.short_name(dtypes.from_short_name(name)) == name


def test_unknown_short_name() -> None:
    with pytest.raises(ValueError) as caught:
        dtypes.from_short_name("f8")
    assert str(caught.value) == (
        f"unknown short dtype name 'f8'; use one of: {', '.join(SHORT)}, float0"
    )


@pytest.mark.parametrize("dtype", SUPPORTED, ids=str)
def test_as_dtype_of_every_spelling(dtype: np.dtype[Any]) -> None:
    scalar = getattr(dtypes, "bool_" if dtype.name == "bool" else dtype.name)
    for spelling in (dtype, dtype.type, scalar, dtype.name, np.zeros(1, dtype).dtype):
        assert dtypes.as_dtype(spelling) is dtype


@pytest.mark.parametrize(
    ("spelling", "short"),
    [
        ("f4", "f32"),
        ("=i8", "i64"),
        ("?", "bool"),
        ("c16", "c128"),
        ("half", "f16"),
        (np.longlong, "i64"),
        (np.dtype("q"), "i64"),
        (np.ulonglong, "u64"),
        (np.intc, "i32"),
    ],
)
def test_as_dtype_of_numpy_aliases(spelling: Any, short: str) -> None:
    assert dtypes.as_dtype(spelling) is D[short]


PYTHON_TYPES = {
    "explicit": {bool: "bool", int: "i32", float: "f32", complex: "c64"},
    "off": {bool: "bool", int: "i32", float: "f32", complex: "c64"},
    "on": {bool: "bool", int: "i64", float: "f64", complex: "c128"},
}


def test_python_types_stand_for_the_defaults(x64: str) -> None:
    for scalar, short in PYTHON_TYPES[x64].items():
        assert dtypes.as_dtype(scalar) is D[short]
        assert dtypes.as_dtype(scalar.__name__) is D[short]
        assert dtypes.scalar_dtype(scalar) is D[short]
        assert dtypes.scalar_dtype(scalar(1)) is D[short]
        assert lattice.result_type(scalar) is D[short]
        assert lattice.result_type(scalar(1)) is D[short]
    assert dtypes.scalar_dtype(Shade.DARK) is lattice.result_type(Shade.DARK)
    assert dtypes.scalar_dtype(Shade) is D[PYTHON_TYPES[x64][int]]
    assert dtypes.default_dtype("u") is D["u64" if x64 == "on" else "u32"]


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (object, "object"),
        (str, "str"),
        ("object", "'object'"),
        ("S3", "'S3'"),
        ("datetime64[s]", "'datetime64[s]'"),
        ("no such type", "'no such type'"),
        ("f4,f4", "'f4,f4'"),
        ("f32", "'f32'"),
        (np.longdouble, "longdouble"),
        (np.dtype(np.timedelta64), "'timedelta64'"),
        (np.dtype(ml_dtypes.float8_e5m2), "'float8_e5m2'"),
        (np.floating, "floating"),
        (np.generic, "generic"),
        (dtypes.float0, repr(dtypes.float0.name)),
        (None, "None"),
        (3, "3"),
        ([], "[]"),
        (np.ones(2), "given as an array of float64"),
    ],
    ids=str,
)
def test_as_dtype_refuses(wrong: Any, shown: str) -> None:
    with pytest.raises(TypeError) as caught:
        dtypes.as_dtype(wrong)
    assert str(caught.value) == f"dtype {shown} is not supported; use one of: {SUPPORTED_NAMES}"


def test_as_dtype_refuses_foreign_byte_order() -> None:
    foreign = np.dtype(np.float32).newbyteorder()
    with pytest.raises(TypeError) as caught:
        dtypes.as_dtype(foreign)
    assert str(caught.value) == (
        f"dtype {foreign.str!r} is not in this machine's byte order; convert the array with "
        "x.astype('float32')"
    )


@pytest.mark.parametrize("wrong", ["1", np.float64(1), np.float64, None], ids=repr)
def test_scalar_dtype_refuses(wrong: Any) -> None:
    with pytest.raises(TypeError) as caught:
        dtypes.scalar_dtype(wrong)
    assert str(caught.value) == f"expected a Python bool, int, float or complex, got {wrong!r}"


# The 64-bit policy


def test_canonicalize(x64: str) -> None:
    for dtype in [*SUPPORTED, dtypes.float0]:
        wanted = TO_32.get(dtype, dtype) if x64 == "off" else dtype
        assert dtypes.canonicalize(dtype) is wanted


def test_explicit_keeps_64_bits_of_arrays_only() -> None:
    assert lattice.result_type(np.ones(2), 1.0) == np.float64
    assert lattice.result_type(np.float64(1), np.float32(1)) == np.float64
    assert lattice.result_type(np.arange(2, dtype=np.int64), 1) == np.int64
    assert lattice.result_type(np.arange(2, dtype=np.int64), 1.0) == np.float32
    assert lattice.result_type(np.uint32, np.int32) == np.int32
    assert lattice.result_type(1, 2.0) == np.float32


@given(st.lists(st.sampled_from(EVERY_TYPE), min_size=1, max_size=4))
def test_off_never_gives_64_bits_and_cuts_first(types: list[LatticeType]) -> None:
    with config.override(x64="off"):
        found = lattice.lattice_join(*types)
        assert found[0] not in TO_32
        assert found == lattice.lattice_join(*[(TO_32.get(d, d), weak) for d, weak in types])
        assert lattice.result_type(*[Typed(*each) for each in types]) not in TO_32


@given(st.lists(st.sampled_from(EVERY_TYPE), min_size=1, max_size=4))
def test_explicit_makes_no_64_bits_out_of_32(types: list[LatticeType]) -> None:
    narrow = [(TO_32.get(dtype, dtype), weak) for dtype, weak in types]
    assert lattice.lattice_join(*narrow)[0] not in TO_32


def test_a_change_of_mode_is_not_hidden_by_the_cache() -> None:
    pair = ((D["u32"], False), (D["i32"], False))
    found = []
    for mode in ("on", "explicit", "on", "off"):
        with config.override(x64=mode):
            found.append(dtypes.short_name(lattice.lattice_join(*pair)[0]))
    assert found == ["i64", "i32", "i64", "i32"]


# Kinds

KINDS = {"b": ["bool"], "i": SHORT[1:5], "u": SHORT[5:9], "f": SHORT[9:13], "c": SHORT[13:]}
PREDICATES = {
    dtypes.is_bool: "b",
    dtypes.is_signed: "i",
    dtypes.is_unsigned: "u",
    dtypes.is_integer: "iu",
    dtypes.is_float: "f",
    dtypes.is_complex: "c",
    dtypes.is_inexact: "fc",
}
ABSTRACT = {
    dtypes.generic: "biufc",
    dtypes.number: "iufc",
    dtypes.integer: "iu",
    dtypes.signedinteger: "i",
    dtypes.unsignedinteger: "u",
    dtypes.inexact: "fc",
    dtypes.floating: "f",
    dtypes.complexfloating: "c",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    for dtype in [D[short] for short in KINDS[kind]]:
        assert dtypes.kind(dtype) == dtypes.kind(dtype.type) == kind
        for predicate, kinds in PREDICATES.items():
            assert predicate(dtype) is predicate(dtype.type) is (kind in kinds)
        for abstract, kinds in ABSTRACT.items():
            assert dtypes.issubdtype(dtype, abstract) is (kind in kinds)
            assert dtypes.issubdtype(dtype.type, abstract) is (kind in kinds)
        for other in SUPPORTED:
            assert dtypes.issubdtype(dtype, other) is (dtype == other)


def test_float0_is_of_no_kind() -> None:
    assert dtypes.kind(dtypes.float0) == ""
    assert not any(predicate(dtypes.float0) for predicate in PREDICATES)
    assert np.zeros(3, dtypes.float0).nbytes == 0


@pytest.mark.parametrize("short", KINDS["f"])
def test_finfo_agrees_with_arithmetic(short: str) -> None:
    scalar, info = D[short].type, dtypes.finfo(D[short])
    assert scalar(1) + scalar(info.eps) != scalar(1)
    assert scalar(1) + scalar(info.eps) / scalar(4) == scalar(1)
    assert np.isfinite(scalar(info.max)) and info.min == -info.max


@pytest.mark.parametrize("short", KINDS["i"] + KINDS["u"])
def test_iinfo_is_what_check_python_int_enforces(short: str) -> None:
    dtype, info = D[short], dtypes.iinfo(D[short])
    for fits in (info.min, 0, info.max):
        dtypes.check_python_int(fits, dtype)
        assert int(np.array(fits, dtype)) == fits
    for value in (info.min - 1, info.max + 1):
        with pytest.raises(OverflowError) as caught:
            dtypes.check_python_int(value, dtype)
        assert str(caught.value) == (
            f"Python int {value} does not fit in {dtype.name}, which holds {info.min} to "
            f"{info.max}; use a wider dtype or a float"
        )


def test_check_python_int_of_other_kinds() -> None:
    for short in ("bool", *KINDS["f"], *KINDS["c"]):
        dtypes.check_python_int(2**70, D[short])
    with pytest.raises(OverflowError) as caught:
        dtypes.check_python_int(10**400, D["f32"])
    assert str(caught.value) == (
        "a Python int of 1329 bits does not fit in float32; pass a float, which may be infinite"
    )


REAL_PARTS = {D["c64"]: D["f32"], D["c128"]: D["f64"]}


def test_real_and_complex_dtypes() -> None:
    for dtype in SUPPORTED:
        assert dtypes.real_dtype(dtype) is REAL_PARTS.get(dtype, dtype)
    wide = [short for short in SHORT if dtypes.complex_dtype(D[short]) is D["c128"]]
    assert wide == ["i64", "u64", "f64", "c128"]
    assert {dtypes.complex_dtype(D[s]) for s in SHORT if s not in wide} == {D["c64"]}
    with config.override(x64="off"):
        assert {dtypes.complex_dtype(dtype) for dtype in SUPPORTED} == {D["c64"]}


def test_to_inexact(x64: str) -> None:
    for dtype in SUPPORTED:
        found = dtypes.to_inexact(dtype)
        if dtype.kind in "biu":
            wide = dtype.itemsize == 8 and x64 != "off"
            assert found is D["f64" if wide else "f32"]
        else:
            assert found is dtypes.canonicalize(dtype)


# Promotion


@pytest.mark.parametrize(
    ("a", "b", "joined"),
    [
        (np.uint8, np.int8, "i16"),
        (np.uint16, np.int8, "i32"),
        (np.uint32, np.int8, "i64"),
        (np.uint64, np.int64, "f64"),
        (np.int64, np.float16, "f16"),
        (np.float16, dtypes.bfloat16, "f32"),
        (np.float64, np.complex64, "c128"),
        (np.bool_, int, "i64"),
        (np.int8, float, "f64"),
        (dtypes.bfloat16, float, "bf16"),
        (dtypes.bfloat16, complex, "c64"),
        ("uint8", int, "u8"),
        (np.bool_, np.bool_, "bool"),
    ],
)
def test_promote_types_with_64_bit_defaults(a: Any, b: Any, joined: str) -> None:
    with config.override(x64="on"):
        assert lattice.promote_types(a, b) is lattice.promote_types(b, a) is D[joined]


@pytest.mark.parametrize(
    ("arg", "short", "weak"),
    [
        (True, "bool", False),
        (1, "i32", True),
        (1.0, "f32", True),
        (1j, "c64", True),
        (Shade.DARK, "i32", True),
        (int, "i32", True),
        (bool, "bool", False),
        (np.float64(1), "f64", False),
        (np.bool_(True), "bool", False),
        (np.ones(2, np.int8), "i8", False),
        (np.uint16, "u16", False),
        ("bfloat16", "bf16", False),
        (Typed(np.dtype(np.int16), True), "i16", True),
        (Typed(np.float16), "f16", False),
    ],
    ids=repr,
)
def test_lattice_type_of_an_argument(arg: Any, short: str, weak: bool) -> None:
    assert lattice.lattice_type(arg) == (D[short], weak)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lattice.result_type(), "result_type needs at least one array, scalar or dtype"),
        (lambda: lattice.lattice_join(), "lattice_join needs at least one (dtype, weak) pair"),
        (
            lambda: lattice.result_type(1, None),
            "result_type: cannot find a dtype for None: pass an array, a scalar or a dtype",
        ),
        (
            lambda: lattice.result_type([1, 2]),
            "result_type: cannot find a dtype for [1, 2]: pass an array, a scalar or a dtype",
        ),
        (
            lambda: lattice.result_type(np.array(["a"])),
            f"result_type: dtype 'str32' is not supported; use one of: {SUPPORTED_NAMES}",
        ),
        (
            lambda: lattice.promote_types(np.float32, 1.0),
            f"promote_types: dtype 1.0 is not supported; use one of: {SUPPORTED_NAMES}",
        ),
        (
            lambda: lattice.lattice_join((dtypes.float0, False), (D["f32"], False)),
            "dtype float0 takes no part in promotion",
        ),
    ],
)
def test_promotion_errors(call: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message


# Laws. A weak dtype that is not its kind's default (a weak int8) comes only from a cast; joins
# with it are commutative, but not associative, in JAX as well.
lattice_types = st.sampled_from(EVERY_TYPE)
strong_types = [(dtype, False) for dtype in SUPPORTED]


def plain_types() -> list[LatticeType]:
    return strong_types + [(dtypes.default_dtype(kind), True) for kind in "ifc"]


def canonical(each: LatticeType) -> LatticeType:
    return dtypes.canonicalize(each[0]), each[1]


def test_join_is_idempotent(x64: str) -> None:
    for each in plain_types():
        assert lattice.lattice_join(each) == lattice.lattice_join(each, each) == canonical(each)


def test_join_is_commutative(x64: str) -> None:
    for a, b in itertools.product(EVERY_TYPE, repeat=2):
        assert lattice.lattice_join(a, b) == lattice.lattice_join(b, a)


def test_join_is_associative(x64: str) -> None:
    join = lattice.lattice_join
    for a, b, c in itertools.product(plain_types(), repeat=3):
        assert join(join(a, b), c) == join(a, join(b, c)) == join(a, b, c)


def test_join_is_an_upper_bound(x64: str) -> None:
    join = lattice.lattice_join
    for a, b in itertools.product(plain_types(), repeat=2):
        assert join(a, join(a, b)) == join(a, b)


def test_weak_gives_way_to_strong_of_its_kind_or_above(x64: str) -> None:
    order = "biufc"
    for strong, weak in itertools.product(SUPPORTED, repeat=2):
        if order.index(dtypes.kind(strong)) >= order.index(dtypes.kind(weak)) or (
            dtypes.is_integer(strong) and dtypes.is_integer(weak)
        ):
            joined = lattice.lattice_join((strong, False), (weak, True))
            assert joined == canonical((strong, False))


@given(st.lists(lattice_types, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_order_of_arguments_does_not_matter(types: list[LatticeType], random: Any) -> None:
    shuffled = random.sample(types, len(types))
    assert lattice.lattice_join(*types) == lattice.lattice_join(*shuffled)


@given(st.lists(lattice_types, min_size=1, max_size=5), st.sampled_from(MODES))
def test_result_type_is_the_join_with_weak_results_at_the_default(
    types: list[LatticeType], mode: str
) -> None:
    with config.override(x64=mode):
        dtype, weak = lattice.lattice_join(*types)
        wanted = dtypes.default_dtype(dtypes.kind(dtype)) if weak else dtype
        assert lattice.result_type(*[Typed(*each) for each in types]) is wanted


# JAX


@contextmanager
def jax_mode(mode: str) -> Iterator[Any]:
    jax = pytest.importorskip("jax")
    if mode == "explicit" and not hasattr(jax.config, "jax_explicit_x64_dtypes"):
        pytest.skip("this JAX has no jax_explicit_x64_dtypes")
    flags = {"jax_enable_x64": mode == "on"}
    flags |= {"jax_explicit_x64_dtypes": "allow"} if mode == "explicit" else {}
    old = {name: getattr(jax.config, name) for name in flags}
    try:
        for name, value in flags.items():
            jax.config.update(name, value)
        yield jax
    finally:
        for name, value in old.items():
            jax.config.update(name, value)


# In "off" there are no 64-bit types to give to JAX; in "explicit", JAX keeps those of a ``dtype=``
# argument only, so that arguments are made inside the traced function.
JAX_MODES = [("on", SUPPORTED), ("off", tuple(d for d in SUPPORTED if d not in TO_32))]


@pytest.mark.peers
@pytest.mark.parametrize(("mode", "supported"), JAX_MODES, ids=["on", "off"])
def test_the_whole_promotion_table_is_that_of_jax(
    mode: str, supported: tuple[np.dtype[Any], ...]
) -> None:
    """Every pair of dtypes, weak and not, through ``jax.numpy``'s own addition."""
    types = [each for each in EVERY_TYPE if each[0] in supported]
    pairs = list(itertools.product(range(len(types)), repeat=2))
    with jax_mode(mode) as jax:
        arguments = [jax.ShapeDtypeStruct((), d, weak_type=weak) for d, weak in types]
        sums = jax.eval_shape(lambda xs: [jax.numpy.add(xs[i], xs[j]) for i, j in pairs], arguments)
    with config.override(x64=mode):
        ours = {(i, j): lattice.lattice_join(types[i], types[j]) for i, j in pairs}
    theirs = {pair: (each.dtype, each.weak_type) for pair, each in zip(pairs, sums, strict=True)}
    assert ours == theirs


@pytest.mark.peers
def test_the_promotion_table_of_explicit_is_that_of_jax() -> None:
    types = plain_types()
    pairs = list(itertools.product(range(len(types)), repeat=2))
    with jax_mode("explicit") as jax:

        def add_all() -> list[Any]:
            values = [
                dtype.type(0).item() if weak else jax.numpy.zeros((), dtype)
                for dtype, weak in types
            ]
            return [jax.numpy.add(values[i], values[j]) for i, j in pairs]

        sums = jax.eval_shape(add_all)
    for (i, j), found in zip(pairs, sums, strict=True):
        assert lattice.lattice_join(types[i], types[j]) == (found.dtype, found.weak_type)


def test_explicit_is_off_where_no_64_bit_type_takes_part() -> None:
    types = [each for each in EVERY_TYPE if each[0] not in TO_32]
    for pair in itertools.product(types, repeat=2):
        explicit = lattice.lattice_join(*pair)
        with config.override(x64="off"):
            assert lattice.lattice_join(*pair) == explicit


@pytest.mark.peers
@pytest.mark.parametrize(("mode", "supported"), JAX_MODES, ids=["on", "off"])
def test_python_scalars_and_numpy_arrays_promote_as_in_jax(
    mode: str, supported: tuple[np.dtype[Any], ...]
) -> None:
    args = [True, 1, 1.0, 1j, *(np.ones((), dtype) for dtype in supported)]
    with jax_mode(mode) as jax, config.override(x64=mode):
        for pair in itertools.product(args, repeat=2):
            assert lattice.result_type(*pair) == jax.numpy.result_type(*pair), pair


@pytest.mark.peers
def test_to_inexact_is_that_of_jax(x64: str) -> None:
    types = [dtype for dtype in SUPPORTED if x64 != "off" or dtype not in TO_32]
    with jax_mode(x64) as jax:
        found = jax.eval_shape(
            lambda: [jax.numpy.sin(jax.numpy.zeros((), dtype)) for dtype in types]
        )
    assert [dtypes.to_inexact(dtype) for dtype in types] == [each.dtype for each in found]


@pytest.mark.peers
def test_issubdtype_and_float0_are_those_of_jax() -> None:
    jax = pytest.importorskip("jax")
    assert dtypes.float0 == jax.dtypes.float0
    for a, b in itertools.product(SUPPORTED, [*SUPPORTED, *ABSTRACT]):
        assert dtypes.issubdtype(a, b) == jax.numpy.issubdtype(a, b), (a, b)
