"""Cubins on disk and the processes that make them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from funcdl.errors import DeviceError
from funcdl.kernels.triton import compile_pool, compile_server, compile_workers
from funcdl.kernels.triton.compile import OLDEST_TRITON, Cubin, check_version
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.cubin_cache import cache_key, find_cubin, keep_cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.runtime.disk_cache import CacheDir


@pytest.fixture(autouse=True)
def no_workers_of_other_tests() -> Iterator[None]:
    compile_workers.end_workers()
    yield
    compile_workers.end_workers()


HEADER = "import triton\nimport triton.language as tl\n\n\n@triton.jit\n"


def kernel(name: str = "k", body: str = "tl.store(x_ptr, 1.0)") -> TritonKernel:
    source = f"{HEADER}def {name}(x_ptr):\n    {body}\n"
    return TritonKernel(source, name, (1,), 4, 2, {"x_ptr": "*fp32"})


CHANGES = [
    {"source": HEADER},
    {"name": "other"},
    {"num_warps": 8},
    {"num_stages": 3},
    {"signature": {"x_ptr": "*fp16"}},
    {"subnormal": False},
]


def test_key_holds_all_that_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = kernel()
    keys = {cache_key(base, 90, True), cache_key(base, 90, False), cache_key(base, 80, True)}
    keys |= {cache_key(dataclasses.replace(base, **change), 90, True) for change in CHANGES}
    assert len(keys) == 3 + len(CHANGES)
    assert cache_key(dataclasses.replace(base, grid=(7,)), 90, True) in keys
    monkeypatch.setattr("funcdl.kernels.triton.cubin_cache.triton_version", lambda: "0.0")
    assert cache_key(base, 90, True) not in keys


def test_cubins_come_back_as_they_were(tmp_path: Path) -> None:
    cache = CacheDir(tmp_path)
    cubin = Cubin(b"\x7fELF\n\0\n", {"name": "k", "shared": 0, "triton_version": None})
    assert find_cubin(kernel(), 90, True, cache) is None
    keep_cubin(kernel(), 90, True, cubin, cache)
    assert find_cubin(kernel(), 90, True, cache) == cubin
    assert find_cubin(kernel(), 80, True, cache) is None
    (entry,) = tmp_path.glob("*/*.cubin")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert find_cubin(kernel(), 90, True, cache) is None


WARM = """
import json, sys
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.runtime.disk_cache import CacheDir
folder, fields = json.loads(sys.argv[1])
fields["grid"] = tuple(fields["grid"])
started = []
sys.addaudithook(lambda event, args: started.append(event) if event == "subprocess.Popen" else None)
cubins = compile_all([TritonKernel(**fields)], 90, cache=CacheDir(folder))
print(json.dumps([len(cubins), "triton" in sys.modules, started]))
"""


@pytest.mark.triton
def test_warm_start_imports_no_triton_and_starts_no_process(tmp_path: Path) -> None:
    names = ["first", "second", "third"]
    kernels = [kernel(name, f"tl.store(x_ptr, {i}.5)") for i, name in enumerate(names)]
    cubins = compile_all(kernels, 90, cache=CacheDir(tmp_path), workers=2)
    assert [cubin.metadata["name"] for cubin in cubins] == names
    assert all(cubin.data[:4] == b"\x7fELF" for cubin in cubins)
    assert all(cubin.metadata["arch"] == 90 for cubin in cubins)
    argument = json.dumps([str(tmp_path), dataclasses.asdict(kernels[1])])
    command = [sys.executable, "-c", WARM, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, False, []]


SIDE_BY_SIDE = """
import hashlib, json, sys
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.runtime.disk_cache import CacheDir
folder, fields = json.loads(sys.argv[1])
fields["grid"] = tuple(fields["grid"])
(cubin,) = compile_all([TritonKernel(**fields)], 90, cache=CacheDir(folder))
print(hashlib.sha256(cubin.data).hexdigest())
"""


@pytest.mark.triton
def test_processes_share_a_cache_while_they_fill_it(tmp_path: Path) -> None:
    argument = json.dumps([str(tmp_path), dataclasses.asdict(kernel())])
    command = [sys.executable, "-c", SIDE_BY_SIDE, argument]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate(timeout=300)[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    cubin = find_cubin(kernel(), 90, True, CacheDir(tmp_path))
    assert cubin is not None and found == {hashlib.sha256(cubin.data).hexdigest() + "\n"}
    assert len(list(tmp_path.rglob("*.cubin"))) == 1


@pytest.mark.triton
def test_kernels_that_do_not_compile_are_named(tmp_path: Path) -> None:
    bad = kernel("bad", "tl.store(y_ptr, 1.0)")
    with pytest.raises(DeviceError, match=r"(?s)kernel bad could not be compiled: .*y_ptr"):
        compile_all([bad], 90, cache=CacheDir(tmp_path))


@pytest.mark.parametrize("version", ["2.3.1", "3.2.0", "3.5.1+git0123abcd"])
def test_triton_that_is_too_old_is_named_before_a_process_starts(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_pool, "triton_version", lambda: version)
    monkeypatch.setattr(compile_workers, "start_process", None)
    with pytest.raises(DeviceError) as caught:
        compile_all([kernel()], 90, cache=CacheDir(tmp_path))
    assert str(caught.value) == (
        f"Triton {version} is too old: funcdl compiles GPU kernels with Triton 3.6 or later; "
        "pip install 'triton>=3.6'"
    )


def test_range_of_triton_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    oldest = ".".join(map(str, OLDEST_TRITON))
    assert f"triton>={oldest}" in project["optional-dependencies"]["gpu"]
    for version in (oldest, f"{oldest}.0", "3.10.1", "4.0.0", ""):
        check_version(version)


def test_a_process_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(errors: object, environment: object) -> subprocess.Popen[bytes]:
        code = "import sys; sys.stdin.readline(); sys.exit('out of luck')"
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,  # type: ignore[call-overload]
        )

    monkeypatch.setattr(compile_workers, "start_process", start)
    with pytest.raises(DeviceError, match=r"(?s)compiles kernels failed.*out of luck"):
        compile_all([kernel()], 90, cache=CacheDir(tmp_path))


def test_progress_is_shown_when_it_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = {"code": "QUJD", "metadata": {"name": "k"}}

    def start(errors: object, environment: object) -> subprocess.Popen[bytes]:
        code = (
            "import sys, time\nfor line in sys.stdin:\n    time.sleep(0.7)\n"
            f"    print('''{json.dumps(answer)}''', flush=True)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    monkeypatch.setattr(compile_workers, "start_process", start)
    kernels = [kernel(f"k{i}") for i in range(2)]
    for seconds, lines in ((60.0, 0), (0.1, 2)):
        monkeypatch.setattr(compile_pool, "SILENT_SECONDS", seconds)
        folder = tmp_path / str(lines)
        found = compile_all(kernels, 90, cache=CacheDir(folder), workers=1)
        assert [cubin.data for cubin in found] == [b"ABC", b"ABC"]
        shown = capfd.readouterr().err.splitlines()
        assert len(shown) == lines
    assert shown[0].startswith("funcdl: compiled ") and "2 kernels" in shown[1]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Worker processes as they are started; each answers with its number."""
    found: list[subprocess.Popen[bytes]] = []

    def start(errors: Any, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        answer = json.dumps({"code": "QUJD", "metadata": {"name": f"{len(found)}"}})
        code = f"import sys\nfor line in sys.stdin: print('{answer}', flush=True)"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        found.append(process)
        return process

    monkeypatch.setattr(compile_workers, "start_process", start)
    return found


def test_workers_are_kept_for_the_next_program(
    tmp_path: Path, starts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled_by(number: int) -> str:
        (cubin,) = compile_all([kernel(f"k{number}")], 90, cache=CacheDir(tmp_path))
        return str(cubin.metadata["name"])

    assert [compiled_by(0), compiled_by(1)] == ["0", "0"] and len(starts) == 1
    starts[0].kill()  # as one that has waited for too long
    starts[0].wait()
    assert compiled_by(2) == "1"
    monkeypatch.setenv("TRITON_OVERRIDE", "1")
    assert compiled_by(3) == "2" and starts[1].returncode is not None
    monkeypatch.setattr(compile_workers, "KEPT", 0)
    assert compiled_by(4) == "2" and starts[2].returncode is not None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
# JAX, which other tests import, warns of every fork; this child only counts and leaves.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_forked_processes_leave_their_parents_workers_alone(
    tmp_path: Path, starts: list[Any]
) -> None:
    compile_all([kernel()], 90, cache=CacheDir(tmp_path))
    child = os.fork()
    if child == 0:
        os._exit(len(compile_workers._waiting))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(compile_workers._waiting) == 1 and starts[0].poll() is None
    compile_all([kernel("other")], 90, cache=CacheDir(tmp_path))
    assert len(starts) == 1


def test_workers_end_when_nobody_asks(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as requests, os.fdopen(writing, "w"):
        compile_server.serve(requests, sys.stdout, idle_seconds=0.01)
    assert capfd.readouterr().out == ""
