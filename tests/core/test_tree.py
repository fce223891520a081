from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.core import tree
from funcdl.errors import TreeError


class Point(NamedTuple):
    x: Any
    y: Any


@tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linear:
    weight: Any
    bias: Any = None
    name: str = dataclasses.field(default="linear", metadata={"static": True})
    calls: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Listed:
    scale: Any
    offset: Any
    size: int


tree.register_dataclass(Listed, ["offset", "scale"], ["size"])


@tree.register_pytree_node_class
class Pair:
    def __init__(self, first: Any, second: Any, kind: str) -> None:
        self.first, self.second, self.kind = first, second, kind

    def tree_flatten(self) -> tuple[tuple[Any, ...], str]:
        return (self.first, self.second), self.kind

    @classmethod
    def tree_unflatten(cls, kind: str, children: Any) -> Pair:
        return cls(*children, kind)


class Box:
    def __init__(self, value: Any) -> None:
        self.value = value


tree.register_pytree_node(
    Box, lambda box: ([box.value], None), lambda aux, children: Box(*children)
)

TREES = st.recursive(
    st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Linear, inner, inner, st.text(max_size=2))
    ),
    max_leaves=12,
)


@given(TREES)
def test_unflatten_is_the_inverse_of_flatten(value: Any) -> None:
    leaves, treedef = tree.flatten(value)
    assert tree.unflatten(treedef, leaves) == value
    assert tree.leaves(value) == leaves
    assert tree.structure(value) == treedef
    assert hash(tree.structure(value)) == hash(treedef)
    assert tree.map(lambda leaf: leaf, value) == value
    assert None not in leaves


@given(TREES)
def test_paths_lead_to_the_leaves(value: Any) -> None:
    pairs, treedef = tree.flatten_with_path(value)
    assert [leaf for _, leaf in pairs] == tree.leaves(value)
    assert [path for path, _ in pairs] == tree.paths(treedef)
    assert tree.leaves_with_path(value) == pairs
    for path, leaf in pairs:
        node = value
        for key in path:
            node = getattr(node, key) if isinstance(node, Linear) else node[key]
        assert node is leaf


def shape_of(value: Any) -> Any:
    """What `tree.structure` should tell apart, as plain tuples; every leaf is a 1."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(key, shape_of(value[key])) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return kind, [shape_of(child) for child in value]
    if isinstance(value, Linear):
        return kind, shape_of(value.weight), shape_of(value.bias), value.name
    return None if value is None else 1


@given(TREES, TREES)
def test_structures_are_equal_when_the_trees_differ_in_leaves_only(a: Any, b: Any) -> None:
    assert (tree.structure(a) == tree.structure(b)) == (shape_of(a) == shape_of(b))


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        (3, [3]),
        (None, []),
        ((), []),
        ({}, []),
        ([1, (2, {"b": 4, "a": 3}), None], [1, 2, 3, 4]),
        ({"b": 1, "a": 2}, [2, 1]),
        ({2: "x", 1: "y"}, ["y", "x"]),
        (collections.OrderedDict([("b", 1), ("a", 2)]), [1, 2]),
        (collections.defaultdict(int, {"b": 1, "a": 2}), [2, 1]),
        (Point(1, (2, 3)), [1, 2, 3]),
        (Linear(1), [1]),
        (Linear(1, 2), [1, 2]),
        (Listed(1, 2, 3), [2, 1]),
        (Pair(1, [2, 3], "k"), [1, 2, 3]),
        (Box({"a": 1}), [1]),
        ("text", ["text"]),
        ({1, 2}, [{1, 2}]),
    ],
)
def test_leaves_in_order(value: Any, leaves: list[Any]) -> None:
    assert tree.leaves(value) == leaves


def test_dict_order_does_not_matter_and_comes_back() -> None:
    a, b = {"x": 1, "y": 2}, {"y": 3, "x": 4}
    assert tree.structure(a) == tree.structure(b)
    assert hash(tree.structure(a)) == hash(tree.structure(b))
    assert tree.map(lambda p, q: (p, q), a, b) == {"x": (1, 4), "y": (2, 3)}
    assert list(tree.map(str, b)) == ["y", "x"]


def test_none_has_no_leaf_unless_asked() -> None:
    assert tree.map(lambda leaf: leaf + 1, (1, None)) == (2, None)
    assert tree.leaves((1, None), is_leaf=lambda x: x is None) == [1, None]
    assert tree.structure((1, None)) != tree.structure((1, 2))


def test_map_takes_subtrees_of_the_rest_and_refuses_others() -> None:
    assert tree.map(lambda a, b: (a, b), [1, 2], [(3, 4), {"k": 5}]) == [(1, (3, 4)), (2, {"k": 5})]
    for other in ([1], (1, 2), {"a": 1, "b": 2}, None):
        with pytest.raises(TreeError, match="tree 2 differs"):
            tree.map(lambda a, b: a, [1, 2], other)


def test_map_with_path_and_format_path() -> None:
    paths = tree.map_with_path(lambda path, leaf: tree.format_path(path), {"w": [1, 2], "b": 3})
    assert paths == {"w": ["['w'][0]", "['w'][1]"], "b": "['b']"}
    assert tree.format_path(()) == ""


def test_reduce_and_all() -> None:
    assert tree.reduce(lambda a, b: 10 * a + b, {"b": [2, 3], "a": 1}) == 123
    assert tree.reduce(lambda a, b: 10 * a + b, [2, 3], 1) == 123
    with pytest.raises(TypeError):
        tree.reduce(lambda a, b: a, [])
    assert tree.all([1, True, {"a": 2}])
    assert tree.all(())
    assert not tree.all([1, (0,)])


def test_transpose() -> None:
    value = [(1, 2), (3, 4), (5, 6)]
    outer, inner = tree.structure([0, 0, 0]), tree.structure((0, 0))
    assert tree.transpose(outer, inner, value) == ([1, 3, 5], [2, 4, 6])
    assert tree.transpose(outer, None, value) == ([1, 3, 5], [2, 4, 6])
    assert tree.transpose(outer, tree.structure({}), [{}, {}, {}]) == {}
    # As in JAX, the number of leaves alone matters.
    assert tree.transpose(outer, inner, (1, 2, 3, 4, [5, 6])) == ([1, 3, 5], [2, 4, 6])


def test_what_transpose_refuses() -> None:
    outer, inner = tree.structure([0, 0]), tree.structure((0, 0))
    with pytest.raises(TreeError) as refused:
        tree.transpose(outer, inner, [(1, 2), (3, 4), (5, 6)])
    assert str(refused.value) == (
        "transpose requires a tree with the leaves of outer, at each of them those of inner:\n"
        "  found:  [(*, *), (*, *), (*, *)]\n"
        "  wanted: [(*, *), (*, *)]"
    )
    with pytest.raises(TreeError) as refused:
        tree.transpose(tree.structure({}), None, {})
    assert str(refused.value) == (
        "transpose: pass inner, which cannot be found: outer, {}, has no leaves"
    )


@pytest.mark.parametrize(
    ("prefix", "value", "leaves"),
    [
        (0, {"a": 1, "b": (2, 3)}, [0, 0, 0]),
        (0, (), []),
        ({"a": 0, "b": 1}, {"b": (2, 3), "a": [4]}, [0, 1, 1]),
        ((0, 1), (Linear(1, 2), Point(3, 4)), [0, 0, 1, 1]),
        ((0, None), (1, None), [0]),
        (Linear(7, 8), Linear((1, 2), 3), [7, 7, 8]),
    ],
)
def test_broadcast_prefix(prefix: Any, value: Any, leaves: list[Any]) -> None:
    assert tree.broadcast_prefix(prefix, value) == leaves


def test_broadcast_prefix_with_none_as_a_leaf() -> None:
    found = tree.broadcast_prefix((0, None), (1, [2, 3]), is_leaf=lambda x: x is None)
    assert found == [0, None, None]


@pytest.mark.parametrize(
    ("prefix", "value"),
    [
        ((0, 1), (1, 2, 3)),
        ([0, 1], (1, 2)),
        ({"a": 0}, {"b": 0}),
        ((0, None), (1, 2)),
        ((0,), 1),
        (Linear(1, 2, "other"), Linear(1, 2)),
    ],
)
def test_broadcast_prefix_refuses_what_is_no_prefix(prefix: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"[Ee]xpected|[Mm]ismatch|differ"):
        tree.broadcast_prefix(prefix, value)


def test_static_fields_belong_to_the_structure() -> None:
    assert tree.map(lambda leaf: leaf * 2, Linear(1, 2, "a")) == Linear(2, 4, "a")
    assert tree.structure(Linear(1, 2, "a")) != tree.structure(Linear(1, 2, "b"))
    assert tree.map(str, Listed(1, 2, 3)) == Listed("1", "2", 3)
    doubled = tree.map(lambda leaf: leaf * 2, Pair(1, 2, "k"))
    assert (doubled.first, doubled.second, doubled.kind) == (2, 4, "k")


def test_paths_of_dataclasses_name_the_fields() -> None:
    assert [path for path, _ in tree.leaves_with_path(Linear([1], 2))] == [
        ("weight", 0),
        ("bias",),
    ]


def test_register_dataclass_refuses_what_it_cannot_rebuild() -> None:
    with pytest.raises(TypeError, match=r"needs a dataclass, got <class '.*Plain'>"):
        tree.register_dataclass(type("Plain", (), {}))
    for data, meta in (
        [["a"], []],
        [["a", "b"], ["b"]],
        [["a", "c"], ["b"]],
        [["a", "b", "c"], []],
    ):
        cls = dataclasses.make_dataclass("Parts", ["a", "b"])
        with pytest.raises(TreeError, match=r"that Parts\(\) takes once: \['a', 'b'\]; got"):
            tree.register_dataclass(cls, list(data), list(meta))


def test_unregistered_classes_are_leaves() -> None:
    plain = object()
    assert tree.leaves([plain]) == [plain]
