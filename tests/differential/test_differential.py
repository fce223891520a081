"""Every public function against JAX: values, dtypes, weak types, derivatives, vmap, jit."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import pytest
from tests.differential import engine
from tests.differential.calls import OTHERS, Call
from tests.differential.known import KNOWN
from tests.differential.tables import TABLES, Table

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

CHUNK = 40
KINDS = ("f16", "bf16", "f64", "c64", "i32", "bool")
Chunk = tuple[Table, Sequence[Call]]


def chunks(table: Table, calls: Sequence[Call]) -> list[Chunk]:
    return [(table, calls[i : i + CHUNK]) for i in range(0, len(calls), CHUNK)]


def first_calls(table: Table) -> list[Call]:
    """One call of each function."""
    return list({call.name: call for call in reversed(table.calls)}.values())


FIRST = [chunk for table in TABLES for chunk in chunks(table, first_calls(table))]
EVERY = [chunk for table in TABLES for chunk in chunks(table, table.calls)]
QUICK = [
    chunk
    for table in TABLES
    for chunk in chunks(table, [c for c in first_calls(table) if c.name not in table.slow])
]
USED: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def programs_of_jax_are_kept(request: pytest.FixtureRequest) -> None:
    """Compiled once, for later runs too: compiling takes JAX three quarters of the time."""
    config = importlib.import_module("jax").config
    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    folder = cache.mkdir("differential") if cache is not None else None
    if folder is not None and config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(folder))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def chunk_name(chunk: Any) -> str:
    table, calls = chunk
    return f"{table.namespace or 'top'}-{calls[0].name}"


def check(chunk: Chunk, **options: Any) -> None:
    table, calls = chunk
    found = engine.compare(table.namespace, calls, **options)
    USED.update(found.used)
    assert found.unknown == []


@pytest.mark.part_of("test_one_call_of_each_function_in_every_mode")
@pytest.mark.parametrize("chunk", QUICK, ids=chunk_name)
def test_one_call_of_each_function(chunk: Chunk) -> None:
    check(chunk)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", FIRST, ids=chunk_name)
def test_one_call_of_each_function_in_every_mode(chunk: Chunk) -> None:
    check(chunk, modes={"": engine.QUICK, "cpu": engine.ALL})


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("chunk", EVERY, ids=chunk_name)
def test_every_call_in_every_mode(chunk: Chunk) -> None:
    check(chunk, modes={"": engine.ALL, "cpu": engine.ALL})


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", FIRST, ids=chunk_name)
def test_other_dtypes(chunk: Chunk, kind: str) -> None:
    table, calls = chunk
    typed = [call for call in calls if call.typed]
    check((table, typed), kind=kind, modes={"": engine.ALL if kind == "f64" else ("value",)})


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("sizes", OTHERS, ids=str)
@pytest.mark.parametrize("chunk", EVERY, ids=chunk_name)
def test_other_sizes(chunk: Chunk, sizes: Any) -> None:
    table, calls = chunk
    check((table, [call for call in calls if call.sized]), sizes=sizes, modes={"cpu": engine.QUICK})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.namespace or "top")
def test_every_public_function_is_called_or_has_a_reason(table: Table) -> None:
    module = importlib.import_module(".".join(filter(None, ("funcdl", table.namespace))))
    public = {
        name
        for name in getattr(module, "__all__", None) or dir(module)
        if not name.startswith("_")
        if callable(getattr(module, name)) and not inspect.isclass(getattr(module, name))
    }
    called = {call.name for call in table.calls}
    excused = {name for names in table.reasons for name in names.split()}
    assert public - called - excused == set()
    assert excused & called == set()
    assert excused <= set(dir(module))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_known_differences_are_there() -> None:
    """After the exhaustive tests of the same process: every pattern was needed."""
    if len(USED) < len(KNOWN) // 2:
        pytest.skip("the other tests of this file were not run")
    assert sorted(set(KNOWN) - USED) == []


def test_patterns_of_known_differences_name_functions() -> None:
    names = {f"{table.namespace}.{call.name}" for table in TABLES for call in table.calls}
    for pattern in KNOWN:
        assert fnmatch.filter(names, pattern.split()[0]), pattern
