"""Slices and rows written in the memory of arrays that a caller or a loop gives up, on a GPU."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from tests.process import answer
from tests.runtime.cuda import in_place_programs
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.in_place_programs import PROGRAMS, arguments, difference

import funcdl as fd
from funcdl.compiler.cuda import target
from funcdl.compiler.cuda.executable import CALLS_BEFORE_GRAPH, MAX_GRAPHS


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_mean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "MIN_WRITTEN_BYTES", 0)
    with installed(StubGpu()):
        for donated in (False, True):
            assert difference(name, donated) == ""


@pytest.mark.triton
def test_programs_in_tritons_interpreter() -> None:
    found = answer("-m", in_place_programs.__name__, interpret=True)
    assert found == dict.fromkeys(PROGRAMS, "")


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "rounded"])
def test_what_is_given_up_is_not_copied(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in a warm program's graph, which serves callers that keep their array as well."""
    monkeypatch.setattr(target, "MIN_WRITTEN_BYTES", 0)
    function, _ = PROGRAMS[name]
    with installed(StubGpu()) as gpu:
        step = fd.jit(function, donate_argnums=0)
        first, *rest = arguments(name)
        x = fd.device_put(first, "gpu")
        rest = [fd.device_put(y, "gpu") for y in rest]
        copies = []
        for call in range(8):
            before, kept = x.buffer, call % 4 == 3
            if kept:
                before.shared = True  # as of a result that another array holds, too
                wanted = np.array(before.to_host())
            gpu.stub.launches.clear()
            x = step(x, *rest)
            x.block_until_ready()
            copies.append(sum("copy" in launch for launch in gpu.stub.launches))
            assert (x.buffer.address == before.address) is not kept
            if kept:
                before._host = None
                np.testing.assert_array_equal(before.to_host(), wanted)
        # The array is copied once where it is kept.
        assert copies == [0, 0, 0, 1] * 2


def test_there_is_a_graph_for_each_choice_and_few_at_a_time() -> None:
    def rows(xs: Any, i: Any) -> Any:
        return [x.at[i].set(n) for n, x in enumerate(xs)]

    with installed(StubGpu()) as gpu:
        step = fd.jit(rows, donate_argnums=0)
        i = fd.device_put(np.int32(2), "gpu")

        def call(*kept: bool) -> int:
            """A call that keeps some of three arrays; how many graphs it makes."""
            xs = [fd.device_put(np.ones((4, 5), np.float32), "gpu") for _ in kept]
            for x, flag in zip(xs, kept, strict=True):
                x.buffer.shared = flag
            made = gpu.stub.calls["cuGraphInstantiate"]
            gpu.stub.launches.clear()
            found = step(xs, i)
            for n, x in enumerate(found):
                wanted = np.ones((4, 5))
                wanted[2] = n
                np.testing.assert_array_equal(x, wanted)
            assert sum("copy" in launch for launch in gpu.stub.launches) == sum(kept)
            return gpu.stub.calls["cuGraphInstantiate"] - made

        for _ in range(CALLS_BEFORE_GRAPH):
            assert call(False, False, False) == 0
        choices = list(product((False, True), repeat=3))
        assert len(choices) > MAX_GRAPHS
        for choice in choices[:MAX_GRAPHS]:
            assert [call(*choice) for _ in range(3)] == [1, 0, 0]
        assert all(call(*choice) == 0 for choice in choices[:MAX_GRAPHS])
        destroyed = gpu.stub.calls["cuGraphExecDestroy"]
        assert all(call(*choice) == 1 for choice in choices[MAX_GRAPHS:])
        assert gpu.stub.calls["cuGraphExecDestroy"] - destroyed == len(choices) - MAX_GRAPHS


def test_copies_that_are_left_out_are_no_launches_of_a_profile() -> None:
    with installed(StubGpu()):
        step = fd.jit(lambda x, i: x.at[i].set(1), donate_argnums=0)
        x = fd.device_put(np.zeros((4, 5), np.float32), "gpu")
        x = step(x, np.int32(1))
        with fd.profile() as p:
            step(x, np.int32(2)).block_until_ready()
    (name,) = (row.name for row in p.rows if row.kind == "kernel")
    assert "copy" not in name
