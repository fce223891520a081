"""What `import funcdl` offers besides transforms: devices, settings, pytrees, dtypes, DLPack."""

from __future__ import annotations

import collections
import dataclasses
import operator
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import dlpack, dtypes, tree, tree_util
from funcdl.errors import ArgumentError, ConcretizationError


class Point(NamedTuple):
    x: Any
    y: Any


@tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    w: Any
    b: Any
    name: str = tree.static(default="layer")


class Plain:
    def __init__(self, *children: Any) -> None:
        self.children = children


class Keyed(Plain):
    pass


tree_util.register_pytree_node(Plain, lambda p: (p.children, None), lambda _, c: Plain(*c))
tree_util.register_pytree_with_keys(
    Keyed,
    lambda k: ([(tree_util.DictKey(str(i)), c) for i, c in enumerate(k.children)], None),
    lambda _, c: Keyed(*c),
)

TREE = {
    "a": [1, (2, 3)],
    "p": Point(4, {0: 5}),
    "l": Layer(6, Plain(7, 8)),
    "k": Keyed(9),
    "o": collections.OrderedDict(z=10),
    "n": None,
}
PATHS = [
    "['a'][0]",
    "['a'][1][0]",
    "['a'][1][1]",
    "['k']['0']",
    "['l'].w",
    "['l'].b[<flat index 0>]",
    "['l'].b[<flat index 1>]",
    "['o']['z']",
    "['p'].x",
    "['p'].y[0]",
]


def test_paths_are_printed_as_jax_prints_them() -> None:
    pairs = tree.leaves_with_path(TREE)
    assert [tree_util.keystr(path) for path, _ in pairs] == PATHS
    assert [leaf for _, leaf in pairs] == tree.leaves(TREE)
    assert tree_util.keystr(pairs[4][0], simple=True, separator="/") == "l/w"
    mapped = tree.map_with_path(lambda path, x, y: (len(path), x + y), TREE, TREE)
    assert mapped["p"].y[0] == (3, 10)
    assert tree_util.flatten_one_level_with_keys(Point(1, 2))[0] == [
        (tree_util.GetAttrKey("x"), 1),
        (tree_util.GetAttrKey("y"), 2),
    ]


def test_leaves_can_be_chosen_by_path() -> None:
    def is_leaf(path: Any, node: Any) -> bool:
        return tree_util.keystr(path) in ("['a'][1]", "['p']")

    found = tree.leaves_with_path(TREE, is_leaf, is_leaf_takes_path=True)
    wanted = [path for path in PATHS if not path.startswith(("['a'][1]", "['p']"))]
    wanted.insert(1, "['a'][1]")
    assert [tree_util.keystr(path) for path, _ in found] == [*wanted, "['p']"]
    assert found[1][1] == (2, 3)


@pytest.mark.peers
def test_pytrees_as_jax() -> None:
    jax = pytest.importorskip("jax")
    value = {"b": [1, (2, Point(3, None))], "a": collections.OrderedDict(z=4, y=[5])}
    for ours, theirs in ((tree, jax.tree), (tree_util, jax.tree_util)):
        prefix = "" if ours is tree else "tree_"
        for name, args in {
            "leaves": (value,),
            "reduce": (operator.sub, value),
            "reduce_associative": (lambda a, b: [a, b], value),
            "all": (value,),
            "broadcast": ({"b": 7, "a": 8}, value),
        }.items():
            found = getattr(ours, prefix + name)(*args)
            assert found == getattr(theirs, prefix + name)(*args), name
    found = [tree_util.keystr(path) for path, _ in tree.leaves_with_path(value)]
    assert found == [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(value)]


def test_transpose_finds_the_inner_structure() -> None:
    outer = tree.structure([0, 0])
    found = tree.transpose(outer, None, [{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    assert found == {"a": [1, 3], "b": [2, 4]}


def test_structures() -> None:
    spec = tree.structure((1, [2, 3]))
    children = tree_util.treedef_children(spec)
    assert children == [tree.structure(1), tree.structure([2, 3])]
    assert tree_util.treedef_tuple(children) == spec
    assert list(map(tree_util.treedef_is_leaf, children)) == [True, False]
    assert tree_util.all_leaves([1, 2]) and not tree_util.all_leaves([1, [2]])
    nodes = [dict, list, tuple, Point, Layer, type(None), collections.OrderedDict]
    assert all(map(tree_util.is_tree_node, nodes)) and not tree_util.is_tree_node(int)
    with pytest.raises(TypeError) as caught:
        tree.reduce_associative(operator.add, [])
    message = "reduce_associative of a tree without leaves requires an identity"
    assert str(caught.value) == message
    assert tree.reduce_associative(operator.add, [], identity=0) == 0


def test_partial_and_static_classes_go_through_jit() -> None:
    @tree_util.register_static
    class Mode(str):
        __slots__ = ()

    traced = []

    @fd.jit
    def apply(f: Any, x: Any, mode: Any) -> Any:
        traced.append(mode)
        return f(x) if mode == "once" else f(f(x))

    def scaled(scale: Any, x: Any) -> Any:
        return scale * x

    assert float(apply(tree_util.Partial(scaled, 2.0), 3.0, Mode("once"))) == 6
    assert float(apply(tree_util.Partial(scaled, 4.0), 3.0, Mode("once"))) == 12
    assert float(apply(tree_util.Partial(scaled, 2.0), 3.0, Mode("twice"))) == 12
    assert traced == ["once", "twice"]
    slope = fd.grad(lambda f: f(3.0))(tree_util.Partial(scaled, 2.0))
    assert float(slope.args[0]) == 3


def test_one_device() -> None:
    (device,) = fd.devices()
    assert (device.platform, device.id, device.process_index) == ("cpu", 0, 0)
    assert fd.local_devices() == fd.devices("cpu") == [device]
    assert fd.device_count() == fd.local_device_count() == fd.process_count() == 1
    assert (fd.process_index(), fd.process_indices(), fd.default_backend()) == (0, [0], "cpu")
    x = fd.device_put(np.ones(3, np.float32), device, donate=True)
    assert x.devices() == {device} and x.to_device(device) is x and x.platform == "cpu"
    with fd.default_device(device):
        assert fnp.ones(2).device == "cpu"


def test_live_arrays_and_deletion() -> None:
    x = fnp.ones((3, 3))
    assert any(y is x for y in fd.live_arrays())
    x.delete()
    assert not any(y is x for y in fd.live_arrays())


def test_clearing_caches_traces_again() -> None:
    traced = []

    @fd.jit
    def f(x: Any) -> Any:
        traced.append(x)
        return x + 1

    f(1.0), f(2.0)
    assert len(traced) == 1
    fd.clear_caches()
    assert float(f(1.0)) == 2
    assert len(traced) == 2


def test_settings_last_for_a_block() -> None:
    with fd.enable_x64():
        assert fnp.ones(2).dtype == np.float64
    with fd.enable_x64(False):
        assert fnp.asarray(np.ones(2)).dtype == np.float32
    assert fnp.ones(2).dtype == np.float32
    before = fd.config.check, fd.config.check_tracer_leaks
    with fd.enable_checks(), fd.check_tracer_leaks():
        assert fd.config.check and fd.config.check_tracer_leaks
    assert (fd.config.check, fd.config.check_tracer_leaks) == before
    with fd.default_matmul_precision("highest"), fd.numpy_dtype_promotion("standard"):
        fd.effects_barrier()


def test_evaluation_at_compile_time() -> None:
    @fd.jit
    def f(x: Any) -> Any:
        with fd.ensure_compile_time_eval():
            size = int(fnp.sum(fnp.ones(3)))
        assert size == 3
        return x * size

    assert float(f(2.0)) == 6

    @fd.jit
    def without(x: Any) -> Any:
        return x * int(fnp.sum(fnp.ones(3)) + 0 * x)

    with pytest.raises(ConcretizationError):
        without(2.0)


def test_names_of_calls_and_types() -> None:
    def inner(x: Any) -> Any:
        return fnp.sin(x)

    assert float(fd.named_call(inner, name="part")(0.0)) == 0
    assert str(fd.typeof(fnp.ones((2, 3)))) == "f32[2,3]"
    assert str(fd.typeof(1)) == "~i32[]"
    text = fd.print_environment_info(return_string=True)
    assert text is not None and text.startswith(f"funcdl: {fd.__version__}\nnumpy: ")


def test_dtypes() -> None:
    assert dtypes.canonicalize_dtype("float64") == np.float64
    with fd.enable_x64(False):
        assert dtypes.canonicalize_dtype(np.int64) == np.int32
    assert dtypes.canonicalize_dtype(float) == np.float32
    assert dtypes.itemsize_bits("bfloat16") == 16
    values = [True, 3, 2.5, 1j, np.float16(1), fnp.ones(2, "uint8"), fnp.ones(2, "bfloat16")]
    wanted = [bool, int, float, complex, float, int, float]
    assert list(map(dtypes.scalar_type_of, values)) == wanted
    assert dtypes.issubdtype(dtypes.bfloat16, np.floating) and fd.float0 == dtypes.float0


def test_dlpack_shares_memory_both_ways() -> None:
    theirs = np.arange(6, dtype=np.float32).reshape(2, 3)
    ours = dlpack.from_dlpack(theirs)
    assert ours.unsafe_buffer_pointer() == theirs.ctypes.data
    assert dlpack.from_dlpack(theirs, copy=True).unsafe_buffer_pointer() != theirs.ctypes.data
    back = np.from_dlpack(ours)
    assert back.ctypes.data == theirs.ctypes.data and ours.__dlpack_device__() == (1, 0)
    np.testing.assert_array_equal(dlpack.from_dlpack(theirs.T), theirs.T)
    donated = fd.jit(lambda x: x + 1, donate_argnums=0)(dlpack.from_dlpack(theirs))
    np.testing.assert_array_equal(donated, np.arange(6).reshape(2, 3) + 1)
    np.testing.assert_array_equal(theirs, np.arange(6).reshape(2, 3))
    assert dlpack.is_supported_dtype("int8") and not dlpack.is_supported_dtype("bfloat16")
    torch = pytest.importorskip("torch")
    tensor = torch.arange(4)
    assert dlpack.from_dlpack(tensor).tolist() == [0, 1, 2, 3]


def test_methods_of_arrays() -> None:
    x = fnp.asarray(np.array([[3.0, 1.0], [2.0, 0.0]], np.float32))
    assert x.sort().tolist() == [[1, 3], [0, 2]] and x.argsort(0).tolist() == [[1, 1], [0, 0]]
    assert fnp.arange(5).searchsorted(3).item() == 3
    assert [i.tolist() for i in x.nonzero()] == [[0, 0, 1], [0, 1, 0]]
    assert x.compress(np.array([False, True]), axis=0).tolist() == [[2, 0]]
    assert (
        x.view(np.int32).dtype == np.int32
        and x.view(np.int32).view("float32").tolist() == x.tolist()
    )
    assert fnp.asarray([True, False]).view(np.uint8).tolist() == [1, 0]
    assert x.tobytes() == np.asarray(x).tobytes() and x.on_device_size_in_bytes() == 16
    assert x.is_ready() and x.is_fully_addressable and x.is_fully_replicated and x.committed
    assert x.addressable_data(0) is x and x.__array_namespace__() is fnp
    assert x.copy_to_host_async() is None
    assert isinstance(x, fd.Array) and fd.copy_to_host_async([x])[0] is x
    sizes = fd.make_jaxpr(lambda x: x.sort().view(np.int32))(x).out_avals
    assert [str(aval) for aval in sizes] == ["i32[2,2]"]


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: fd.devices("tpu"),
        ArgumentError,
        "devices: there is no device 'tpu'; devices are: 'cpu', 'gpu'",
    ),
    (
        lambda: fd.local_devices(3),
        ArgumentError,
        "local_devices: there is no process 3, only process 0",
    ),
    (
        lambda: fd.numpy_dtype_promotion("strict"),
        ArgumentError,
        "numpy_dtype_promotion: only 'standard' is supported, got 'strict'; functions of "
        "funcdl.lax do not promote",
    ),
    (
        lambda: fd.numpy_rank_promotion("raise"),
        ArgumentError,
        "numpy_rank_promotion: only 'allow' is supported, got 'raise'; functions of funcdl.lax do "
        "not broadcast",
    ),
    (
        lambda: dlpack.from_dlpack([1, 2]),
        ArgumentError,
        "from_dlpack requires an array with __dlpack__, got list",
    ),
    (
        lambda: dlpack.from_dlpack(np.ones((2, 3), np.float32).T, copy=False),
        ArgumentError,
        "from_dlpack: copy=False, but an array of float32 with strides (4, 12) must be copied to "
        "become float32 in row-major order",
    ),
    (
        lambda: fnp.ones(2).addressable_data(1),
        IndexError,
        "there is no part 1 of an array on one device, only part 0",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_every_name_is_there_and_documented() -> None:
    for name in fd.__all__:
        value = getattr(fd, name)
        assert callable(value) is False or value.__doc__, name
    for module in (tree, tree_util, dtypes, dlpack, fd.typing, fd.data):
        for name in module.__all__:
            assert getattr(module, name) is not None


@pytest.mark.parametrize("enabled", [True, False])
def test_import_leaves_the_garbage_collector_as_it_was(enabled: bool) -> None:
    set_up = "enable" if enabled else "disable"
    code = f"import gc; gc.{set_up}(); import funcdl; print(gc.isenabled())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == str(enabled), result.stderr
