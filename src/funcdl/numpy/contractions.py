"""Einstein summation: einsum, as products of pairs of arrays.

An expression is read into labels, one for each dimension of each operand. A path (opt_einsum's, for
three operands and more) says which pair comes next; a pair is one `dot_general`, whose batch
dimensions are the labels that both have and somebody still needs. Sums over labels of one
operand alone come before it, and diagonals (a label twice in one operand) before these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import shortened
from funcdl.core.forks import held_off
from funcdl.core.integers import integer, integers
from funcdl.core.records import record
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import array, convert, promote_dtypes, refuse_out, strong
from funcdl.ops.arithmetic import mul
from funcdl.ops.dot import dot_general
from funcdl.ops.dot_precision import factor_precision
from funcdl.ops.reduction import reduce_sum
from funcdl.ops.shape import broadcast_in_dim, reshape, reshape_to, transpose
from funcdl.ops.slicing import slice_

__all__ = ["einsum", "einsum_path"]

Label = Hashable
Labels = tuple[Label, ...]
Path = list[tuple[int, ...]]


@record
class _Term:
    """An array with a label for each dimension."""

    value: Any
    labels: Labels

    def sizes(self) -> dict[Label, int]:
        return dict(zip(self.labels, self.value.aval.shape, strict=True))


def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: str | bool | Sequence[Any] = "auto",
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Sum of products of elements, by labels of dimensions (see `jax.numpy.einsum`).

    ``einsum("bij,bjk->bik", x, y)`` multiplies stacks of matrices. A label in several operands
    pairs their dimensions; one that the output lacks is summed over; one that an operand has twice
    takes its diagonal. ``...`` stands for leading dimensions that broadcast. Without ``->`` the
    output has the labels that occur once, in alphabetical order. A dimension of size 1 broadcasts.

    Args:
      subscripts, operands: a string and the arrays; or ``x, [0, 1], y, [1, 2], [0, 2]``, each array
        followed by its labels (integers, or `Ellipsis`), those of the output last or left out.
      out: must be None.
      optimize: how to find the order of the pairs, by a name that opt_einsum knows; True:
        "optimal"; False: from left to right; or a path, as of `einsum_path`.
      precision: what a GPU may round float32 to (see `funcdl.lax.dot_general`).
      preferred_element_type: the dtype to add up in and to return.

    Raises:
      ArgumentError: the subscripts cannot be read, or do not fit the number of operands.
      ShapeError: an operand has another number of dimensions than labels, or sizes differ.
    """
    refuse_out("einsum", out)
    arrays, inputs, output = _read(subscripts, operands)
    values = promote_dtypes("einsum", *arrays)
    target, weak = lattice.lattice_join(*map(lattice.lattice_type, arrays))
    if preferred_element_type is not None:
        target, weak = canonical(preferred_element_type), False
    if dtypes.is_bool(target):
        values = [convert(x, np.dtype(np.int32)) for x in values]  # counts of what is true in all
    terms = [_Term(x, labels) for x, labels in zip(values, inputs, strict=True)]
    terms = _without_broadcasting(terms)
    path = _find_path(terms, output, optimize)
    preferred = None if preferred_element_type is None or dtypes.is_bool(target) else target
    result = _contract(terms, output, path, preferred, factor_precision(precision))
    result = convert(result, target)
    return result if weak else strong(result)


def einsum_path(
    subscripts: Any, /, *operands: Any, optimize: str | bool | Sequence[Any] = "auto"
) -> tuple[Path, Any]:
    """The order in which `einsum` takes pairs, and opt_einsum's report on it.

    Each entry of the path names operands by their places; they are taken out, and their product is
    appended.

    Arguments and errors are those of `einsum`. Returns a list of tuples of ints, and an object that
    prints as the report. See `jax.numpy.einsum_path`.
    """
    arrays, inputs, output = _read(subscripts, operands)
    terms = _without_broadcasting(
        [_Term(array("einsum_path", x), labels) for x, labels in zip(arrays, inputs, strict=True)]
    )
    return _planned("einsum_path", terms, output, _method("einsum_path", optimize))


def _read(subscripts: Any, operands: Sequence[Any]) -> tuple[list[Any], list[Labels], Labels]:
    """The arrays, the labels of each, and those of the output."""
    if isinstance(subscripts, str):
        arrays = [array("einsum", x) for x in operands]
        sides = subscripts.replace(" ", "").split("->")
        if len(sides) > 2:
            raise ArgumentError(
                f"einsum: subscripts must have one '->', got {shortened(subscripts)}"
            )
        written = [_characters(part, subscripts) for part in sides[0].split(",")]
        wanted = _characters(sides[1], subscripts) if len(sides) == 2 else None
    else:
        arguments = [subscripts, *operands]
        has_output = len(arguments) % 2 == 1
        wanted = _sublist(arguments.pop()) if has_output else None
        arrays = [array("einsum", x) for x in arguments[::2]]
        written = [_sublist(labels) for labels in arguments[1::2]]
    if len(written) != len(arrays):
        raise ArgumentError(
            f"einsum: subscripts {subscripts!r} are for {len(written)} operands, got {len(arrays)}"
        )
    inputs = [
        _expand(labels, x, place)
        for place, (labels, x) in enumerate(zip(written, arrays, strict=True))
    ]
    return arrays, inputs, _output_labels(inputs, wanted, written)


def _characters(part: str, subscripts: str) -> list[Any]:
    labels: list[Any] = list(part.replace("...", "\N{HORIZONTAL ELLIPSIS}"))
    wrong = [c for c in labels if not (c.isalpha() or c == "\N{HORIZONTAL ELLIPSIS}")]
    if wrong:
        raise ArgumentError(
            f"einsum: subscripts must be made of letters, '...', ',' and '->', "
            f"got {shortened(wrong[0])} in "
            f"{subscripts!r}"
        )
    return [Ellipsis if c == "\N{HORIZONTAL ELLIPSIS}" else c for c in labels]


def _sublist(labels: Any) -> list[Any]:
    if not isinstance(labels, Sequence | np.ndarray):
        raise ArgumentError(
            "einsum: without a string, each array must be followed by a sequence of its labels, "
            f"got {shortened(labels)}"
        )
    return [x if x is Ellipsis else integer("a label", x) for x in labels]


def _expand(labels: list[Any], x: Any, place: int) -> Labels:
    """Labels for all dimensions: `Ellipsis` stands for ``("...", n)``, counted from the last."""
    named = [label for label in labels if label is not Ellipsis]
    unnamed = x.aval.ndim - len(named)
    dots = len(labels) - len(named)
    if dots > 1 or unnamed < 0 or (unnamed and not dots):
        raise ShapeError(
            f"einsum: operand {place} is {x.aval}, but has {len(named)} labels"
            f"{' beside ...' if dots else ''}: {_show(labels)}; every dimension needs one label, "
            "or one ... for those left over"
        )
    if not dots:
        return tuple(named)
    where = labels.index(Ellipsis)
    hidden = tuple(("...", n) for n in range(unnamed - 1, -1, -1))
    return (*labels[:where], *hidden, *labels[where + 1 :])


def _output_labels(
    inputs: list[Labels], wanted: list[Any] | None, written: list[list[Any]]
) -> Labels:
    counts = Counter(label for labels in inputs for label in labels)
    hidden = sorted((x for x in counts if isinstance(x, tuple)), key=lambda x: -x[1])
    if wanted is None:
        once: list[Any] = [x for x, n in counts.items() if n == 1 and not isinstance(x, tuple)]
        return (*hidden, *sorted(once))
    output: list[Label] = []
    for label in wanted:
        output += hidden if label is Ellipsis else [label]
    if wrong := [x for x in output if x not in counts]:
        raise ArgumentError(
            f"einsum: the output {_show(wanted)} has a label that no operand has, {wrong[0]!r}; "
            f"operands have {', '.join(map(_show, written))}"
        )
    if len(set(output)) != len(output):
        raise ArgumentError(f"einsum: the output {_show(wanted)} has a label twice")
    if hidden and Ellipsis not in wanted and any(Ellipsis in labels for labels in written):
        raise ArgumentError(
            f"einsum: the output {_show(wanted)} lacks the ... that operands have: "
            f"{', '.join(map(_show, written))}"
        )
    return tuple(output)


def _show(labels: list[Any]) -> str:
    if all(label is Ellipsis or isinstance(label, str) for label in labels):
        return repr("".join("..." if label is Ellipsis else label for label in labels))
    return repr(["..." if label is Ellipsis else label for label in labels])


def _without_broadcasting(terms: list[_Term]) -> list[_Term]:
    """Terms without dimensions of size 1 whose label has another size elsewhere.

    Raises:
      ShapeError: a label has two sizes other than 1.
    """
    sizes: dict[Label, int] = {}
    for place, term in enumerate(terms):
        for label, size in zip(term.labels, term.value.aval.shape, strict=True):
            known = sizes.get(label, 1)
            if 1 not in (known, size) and known != size:
                name = repr(label[0] if isinstance(label, tuple) else label)
                raise ShapeError(
                    f"einsum: label {name} has size {known} and size {size} (operand {place}, "
                    f"{term.value.aval}); sizes of one label must be equal, or 1"
                )
            sizes[label] = size if known == 1 else known
    result = []
    for term in terms:
        shape = term.value.aval.shape
        kept = [d for d, n in enumerate(shape) if n == sizes[term.labels[d]]]
        value = reshape_to(term.value, tuple(shape[d] for d in kept))
        result.append(_Term(value, tuple(term.labels[d] for d in kept)))
    return result


def _method(name: str, optimize: Any) -> Any:
    if optimize is True:
        return "optimal"
    if isinstance(optimize, list | tuple):
        steps = [step for step in optimize if not isinstance(step, str) or step != "einsum_path"]
        return [integers(f"{name}: each step of optimize", step) for step in steps]
    if optimize is not None and not isinstance(optimize, str | bool):
        raise ArgumentError(
            f"{name}: optimize must be True, False, the name of a method such as 'optimal', or a "
            f"path, got {shortened(optimize)}"
        )
    return optimize


def _expression(terms: list[_Term], output: Labels) -> str:
    """The labels as letters, for opt_einsum."""
    with held_off():
        import opt_einsum

    letters: dict[Label, str] = {}
    for term in terms:
        for label in term.labels:
            letters.setdefault(label, opt_einsum.get_symbol(len(letters)))
    inputs = ",".join("".join(letters[label] for label in term.labels) for term in terms)
    return inputs + "->" + "".join(letters[label] for label in output)


def _find_path(terms: list[_Term], output: Labels, optimize: Any) -> Path:
    count = len(terms)
    if optimize is False or (count <= 2 and isinstance(optimize, str | bool)):
        return [tuple(range(count))]
    method = _method("einsum", optimize)
    return method if isinstance(method, list) else _planned("einsum", terms, output, method)[0]


def _planned(name: str, terms: list[_Term], output: Labels, method: Any) -> tuple[Path, Any]:
    """The path that opt_einsum finds, or is given, and its report."""
    with held_off():
        import opt_einsum

    try:
        path, report = opt_einsum.contract_path(
            _expression(terms, output),
            *(term.value.aval.shape for term in terms),
            shapes=True,
            optimize=method,
        )
    except (KeyError, IndexError):
        raise ArgumentError(
            f"{name}: optimize is no path of {len(terms)} operands and no method, such as 'auto', "
            f"'greedy' or 'optimal', got {shortened(method)}"
        ) from None
    return [tuple(step) for step in path], report


def _contract(
    terms: list[_Term], output: Labels, path: Path, preferred: Any, precision: str | None
) -> Any:
    terms = [_diagonal(term) for term in terms]
    for step in path:
        if not step or not all(-len(terms) <= i < len(terms) for i in step):
            raise ArgumentError(
                f"einsum: optimize has a step {step}, when {len(terms)} operands are left"
            )
        chosen = [terms[i] for i in step]
        places = {i % len(terms) for i in step}
        terms = [term for i, term in enumerate(terms) if i not in places]
        while len(chosen) > 1:
            first, second = chosen[:2]
            last = len(chosen) == 2 and not terms
            needed = {*output}.union(*(term.labels for term in (*chosen[2:], *terms)))
            wanted = output if last else None
            product = _multiply(first, second, needed, wanted, preferred, precision)
            chosen = [product, *chosen[2:]]
        terms = [*terms, *chosen]
    while len(terms) > 1:  # a path that stops early
        first, second = terms[:2]
        needed = {*output}.union(*(term.labels for term in terms[2:]))
        terms = [_multiply(first, second, needed, None, preferred, precision), *terms[2:]]
    final = _summed(terms[0], set(output))
    return _transposed(final.value, [final.labels.index(label) for label in output])


def _multiply(
    left: _Term,
    right: _Term,
    needed: set[Label],
    output: Labels | None,
    preferred: Any,
    precision: str | None,
) -> _Term:
    """The product of two terms, summed over the labels that nobody needs."""
    left = _summed(left, needed.union(right.labels))
    right = _summed(right, needed.union(left.labels))
    x, y = _one_dtype(left.value, right.value)
    shared = [label for label in left.labels if label in right.labels]
    contract = [label for label in shared if label not in needed]
    batch = [label for label in shared if label in needed]
    if not contract:
        return _spread_product(_Term(x, left.labels), _Term(y, right.labels), output, preferred)
    if output is not None:
        # The output of dot_general has batch labels first: in the order in which they are wanted.
        batch.sort(key=output.index)
        free = [[n for n in t.labels if n not in shared] for t in (left, right)]
        if (*batch, *free[0], *free[1]) != output == (*batch, *free[1], *free[0]):
            left, right, x, y = right, left, y, x
    dims = [
        tuple(tuple(map(t.labels.index, names)) for t in (left, right))
        for names in (contract, batch)
    ]
    value = dot_general(
        x,
        y,
        dimension_numbers=(dims[0], dims[1]),
        preferred_element_type=preferred,
        precision=precision,
    )
    free_labels = [n for t in (left, right) for n in t.labels if n not in shared]
    return _Term(value, (*batch, *free_labels))


def _spread_product(left: _Term, right: _Term, output: Labels | None, preferred: Any) -> _Term:
    """A product without sums: elementwise, in the order of the output."""
    sizes = {**left.sizes(), **right.sizes()}
    labels = tuple(sizes) if output is None else output
    shape = tuple(sizes[label] for label in labels)
    factors = []
    for term in (left, right):
        value = term.value if preferred is None else convert(term.value, preferred)
        order = sorted(range(len(term.labels)), key=lambda d: labels.index(term.labels[d]))
        value = _transposed(value, order)
        places = tuple(labels.index(term.labels[d]) for d in order)
        if value.aval.shape != shape:
            value = broadcast_in_dim(value, shape=shape, broadcast_dimensions=places)
        factors.append(value)
    return _Term(mul(*factors), labels)


def _one_dtype(x: Any, y: Any) -> tuple[Any, Any]:
    """A product that was added up in a wider dtype meets an operand in its own."""
    if x.aval.dtype == y.aval.dtype:
        return x, y
    x, y = promote_dtypes("einsum", x, y)
    return x, y


def _summed(term: _Term, needed: Iterable[Label]) -> _Term:
    wanted = set(needed)
    axes = tuple(d for d, label in enumerate(term.labels) if label not in wanted)
    if not axes:
        return term
    kept = tuple(label for label in term.labels if label in wanted)
    return _Term(reduce_sum(term.value, axes=axes), kept)


def _diagonal(term: _Term) -> _Term:
    """A term that has each label once."""
    for label, count in Counter(term.labels).items():
        if count == 1:
            continue
        x = term.value
        places = [d for d, name in enumerate(term.labels) if name == label]
        others = [d for d in range(len(term.labels)) if d not in places]
        size = x.aval.shape[places[0]]
        rest = tuple(x.aval.shape[d] for d in others)
        # In row-major order the elements of a diagonal are equally far apart.
        x = reshape(_transposed(x, [*places, *others]), new_sizes=(size**count, *rest))
        step = sum(size**n for n in range(count))
        x = slice_(
            x,
            start_indices=(0,) * (len(rest) + 1),
            limit_indices=(max(size - 1, 0) * step + min(size, 1), *rest),
            strides=(step if size else 1, *(1,) * len(rest)),
        )
        term = _Term(x, (label, *(term.labels[d] for d in others)))
    return term


def _transposed(x: Any, order: list[int]) -> Any:
    return x if order == list(range(len(order))) else transpose(x, permutation=tuple(order))
