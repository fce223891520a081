"""Whole programs on the stub driver, with the numbers that the CPU computes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.stub_driver import StubDriver

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random
from funcdl.compiler.cuda import executable
from funcdl.errors import (
    ArgumentError,
    CompilerWarning,
    DeletedArrayError,
    DeviceError,
    DeviceMemoryError,
)
from funcdl.runtime.cuda.graph import LaunchGraph

X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def scan(x: Any) -> Any:
    return lax.scan(lambda carry, row: (carry * 0.5 + row, fnp.sum(carry)), x[0], x)


def long_scan(x: Any) -> Any:
    return lax.scan(lambda c, i: (fnp.sin(c + i), c[0]), x[0], fnp.arange(3000.0))


def reverse_scan_of_while(x: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        halved = lax.while_loop(lambda v: fnp.max(fnp.abs(v)) > 0.3, lambda v: v * 0.5, row)
        return carry + halved, halved

    return lax.scan(step, fnp.zeros(7), x, reverse=True)


def empty_scan(x: Any) -> Any:
    return lax.scan(lambda carry, row: (carry + row, row), x[0], x[:0])


def branches(x: Any) -> Any:
    picks = [fnp.sin, fnp.cos, fnp.tanh]
    return [lax.switch(fnp.argmax(x[i]) % 3, picks, x) for i in range(3)]


def updates_in_branches(x: Any) -> Any:
    wide = fnp.tile(x, (40, 6))

    def body(i: Any, state: Any) -> Any:
        picks = [
            lambda a, b: (a.at[i].set(i), b),
            lambda a, b: (a, b[::-1]),
            lambda a, b: (b, a.at[0].add(b[i])),
        ]
        return lax.switch(i % 3, picks, *state)

    return lax.fori_loop(0, 5, body, (wide, wide * 2))


def host_between(x: Any) -> Any:
    order = fnp.linalg.svd(x * 2, compute_uv=False)
    return order + 1, x.T @ x


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: fnp.exp(x) * 2 + x.astype(fnp.float16).astype(fnp.float32),
    "softmax": lambda x: nn.softmax(x @ x.T, axis=-1),
    "reductions": lambda x: (x.sum(), x.max(0), fnp.argmin(x, 1), fnp.any(x > 2), x.prod(1)),
    "gather": lambda x: x[fnp.array([4, 0, 4]), ::2],
    "scatter": lambda x: x.at[fnp.array([1, 1, 3])].add(1.0),
    "scatter_set": lambda x: x.at[fnp.array([1, 3])].set(7.0),
    "cumsum": lambda x: fnp.cumsum(x, axis=0),
    "sort": lambda x: fnp.sort(x, axis=1),
    "random": lambda x: random.normal(random.key(3), x.shape) + x,
    "complex": lambda x: fnp.abs(fnp.exp(1j * x)),
    "empty": lambda x: (fnp.concatenate([x[:0], x]), x[:0] + 1, fnp.sum(x[:0], 0)),
    "constant": lambda x: (fnp.zeros(3), 2.0, x, x),
    "gradient": fd.grad(lambda x: fnp.sum(nn.gelu(x) ** 2)),
    "map": fd.vmap(lambda row: nn.log_softmax(row) @ row),
    "scan": scan,
    "long_scan": long_scan,
    "reverse_scan_of_while": reverse_scan_of_while,
    "empty_scan": empty_scan,
    "branches": branches,
    "updates_in_branches": updates_in_branches,
    "host_between": host_between,
}


@pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_computes_what_the_cpu_does(name: str, gpu: StubGpu) -> None:
    function = fd.jit(PROGRAMS[name])
    for scale in (1.0, 0.5, -1.0, 2.0, 1.5):  # more calls than it takes for a graph
        wanted = function(X * np.float32(scale))
        found = function(fd.device_put(X * np.float32(scale), "gpu"))
        for left, right in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
            assert left.platform == "gpu" and right.platform == "cpu"
            assert (left.dtype, left.shape, left.weak_type) == (
                right.dtype,
                right.shape,
                right.weak_type,
            )
            np.testing.assert_allclose(np.asarray(left), np.asarray(right), 1e-5, 1e-5)


def loss(params: Any, x: Any, y: Any) -> Any:
    hidden = fnp.tanh(x @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    return nn.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(steps: int, device: str, donate: bool = True) -> tuple[list[float], Any]:
    rng = np.random.default_rng(1)
    params = {
        "w1": rng.normal(size=(6, 8)).astype(np.float32) * 0.3,
        "b1": np.zeros(8, np.float32),
        "w2": rng.normal(size=(8, 3)).astype(np.float32) * 0.3,
        "b2": np.zeros(3, np.float32),
    }
    optimizer = optim.adam(1e-2)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = fd.value_and_grad(loss)(params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state, value

    jitted = fd.jit(step, donate_argnums=(0, 1) if donate else ())
    params = fd.device_put(params, device)
    state = fd.device_put(optimizer.init(params), device)
    losses = []
    for _ in range(steps):
        x = rng.normal(size=(16, 6)).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0)
        params, state, value = jitted(params, state, x, y)
        losses.append(float(value))
    return losses, params


@pytest.mark.parametrize("donate", [True, False])
def test_training_is_as_on_the_cpu(donate: bool, gpu: StubGpu) -> None:
    wanted, cpu_params = train(12, "cpu", donate)
    found, params = train(12, "gpu", donate)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert gpu.stub.calls["cuGraphLaunch"] == 10
    for left, right in zip(fd.tree.leaves(params), fd.tree.leaves(cpu_params), strict=True):
        np.testing.assert_allclose(np.asarray(left), np.asarray(right), 1e-4, 1e-6)


@pytest.mark.usefixtures("short_search")
def test_memory_is_flat_and_all_given_back(gpu: StubGpu) -> None:
    pool = gpu.platform.open(0).pool
    seen = []
    step = fd.jit(lambda w, x: (w + x.T @ fnp.tanh(x @ w), fnp.sum(w)), donate_argnums=0)
    w = fd.device_put(np.eye(7, dtype=np.float32) * 0.1, "gpu")
    for _ in range(20):
        w, total = step(w, X)
        seen.append(pool.stats().in_use)
    assert len(set(seen[4:])) == 1
    del w, total, step
    fd.clear_caches()
    gc.collect()
    assert pool.stats().in_use == 0 and pool.stats().allocations == 0
    gpu.platform.open(0).stream.synchronize()
    assert not gpu.stub.blocks


def test_replay_after_one_that_failed(gpu: StubGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where code for unaligned pointers is needed, and there is no Triton to make it."""
    step = fd.jit(lambda a, b: (fnp.sum(a @ b), fnp.exp(b)))
    xs = [fd.device_put(X.T * np.float32(i), "gpu") for i in range(3)]
    y = fd.device_put(X, "gpu")
    wanted = [np.sum(np.asarray(x) @ X) for x in xs]
    for x in xs:
        step(x, y)
    before = gpu.stub.calls["cuGraphLaunch"]
    change, failing = LaunchGraph.set_pointers, [1]

    def fail_late(self: LaunchGraph, number: int, pointers: Any) -> None:
        change(self, number, pointers)
        if failing:
            failing.pop()
            raise DeviceError("no Triton")

    monkeypatch.setattr(LaunchGraph, "set_pointers", fail_late)
    with pytest.raises(DeviceError, match="no Triton"):
        step(xs[0], y)
    for x, total in zip(reversed(xs), reversed(wanted), strict=True):
        found, _ = step(x, y)
        np.testing.assert_allclose(float(found), total, 1e-4, 1e-4)
    assert gpu.stub.calls["cuGraphLaunch"] == before + 3


def test_donated_memory_is_taken_over(gpu: StubGpu) -> None:
    step = fd.jit(lambda w: w * 2, donate_argnums=0)
    w = fd.device_put(X, "gpu")
    place = w.buffer.address
    out = step(w)
    assert out.buffer.address == place
    with pytest.raises(DeletedArrayError):
        np.asarray(w)
    np.testing.assert_array_equal(np.asarray(out), X * 2)


def test_shared_memory_is_not_taken_over(gpu: StubGpu) -> None:
    x = fd.device_put(X, "gpu")
    alias, _ = fd.jit(lambda x: (x, fnp.sum(x)))(x)
    out = fd.jit(lambda w: w * 2, donate_argnums=0)(alias)
    np.testing.assert_array_equal(np.asarray(x), X)
    np.testing.assert_array_equal(np.asarray(out), X * 2)
    both = fd.jit(lambda a, b: (a + b, a - b), donate_argnums=(0, 1))
    y = fd.device_put(X, "gpu")
    total, difference = both(y, y)
    np.testing.assert_array_equal(np.asarray(total), X + X)
    np.testing.assert_array_equal(np.asarray(difference), X - X)


def test_host_steps_warn_once_and_name_the_operation(
    gpu: StubGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executable, "_warned", set())
    x = fd.device_put(X, "gpu")
    function = fd.jit(lambda x: fnp.linalg.svd(x, compute_uv=False))
    with pytest.warns(CompilerWarning, match=r"svd runs on the host, with copies from and to"):
        function(x)
    function(x)  # a second warning would be an error


def test_operands_on_two_devices_are_refused() -> None:
    with installed(StubGpu(StubDriver(capabilities=(90, 90)))) as gpu:
        x, y = fd.device_put(X, "gpu:0"), fd.device_put(X, "gpu:1")
        assert [str(d) for d in fd.devices("gpu")] == ["gpu:0", "gpu:1"]
        message = r"f got arrays on different devices \(on gpu:0: x; on gpu:1: y\); move them"

        def f(x: Any, y: Any) -> Any:
            return x * y

        with pytest.raises(ArgumentError, match=message):
            fd.jit(f)(x, y)
        with pytest.raises(ArgumentError, match="on different devices"):
            _ = x + y
        moved = fd.jit(f)(fd.device_put(x, "gpu:1"), y)
        assert moved.devices() == y.devices()
        np.testing.assert_array_equal(np.asarray(moved), X * X)
        np.testing.assert_array_equal(np.asarray(fd.jit(f)(x, X)), X * X)
        assert gpu.stub.used[0] > 0 and gpu.stub.used[1] > 0


def test_devices_that_are_too_old_are_refused() -> None:
    with installed(StubGpu(StubDriver(capabilities=(75, 80)))):
        x = fd.device_put(X, "gpu:0")  # memory it has
        np.testing.assert_array_equal(np.asarray(x), X)
        with pytest.raises(DeviceError) as caught:
            fd.jit(lambda x: x + 1)(x)
        assert str(caught.value) == (
            "gpu:0 (Stub GPU) has compute capability 7.5, but kernels are compiled for 8.0 or "
            "later; use another GPU, or the CPU (FUNCDL_BACKEND=cpu)"
        )


def test_eager_operations_stay_on_the_device_and_are_compiled_once(gpu: StubGpu) -> None:
    x = fd.device_put(X, "gpu")
    results = [x + 1, 2 * x, x @ x.T, fnp.tanh(x)[1:, ::2], fnp.sum(x, 0), -x, x[0, 1]]
    compiled = len(gpu.compiled)
    again = [x + 1, 2 * x, x @ x.T, fnp.tanh(x)[1:, ::2], fnp.sum(x, 0), -x, x[0, 1]]
    assert len(gpu.compiled) == compiled
    wanted = [X + 1, 2 * X, X @ X.T, np.tanh(X)[1:, ::2], X.sum(0), -X, X[0, 1]]
    for found, second, right in zip(results, again, wanted, strict=True):
        assert found.platform == second.platform == "gpu"
        np.testing.assert_allclose(np.asarray(found), right, 1e-5, 1e-5)
        np.testing.assert_allclose(np.asarray(second), right, 1e-5, 1e-5)


def test_back_end_is_chosen_by_flag_and_by_operands(gpu: StubGpu) -> None:
    f = fd.jit(lambda x: x + 1)
    x = fd.device_put(X, "gpu")
    with fd.config.override(backend="gpu"):
        assert f(X).platform == "gpu"
        assert fd.default_backend() == "gpu" and fd.devices()[0].device_kind == "Stub GPU"
        assert fd.device_put(X).platform == "gpu"
    assert f(X).platform == "cpu" and f(x).platform == "gpu"
    for name in ("cpu", "reference"):
        with fd.config.override(backend=name):
            assert f(x).platform == "cpu" and (x * 2).platform == "cpu"
    with fd.config.override(debug_nans=True), pytest.raises(FloatingPointError, match="log"):
        fd.jit(lambda x: fnp.log(x))(x)


def test_default_device() -> None:
    with installed(StubGpu(StubDriver(capabilities=(90, 90)))):
        f = fd.jit(lambda x: x + 1)
        with fd.default_device("gpu"):
            assert f(X).platform == "gpu" and fd.default_backend() == "gpu"
            with fd.default_device("cpu"):
                assert f(X).platform == "cpu"
        assert f(X).platform == "cpu"
        with pytest.raises(ArgumentError, match="only the first GPU can be the default"):
            fd.default_device("gpu:1")


def test_constants_on_the_device_are_not_copied(gpu: StubGpu) -> None:
    weights = fd.device_put(X.T, "gpu")
    x = fd.device_put(X, "gpu")
    copies = gpu.stub.calls["cuMemcpyHtoDAsync"]
    found = fd.jit(lambda x: x @ weights)(x)
    np.testing.assert_allclose(np.asarray(found), X @ X.T, 1e-5, 1e-5)
    assert gpu.stub.calls["cuMemcpyHtoDAsync"] == copies


def test_arrays_of_a_device(gpu: StubGpu) -> None:
    x = fd.device_put({"a": X, "b": 2.5}, "gpu")
    assert str(x["a"].device) == "gpu:0" and x["b"].weak_type
    assert fd.device_get(x)["b"] == 2.5
    np.testing.assert_array_equal(fd.device_get(x)["a"], X)
    back = fd.device_put(x["a"], "cpu")
    assert back.platform == "cpu" and x["a"].to_device("gpu") is x["a"]
    assert x["a"].on_device_size_in_bytes() == X.nbytes
    y = fd.jit(lambda x: x * 2)(x["a"])
    assert not y.is_ready()
    assert fd.block_until_ready(y).is_ready()
    assert any(a is y for a in fd.live_arrays("gpu"))
    copies = gpu.stub.calls["cuMemcpyDtoHAsync"]
    np.testing.assert_array_equal(np.asarray(y), X * 2)
    np.testing.assert_array_equal(np.asarray(y), X * 2)
    assert gpu.stub.calls["cuMemcpyDtoHAsync"] == copies + 1
    y.delete()
    with pytest.raises(DeletedArrayError):
        np.asarray(y)


def misaligned(x: np.ndarray) -> np.ndarray:
    """A copy that begins within an element."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    found = np.frombuffer(memory.data, x.dtype, x.size, 1).reshape(x.shape)
    found[:] = x
    return found


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda x: x.T,
    "strided": lambda x: x[::2, 1::3],
    "backwards": lambda x: x[::-1, ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "columns first": np.asfortranarray,
    "empty": lambda x: x[:0, ::2],
    "misaligned": misaligned,
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_host_arrays(name: str, gpu: StubGpu) -> None:
    x = VIEWS[name](X)
    function = fd.jit(lambda x: x * 2 + 1)
    with fd.config.override(backend="gpu"):
        for found in (function(fd.device_put(x, "gpu")), function(x), fd.jit(lambda: x * 2 + 1)()):
            assert found.platform == "gpu" and found.shape == x.shape
            np.testing.assert_array_equal(np.asarray(found), x * 2 + 1)


def test_out_of_memory_names_what_was_asked_for_and_what_is_alive() -> None:
    with installed(StubGpu(StubDriver(memory=1 << 20))):
        big = fd.device_put(np.zeros((128, 1024), np.float32), "gpu")
        with pytest.raises(DeviceMemoryError) as caught:
            fd.jit(lambda x: fnp.exp(x) + 1)(big)
        assert str(caught.value).splitlines()[:4] == [
            "out of memory on gpu:0: 512.0 KiB for a result of lambda float32[128,1024] is more "
            "than the limit set by FUNCDL_GPU_MEM_FRACTION.",
            "In use: 512.0 KiB of 921.6 KiB allowed (the device has 1.0 MiB); at most so far: "
            "512.0 KiB.",
            "Alive, largest first:",
            "   512.0 KiB  an array float32[128,1024]",
        ]
        assert "donate_argnums" in str(caught.value)
        with fd.config.override(gpu_mem_fraction=1.0):
            out = fd.jit(lambda x: fnp.exp(x) + 1)(big)
        np.testing.assert_array_equal(np.asarray(out), 2)


def test_out_of_memory_lists_the_largest_arrays_and_the_peak() -> None:
    with installed(StubGpu(StubDriver(memory=1 << 20))) as gpu:
        assert gpu.platform.open(0).pool.stats().in_use == 0  # nothing is taken beforehand
        kept = [fd.device_put(np.zeros(1024 * (i + 1), np.uint8), "gpu") for i in range(11)]
        gone = fd.device_put(np.zeros(512 << 10, np.uint8), "gpu")
        del gone
        with (
            fd.config.override(gpu_mem_fraction=0.5),
            pytest.raises(DeviceMemoryError) as caught,
        ):
            fd.device_put(np.zeros(512 << 10, np.uint8), "gpu")
        lines = str(caught.value).splitlines()
        assert lines[1] == (
            "In use: 66.0 KiB of 512.0 KiB allowed (the device has 1.0 MiB); at most so far: "
            "578.0 KiB."
        )
        shown = [f"{i}.0 KiB  an array uint8[{1024 * i}]" for i in range(11, 3, -1)]
        assert [line.strip() for line in lines[3:11]] == shown
        assert lines[11].strip() == "6.0 KiB  in 3 more"
        assert len(kept) == 11


def test_programs_show_their_stages(gpu: StubGpu) -> None:
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(lambda x: nn.softmax(x)).lower(X)
        assert "tl.load" in lowered.as_text("triton")
        assert "grid" in lowered.as_text("schedule")
        np.testing.assert_allclose(np.asarray(lowered.compile()(X)).sum(1), 1, 1e-6)
