"""Eager applications of primitives: the extension's and their twins, for every primitive."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.dispatch.compare import describe
from tests.dispatch.test_lifetimes import assert_counts_stay
from tests.dispatch.test_operators import needs_numpy_2
from tests.ops.table import ELEMENTWISE, OPS, assert_close, outputs, samples

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dispatch as dispatching
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.primitive import Primitive, never_weak
from funcdl.ops import arithmetic, comparison, select, shape
from funcdl.ops.convert import convert_element_type

TWIN = dispatching._BIND


@pytest.fixture
def bind(native: ModuleType) -> Any:
    """What applies primitives; the test fails where its twin is asked."""

    def refuse(primitive: Primitive, *args: Any, **params: Any) -> None:
        raise AssertionError(f"{primitive} was left to the twin")

    return native.Binder(refuse)


def outcome(function: Any, primitive: Primitive, args: Any, params: Any) -> tuple[Any, Any]:
    """What a caller can see, elements apart, and these."""
    arrays = [x if isinstance(x, Array) else Array(x.copy()) for x in args]
    try:
        result = function(primitive, *arrays, **params)
    except Exception as error:
        return (type(error), str(error)), []
    found = outputs(result)
    flags = [not x.is_deleted() and x.value.flags.writeable for x in arrays]
    values = [x.value for x in found]  # which makes arrays of scalars
    seen = [[fact for fact in describe(x) if type(fact) is not bytes] for x in found]
    return (type(result), seen, flags), values


def assert_same(function: Any, primitive: Primitive, args: Any, params: Any) -> None:
    seen, values = outcome(function, primitive, args, params)
    expected, wanted = outcome(TWIN, primitive, args, params)
    assert seen == expected, (primitive, args, params)
    for x, y in zip(values, wanted, strict=True):
        assert_close(x, y, 2, x.dtype)  # NumPy's last bit can depend on where the memory starts


def weak_versions(args: Any) -> list[list[Array]]:
    """The operands as arrays: the first weakly typed, the last, all."""
    last = len(args) - 1
    chosen: list[set[int]] = [{0}, {last}, set(range(len(args)))]
    return [[Array(x.copy(), i in weak) for i, x in enumerate(args)] for weak in chosen]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", sorted(OPS))
def test_primitives_agree(name: str, native: ModuleType) -> None:
    fast = native.Binder(TWIN)
    primitive = OPS[name].primitive
    for dtype in OPS[name].dtypes:
        for sample in samples(name, dtype):
            assert_same(fast, primitive, sample.args, sample.params)
            for args in weak_versions(sample.args) if sample.args else []:
                assert_same(fast, primitive, args, sample.params)


def is_left_to_the_twin(primitive: Primitive) -> bool:
    """Whether it has several results, or an evaluation or effects of its own."""
    own = primitive.eval, primitive.effect
    return primitive.multiple_results or own != (None, None)


def applied(bind: Any, name: str) -> Any:
    sample = next(samples(name, OPS[name].dtypes[0]))
    return bind(OPS[name].primitive, *map(Array, sample.args), **sample.params)


LEFT = sorted(name for name, op in OPS.items() if is_left_to_the_twin(op.primitive))


@needs_numpy_2
@pytest.mark.parametrize("name", sorted(set(OPS) - set(LEFT)))
def test_primitives_with_one_result_are_served(name: str, bind: Any) -> None:
    assert type(applied(bind, name)) is Array


@pytest.mark.parametrize("name", LEFT)
def test_others_are_left_to_the_twin(name: str, bind: Any) -> None:
    with pytest.raises(AssertionError, match=f"{name} was left to the twin"):
        applied(bind, name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_misfits_are_refused_alike(name: str, native: ModuleType) -> None:
    fast = native.Binder(TWIN)
    primitive = ELEMENTWISE[name]
    sample = next(samples(name, OPS[name].dtypes[0]))
    arity = len(sample.args)
    for dtype in dtypes.SUPPORTED:
        assert_same(fast, primitive, [np.zeros(3, dtype)] * arity, sample.params)
        others = [np.zeros(1, dtype), np.zeros((3, 1), dtype), np.zeros(3, np.int16)]
        for other in others if arity > 1 else []:
            args = [np.ones(3, dtype)] * (arity - 1) + [other]
            assert_same(fast, primitive, args, sample.params)
            assert_same(fast, primitive, args[::-1], sample.params)
    for wrong in (None, 2.0, np.ones(3), "text"):
        with pytest.raises(TypeError, match="expected an Array") as found:
            fast(primitive, *[wrong] * arity, **sample.params)
        with pytest.raises(type(found.value)) as wanted:
            TWIN(primitive, *[wrong] * arity, **sample.params)
        assert str(found.value) == str(wanted.value)
    with pytest.raises(TypeError):
        fast(primitive, *[fnp.ones(3)] * arity, **sample.params, no_such_parameter=1)


def test_layouts_agree(native: ModuleType) -> None:
    fast = native.Binder(TWIN)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for y in [x, x.T, x[:, ::2], x[::-1], x[:, :0], np.broadcast_to(x[0, 0], (5, 4)), x[0, 0, 0]]:
        for primitive in (arithmetic.add, arithmetic.neg, comparison.lt, select.select_n):
            arity = 2 - (primitive is arithmetic.neg) + (primitive is select.select_n)
            args = [y] * arity
            if primitive is select.select_n:
                args[0] = np.asarray(y > 3)
            # Not copied, which would change the order.
            arrays = [Array(arg) for arg in args]
            assert_same(fast, primitive, arrays, {})


def test_an_array_deleted_before_is_refused(native: ModuleType) -> None:
    fast = native.Binder(TWIN)
    deleted = fnp.ones(3)
    deleted.delete()
    for args in [(deleted, fnp.ones(3)), (fnp.ones(3), deleted)]:
        with pytest.raises(fd.errors.DeletedArrayError):
            fast(arithmetic.add, *args)


def test_traces_are_left_alone() -> None:
    x = fnp.arange(3.0)
    assert type(Primitive.bind).__name__ == "Binder"
    assert fd.grad(lambda y: arithmetic.mul(y, x).sum())(x).tolist() == x.tolist()
    jaxpr = fd.make_jaxpr(lambda: arithmetic.mul(x, x))()
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["mul"]
    with fd.config.override(debug_nans=True), pytest.raises(fd.errors.NonFiniteError):
        arithmetic.div(fnp.zeros(3), fnp.zeros(3))
    with np.errstate(all="raise"):
        assert np.isnan(arithmetic.div(fnp.zeros(3), fnp.zeros(3)).value).all()


def test_rules_of_weak_types_are_asked(native: ModuleType) -> None:
    fast = native.Binder(TWIN)
    asked: list[Any] = []

    def rule(weak: Any, /, **params: Any) -> bool:
        asked.append((weak, params))
        return True

    primitive = Primitive("probe")
    primitive.impl = lambda *xs, **params: np.ones(2, np.float32)
    primitive.weak = rule
    weak, strong = Array(np.ones(2, np.float32), True), fnp.ones(2)
    assert not fast(primitive, strong, a=1).weak_type and not asked
    assert fast(primitive, strong, weak, a=1).weak_type
    assert fast(primitive, a=2, b=3).weak_type
    assert fast(primitive, strong, weak_type=False).weak_type
    assert asked == [
        ([False, True], {"a": 1}), ([], {"a": 2, "b": 3}), ([False], {"weak_type": False}),
    ]  # fmt: skip
    primitive.weak = never_weak
    assert not fast(primitive, weak).weak_type


def test_the_dtypes_of_ufuncs_are_all_accepted() -> None:
    """The extension calls them without asking the primitive."""
    for name, primitive in ELEMENTWISE.items():
        for kind in primitive.ufuncs:
            for dtype in dtypes.SUPPORTED:
                if dtypes.kind(dtype) == kind and dtype not in dtypes.HALF:
                    assert dtypes.short_name(dtype) in OPS[name].dtypes, name
    assert set(arithmetic.add.ufuncs) == set("iufc") and set(arithmetic.div.ufuncs) == set("fc")


@needs_numpy_2
def test_nothing_is_left_behind(native: ModuleType) -> None:
    fast = native.Binder(TWIN)
    refusing = native.Binder(lambda *args, **params: (_ for _ in ()).throw(ValueError(args)))

    def fail(*xs: Any, **params: Any) -> Any:
        raise MemoryError

    def stop(x: Any) -> None:
        raise KeyboardInterrupt

    names = ("failing", "stopped", "odd", "doubtful")
    failing, stopped, odd, doubtful = map(Primitive, names)
    failing.impl, stopped.impl, odd.impl = fail, stop, lambda x: "no array"
    doubtful.impl, doubtful.weak = np.negative, fail
    x, weak = fnp.ones((2, 3)), Array(np.ones((2, 3), np.float32), True)
    wide = fnp.ones((2, 3), ml_dtypes.bfloat16)
    params = {"new_sizes": (3, 2)}

    def call() -> None:
        fast(arithmetic.add, x, x), fast(arithmetic.add, x, weak), fast(arithmetic.neg, wide)
        fast(shape.reshape, x, **params), fast(comparison.lt, weak, weak)
        fast(convert_element_type, weak, new_dtype=np.dtype(np.int32), weak_type=True)
        for primitive, operand in [(failing, x), (doubtful, weak)]:
            with pytest.raises(MemoryError):
                fast(primitive, operand)
        with pytest.raises(KeyboardInterrupt):
            refusing(stopped, x)
        with pytest.raises(ValueError):
            refusing(odd, x)
        with pytest.raises(ValueError):
            refusing(arithmetic.add, x, None)
        with pytest.raises(ValueError):
            refusing(None)

    watched = [x, x.value, weak, weak.value, wide, params["new_sizes"], arithmetic.add, failing,
               arithmetic.add.impl, fail, np.add, None, True, False, fast]  # fmt: skip
    assert_counts_stay(call, watched)
