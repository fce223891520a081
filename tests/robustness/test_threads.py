"""Jitted functions on several threads, inside callbacks, after forks, and beside other pools."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.control.scan import scan
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
NDArray = np.ndarray[Any, Any]


def normal(*shape: int, seed: int = 0) -> NDArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv(x: Any, k: Any) -> Any:
    return lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def attention(q: Any) -> Any:
    return nn.softmax(q @ q.swapaxes(-1, -2)) @ q


def recurrent(w: Any, xs: Any) -> Any:
    return scan(lambda h, x: (fnp.tanh(h @ w + x), h.sum()), fnp.zeros(xs.shape[1:]), xs)


# Large enough for their kernels to be shared among threads.
CALLS: dict[str, tuple[Callable[..., Any], tuple[NDArray, ...]]] = {
    "elementwise": (lambda x: fnp.tanh(x) * x + 1, (normal(300, 401),)),
    "sum of rows": (lambda x: x.sum(1), (normal(300, 401),)),
    "sum of columns": (lambda x: x.sum(0), (normal(3000, 41),)),
    "sum of all": (lambda x: x.sum(), (normal(300_001),)),
    "softmax": (lambda x: nn.softmax(x), (normal(200, 333),)),
    "gradient": (fd.grad(lambda x: fnp.logaddexp(x, 0).mean()), (normal(200, 333),)),
    "product": (lambda x, y: nn.relu(x @ y), (normal(130, 257), normal(257, 199))),
    "batched product": (attention, (normal(6, 70, 33),)),
    "convolution": (conv, (normal(4, 17, 15, 8), normal(3, 3, 8, 40))),
    "its gradients": (fd.grad(lambda x, k: (conv(x, k) ** 2).sum(), (0, 1)),
                      (normal(4, 17, 15, 8), normal(3, 3, 8, 40))),
    "running sums": (lambda x: (fnp.cumsum(x, 0), fnp.cumsum(x, 1)), (normal(300, 401),)),
    "sort": (lambda x: (fnp.sort(x), fnp.argsort(x, 0)), (normal(100, 333),)),
    "gather": (lambda x, i: x[i], (normal(500, 64), np.arange(3000, dtype=np.int32) % 501)),
    "scatter": (lambda x, i: fnp.zeros((501, 64)).at[i].add(x),
                (normal(3000, 64), np.arange(3000, dtype=np.int32) % 503)),
    "scan": (recurrent, (normal(120, 120), normal(5, 100, 120))),
    "random": (lambda x: fd.random.normal(fd.random.key(7), x.shape) + x, (normal(300, 401),)),
}  # fmt: skip


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in fd.tree.leaves(tree)]


@pytest.mark.parametrize("name", CALLS)
def test_the_same_bits_on_any_number_of_threads(name: str) -> None:
    function, operands = CALLS[name]
    jitted = fd.jit(function)
    with fd.config.override(backend="cpu"):
        found = {}
        for threads in (1, 2, 3, 4):
            with fd.config.override(num_threads=threads):
                found[threads] = bits(jitted(*operands))
    assert all(found[threads] == found[1] for threads in found)


def run_on_threads(tasks: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(tasks)) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result(timeout=120)


NAMES = ["elementwise", "sum of columns", "product", "convolution", "scan", "sort"]


def test_python_threads_call_the_same_and_different_programs() -> None:
    """Compiled and called for the first time by all of them at once."""
    with fd.config.override(backend="cpu", num_threads=2):
        jitted = {name: fd.jit(CALLS[name][0]) for name in NAMES}
        wanted = {name: bits(fd.jit(CALLS[name][0])(*CALLS[name][1])) for name in NAMES}

        def work(shift: int) -> None:
            for name in [*NAMES[shift:], *NAMES[:shift]] * 5:
                assert bits(jitted[name](*CALLS[name][1])) == wanted[name], name

        run_on_threads([lambda i=i: work(i % 3) for i in range(6)])  # type: ignore[misc]  # the default is bound now


def test_threads_are_changed_while_others_call() -> None:
    function, operands = CALLS["product"]
    jitted = fd.jit(function)
    done = threading.Event()
    with fd.config.override(backend="cpu", num_threads=1):
        wanted = bits(jitted(*operands))

        def change() -> None:
            for count in [1, 3, 2, 4] * 50:
                fd.config.num_threads = count
            done.set()

        def call() -> None:
            while not done.is_set():
                assert bits(jitted(*operands)) == wanted

        run_on_threads([change, call, call])


def test_a_callback_calls_a_jitted_function() -> None:
    """Also one that is shared among threads, and the calling one itself."""
    shape = fd.ShapeDtypeStruct((200, 333), np.float32)
    inner = fd.jit(lambda x: fnp.tanh(x) * 2)

    def host(x: Any) -> Any:
        return np.asarray(inner(np.asarray(x)))

    @fd.jit
    def outer(x: Any, n: Any) -> Any:
        return fd.pure_callback(host, shape, x) + nn.softmax(x) * n

    def again(x: Any) -> Any:
        return np.asarray(outer(np.asarray(x), 0.0))

    x = normal(200, 333)
    with fd.config.override(backend="cpu", num_threads=2):
        wanted = 2 * np.tanh(x)
        np.testing.assert_allclose(outer(x, 0.0), wanted, rtol=1e-5, atol=1e-6)
        twice = fd.jit(lambda x: fd.pure_callback(again, shape, x) + 1)
        np.testing.assert_allclose(twice(x), wanted + 1, rtol=1e-5, atol=1e-6)


def test_other_threads_of_python_go_on_during_a_call() -> None:
    """A call that takes a while holds no lock of the interpreter."""
    x = fnp.asarray(normal(4_000_000))
    slow = fd.jit(lambda x: fnp.sin(fnp.exp(fnp.sin(fnp.exp(fnp.sin(x))))))
    steps, calls = 0, 0
    stop = threading.Event()

    def call() -> None:
        nonlocal calls
        while not stop.is_set():
            slow(x)
            calls += 1

    with fd.config.override(backend="cpu", num_threads=1):
        slow(x)
        thread = threading.Thread(target=call)
        interval = sys.getswitchinterval()
        # A thread that holds the lock would only be asked to hand it over after the whole test.
        sys.setswitchinterval(100)
        try:
            thread.start()
            while calls < 3:
                steps += 1
                stop.wait(1e-4)
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            thread.join()
    assert steps > 3 * calls, "as many steps as calls: they took turns"


CHILD = """
import multiprocessing, os, sys, threading, warnings
import numpy as np
from tests.robustness.test_threads import CALLS, NAMES, bits
import funcdl as fd

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
fd.config.backend = "cpu"
JITTED = {name: fd.jit(CALLS[name][0]) for name in NAMES}

def results(names=NAMES):
    return [bits(JITTED[name](*CALLS[name][1])) for name in names]

def fork():
    wanted = results()
    for calls in range(3):
        pid = os.fork()
        if pid == 0:
            fresh = fd.jit(lambda x: x * 3 + calls)(np.ones(5, np.float32))  # compiled in the child
            good = results() == wanted and fresh.sum() == 5 * (3 + calls)
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert results() == wanted

def fork_during_calls():
    # Whatever the other threads hold at that moment.
    wanted = results(["elementwise", "product"])
    stop = threading.Event()
    def call():
        while not stop.is_set():
            results(["elementwise", "product"])
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if results(["elementwise", "product"]) == wanted else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stop.set()
    for thread in threads:
        thread.join()

def work(number):
    return results(["elementwise", "product"])

def pool(method):
    wanted = results(["elementwise", "product"])
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(work, range(4)) == [wanted] * 4

def beside_numpy():
    wanted = results()
    a = np.random.default_rng(0).standard_normal((300, 300))
    product = a @ a
    stop = threading.Event()
    def multiply():
        while not stop.is_set():
            np.testing.assert_array_equal(a @ a, product)
    thread = threading.Thread(target=multiply)
    thread.start()
    for _ in range(10):
        assert results() == wanted
    stop.set()
    thread.join()

def beside_torch():
    import torch
    torch.set_num_threads(2)
    wanted = results()
    a = torch.randn(300, 300)
    product = torch.tanh(a @ a)
    for _ in range(10):
        assert torch.equal(torch.tanh(a @ a), product)
        assert results() == wanted

if __name__ == "__main__":
    eval(sys.argv[1])
    print("done")
"""


def run_child(task: str, folder: Path) -> None:
    program = folder / "child.py"  # spawned processes import it
    program.write_text(CHILD)
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, str(program), task],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
            "FUNCDL_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
        timeout=180,  # a hang is what these tests are about
    )
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr[-3000:]


TASKS = ["fork()", "fork_during_calls()", "pool('fork')", "pool('spawn')", "beside_numpy()"]


@pytest.mark.parametrize(
    "task", [TASKS[0], *(pytest.param(t, marks=pytest.mark.slow) for t in TASKS[1:])]
)
def test_in_a_process_of_its_own(task: str, tmp_path: Path) -> None:
    run_child(task, tmp_path)


@pytest.mark.slow
@pytest.mark.peers
def test_beside_the_threads_of_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run_child("beside_torch()", tmp_path)
