"""Pytrees: nested containers of arrays, flattened and rebuilt by `optree`.

Dicts, lists, tuples, named tuples and `None` (a container without leaves) are known from the start;
other classes join by registration. Names and meanings follow `jax.tree` and `jax.tree_util`.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence, Sized
from operator import methodcaller
from typing import Any, TypeVar

import optree

from funcdl.core import tree_keys
from funcdl.errors import ArgumentError, LeafTypeError, TreeError

NAMESPACE = "funcdl"

PyTree = Any
TreeDef = optree.PyTreeSpec
T = TypeVar("T")
LeafTest = Callable[[Any], bool]

registration_listeners: list[Callable[[], None]] = []
"""Called when a class has become a container."""


def _register(*arguments: Any, **options: Any) -> None:
    optree.register_pytree_node(*arguments, **options)
    for listener in registration_listeners:
        listener()


def flatten(tree: PyTree, is_leaf: LeafTest | None = None) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree, left to right, and its structure (see `jax.tree.flatten`).

    `is_leaf`, called with every node, says which to take for leaves. None is a container without
    leaves.

    Raises:
      ArgumentError: `is_leaf` is no such function.
    """
    try:
        return optree.tree_flatten(tree, is_leaf=is_leaf, namespace=NAMESPACE)
    except (RuntimeError, TypeError) as error:
        check_is_leaf("tree.flatten", is_leaf, error)
        raise


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> PyTree:
    """The tree of this structure with these leaves (see `jax.tree.unflatten`).

    Raises:
      TreeError: there are more or fewer leaves than in the structure.
      ArgumentError: `treedef` is no structure.
    """
    try:
        return optree.tree_unflatten(treedef, leaves)
    except (AttributeError, TypeError, ValueError):
        check_structure("tree.unflatten", "treedef", treedef)
        if not isinstance(leaves, Iterable):
            raise ArgumentError(
                f"tree.unflatten: leaves must be a list, got {type(leaves).__name__}"
            ) from None
        if isinstance(leaves, Sized) and len(leaves) != treedef.num_leaves:
            raise TreeError(
                f"tree.unflatten requires the {treedef.num_leaves} leaves that the structure has, "
                f"got {len(leaves)}:\n  structure: {show(treedef)}"
            ) from None
        raise


def check_structure(what: str, argument: str, treedef: Any) -> None:
    """Raise `ArgumentError` for what is no structure of a tree."""
    if not isinstance(treedef, TreeDef):
        raise ArgumentError(
            f"{what}: {argument} must be a structure, as tree.structure(tree) returns, got "
            f"{type(treedef).__name__}"
        ) from None


def check_called(what: str, argument: str, function: Any) -> None:
    """Raise `ArgumentError` for what cannot be called."""
    if not callable(function):
        raise ArgumentError(
            f"{what}: {argument} must be a function, got {type(function).__name__}"
        ) from None


def check_is_leaf(what: str, is_leaf: Any, error: Exception) -> None:
    """Raise `ArgumentError` where a failure came of `is_leaf`, which flattening calls."""
    if is_leaf is not None:
        check_called(what, "is_leaf", is_leaf)
        if str(error).startswith("Unable to cast"):
            raise ArgumentError(f"{what}: is_leaf must return True or False") from None


def leaves(tree: PyTree, is_leaf: LeafTest | None = None) -> list[Any]:
    """The leaves of a tree, left to right (see `jax.tree.leaves`).

    `is_leaf`, called with every node, says which to take for leaves. None is a container without
    leaves.

    Raises:
      ArgumentError: `is_leaf` is no such function.
    """
    try:
        return optree.tree_leaves(tree, is_leaf=is_leaf, namespace=NAMESPACE)
    except (RuntimeError, TypeError) as error:
        check_is_leaf("tree.leaves", is_leaf, error)
        raise


def structure(tree: PyTree, is_leaf: LeafTest | None = None) -> TreeDef:
    """The structure of a tree, without its leaves (see `jax.tree.structure`).

    `is_leaf`, called with every node, says which to take for leaves. None is a container without
    leaves.

    Raises:
      ArgumentError: `is_leaf` is no such function.
    """
    try:
        return optree.tree_structure(tree, is_leaf=is_leaf, namespace=NAMESPACE)
    except (RuntimeError, TypeError) as error:
        check_is_leaf("tree.structure", is_leaf, error)
        raise


def map(
    f: Callable[..., Any], tree: PyTree, *rest: PyTree, is_leaf: LeafTest | None = None
) -> PyTree:
    """Apply `f` to each leaf, together with the matching subtrees of `rest` (see `jax.tree.map`).

    Args:
      f: called with a leaf of `tree` and what is in its place in each of `rest`.
      tree: a pytree.
      rest: pytrees of which the structure of `tree` is a prefix.
      is_leaf: which nodes of `tree` to take for leaves.

    Returns:
      A pytree of the structure of `tree`.

    Raises:
      TreeError: the structures differ.
      ArgumentError: `f` is no function.
    """
    try:
        return optree.tree_map(f, tree, *rest, is_leaf=is_leaf, namespace=NAMESPACE)
    except (RuntimeError, TypeError) as error:
        check_is_leaf("tree.map", is_leaf, error)
        check_called("tree.map", "f", f)
        raise
    except ValueError:
        subtrees("tree.map", structure(tree, is_leaf), rest)
        raise


def subtrees(what: str, first: TreeDef, rest: Sequence[PyTree]) -> list[list[PyTree]]:
    """What each of several trees has in the places of the first one's leaves.

    Raises:
      TreeError: one does not have all of its containers; `what` needed it.
    """
    found = []
    for number, other in enumerate(rest, 2):
        try:
            found.append(first.flatten_up_to(other))
        except ValueError:
            raise TreeError(
                f"{what} requires trees of one structure, and tree {number} differs from the "
                f"first:\n  tree 1: {show(first)}\n  tree {number}: {show(structure(other))}"
            ) from None
    return found


def map_with_path(
    f: Callable[..., Any], tree: PyTree, *rest: PyTree, is_leaf: LeafTest | None = None
) -> PyTree:
    """Like `map`; `f` gets the leaf's path (a tuple of keys and positions) first."""
    try:
        return optree.tree_map_with_path(f, tree, *rest, is_leaf=is_leaf, namespace=NAMESPACE)
    except ValueError:
        subtrees("tree.map_with_path", structure(tree, is_leaf), rest)
        raise


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


class _Unset:
    """The default of arguments of which None is a value."""


_UNSET = _Unset()


def reduce(
    function: Callable[[Any, Any], Any],
    tree: PyTree,
    initializer: Any = _UNSET,
    is_leaf: LeafTest | None = None,
) -> Any:
    """Fold `function` over the leaves, left to right (see `jax.tree.reduce`).

    Args:
      function: called with the result so far and the next leaf.
      tree: a pytree.
      initializer: the first result so far; by default the first leaf.
      is_leaf: which nodes to take for leaves.

    Raises:
      LeafTypeError: there are no leaves and no `initializer`.
      ArgumentError: `function` is none.
    """
    check_called("tree.reduce", "function", function)
    values = leaves(tree, is_leaf)
    if not values and isinstance(initializer, _Unset):
        raise LeafTypeError("tree.reduce of a tree without leaves requires an initializer")
    if isinstance(initializer, _Unset):
        return functools.reduce(function, values)
    return functools.reduce(function, values, initializer)


def reduce_associative(
    operation: Callable[[Any, Any], Any],
    tree: PyTree,
    *,
    identity: Any = _UNSET,
    is_leaf: LeafTest | None = None,
) -> Any:
    """Combine what the first and the second half of the leaves combine to.

    See `jax.tree.reduce_associative`.

    Args:
      operation: an associative function.
      tree: a pytree.
      identity: the result where there are no leaves.
      is_leaf: which nodes to take for leaves.

    Raises:
      LeafTypeError: there are no leaves and no `identity`.
      ArgumentError: `operation` is no function.
    """
    check_called("tree.reduce_associative", "operation", operation)
    values = leaves(tree, is_leaf)
    if not values:
        if isinstance(identity, _Unset):
            raise LeafTypeError("reduce_associative of a tree without leaves requires an identity")
        return identity
    return _fold_halves(operation, values)


def _fold_halves(operation: Callable[[Any, Any], Any], values: list[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return operation(_fold_halves(operation, values[:half]), _fold_halves(operation, values[half:]))


def all(tree: PyTree, *, is_leaf: LeafTest | None = None) -> bool:
    """Whether every leaf is true (see `jax.tree.all`).

    `is_leaf` says which nodes to take for leaves.
    """
    return builtins.all(leaves(tree, is_leaf))


def transpose(outer: TreeDef, inner: TreeDef | None, tree: PyTree) -> PyTree:
    """Turn an outer tree of inner trees inside out (see `jax.tree.transpose`).

    Where `inner` is None it is found: the structure of what stands at the first leaf of `outer`.

    Args:
      outer, inner: the structures.
      tree: a pytree whose structure is `outer` with `inner` at every leaf.

    Returns:
      A pytree of structure `inner` with `outer` at every leaf.

    Raises:
      TreeError: `tree` has another number of leaves (as in JAX, nothing else of its structure
        matters where `inner` is given); or `outer` has none, and `inner` is None.
    """
    check_structure("tree.transpose", "outer", outer)
    if inner is not None:
        check_structure("tree.transpose", "inner", inner)
    if inner is None:
        if not outer.num_leaves:
            raise TreeError(
                f"transpose: pass inner, which cannot be found: outer, {show(outer)}, has no leaves"
            )
        inner = structure(outer.flatten_up_to(tree)[0])
    flat, found = flatten(tree)
    columns = inner.num_leaves
    if len(flat) != outer.num_leaves * columns:
        raise TreeError(
            "transpose requires a tree with the leaves of outer, at each of them those of inner:\n"
            f"  found:  {show(found)}\n  wanted: {show(outer.compose(inner))}"
        )
    return unflatten(inner, [unflatten(outer, flat[i::columns]) for i in range(columns)])


def show(treedef: TreeDef) -> str:
    """A structure as the user would write it, ``*`` for each leaf."""
    text = str(treedef).removeprefix("PyTreeSpec(").removesuffix(")")
    return text.split(", namespace=")[0]


def broadcast(prefix_tree: PyTree, full_tree: PyTree, is_leaf: LeafTest | None = None) -> PyTree:
    """A tree of the structure of `full_tree`, with the leaves of a prefix of it.

    See `jax.tree.broadcast`.

    Args:
      prefix_tree: a pytree whose leaves stand where `full_tree` may have subtrees.
      full_tree: a pytree.
      is_leaf: which nodes to take for leaves.

    Raises:
      ValueError: `prefix_tree` is not a tree prefix of `full_tree`.
    """
    return unflatten(
        structure(full_tree, is_leaf), broadcast_prefix(prefix_tree, full_tree, is_leaf)
    )


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
    try:
        return optree.broadcast_prefix(prefix, tree, is_leaf=is_leaf, namespace=NAMESPACE)
    except (RuntimeError, TypeError) as error:
        check_is_leaf("tree.broadcast", is_leaf, error)
        raise
    except ValueError as error:
        raise TreeError(
            f"tree.broadcast: the first tree must be a prefix of the second: {error}"
        ) from None


def register_pytree_node(
    nodetype: type[T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Any]],
    unflatten_func: Callable[[Any, Any], T],
    flatten_with_keys_func: Callable[[T], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Make a class a container (see `jax.tree_util.register_pytree_node`).

    Args:
      nodetype: the class.
      flatten_func: ``flatten_func(x) -> (children, aux)``; `aux` is compared and hashed.
      unflatten_func: ``unflatten_func(aux, children)``, its inverse.
      flatten_with_keys_func: as `flatten_func`, with ``(key, child)`` for each child; the keys
        stand in paths.

    Raises:
      ValueError: the class is registered already.
    """
    if flatten_with_keys_func is not None:
        register_pytree_with_keys(nodetype, flatten_with_keys_func, unflatten_func)
        return

    def flatten_node(node: T) -> tuple[tuple[Any, ...], Any, None]:
        children, aux = flatten_func(node)
        return tuple(children), aux, None

    _register(nodetype, flatten_node, unflatten_func, namespace=NAMESPACE)


def register_pytree_with_keys(
    nodetype: type[T],
    flatten_with_keys: Callable[[T], tuple[Iterable[tuple[Any, Any]], Any]],
    unflatten_func: Callable[[Any, Any], T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Any]] | None = None,
) -> None:
    """Make a class a container whose children have keys, which stand in paths.

    Args:
      nodetype: the class.
      flatten_with_keys: ``flatten_with_keys(x) -> ([(key, child), …], aux)``.
      unflatten_func: ``unflatten_func(aux, children)``, its inverse.
      flatten_func: has no effect; JAX takes it for a quicker way without keys.

    Raises:
      ValueError: the class is registered already.
    """

    def flatten_node(node: T) -> tuple[tuple[Any, ...], Any, tuple[Any, ...]]:
        pairs, aux = flatten_with_keys(node)
        pairs = tuple(pairs)
        return tuple(child for _, child in pairs), aux, tuple(key for key, _ in pairs)

    _register(nodetype, flatten_node, unflatten_func, namespace=NAMESPACE)
    tree_keys.keyed_types.add(nodetype)


def register_pytree_with_keys_class(cls: type[T]) -> type[T]:
    """Class decorator: use the methods `tree_flatten_with_keys` and `tree_unflatten`.

    The class is returned. See `jax.tree_util.register_pytree_with_keys_class`.

    Raises:
      ValueError: the class is registered already.
    """
    node_class: Any = cls
    register_pytree_with_keys(cls, node_class.tree_flatten_with_keys, node_class.tree_unflatten)
    return cls


def register_static(cls: type[T]) -> type[T]:
    """Class decorator: instances are containers without leaves, compared as a whole.

    So `jit` takes them for static arguments. They must be hashable.
    """
    register_pytree_node(cls, lambda node: ((), node), lambda node, children: node)
    return cls


def static(**kwargs: Any) -> Any:
    """A field of a dataclass that `register_dataclass` takes for static.

    The arguments are those of `dataclasses.field`.
    """
    metadata = dict(kwargs.pop("metadata", None) or {}) | {"static": True}
    return dataclasses.field(metadata=metadata, **kwargs)


def register_pytree_node_class(cls: type[T]) -> type[T]:
    """Class decorator: use the class's `tree_flatten` and `tree_unflatten` methods.

    The class is returned. See `jax.tree_util.register_pytree_node_class`.

    Raises:
      ValueError: the class is registered already.
    """
    node_class: Any = cls
    register_pytree_node(cls, methodcaller("tree_flatten"), node_class.tree_unflatten)
    return cls


def register_dataclass(
    cls: type[T],
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> type[T]:
    """Make a dataclass a container of its `data_fields`; `meta_fields` are static and compared.

    Without `data_fields`, every field that is not in `meta_fields` (nor marked
    ``metadata={"static": True}``, as `static` does) holds data. `drop_fields` are left out, and
    get their defaults back.

    Raises:
      TypeError: `cls` is no dataclass.
      TreeError: not every field that ``__init__`` takes is in exactly one of the two lists.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"register_dataclass needs a dataclass, got {cls!r}")
    fields = [f for f in dataclasses.fields(cls) if f.init and f.name not in drop_fields]
    meta_fields = meta_fields or ()
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
    tree_keys.named_types.add(cls)
    return cls
