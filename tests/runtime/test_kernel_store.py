"""Functions are found by their texts, and compiled once."""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from funcdl.config import config
from funcdl.runtime import kernel_store
from funcdl.runtime.disk_cache import CacheDir, default_cache
from funcdl.runtime.kernel_store import NAME, Loaded, find, share_out
from funcdl.runtime.toolchain import CompilerError, Unit, find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    with config.override(cache_dir=str(tmp_path)):
        yield tmp_path


def text(result: int) -> str:
    return f"int {NAME}(void);\nint {NAME}(void) {{ return {result}; }}\n"


def look_up(results: Sequence[int], flags: Sequence[str] = ("-O1",)) -> list[Loaded]:
    assert COMPILER is not None
    texts = [text(result) for result in results]
    found = find(COMPILER, texts, lambda texts: Unit("".join(texts), tuple(flags)))
    for result, loaded in zip(results, found, strict=True):
        assert ctypes.CFUNCTYPE(ctypes.c_int)(loaded.address)() == result
    return found


def compiled_by(results: Sequence[int], flags: Sequence[str] = ("-O1",)) -> int:
    before = kernel_store.statistics.compiled
    look_up(results, flags)
    return kernel_store.statistics.compiled - before


def forget() -> None:
    """As in a new process."""
    kernel_store._functions.clear()


def test_only_what_is_new_is_compiled() -> None:
    assert compiled_by([1, 2, 1]) == 2
    assert compiled_by([2, 3, 1]) == 1
    forget()
    assert compiled_by([3, 2, 1]) == 0
    assert compiled_by([1], ["-O2"]) == 1


def test_an_empty_program_needs_no_compiler() -> None:
    assert look_up([]) == []


def test_a_part_that_is_gone_is_compiled_again(cache: Path) -> None:
    look_up([1, 2])
    forget()
    for path in cache.glob("??/*.so"):
        path.unlink()
    assert compiled_by([1]) == 1
    forget()
    assert compiled_by([1]) == 0
    assert compiled_by([2]) == 1


@pytest.mark.parametrize("suffix", ["so", "kernel"])
def test_damaged_entries_are_replaced(cache: Path, suffix: str) -> None:
    look_up([1])
    forget()
    for path in cache.glob(f"??/*.{suffix}"):
        damaged = path.read_bytes()[:-3] + b"xyz"
        path.unlink()  # the present file is mapped into memory
        path.write_bytes(damaged)
    look_up([1])
    forget()
    assert compiled_by([1]) == 0


def test_an_entry_that_names_the_wrong_part_is_replaced() -> None:
    (one,), (two,) = look_up([1]), look_up([2])
    forget()
    store = default_cache()
    key = next(store.root.glob("??/*.kernel"))
    wrong = (one if two.path.name.startswith(key.read_text()) else two).path.name.partition(".")[0]
    kernel = key.name.partition(".")[0]
    store.remove(kernel, ".kernel")
    store.put(kernel, ".kernel", wrong)
    assert compiled_by([1, 2]) <= 1
    forget()
    assert compiled_by([1, 2]) == 0


def test_a_unit_that_is_refused_leaves_nothing_behind(cache: Path) -> None:
    assert COMPILER is not None
    for _ in range(2):
        with pytest.raises(CompilerError, match="refused 'unit'"):
            find(COMPILER, [f"int {NAME} nonsense"], lambda texts: Unit("".join(texts)))
    assert not list(cache.glob("??/*.kernel"))


def test_a_folder_without_room_for_the_entry_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    put = CacheDir.put

    def full(store: CacheDir, key: str, suffix: str, content: Any) -> Path:
        if suffix == ".kernel":
            raise OSError(28, "No space left on device")
        return put(store, key, suffix, content)

    monkeypatch.setattr(CacheDir, "put", full)
    assert compiled_by([1]) == 1
    assert compiled_by([1]) == 0


def test_functions_are_shared_out_evenly() -> None:
    lengths = dict(enumerate([900, 500, 400, 300, 200, 100, 100, 100, 100, 100, 50, 50]))
    texts = {str(key): "x" * length for key, length in lengths.items()}
    assert len(share_out(dict(list(texts.items())[:3]), 8)) == 1
    groups = share_out(texts, 2)
    assert sorted(key for group in groups for key in group) == sorted(texts)
    sizes = [sum(len(texts[key]) for key in group) for group in groups]
    assert len(groups) == 2 and max(sizes) - min(sizes) <= 100


def _work(folder: str, start: int) -> None:
    with config.override(cache_dir=folder):
        look_up(range(start, start + 6))


def test_processes_fill_one_cache_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(str(cache), start)) for start in (0, 2, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    forget()
    assert compiled_by(range(10)) == 0
