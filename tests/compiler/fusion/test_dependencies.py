"""The order in which fusion groups run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from funcdl.compiler.fusion.dependencies import Dependencies, bits


@st.composite
def graphs(draw: st.DrawFn) -> list[set[int]]:
    """What each group depends on directly; no circles, but not always on lower numbers."""
    count = draw(st.integers(1, 12))
    rank = draw(st.permutations(range(count)))
    return [
        draw(st.sets(st.sampled_from(before), max_size=3)) if before else set()
        for number in range(count)
        for before in [[n for n in range(count) if rank[n] < rank[number]]]
    ]


def dependencies(graph: list[set[int]]) -> Dependencies:
    found = Dependencies()
    for _ in graph:
        found.open()
    for number, needed in enumerate(graph):
        found.add(number, sum(1 << n for n in needed))
    return found


@given(graphs())
def test_the_lowest_that_can_run_is_next(graph: list[set[int]]) -> None:
    done: list[int] = []
    for number in dependencies(graph).order():
        can_run = [n for n, needed in enumerate(graph) if n not in done and needed <= set(done)]
        assert number == min(can_run)
        done.append(number)
    assert sorted(done) == list(range(len(graph)))


@given(graphs())
def test_what_a_group_waits_for_includes_what_that_waits_for(graph: list[set[int]]) -> None:
    found = dependencies(graph)
    for number, needed in enumerate(graph):
        for other in needed:
            assert found.depends(number, other)
            assert all(found.depends(number, n) for n in graph[other])


@given(graphs(), st.data())
def test_added_is_what_a_group_comes_to_wait_for(
    graph: list[set[int]], data: st.DataObject
) -> None:
    found = dependencies(graph)
    numbers = st.integers(0, len(graph) - 1)
    number, other = data.draw(numbers), data.draw(numbers)

    def waits() -> set[int]:
        return {n for n in range(len(graph)) if n != number and found.depends(number, n)}

    if found.depends(other, number):
        return  # a circle
    before, added = waits(), found.added(number, 1 << other)
    found.add(number, 1 << other)
    assert waits() - before == set(bits(added))


def test_a_late_group_brings_nothing_forward() -> None:
    """Group 0 needs the last one: the sums of 1 and 3 still come right after these."""
    graph = [{4}, set(), {1}, {1}, {3}]
    assert dependencies(graph).order() == [1, 2, 3, 4, 0]


def test_bits() -> None:
    assert list(bits(0b101001)) == [0, 3, 5]
