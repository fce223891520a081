"""A model's graph cut into stages, each for another process.

The program is cut between equations, in their order, so that no stage costs much more than another
and few bytes go from one to the next. A parameter belongs to the first stage that reads it; where a
later one reads it too (an embedding that is also the last layer's matrix), it travels as all other
values do, and so does its cotangent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from funcdl.core import tree
from funcdl.core.integers import integer
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var, eval_jaxpr, sub_jaxprs
from funcdl.core.pruning import prune_jaxpr
from funcdl.core.records import record
from funcdl.core.staging import trace_to_jaxpr
from funcdl.distributed.programs import inlined
from funcdl.errors import ArgumentError, TreeError
from funcdl.transforms.arguments import as_arrays, check_function, flatten_output, function_name

PyTree = Any

# How much more than it must the costliest stage may cost, where fewer bytes are sent then.
_SLACK = 1.1


@record
class Stage:
    """One part of a function: ``stage(own, *values)`` takes the stage before's results.

    The first one takes the function's inputs, the last one returns its output, as arguments of
    `pipeline` do.

    Attributes:
      parameters: paths of the parameters that it holds, in the order of the list `own`.
      operations: about how many floating-point operations it takes.
      nbytes: how many bytes it sends to the next one.
    """

    parameters: tuple[str, ...]
    operations: float
    nbytes: int
    _program: ClosedJaxpr
    _out_tree: tree.TreeDef | None

    def __call__(self, own: Sequence[Any], *values: Any) -> Any:
        jaxpr = self._program.jaxpr
        given, _ = as_arrays("arguments", (list(own), values), "stage")
        if len(given) != len(jaxpr.invars):
            raise TreeError(
                f"stage requires {len(self.parameters)} parameters and "
                f"{len(jaxpr.invars) - len(self.parameters)} values, got {len(own)} and "
                f"{len(given) - len(own)}"
            )
        outs = eval_jaxpr(jaxpr, self._program.consts, given)
        return tuple(outs) if self._out_tree is None else self._out_tree.unflatten(outs)


@record
class Partition:
    """The stages of a function, and which parameters are whose; `partition` makes it.

    Attributes:
      stages: a `Stage` for each process.
    """

    stages: tuple[Stage, ...]
    _positions: tuple[tuple[int, ...], ...]
    _treedef: tree.TreeDef

    def split(self, params: PyTree) -> list[list[Any]]:
        """The parameters of each stage, a list for each.

        Raises:
          TreeError: they have another structure than those that the function was traced with.
        """
        leaves, treedef = tree.flatten(params)
        if treedef != self._treedef:
            raise TreeError(
                "split requires parameters with the structure of those given to partition:\n"
                f"  {tree.show(treedef)}\n  {tree.show(self._treedef)}"
            )
        return [[leaves[i] for i in own] for own in self._positions]

    def join(self, parts: Sequence[Sequence[Any]]) -> PyTree:
        """What `split` took apart, or gradients of it.

        Raises:
          TreeError: these are not the parts of all stages.
        """
        if [len(part) for part in parts] != [len(own) for own in self._positions]:
            raise TreeError(
                f"join requires lists of {', '.join(str(len(p)) for p in self._positions)} arrays, "
                f"one for each stage; got {', '.join(str(len(p)) for p in parts)}"
            )
        leaves: list[Any] = [None] * self._treedef.num_leaves
        for own, part in zip(self._positions, parts, strict=True):
            for i, value in zip(own, part, strict=True):
                leaves[i] = value
        return self._treedef.unflatten(leaves)


def partition(fun: Callable[..., Any], stages: int, params: PyTree, *inputs: PyTree) -> Partition:
    """Cut a function of parameters and inputs into stages (compare `jax.make_jaxpr`).

    Args:
      fun: called as ``fun(params, *inputs)``.
      stages: how many there are to be.
      params, inputs: pytrees of arrays, of the types that it will be called with: `inputs` of one
        micro-batch. Values do not count.

    Returns:
      A `Partition`.

    Raises:
      ArgumentError: `stages` is not positive, or there are not as many operations.
      LeafTypeError: a leaf is no array.
    """
    count = integer("partition: stages", stages)
    check_function("partition", fun)
    name = function_name(fun)
    owned, treedef = as_arrays("params", params, "partition")
    given, in_tree = as_arrays("inputs", inputs, "partition")
    out_trees = []

    def flat(*xs: Any) -> list[Any]:
        out = fun(treedef.unflatten(xs[: len(owned)]), *in_tree.unflatten(xs[len(owned) :]))
        leaves, out_tree = flatten_output(out, "partition", name)
        out_trees.append(out_tree)
        return leaves

    values = [*owned, *given]
    jaxpr, consts = prune_jaxpr(*trace_to_jaxpr(flat, [x.aval for x in values], name=name))
    program, held, inputs_of = inlined(jaxpr, consts)
    if not 1 <= count <= max(len(program.eqns), 1):
        raise ArgumentError(
            f"partition: stages must be from 1 to {max(len(program.eqns), 1)}, the number of "
            f"operations of {name}; got {count}"
        )
    graph = _Graph(program, held, inputs_of[: len(owned)], inputs_of[len(owned) :])
    cuts = _cuts([_operations(eqn) for eqn in program.eqns], graph.crossing_bytes(), count)
    paths = [tree.format_path(path) for path in tree.paths(treedef)]
    made, positions = [], []
    for number, (start, end) in enumerate(pairwise(cuts)):
        last = number == count - 1
        own = graph.parameters(start, end)
        made.append(
            Stage(
                tuple(paths[i] for i in own),
                sum(_operations(eqn) for eqn in program.eqns[start:end]),
                0 if last else graph.crossing_bytes()[end],
                graph.part(own, start, end),
                out_trees[0] if last else None,
            )
        )
        positions.append(tuple(own))
    return Partition(tuple(made), tuple(positions), treedef)


class _Graph:
    """Where each value of a program is made, and where it is last read."""

    def __init__(
        self, program: Jaxpr, consts: dict[Var, Any], params: Sequence[Var], inputs: Sequence[Var]
    ) -> None:
        self.program, self.consts, self.params, self.inputs = program, consts, params, inputs
        self.length = len(program.eqns)
        first: dict[Var, int] = {}
        self.last: dict[Var, int] = {}
        for position, eqn in enumerate(program.eqns):
            for atom in eqn.invars:
                if isinstance(atom, Var):
                    first.setdefault(atom, position)
                    self.last[atom] = position
        for atom in program.outvars:
            if isinstance(atom, Var):
                first.setdefault(atom, self.length - 1)
                self.last[atom] = self.length
        # Parameters that nothing reads belong to the first stage.
        self.reader = {var: max(first.get(var, 0), 0) for var in params}
        self.made = dict.fromkeys(inputs, -1) | self.reader
        self.made |= {v: i for i, eqn in enumerate(program.eqns) for v in eqn.outvars}

    def crossing(self, position: int) -> list[Var]:
        """The values that are sent where the program is cut before an equation."""
        return [var for var, made in self.made.items() if made < position <= self.last.get(var, -1)]

    def crossing_bytes(self) -> list[int]:
        """How many bytes that is, for each equation."""
        changes = [0] * (self.length + 2)
        for var, made in self.made.items():
            last = self.last.get(var, -1)
            if last > made:
                changes[made + 1] += var.aval.nbytes
                changes[last + 1] -= var.aval.nbytes
        return list(accumulate(changes))

    def parameters(self, start: int, end: int) -> list[int]:
        """The numbers of the parameters that are first read between two cuts."""
        return [
            i
            for i, var in enumerate(self.params)
            if start <= self.reader[var] < end or (self.length == 0 and start == 0)
        ]

    def part(self, own: Sequence[int], start: int, end: int) -> ClosedJaxpr:
        """The program between two cuts."""
        taken = list(self.inputs) if start == 0 else self.crossing(start)
        outs: Sequence[Atom] = self.crossing(end)
        if end == self.length:
            outs = self.program.outvars
        eqns = self.program.eqns[start:end]
        read = {a for eqn in eqns for a in eqn.invars} | set(outs)
        consts = [var for var in self.consts if var in read]
        invars = [*(self.params[i] for i in own), *taken]
        jaxpr = Jaxpr(consts, invars, outs, eqns)
        return ClosedJaxpr(jaxpr, [self.consts[var] for var in consts])


def _operations(eqn: Eqn) -> float:
    """About how many operations an equation takes."""
    bodies = sub_jaxprs(eqn.params)
    if bodies:
        # Of a loop whose steps nobody knows, one; of a branch all.
        times = eqn.params.get("length", 1)
        return float(times) * sum(_operations(inner) for body in bodies for inner in body.eqns)
    sizes = [atom.aval.size for atom in (*eqn.invars, *eqn.outvars)]
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
        return float(2 * eqn.outvars[0].aval.size * depth)
    if eqn.primitive.name == "conv_general_dilated":
        features = eqn.params["dimension_numbers"].rhs_spec[0]
        kernel = eqn.invars[1].aval
        return float(2 * eqn.outvars[0].aval.size * kernel.size // max(kernel.shape[features], 1))
    return float(max(sizes, default=0))


def _cuts(costs: Sequence[float], crossing: Sequence[int], count: int) -> list[int]:
    """Where each of `count` stages begins, and the end.

    The fewest bytes cross where no stage costs more than the costliest must, and a little.
    """
    length = len(costs)
    if count == 1:
        return [0, length]
    sums = [0.0, *accumulate(costs)]
    limit = _least_limit(costs, count) * _SLACK
    # best[j]: bytes that cross in front of stages that end at equation j, and where the last began.
    best: list[float] = [0.0 if j == 0 else math.inf for j in range(length + 1)]
    begins: list[list[int]] = []
    for stage in range(count):
        found, begin = [math.inf] * (length + 1), [0] * (length + 1)
        window: deque[int] = deque()
        for j in range(1, length + 1):
            i = j - 1  # no stage is empty
            if best[i] < math.inf:
                while window and _sent(best, crossing, window[-1], stage) >= _sent(
                    best, crossing, i, stage
                ):
                    window.pop()
                window.append(i)
            while window and sums[j] - sums[window[0]] > limit and window[0] < j - 1:
                window.popleft()
            if window and sums[j] - sums[window[0]] <= limit:
                found[j], begin[j] = _sent(best, crossing, window[0], stage), window[0]
        best = found
        begins.append(begin)
    cuts = [length]
    for begin in reversed(begins):
        cuts.append(begin[cuts[-1]])
    return cuts[::-1]


def _sent(best: Sequence[float], crossing: Sequence[int], i: int, stage: int) -> float:
    return best[i] + (crossing[i] if stage else 0)


def _least_limit(costs: Sequence[float], count: int) -> float:
    """About what the costliest of `count` stages must cost at least."""

    def stages(limit: float) -> int:
        number, load = 1, 0.0
        for cost in costs:
            if load + cost > limit:
                number, load = number + 1, 0.0
            load += cost
        return number

    low, high = max(costs), math.fsum(costs) + 1.0
    if stages(low) <= count:
        return max(low, math.fsum(costs) / count)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if stages(middle) <= count else (middle, high)
    return high
