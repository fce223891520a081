"""Pytrees by the names of `jax.tree_util`, and more."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import optree

from funcdl import tree
from funcdl.absent import getter
from funcdl.core.array import shortened
from funcdl.core.tree import NAMESPACE, LeafTest, TreeDef, check_is_leaf, check_structure
from funcdl.core.tree_keys import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyEntry,
    KeyPath,
    SequenceKey,
    key_of,
    keystr,
)
from funcdl.errors import ArgumentError
from funcdl.tree import (
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
)

__getattr__ = getter(__name__)

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]

PyTreeDef = TreeDef
tree_all = tree.all
tree_broadcast = tree.broadcast
tree_flatten = tree.flatten
tree_flatten_with_path = tree.flatten_with_path
tree_leaves = tree.leaves
tree_leaves_with_path = tree.leaves_with_path
tree_map = tree.map
tree_map_with_path = tree.map_with_path
tree_reduce = tree.reduce
tree_reduce_associative = tree.reduce_associative
tree_structure = tree.structure
tree_transpose = tree.transpose
tree_unflatten = tree.unflatten


class Partial(functools.partial[Any]):
    """`functools.partial` as a pytree: the arguments are its children, the function is static.

    So a function with arrays inside can be an argument or a result of a transformed function. Two
    are of one structure if their functions are equal.
    """


register_pytree_node(
    Partial,
    lambda node: ((node.args, node.keywords), node.func),
    lambda func, children: Partial(func, *children[0], **children[1]),
)


def all_leaves(iterable: Iterable[Any], is_leaf: LeafTest | None = None) -> bool:
    """Whether no element is a container (see `jax.tree_util.all_leaves`).

    `is_leaf` says which containers to take for leaves.

    Raises:
      ArgumentError: `iterable` is none, or `is_leaf` no function that returns True or False.
    """
    try:
        elements = list(iterable)
    except TypeError:
        raise ArgumentError(
            f"all_leaves: iterable must be an iterable of nodes, got {shortened(iterable)}"
        ) from None
    try:
        return optree.all_leaves(elements, is_leaf, namespace=NAMESPACE)
    except (RuntimeError, TypeError) as error:
        check_is_leaf("all_leaves", is_leaf, error)
        raise


def is_tree_node(typ: type) -> bool:
    """Whether instances of a class are containers: registered, or known from the start.

    None, tuples, lists and dicts are known (see `jax.tree_util.register_pytree_node` for others).

    Raises:
      ArgumentError: it is no class.
    """
    given: Any = typ
    if not isinstance(given, type):
        raise ArgumentError(f"is_tree_node: typ must be a class, got {typ!r}")
    if typ is type(None):
        return True
    if issubclass(typ, tuple) and hasattr(typ, "_fields"):
        return True
    return optree.register_pytree_node.get(typ, namespace=NAMESPACE) is not None


def _check_container(what: str, node: Any) -> None:
    if optree.tree_is_leaf(node, none_is_leaf=False, namespace=NAMESPACE):
        raise ArgumentError(f"{what}: node must be a container, got {type(node).__name__}")


def flatten_one_level(node: Any) -> tuple[list[Any], Any]:
    """The children of a container, and what else it is made of.

    See `optree.tree_flatten_one_level`.

    Raises:
      ArgumentError: it is a leaf.
    """
    _check_container("flatten_one_level", node)
    children, aux, _, _ = optree.tree_flatten_one_level(node, namespace=NAMESPACE)
    return children, aux


def flatten_one_level_with_keys(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """As `flatten_one_level`, with ``(key, child)`` for each child.

    It raises the same error. See `jax.tree_util.flatten_one_level_with_keys`.
    """
    _check_container("flatten_one_level_with_keys", node)
    children, aux, entries, _ = optree.tree_flatten_one_level(node, namespace=NAMESPACE)
    kind = optree.tree_structure(node, namespace=NAMESPACE).kind
    keys = [key_of(entry, type(node), kind) for entry in entries]
    return list(zip(keys, children, strict=True)), aux


def treedef_children(treedef: TreeDef) -> list[TreeDef]:
    """The structures of a container's children (see `jax.tree_util.treedef_children`).

    Returns:
      A list of structures.
    """
    check_structure("treedef_children", "treedef", treedef)
    return treedef.children()


def treedef_is_leaf(treedef: TreeDef) -> bool:
    """Whether a structure is that of a leaf, or of a container without children.

    See `jax.tree_util.treedef_is_leaf`.
    """
    check_structure("treedef_is_leaf", "treedef", treedef)
    return treedef.num_nodes == 1


def treedef_tuple(treedefs: Iterable[TreeDef]) -> TreeDef:
    """The structure of a tuple of trees of these structures (see `jax.tree_util.treedef_tuple`)."""
    given: Any = treedefs
    structures = list(given) if isinstance(given, Iterable) else [given]
    for treedef in structures:
        check_structure("treedef_tuple", "treedefs", treedef)
    return optree.treespec_tuple(structures, namespace=NAMESPACE)
