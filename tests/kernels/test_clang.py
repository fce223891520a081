"""Generated C compiles with clang too, where there is one."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kernels import test_objects

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.kernels.cpu_c import isa
from funcdl.runtime.disk_cache import default_cache

CLANG = next((name for name in ("clang", "clang-15", "clang-18") if shutil.which(name)), None)
pytestmark = pytest.mark.skipif(CLANG is None, reason="no clang")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 30)).astype(np.float32)
W = RNG.standard_normal((30, 20)).astype(np.float32)
IMAGES = RNG.standard_normal((2, 9, 9, 8)).astype(np.float32)
KERNEL = RNG.standard_normal((3, 3, 8, 16)).astype(np.float32)
Q = RNG.standard_normal((1, 130, 2, 16)).astype(np.float32)


def squares(images: Any, kernel: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return fnp.sum(out**2)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "products and reductions": (
        fd.value_and_grad(lambda x, w: fnp.mean(fd.nn.softmax(fd.nn.gelu(x @ w)).std(axis=0))),
        (X, W),
    ),
    "products of integers": (lambda x: x @ x.T, (np.arange(600, dtype=np.int32).reshape(20, 30),)),
    "convolution": (
        fd.grad(squares, (0, 1)),
        (IMAGES, KERNEL),
    ),
    "attention": (fd.grad(lambda q: fnp.sum(fd.nn.dot_product_attention(q, q, q) ** 2)), (Q,)),
    "order and accumulation": (lambda x: fnp.sort(fnp.cumsum(x, axis=0), axis=1), (X,)),
    "random bits": (lambda x: fd.random.normal(fd.random.key(0), x.shape) + x, (X,)),
    "numbers for short rows": (
        lambda x, r: (x * r[:, None], x.astype("float64") / r[:, None], (r > 0)[:, None] & (x > 0)),
        (np.resize(X, (300, 5)), np.resize(X, 300)),
    ),
    "loop": (lambda x: lax.scan(lambda c, r: (fnp.tanh(c + r), c), x[0], x), (X,)),
}


@pytest.fixture
def clang(tmp_path: Path) -> Iterator[None]:
    with fd.config.override(cc=CLANG, cache_dir=str(tmp_path)):
        yield


@pytest.mark.usefixtures("clang")
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_eager(name: str) -> None:
    check_with_eager(*PROGRAMS[name])


def check_with_eager(f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fd.jit(f)(*args)
    for out, wanted in zip(fd.tree.leaves(found), fd.tree.leaves(f(*args)), strict=True):
        np.testing.assert_allclose(np.asarray(out), np.asarray(wanted), 1e-4, 1e-4)


@pytest.mark.usefixtures("clang")
@pytest.mark.parametrize("name", test_objects.PROGRAMS)
def test_linked_units_compute_what_whole_ones_do(name: str) -> None:
    test_objects.check_linked(*test_objects.PROGRAMS[name])
    assert list(default_cache().root.glob("??/*.o"))


@pytest.mark.usefixtures("clang")
@pytest.mark.parametrize("short", ["f32", "f64", "i32", "u64"])
def test_an_object_defines_its_functions_and_no_others(short: str) -> None:
    test_objects.test_an_object_defines_its_functions_and_no_others(short)


@pytest.mark.slow
@pytest.mark.parametrize("cc", [CLANG, "gcc"])
@pytest.mark.parametrize("name", isa.ISAS)
def test_programs_agree_on_narrower_machines(
    name: str, cc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is decided by the machine's instructions, for one that has fewer."""
    chosen = isa.ISAS[name]
    if shutil.which(cc) is None or not chosen.cpu_flags <= isa.host_isa().cpu_flags:
        pytest.skip(f"no {cc}, or no {name}")
    monkeypatch.setattr(isa, "host_isa", lambda: chosen)
    with fd.config.override(cc=cc, cache_dir=str(tmp_path)):
        for f, args in PROGRAMS.values():
            check_with_eager(f, args)
