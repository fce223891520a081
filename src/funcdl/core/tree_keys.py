"""Keys of paths into pytrees, as `jax.tree_util` has them: one class for each kind of container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optree

from funcdl.core.options import flag
from funcdl.core.records import record
from funcdl.errors import ArgumentError

KeyPath = tuple[Any, ...]


@record
class SequenceKey:
    """The position of a child in a list or tuple (see `jax.tree_util.SequenceKey`)."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"


@record
class DictKey:
    """The key of a child in a dict (see `jax.tree_util.DictKey`)."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@record
class GetAttrKey:
    """The attribute that holds a child, of a named tuple or a registered class.

    See `jax.tree_util.GetAttrKey`.
    """

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@record
class FlattenedIndexKey:
    """The number of a child of a class that was registered without keys.

    See `jax.tree_util.FlattenedIndexKey`.
    """

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


KeyEntry = SequenceKey | DictKey | GetAttrKey | FlattenedIndexKey

named_types: set[type] = set()
"""Registered dataclasses, whose entries are names of fields."""

keyed_types: set[type] = set()
"""Classes registered with keys of their own."""


def key_of(entry: Any, owner: type, kind: Any) -> Any:
    """The key for an entry of a path that `optree` gives, in a container of type `owner`."""
    if owner in keyed_types:
        return entry
    if owner in named_types:
        return GetAttrKey(entry)
    if kind == optree.PyTreeKind.CUSTOM:
        return FlattenedIndexKey(entry)
    if kind == optree.PyTreeKind.NAMEDTUPLE:
        named: Any = owner
        return GetAttrKey(named._fields[entry])
    if kind in (
        optree.PyTreeKind.DICT,
        optree.PyTreeKind.ORDEREDDICT,
        optree.PyTreeKind.DEFAULTDICT,
    ):
        return DictKey(entry)
    return SequenceKey(entry)


def key_paths(treedef: optree.PyTreeSpec) -> list[KeyPath]:
    """The path of each leaf of a structure."""
    return [
        tuple(key_of(step.entry, step.type, step.kind) for step in accessor)
        for accessor in treedef.accessors()
    ]


def keystr(keys: Sequence[Any], *, simple: bool = False, separator: str = "") -> str:
    """A path as text: ``['w'][0].bias`` (see `jax.tree_util.keystr`).

    Args:
      keys: the path.
      simple: whether to write keys alone, without brackets and dots: ``w0bias``.
      separator: what to put between them.

    Raises:
      ArgumentError: `keys` is no path, or `separator` no string.
    """
    if not isinstance(keys, Sequence):
        raise ArgumentError(
            f"keystr: keys must be a path, a tuple of keys, got {type(keys).__name__}"
        )
    if not isinstance(separator, str):
        raise ArgumentError(f"keystr: separator must be a string, got {separator!r}")
    if not flag("keystr: simple", simple):
        return separator.join(map(str, keys))
    return separator.join(str(_plain(key)) for key in keys)


def _plain(key: Any) -> Any:
    match key:
        case SequenceKey(value) | DictKey(value) | GetAttrKey(value) | FlattenedIndexKey(value):
            return value
    return key
