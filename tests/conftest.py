"""Settings for the whole suite: IR checks on, markers that skip, Hypothesis without deadlines."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports funcdl, which reads its flags once: re-check the IR between passes.
os.environ.setdefault("FUNCDL_CHECK", "1")

# Child processes (a fresh start, Triton's interpreter) must import the tree under test as well.
SOURCE = str(Path(__file__).parent.parent / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [SOURCE, *filter(None, [os.environ.get("PYTHONPATH")])],
)

# No deadline: the first call of a jitted function runs the C compiler. The same examples on every
# run of continuous integration, so that a failure there is the change's own.
settings.register_profile("funcdl", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("funcdl")


@pytest.fixture
def short_search() -> Iterator[None]:
    """Garbage collection and searches for leaks look at no object that is there already.

    Late in a run of all tests there are millions, and a look at each of them takes seconds.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@cache
def _missing(marker: str) -> str | None:
    """Say why tests with this marker cannot run here; None when they can."""
    if marker == "peers":
        return None if find_spec("jax") else "JAX is not installed (extra: peers)"
    if marker == "triton":
        return None if find_spec("triton") else "Triton is not installed (extra: gpu)"
    try:
        from cuda.bindings import driver
    except ImportError:
        return "cuda-bindings is not installed (extra: gpu)"
    try:
        (error,) = driver.cuInit(0)
    except RuntimeError as no_driver:
        return f"no NVIDIA driver: {no_driver}"
    return None if error == driver.CUresult.CUDA_SUCCESS else f"no GPU: {error.name}"


@pytest.hookimpl(trylast=True)  # after -m has chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what slower tests, chosen as well, look at again."""

    def place(item: pytest.Item, name: str) -> tuple[Path, str]:
        return item.path, name

    chosen = {place(item, getattr(item, "originalname", item.name)) for item in items}
    again = {
        item
        for item in items
        if (marker := item.get_closest_marker("part_of"))
        if place(item, marker.args[0]) in chosen
    }
    if again:
        config.hook.pytest_deselected(items=list(again))
        items[:] = [item for item in items if item not in again]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("peers", "triton", "gpu"):
        if item.get_closest_marker(marker) and (reason := _missing(marker)):
            pytest.skip(reason)
