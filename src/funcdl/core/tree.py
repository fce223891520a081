"""Pytrees: nested containers of arrays, flattened and rebuilt by `optree`.

Dicts, lists, tuples, named tuples and `None` (a container without leaves) are known from the start;
other classes join by registration. Names and meanings follow `jax.tree` and `jax.tree_util`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import optree

from funcdl.errors import TreeError

NAMESPACE = "funcdl"

PyTree = Any
TreeDef = optree.PyTreeSpec
T = TypeVar("T")
LeafTest = Callable[[Any], bool]

# Its annotations ask for subclasses of `Collection`, which it does not need.
_register: Any = optree.register_pytree_node


def flatten(tree: PyTree, is_leaf: LeafTest | None = None) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree, left to right, and its structure."""
    return optree.tree_flatten(tree, is_leaf=is_leaf, namespace=NAMESPACE)


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> PyTree:
    """The tree of this structure with these leaves."""
    return optree.tree_unflatten(treedef, leaves)


def leaves(tree: PyTree, is_leaf: LeafTest | None = None) -> list[Any]:
    """The leaves of a tree, left to right."""
    return optree.tree_leaves(tree, is_leaf=is_leaf, namespace=NAMESPACE)


def structure(tree: PyTree, is_leaf: LeafTest | None = None) -> TreeDef:
    """The structure of a tree, without its leaves."""
    return optree.tree_structure(tree, is_leaf=is_leaf, namespace=NAMESPACE)


def map(
    f: Callable[..., Any], tree: PyTree, *rest: PyTree, is_leaf: LeafTest | None = None
) -> PyTree:
    """Apply `f` to each leaf, together with the matching subtrees of `rest`."""
    return optree.tree_map(f, tree, *rest, is_leaf=is_leaf, namespace=NAMESPACE)


def map_with_path(
    f: Callable[..., Any], tree: PyTree, *rest: PyTree, is_leaf: LeafTest | None = None
) -> PyTree:
    """Like `map`; `f` gets the leaf's path (a tuple of keys and positions) first."""
    return optree.tree_map_with_path(f, tree, *rest, is_leaf=is_leaf, namespace=NAMESPACE)


def flatten_with_path(
    tree: PyTree, is_leaf: LeafTest | None = None
) -> tuple[list[tuple[tuple[Any, ...], Any]], TreeDef]:
    """Like `flatten`, each leaf paired with its path."""
    paths, values, treedef = optree.tree_flatten_with_path(
        tree, is_leaf=is_leaf, namespace=NAMESPACE
    )
    return list(zip(paths, values, strict=True)), treedef


def leaves_with_path(
    tree: PyTree, is_leaf: LeafTest | None = None
) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves of a tree, each paired with its path."""
    return flatten_with_path(tree, is_leaf)[0]


def reduce(f: Callable[[Any, Any], Any], tree: PyTree, *initializer: Any) -> Any:
    """Fold `f` over the leaves, left to right."""
    return optree.tree_reduce(f, tree, *initializer, namespace=NAMESPACE)


def all(tree: PyTree) -> bool:
    """Whether every leaf is true."""
    return optree.tree_all(tree, namespace=NAMESPACE)


def transpose(outer: TreeDef, inner: TreeDef, tree: PyTree) -> PyTree:
    """Turn an outer tree of inner trees inside out."""
    return optree.tree_transpose(outer, inner, tree)


def paths(treedef: TreeDef) -> list[tuple[Any, ...]]:
    """The path of each leaf of a structure."""
    return treedef.paths()


def format_path(path: Sequence[Any]) -> str:
    """A path as the user would write it: ``['w'][0]``."""
    return "".join(f"[{key!r}]" for key in path)


def broadcast_prefix(prefix: PyTree, tree: PyTree, is_leaf: LeafTest | None = None) -> list[Any]:
    """Leaves of `prefix`, each repeated for every leaf of `tree` under it.

    Raises:
      ValueError: `prefix` is not a tree prefix of `tree`.
    """
    return optree.broadcast_prefix(prefix, tree, is_leaf=is_leaf, namespace=NAMESPACE)


def register_pytree_node(
    nodetype: type[T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Any]],
    unflatten_func: Callable[[Any, Any], T],
) -> None:
    """Make a class a container: `flatten_func(x) -> (children, aux)`, and its inverse."""

    def flatten_node(node: T) -> tuple[tuple[Any, ...], Any, None]:
        children, aux = flatten_func(node)
        return tuple(children), aux, None

    _register(nodetype, flatten_node, unflatten_func, namespace=NAMESPACE)


def register_pytree_node_class(cls: type[T]) -> type[T]:
    """Class decorator: use the class's `tree_flatten` and `tree_unflatten` methods."""
    register_pytree_node(cls, lambda node: node.tree_flatten(), cls.tree_unflatten)  # type: ignore[attr-defined]
    return cls


def register_dataclass(
    cls: type[T],
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] = (),
) -> type[T]:
    """Make a dataclass a container of its `data_fields`; `meta_fields` are static and compared.

    Without `data_fields`, every field that is not in `meta_fields` (nor marked
    ``metadata={"static": True}``) holds data.

    Raises:
      TypeError: `cls` is no dataclass.
      TreeError: not every field that ``__init__`` takes is in exactly one of the two lists.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"register_dataclass needs a dataclass, got {cls!r}")
    fields = [f for f in dataclasses.fields(cls) if f.init]
    if data_fields is None:
        static = [f.name for f in fields if f.metadata.get("static")]
        meta_fields = tuple(dict.fromkeys([*meta_fields, *static]))
        data_fields = [f.name for f in fields if f.name not in meta_fields]
    data, meta = tuple(data_fields), tuple(meta_fields)
    if sorted(data + meta) != sorted(f.name for f in fields):
        raise TreeError(
            f"data_fields and meta_fields must name each field that {cls.__name__}() takes once: "
            f"{[f.name for f in fields]}; got data_fields={list(data)}, meta_fields={list(meta)}"
        )

    def flatten_node(node: T) -> tuple[tuple[Any, ...], Any, tuple[str, ...]]:
        values = tuple(getattr(node, name) for name in data)
        return values, tuple(getattr(node, name) for name in meta), data

    def unflatten_node(aux: tuple[Any, ...], values: Iterable[Any]) -> T:
        fields = dict(zip(data, values, strict=True)) | dict(zip(meta, aux, strict=True))
        return cls(**fields)

    _register(cls, flatten_node, unflatten_node, namespace=NAMESPACE)
    return cls
