"""Pytrees by the names of `jax.tree`, and the functions that make classes pytrees.

A path is a tuple of keys (`DictKey`, `SequenceKey`, `GetAttrKey`, `FlattenedIndexKey`), which
`funcdl.tree_util.keystr` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree

from funcdl.core.options import flag
from funcdl.core.tree import (
    NAMESPACE,
    LeafTest,
    PyTree,
    TreeDef,
    all,
    broadcast,
    check_called,
    flatten,
    leaves,
    map,
    reduce,
    reduce_associative,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
    static,
    structure,
    subtrees,
    transpose,
    unflatten,
)
from funcdl.core.tree_keys import KeyPath, key_of, key_paths

__all__ = [
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "static",
    "structure",
    "transpose",
    "unflatten",
]


def flatten_with_path(
    tree: PyTree,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> tuple[list[tuple[KeyPath, Any]], TreeDef]:
    """Like `flatten`, each leaf paired with its path (see `jax.tree.flatten_with_path`).

    Args:
      tree: a pytree.
      is_leaf: which nodes to take for leaves.
      is_leaf_takes_path: whether to call it as ``is_leaf(path, node)``.

    Returns:
      Pairs of a path, a tuple of keys, and a leaf; and the structure.
    """
    is_leaf_takes_path = flag("flatten_with_path: is_leaf_takes_path", is_leaf_takes_path)
    if is_leaf is not None and is_leaf_takes_path:
        is_leaf = _without_path(tree, is_leaf)
    values, treedef = flatten(tree, is_leaf)
    return list(zip(key_paths(treedef), values, strict=True)), treedef


def leaves_with_path(
    tree: PyTree,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> list[tuple[KeyPath, Any]]:
    """The leaves of a tree, each paired with its path; arguments as for `flatten_with_path`.

    See `jax.tree.leaves_with_path`.
    """
    return flatten_with_path(tree, is_leaf, is_leaf_takes_path)[0]


def map_with_path(
    f: Callable[..., Any],
    tree: PyTree,
    *rest: PyTree,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> PyTree:
    """Like `map`; `f` gets the leaf's path first. See `flatten_with_path` for the last two.

    See `jax.tree.map_with_path`.

    Raises:
      TreeError: the structures differ.
    """
    check_called("tree.map_with_path", "f", f)
    pairs, treedef = flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    others = subtrees("tree.map_with_path", treedef, rest)
    outs = [f(*pair, *parts) for pair, *parts in zip(pairs, *others, strict=True)]
    return unflatten(treedef, outs)


def _without_path(tree: PyTree, is_leaf: Callable[[KeyPath, Any], bool]) -> LeafTest:
    """A test of nodes alone, which must be asked about them in the order of flattening."""
    answers: list[bool] = []

    def walk(path: KeyPath, node: Any) -> None:
        answers.append(bool(is_leaf(path, node)))
        if answers[-1] or optree.tree_is_leaf(node, namespace=NAMESPACE):
            return
        spec = optree.tree_structure(
            node, is_leaf=lambda child: child is not node, namespace=NAMESPACE
        )
        children = spec.flatten_up_to(node)
        for entry, child in zip(spec.entries(), children, strict=True):
            walk((*path, key_of(entry, spec.type or type(node), spec.kind)), child)

    walk((), tree)
    remaining = iter(answers)
    return lambda node: next(remaining)
