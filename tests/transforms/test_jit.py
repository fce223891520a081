"""What jit promises beside values: when it traces again, static and donated arguments, stages."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, DeletedArrayError, StaticArgumentError
from funcdl.runtime.toolchain import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


class Counted:
    """A function that counts how often it is called, which under jit is how often it is traced."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.count = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self.fun(*args, **kwargs)


def vector(*values: float, dtype: Any = np.float32) -> Any:
    return fnp.asarray(np.array(values, dtype))


X = vector(1, 2, 3)

SAME = {
    "equal values": (vector(1, 2, 3), vector(1, 2, 3)),
    "other values": (vector(1, 2, 3), vector(4, 5, 6)),
    "NumPy array of the type": (X, np.zeros(3, np.float32)),
    "Python floats": (1.0, 2.5),
    "weak array and Python float": (fnp.asarray(1.0), 2.5),
    "dict in another order": ({"a": 1.0, "b": X}, {"b": X, "a": 1.0}),
    "NumPy scalar and array": (np.float32(1), fnp.float32(2)),
}
OTHER = {
    "shape": (X, vector(1, 2)),
    "rank": (X, X[None]),
    "dtype": (X, X.astype("int32")),
    "width": (X, X.astype("float64")),
    "weak type": (fnp.float32(1), 1.0),
    "scalar type": (1, 1.0),
    "bool for int": (1, True),
    "tree": ((X, X), [X, X]),
    "None for an array": ({"a": X}, {"a": None}),
    "key": ({"a": X}, {"b": X}),
}


@pytest.mark.parametrize("name", SAME)
def test_calls_of_one_type_are_traced_once(name: str) -> None:
    f = Counted(lambda tree: fd.tree.map(lambda x: x + x, tree))
    jitted = fd.jit(f)
    for _ in range(2):
        for value in SAME[name]:
            jitted(value)
    assert f.count == 1


@pytest.mark.parametrize("name", OTHER)
def test_other_types_are_traced_again(name: str) -> None:
    f = Counted(lambda tree: fd.tree.map(lambda x: x + x, tree))
    jitted = fd.jit(f)
    for _ in range(2):
        for value in OTHER[name]:
            jitted(value)
    assert f.count == 2


def test_jits_of_one_function_share_their_programs() -> None:
    f = Counted(lambda x: x * 2)
    for _ in range(3):
        fd.jit(f)(X)
    assert f.count == 1
    fd.jit(f, donate_argnums=0)(vector(1, 2, 3))
    assert f.count == 2
    fd.jit(f).clear_cache()
    fd.jit(f)(X)
    assert f.count == 3


def test_keyword_and_positional_calls() -> None:
    f = Counted(lambda x, *, scale=2.0, shift=0.0: x * scale + shift)
    jitted = fd.jit(f)
    assert jitted(X).tolist() == [2, 4, 6]
    assert jitted(X, scale=3.0).tolist() == [3, 6, 9]
    assert jitted(X, shift=1.0, scale=3.0).tolist() == [4, 7, 10]
    assert jitted(X, scale=4.0, shift=1.0).tolist() == [5, 9, 13]
    assert f.count == 3


def test_the_x64_flag_is_part_of_the_type() -> None:
    f = Counted(lambda x: fnp.arange(x.size))
    jitted = fd.jit(f)
    x = fnp.ones(3, "float32")

    def dtypes() -> list[Any]:
        found = [jitted(x), fd.vmap(jitted, axis_size=2, in_axes=None)(x), jitted.eval_shape(x)]
        return [out.dtype for out in found]

    assert dtypes() == [np.int32] * 3
    with fd.config.override(x64="on"):
        assert dtypes() == [np.int64] * 3
    assert dtypes() == [np.int32] * 3
    assert f.count == 2


def test_tracing_under_other_transforms_is_cached() -> None:
    f = Counted(lambda x: (x * x).sum())
    jitted = fd.jit(f)
    for _ in range(3):
        fd.grad(jitted)(X)
        fd.vmap(jitted)(X[None])
        fd.jit(lambda x: jitted(x) + jitted(x * 2))(X)
    assert f.count == 1


def test_nested_calls_are_traced_once() -> None:
    f = Counted(lambda x: fnp.sin(x))
    inner = fd.jit(f)
    outer = Counted(lambda x: inner(inner(x)) + inner(x))
    jitted = fd.jit(outer)
    jitted(X), jitted(X)
    assert (f.count, outer.count) == (1, 1)
    program = fd.make_jaxpr(lambda x: inner(inner(x)))(X)
    assert [eqn.primitive.name for eqn in program.eqns] == ["jit", "jit"]
    assert program.eqns[0].params["jaxpr"] is program.eqns[1].params["jaxpr"]


def test_closures_over_tracers_are_traced_each_time() -> None:
    def f(x: Any) -> Any:
        inner = fd.jit(lambda y: y * x)
        return inner(2.0) + inner(3.0)

    assert fd.jit(f)(X).tolist() == [5, 10, 15]
    assert fd.grad(lambda x: f(x).sum())(X).tolist() == [5, 5, 5]
    assert fd.vmap(f)(X).tolist() == [5, 10, 15]


# Static arguments


def test_static_values_are_compared() -> None:
    f = Counted(lambda x, n: x.reshape(n, -1))
    jitted = fd.jit(f, static_argnums=1)
    assert [jitted(X, n).shape for n in (1, 3, 1, 3)] == [(1, 3), (3, 1), (1, 3), (3, 1)]
    assert f.count == 2
    jitted(X, True)
    assert f.count == 3, "1 and True are equal, and differ in type"


def scaled(x: Any, n: int = 2, *, mode: str = "up", power: int = 1) -> Any:
    assert isinstance(n, int) and isinstance(mode, str)
    return (x * n if mode == "up" else x / n) ** power


STATIC = [
    ({"static_argnums": (1,), "static_argnames": "mode"}, (X, 4), {"mode": "down"}),
    ({"static_argnums": 1, "static_argnames": ("mode",)}, (X,), {"n": 4, "mode": "down"}),
    ({"static_argnames": ["n", "mode"]}, (X, 4), {"mode": "down"}),
    ({"static_argnames": ("mode", "n")}, (X,), {"n": 4, "mode": "down"}),
    ({"static_argnums": -1, "static_argnames": "mode"}, (X, 4), {"mode": "down"}),
    ({"static_argnames": ("mode", "n", "power")}, (), {"mode": "down", "x": X, "n": 4}),
]


@pytest.mark.parametrize(("options", "args", "kwargs"), STATIC)
def test_static_arguments_by_position_and_name(options: Any, args: Any, kwargs: Any) -> None:
    assert fd.jit(scaled, **options)(*args, **kwargs).tolist() == [0.25, 0.5, 0.75]
    assert fd.jit(scaled, **options)(*args, **kwargs, power=2).shape == (3,)
    assert fd.jit(**options)(scaled)(*args, **kwargs).tolist() == [0.25, 0.5, 0.75]


def test_defaults_of_static_arguments() -> None:
    assert fd.jit(scaled, static_argnums=-1, static_argnames="mode")(X).tolist() == [2, 4, 6]


class Model:
    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.traced = 0

    @functools.partial(fd.jit, static_argnums=0)
    def apply(self, x: Any) -> Any:
        self.traced += 1
        return x * self.scale

    def plain(self, x: Any, n: int) -> Any:
        return x * self.scale * n

    @staticmethod
    @fd.jit
    def double(x: Any) -> Any:
        return x * 2


def test_methods_with_static_self() -> None:
    one, two = Model(1.0), Model(2.0)
    for model in (one, two, one):
        assert model.apply(X).tolist() == [model.scale, model.scale * 2, model.scale * 3]
    assert (one.traced, two.traced) == (1, 1)
    assert fd.grad(lambda x: two.apply(x).sum())(X).tolist() == [2, 2, 2]
    assert fd.jit(two.plain, static_argnums=1)(X, 3).tolist() == [6, 12, 18]
    assert one.double(X).tolist() == [2, 4, 6]


def test_wraps_the_function() -> None:
    @fd.jit
    def documented(x: Any) -> Any:
        """What it does."""
        return x

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")
    assert documented.__wrapped__(1) == 1
    assert repr(documented) == "<jit of documented>"


BAD_SELECTIONS = [
    (
        {"static_argnums": 2},
        "static_argnums=2 is out of range: scaled takes 2 positional arguments (x, n)",
    ),
    (
        {"donate_argnums": (0, -3)},
        "donate_argnums=(0, -3) is out of range: scaled takes 2 positional arguments (x, n)",
    ),
    (
        {"static_argnames": "modes"},
        "static_argnames: scaled has no parameter 'modes'; did you mean 'mode'?",
    ),
    (
        {"donate_argnames": ["z"]},
        "donate_argnames: scaled has no parameter 'z'; it has x, n, mode, power",
    ),
    (
        {"static_argnums": "n"},
        "static_argnums must be an int or a sequence of ints, got 'n'",
    ),
    (
        {"static_argnums": 1.0},
        "static_argnums must be an int or a sequence of ints, got 1.0",
    ),
    (
        {"static_argnames": 1},
        "static_argnames must be a str or a sequence of strs, got 1",
    ),
    (
        {"static_argnums": 0, "donate_argnames": "x"},
        "jit of scaled cannot donate static arguments, which are no arrays: x",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD_SELECTIONS)
def test_bad_selections(options: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        fd.jit(scaled, **options)
    assert str(caught.value) == message


def test_static_arguments_must_be_hashable() -> None:
    with pytest.raises(StaticArgumentError) as caught:
        fd.jit(scaled, static_argnums=1)(X, [2])
    assert str(caught.value) == (
        "jit requires static arguments to be hashable, got n of scaled of type list: [2].\n"
        "Pass a tuple instead of a list, a frozen dataclass instead of a dict, or make the "
        "argument dynamic if it holds arrays."
    )


# Donation


@pytest.mark.parametrize(
    "options",
    [{"donate_argnums": 1}, {"donate_argnums": (-1,)}, {"donate_argnames": "state"}],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_donated_arrays_are_deleted(options: Any, by_name: bool) -> None:
    def step(x: Any, state: Any) -> Any:
        return {"m": state["m"] + x, "n": state["n"] * 2}

    jitted = fd.jit(step, **options)
    state = {"m": vector(1, 1, 1), "n": vector(2, 2)}
    new = jitted(X, state=state) if by_name else jitted(X, state)
    assert (new["m"].tolist(), new["n"].tolist()) == ([2, 3, 4], [4, 4])
    assert state["m"].is_deleted() and state["n"].is_deleted()
    assert not X.is_deleted()
    with pytest.raises(DeletedArrayError, match=r"^jit of step: argument state\['m'\]: this array"):
        jitted(X, state=state) if by_name else jitted(X, state)


def test_donated_positions_count_static_arguments() -> None:
    jitted = fd.jit(lambda n, x, y: x * n + y, static_argnums=0, donate_argnums=2)
    x, y = vector(1, 2), vector(3, 4)
    assert jitted(2, x, y).tolist() == [5, 8]
    assert (x.is_deleted(), y.is_deleted()) == (False, True)


@needs_compiler
def test_donation_in_c_leaves_others_alone() -> None:
    """Memory that someone else can see is never reused."""
    jitted = fd.jit(lambda x: x + 1, donate_argnums=0)
    with fd.config.override(backend="cpu"):
        numpy_array = np.zeros(4, np.float32)
        x = fnp.asarray(numpy_array)
        seen = np.asarray(x)
        view = x[:2]
        twin = x.reshape(2, 2)
        assert jitted(x).tolist() == [1, 1, 1, 1]
        assert x.is_deleted()
        for other in (numpy_array, seen, view, twin):
            assert not np.asarray(other).any()
        y = fnp.asarray(np.full(4, 2, np.float32)) * 1
        for i in range(5):
            y = jitted(y)
            assert y.tolist() == [3.0 + i] * 4


def test_donation_is_ignored_under_other_transforms() -> None:
    jitted = fd.jit(lambda x: (x * x).sum(), donate_argnums=0)
    assert fd.grad(jitted)(X).tolist() == [2, 4, 6]
    assert not X.is_deleted()


# Unusual functions


def test_functions_without_arguments() -> None:
    f = Counted(lambda: fnp.arange(3) * 2)
    jitted = fd.jit(f)
    assert jitted().tolist() == jitted().tolist() == [0, 2, 4]
    assert f.count == 1


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
def test_outputs_that_are_inputs_constants_or_nothing(backend: str) -> None:
    constant = vector(7, 8)

    def f(x: Any, y: Any) -> Any:
        return x, None, x, constant, 2, (), {"y": y, "t": True}, y + 0 * y, np.float32(1)

    with fd.config.override(backend=backend):
        a, none, b, c, two, empty, d, z, one = fd.jit(f)(X, 3)
        assert (none, empty) == (None, ())
        assert a.tolist() == b.tolist() == [1, 2, 3] and c.tolist() == [7, 8]
        assert (two.item(), d["y"].item(), d["t"].item(), z.item(), one.item()) == (
            2,
            3,
            True,
            3,
            1,
        )
        assert two.weak_type and d["y"].weak_type and not one.weak_type and not a.weak_type
        assert d["t"].dtype == bool
        assert fd.jit(lambda x: None)(X) is None
        assert fd.jit(lambda: ())() == ()


@needs_compiler
def test_results_that_share_memory_are_not_donated() -> None:
    with fd.config.override(backend="cpu"):
        a, b = fd.jit(lambda x: (x, x))(vector(1, 2, 3))
        add = fd.jit(lambda x: x + 1, donate_argnums=0)
        assert add(a).tolist() == [2, 3, 4]
        assert b.tolist() == [1, 2, 3]


@needs_compiler
def test_constants_of_programs_keep_their_memory(tmp_path: Path) -> None:
    """A cold start: programs from the disk cache have copies."""
    add = fd.jit(lambda x: x + 1, donate_argnums=0)
    with fd.config.override(backend="cpu", cache_dir=str(tmp_path)):
        const = fnp.asarray(np.array([1, 2, 3], np.float32)) * 1
        closure = fd.jit(lambda x: x * const, donate_argnums=0)
        assert closure(vector(1, 1, 1)).tolist() == [1, 2, 3]
        assert add(const).tolist() == [2, 3, 4]
        assert const.is_deleted()
        assert closure(vector(1, 1, 1)).tolist() == [1, 2, 3]


def test_disagreeing_calls_fail_as_python_does() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        fd.jit(scaled)()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        fd.jit(scaled)(X, z=1)
    with pytest.raises(ArgumentError, match="jit requires a function, got int"):
        fd.jit(3)


# Stages


def loss(w: Any, x: Any) -> Any:
    return fnp.tanh(x @ w).sum()


STAGES = {
    "jaxpr": "tanh",
    "simplified": "tanh",
    "groups": "group",
    "kernels": "tanh",
    "schedule": "k:vector",
    "memory": "arena",
    "c": "void ",
    "triton": "@triton.jit",
}


@needs_compiler
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_text(stage: str) -> None:
    w, x = fnp.ones((3, 2)), fnp.ones((4, 3))
    with fd.config.override(backend="cpu"):
        text = fd.jit(loss).lower(w, x).as_text(stage)
    assert STAGES[stage] in text
    assert fd.jit(loss).lower(w, x).as_text() == str(fd.make_jaxpr(loss)(w, x))


def test_unknown_stages_are_listed() -> None:
    with pytest.raises(ArgumentError, match="the reference back end has no stage 'c'"):
        fd.jit(loss).lower(fnp.ones((3, 2)), fnp.ones((4, 3))).as_text("c")
    with fd.config.override(backend="cpu"), pytest.raises(ArgumentError, match="'groups'"):
        fd.jit(loss).lower(fnp.ones((3, 2)), fnp.ones((4, 3))).as_text("hlo")


def test_lowering_for_types_alone() -> None:
    w = fd.ShapeDtypeStruct((3, 2), "float32")
    x = fd.ShapeDtypeStruct((4, 3), np.float32)
    f = Counted(loss)
    lowered = fd.jit(f).lower(w, x)
    compiled = lowered.compile()
    assert compiled(fnp.ones((3, 2)), fnp.ones((4, 3))).item() == pytest.approx(8 * np.tanh(3))
    fd.jit(f)(fnp.ones((3, 2)), fnp.ones((4, 3)))
    assert f.count == 1
    with pytest.raises(ArgumentError) as caught:
        compiled(fnp.ones((3, 1)), fnp.ones((4, 3)))
    assert str(caught.value) == (
        "this program was compiled for other argument types:\n"
        "  w: found f32[3,1], wanted f32[3,2]\n"
        "Call the jitted function instead, which compiles for each type."
    )
    with pytest.raises(ArgumentError, match=r"compiled for 2 arrays, called with 1$"):
        compiled(fnp.ones((3, 2)))
    with pytest.raises(ArgumentError, match="cannot be differentiated, mapped or traced"):
        fd.grad(compiled)(fnp.ones((3, 2)), fnp.ones((4, 3)))


def test_compiled_programs_take_dynamic_arguments_only() -> None:
    compiled = fd.jit(scaled, static_argnames=("n", "mode")).lower(X, 3, mode="up").compile()
    assert compiled(X).tolist() == [3, 6, 9]


def test_eval_shape() -> None:
    def f(x: Any, n: Any) -> Any:
        return {"a": x @ x.T, "b": (n, x.astype("int8"))}

    x = fd.ShapeDtypeStruct((2, 3), "bfloat16")
    found = fd.eval_shape(f, x, 3)
    assert found == {
        "a": fd.ShapeDtypeStruct((2, 2), "bfloat16"),
        "b": (
            fd.ShapeDtypeStruct((), "int32", weak_type=True),
            fd.ShapeDtypeStruct((2, 3), "int8"),
        ),
    }
    assert fd.eval_shape(fd.jit(f), x, n=3) == found
    assert fd.jit(f).eval_shape(x, 3) == found


TEXTBOOK = """\
{ lambda ; a:f32[3] b:f32[]. let
    c:f32[3] = sin a
    d:f32[3] = broadcast_in_dim[broadcast_dimensions=() shape=(3,)] b
    e:f32[3] = mul c d
    f:f32[] = reduce_sum[axes=(0,)] e
  in (f,) }"""


def test_the_textbook_program() -> None:
    def f(x: Any, y: Any) -> Any:
        return fnp.sum(fnp.sin(x) * y)

    assert str(fd.make_jaxpr(f)(X, fnp.float32(2))) == TEXTBOOK
    program, shape = fd.make_jaxpr(f, return_shape=True)(X, fnp.float32(2))
    assert str(program) == TEXTBOOK
    assert shape == fd.ShapeDtypeStruct((), "float32")
    static = fd.make_jaxpr(lambda x, n: x.reshape(n, -1), static_argnums=1)(X, 3)
    assert [str(aval) for aval in static.out_avals] == ["f32[3,1]"]


# Threads, processes


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
def test_threads_may_race_for_the_first_call(backend: str) -> None:
    salt = np.random.default_rng().integers(1 << 30)  # no disk cache has seen this program
    jitted = fd.jit(lambda x: (x * x).sum() + salt % 2**10)
    gradient = fd.jit(fd.grad(jitted))
    x = fnp.arange(1000.0)
    count = 4
    barrier = threading.Barrier(count)
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            barrier.wait()
            for _ in range(20):
                results.append((jitted(x).item(), gradient(x)[-1].item()))
        except BaseException as error:
            errors.append(error)

    with fd.config.override(backend=backend):
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert len(results) == 20 * count
    assert set(results) == {results[0]}
    assert results[0][1] == 1998.0


FORK = """
import os, signal, sys
import funcdl as fd, funcdl.numpy as fnp

f = fd.jit(lambda x: fnp.sin(x) * 2 + x.sum())
x = fnp.arange(1 << 20, dtype="float32") / (1 << 20)
wanted = f(x)
child = os.fork()
if child == 0:
    signal.alarm(20)
    same = bool((f(x) == wanted).all())
    new = fd.jit(lambda x: x.sum() * 0 + 1)(x).item()
    os._exit(0 if same and new == 1 else 1)
status = os.waitpid(child, 0)[1]
assert bool((f(x) == wanted).all())
sys.exit(os.waitstatus_to_exitcode(status))
"""


@needs_compiler
def test_forked_children_can_call_jitted_functions() -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


def test_a_thread_traces_apart_from_others() -> None:
    """A trace in one thread does not see what another one computes meanwhile."""
    found = []

    def f(x: Any) -> Any:
        thread = threading.Thread(target=lambda: found.append((fnp.ones(2) * 3).tolist()))
        thread.start()
        thread.join()
        return x * 2

    program = fd.make_jaxpr(f)(X)
    assert found == [[3, 3]]
    assert len(program.eqns) <= 2


def test_arrays_and_types_are_pickled_and_copied() -> None:
    x = fd.jit(lambda x: x * 2)(1.5)
    for twin in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)):
        assert (twin.item(), twin.dtype, twin.weak_type) == (3.0, np.float32, True)
    struct = fd.ShapeDtypeStruct((2,), "float32")
    assert pickle.loads(pickle.dumps(struct)) == struct
