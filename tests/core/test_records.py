"""Records behave as frozen dataclasses with slots do."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from inspect import signature
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.core.records import record


@record
class Empty:
    """No fields."""


@record
class Pair:
    """Two fields, the second with a default."""

    first: Any
    second: Any = ()

    @property
    def both(self) -> tuple[Any, Any]:
        """Both."""
        return self.first, self.second


@dataclass(frozen=True, slots=True)
class DataclassPair:
    """The same, as a dataclass."""

    first: Any
    second: Any = ()


@record
class Own:
    """Own methods stay."""

    value: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "own"


values = st.one_of(st.integers(-2, 2), st.text(max_size=1), st.floats(), st.tuples(st.booleans()))


@given(values, values, values, values)
def test_equality_hashes_and_texts_are_those_of_a_dataclass(a: Any, b: Any, c: Any, d: Any) -> None:
    x, y = Pair(a, b), Pair(c, d)
    wanted_x, wanted_y = DataclassPair(a, b), DataclassPair(c, d)
    assert (x == y) is (wanted_x == wanted_y)
    assert (x != y) is (wanted_x != wanted_y)
    assert hash(x) == hash(wanted_x)
    assert repr(x) == repr(wanted_x).replace("DataclassPair", "Pair")
    assert x.both == (a, b)
    other: Any = wanted_x
    assert x != other


def test_what_dataclasses_offers_works() -> None:
    x = Pair(1, second=[2])
    assert [f.name for f in fields(x)] == ["first", "second"]
    changed: Any = replace(x, first=3)
    assert changed == Pair(3, [2])
    assert asdict(x) == {"first": 1, "second": [2]}
    assert str(signature(Pair)) == str(signature(DataclassPair))
    assert is_dataclass(Pair) and is_dataclass(x)
    assert [f.default for f in fields(Pair)] == [f.default for f in fields(DataclassPair)]
    assert [f.type for f in fields(Pair)] == [f.type for f in fields(DataclassPair)]
    assert fields(Empty) == ()
    with pytest.raises(TypeError, match="unexpected keyword argument 'third'"):
        replace(x, third=3)
    if sys.version_info >= (3, 13):
        assert copy.replace(x, first=3) == changed
    match x:
        case Pair(first, second):
            assert (first, second) == (1, [2])
    assert Pair(1) == Pair(1, ())
    assert Empty() == Empty()
    assert repr(Empty()) == "Empty()"


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_and_pickles_are_equal(duplicate: Callable[[Any], Any]) -> None:
    assert duplicate(Pair(1, [2])) == Pair(1, [2])
    assert duplicate(Empty()) == Empty()


def test_nothing_can_be_changed() -> None:
    x: Any = Pair(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'first'"):
        x.first = 2
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'third'"):
        x.third = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'first'"):
        del x.first
    assert not hasattr(x, "__dict__")
    assert x == Pair(1)


def test_a_record_that_holds_itself_is_printed() -> None:
    inside: list[Any] = []
    x = Pair(inside)
    inside.append(x)
    assert repr(x) == "Pair(first=[...], second=())"


def test_own_methods_stay() -> None:
    assert Own(1) == Own(2)
    assert (hash(Own(1)), repr(Own(1))) == (7, "own")


def test_records_with_equally_many_fields_have_their_own_names() -> None:
    @record
    class Other:
        other: int
        own: str

    x = Other(own="a", other=1)
    assert (x.other, x.own) == (1, "a")
    assert x == Other(1, "a") != Other(2, "a")
    made: Any = Other
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'own'"):
        made(1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'first'"):
        made(first=1)
    assert Pair(first=1) == Pair(1, ())


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_a_wrong_number_of_arguments_is_an_error(arguments: tuple[int, ...]) -> None:
    made: Any = Pair
    with pytest.raises(TypeError, match="argument"):
        made(*arguments)


def test_what_records_do_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Listed\.items is a field\(\)"):

        @record
        class Listed:
            items: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="Mixed has a field with a default before one without"):
        record(type("Mixed", (), {"__annotations__": {"a": "int", "b": "int"}, "a": 0}))

    with pytest.raises(TypeError, match="Checked has a __post_init__"):

        @record
        class Checked:
            value: int

            def __post_init__(self) -> None:
                pass

    with pytest.raises(TypeError, match="cannot inherit"):

        @record
        class Derived(DataclassPair):
            third: int = 0
