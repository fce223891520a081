"""A program compiled in parts is the same program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.kernels.cpu_c import split
from funcdl.kernels.cpu_c.split import split_source
from funcdl.runtime.toolchain import find_compiler


def chain(x: Any) -> Any:
    """Eight kernels: reductions over alternating axes."""
    results = []
    for i in range(4):
        x = fnp.exp(x - x.max(axis=i % 2, keepdims=True)) + i
        x = x / x.sum(axis=1 - i % 2, keepdims=True)
        results.append(x.sum())
    return x, results


X = np.random.default_rng(0).normal(size=(40, 300)).astype(np.float32)


def source() -> str:
    return fd.jit(chain).lower(X).as_text("c")


def test_small_programs_are_one_part() -> None:
    assert split_source(fd.jit(fnp.sin).lower(X).as_text("c"), 4) == ()
    assert split_source(source(), 1) == ()


def test_every_kernel_is_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "KERNELS_PER_PART", 2)
    text = source()
    parts = split_source(text, 3)
    assert len(parts) == 3
    count = text.count("/* kernel ")
    assert sum(part.count("/* kernel ") for part in parts) == count >= 6
    for part in parts:
        assert part.count(");\n") >= count
    assert [("void funcdl_run(void **slots) {" in part) for part in parts] == [True, False, False]
    assert max(map(len, parts)) < 0.75 * len(text)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_parts_compute_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    whole = fd.jit(chain)(X)
    monkeypatch.setattr(split, "KERNELS_PER_PART", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    with fd.config.override(cache_dir=str(tmp_path), num_threads=2):
        parts = fd.jit(lambda x: chain(x))(X)
    for a, b in zip(fd.tree.leaves(parts), fd.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_an_error_in_a_part_is_the_programs(tmp_path: Any) -> None:
    from funcdl.runtime.toolchain import CompilerError, Unit

    compiler = find_compiler()
    assert compiler is not None
    with fd.config.override(cache_dir=str(tmp_path)):
        unit = Unit("int a;\nnonsense\n", name="both", parts=("int a;\n", "nonsense\n"))
        with pytest.raises(CompilerError, match="refused 'both'") as caught:
            compiler.build_all([unit])
    assert caught.value.source is not None
    assert caught.value.source.read_text() == unit.source
