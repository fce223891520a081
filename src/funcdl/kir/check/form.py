"""The form of a kernel: which instructions stand together in one, and along which axes they go.

A kernel has one of five forms:

* *loops*: no `Dot`. All reductions are over the same axes, and a store varies over all of these
  axes or over none (an elementwise kernel is the case of no reduction);
* *running*: `Running`, all along one axis in one direction, with no reduction and no `Dot`;
* *order*: the same with `Order` along one axis, and no `Running`;
* *dot*: one `Dot` or `Conv` and no reduction. Nothing that is stored varies over the axes that it
  sums over;
* *updates*: `AtomicUpdate` with neither. Updated buffers are not read or stored to otherwise.
"""

from __future__ import annotations

from funcdl.kir.check.facts import Facts
from funcdl.kir.ir import AtomicUpdate, Conv, Dot, Effect, Instruction, Order, Reduce, Running


def check_form(facts: Facts) -> None:
    """Check that a kernel has one of the five forms."""
    body = facts.kernel.body
    dots = [id for id, i in enumerate(body) if isinstance(i, Dot | Conv)]
    updates = [id for id, instruction in enumerate(body) if isinstance(instruction, AtomicUpdate)]
    reduces = {id: i for id, i in enumerate(body) if isinstance(i, Reduce)}
    running = [id for id, i in enumerate(body) if isinstance(i, Running | Order)]
    if running:
        _check_running(facts, running, [*updates, *dots, *reduces])
    if updates and (reduces or dots):
        facts.fail("a kernel with updates must have no reduce and no dot", updates[0])
    if dots and reduces:
        facts.fail("a kernel with a dot must have no reduce", next(iter(reduces)))
    if len(dots) > 1:
        facts.fail("a kernel must have one dot at most", dots[1])
    effects = [id for id, instruction in enumerate(body) if isinstance(instruction, Effect)]
    for dot in dots:
        _check_no_effect_over(facts, body[dot], effects)
    if reduces:
        first = next(iter(reduces.values())).axes
        for id, reduce in reduces.items():
            if reduce.axes != first:
                facts.fail(f"all reduces must be over the same axes, {', '.join(first)}", id)
        for id in effects:
            if 0 < len(facts.varies[id] & set(first)) < len(first):
                facts.fail(f"must vary over all of the axes {', '.join(first)} or none", id)


def _check_running(facts: Facts, running: list[int], others: list[int]) -> None:
    if others:
        facts.fail("a running or order kernel must have no reduce, dot or update", others[0])
    first, *rest = ((id, _way(facts.kernel.body[id])) for id in running)
    for id, way in rest:
        if way != first[1]:
            facts.fail("running results must go along one axis in one direction, or order it", id)


def _check_no_effect_over(facts: Facts, dot: Instruction, effects: list[int]) -> None:
    assert isinstance(dot, Dot | Conv)
    summed = (dot.k,) if isinstance(dot, Dot) else dot.summed
    for id in effects:
        for axis in summed:
            if axis in facts.varies[id]:
                facts.fail(f"must not vary over {axis}, which the dot sums over", id)


def _way(instruction: Instruction) -> tuple[str, bool | None]:
    """Along which axis an instruction goes and whether backwards, None for one that orders it."""
    if isinstance(instruction, Running):
        return instruction.axis, instruction.reverse
    assert isinstance(instruction, Order)
    return instruction.axis, None
