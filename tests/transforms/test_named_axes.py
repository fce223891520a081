"""Named axes: collectives under vmap, in every nesting, against loops, their laws and JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.transforms.collectives import COLLECTIVES, PARTIAL, SHAPE, SIZE, Collective, operand
from tests.transforms.compare import assert_same, pair

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.checker import check_closed_jaxpr
from funcdl.errors import ArgumentError, AxisNameError, ShapeError

ALL = [*COLLECTIVES, PARTIAL]
Function = Callable[..., Any]

each = pytest.mark.parametrize("c", ALL, ids=lambda c: c.name)
few = pytest.mark.parametrize(
    "c",
    [
        *(c for c in ALL if c.name in ("psum", "pmean", "pmax", "all_gather1", "axis_index")),
        *(c for c in ALL if c.name in ("psum_scatter0", "psum_scatter1tiled", "ppermute_some")),
        *(c for c in ALL if c.name in ("all_to_all02", "all_to_all12tiled")),
    ],
    ids=lambda c: c.name,
)


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    """Programs run on NumPy: what reaches a compiler has no collectives, as one test shows."""
    with fd.config.override(backend="reference"):
        yield


def over(f: Function, **options: Any) -> Function:
    return fd.vmap(f, axis_name="i", **options)


def in_scan(f: Function) -> Function:
    def run(x: Any) -> Any:
        return lax.scan(lambda carry, y: (carry + 1, f(y)), 0, x[None])[1][0]

    return run


def in_while(f: Function) -> Function:
    def run(x: Any) -> Any:
        state = (0, fnp.zeros_like(f(x)))
        return lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(x)), state)[1]

    return run


def in_cond(f: Function) -> Function:
    # Members disagree about the branch, so both run.
    return lambda x: lax.cond(lax.axis_index("i") % 2 == 0, f, lambda y: 1 * f(y), x)


def in_known_cond(f: Function) -> Function:
    return lambda x: lax.cond(fnp.asarray(True), f, lambda y: 0 * f(y), x)


def in_custom_jvp(f: Function) -> Function:
    @fd.custom_jvp
    def g(x: Any) -> Any:
        return f(x)

    g.defjvp(lambda primals, tangents: fd.jvp(f, primals, tangents))
    return g


def in_custom_vjp(f: Function) -> Function:
    @fd.custom_vjp
    def g(x: Any) -> Any:
        return f(x)

    g.defvjp(lambda x: (f(x), x), lambda x, ct: fd.vjp(f, x)[1](ct))
    return g


WRAPPERS: dict[str, Callable[[Function], Function]] = {
    "as it is": lambda f: f,
    "jit": fd.jit,
    "checkpoint": fd.checkpoint,
    "scan": in_scan,
    "while": in_while,
    "cond": in_cond,
    "known cond": in_known_cond,
    "custom_jvp": in_custom_jvp,
    "custom_vjp": in_custom_vjp,
}
wrapped = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


@each
@wrapped
def test_the_meaning_in_every_place(c: Collective, wrap: Callable[[Function], Function]) -> None:
    x = operand()
    wanted = c.meaning(x).astype(np.float32)
    assert_same(over(wrap(lambda y: c(y)))(x), wanted)


@each
def test_jit_around_the_batch_leaves_no_collective(c: Collective) -> None:
    x = operand()
    batched = over(lambda y: c(y))
    with fd.config.override(backend="auto"):
        assert_same(fd.jit(batched)(x), c.meaning(x).astype(np.float32))
    program = fd.make_jaxpr(batched)(x)
    check_closed_jaxpr(program)
    assert all(eqn.primitive.uses_axis is None for eqn in program.eqns)


@each
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_members_along_another_dimension(c: Collective, axis: int) -> None:
    x = operand()
    moved = np.moveaxis(x, 0, axis)
    found = over(lambda y: c(y), in_axes=axis, out_axes=axis)(moved)
    assert_same(found, np.moveaxis(c.meaning(x), 0, axis).astype(np.float32))


@each
def test_a_value_that_is_the_same_for_all_members(c: Collective) -> None:
    x = operand()[0]
    wanted = c.meaning(np.stack([x] * SIZE)).astype(np.float32)
    assert_same(over(lambda: c(x), axis_size=SIZE)(), wanted)
    assert_same(over(fd.jit(lambda: c(x)), axis_size=SIZE)(), wanted)


@each
def test_batches_over_other_axes_pass_through(c: Collective) -> None:
    x = operand(1, 2, SIZE)
    wanted = np.stack([c.meaning(y) for y in x]).astype(np.float32)
    assert_same(fd.vmap(over(lambda y: c(y)))(x), wanted)
    inner = over(fd.vmap(lambda y: c(y), in_axes=1, out_axes=2))
    outs = inner(np.moveaxis(x, 0, 2))
    assert_same(np.moveaxis(np.asarray(outs), 3, 0), wanted)
    named = over(fd.vmap(lambda y: c(y), axis_name="j"), in_axes=1, out_axes=1)
    assert_same(named(x), wanted)


@few
@wrapped
def test_tangents_and_cotangents(c: Collective, wrap: Callable[[Function], Function]) -> None:
    """The linear ones are their own derivatives; <u, F t> = <F' u, t> for all of them."""
    if wrap is in_while:
        pytest.skip("while_loop has no reverse mode")
    x, t = operand(), operand(1)

    def whole(x: Any) -> Any:
        return over(wrap(lambda y: c(y)))(x)

    out, dot = fd.jvp(whole, (x,), (t,)) if wrap is not in_custom_vjp else (whole(x), None)
    if dot is None:
        dot = fd.jvp(lambda x: over(lambda y: c(y))(x), (x,), (t,))[1]
    if c.linear:
        assert_same(dot, c.meaning(t).astype(np.float32))
    u = np.random.default_rng(2).standard_normal(out.shape).astype(np.float32)
    (ct,) = fd.vjp(whole, x)[1](u)
    np.testing.assert_allclose(pair(u, dot), pair(ct, t), rtol=1e-3, atol=1e-3)

    if wrap is in_cond:
        return  # which branch's residuals a member keeps depends on its choice
    # Each member's own derivative: the cotangents of all outputs, brought to where they came from.
    member = over(lambda y, v: fd.vjp(wrap(lambda z: c(z)), y)[1](v)[0])
    assert_same(member(x, u), ct, factor=10)
    if wrap is not in_custom_vjp:
        pushed = over(lambda y, s: fd.jvp(wrap(lambda z: c(z)), (y,), (s,))[1])(x, t)
        assert_same(pushed, dot, factor=10)


def test_transposes_are_collectives() -> None:
    def back(f: Function, *shape: int) -> str:
        x = fnp.ones(shape)
        out = fd.make_jaxpr(f, axis_env=[("i", 4)])(x).out_avals[0]

        def pull(u: Any) -> Any:
            return fd.linear_transpose(f, x)(u)[0]

        program = fd.make_jaxpr(pull, axis_env=[("i", 4)])(fnp.ones(out.shape))
        assert len(program.eqns) == 1
        assert program.out_avals[0].shape == shape
        return str(program).split(" = ")[1].rsplit(" a", 1)[0]

    assert back(lambda x: lax.psum(x, "i"), 3) == "psum[axes=('i',)]"
    assert back(lambda x: lax.all_gather(x, "i", axis=1), 3) == (
        "reduce_scatter[axis_name='i' axis_size=4 scatter_dimension=1 tiled=False]"
    )
    assert back(lambda x: lax.psum_scatter(x, "i", tiled=True), 8) == (
        "all_gather[all_gather_dimension=0 axis_name='i' axis_size=4 tiled=True]"
    )
    assert back(lambda x: lax.ppermute(x, "i", [(0, 1), (1, 3)]), 2) == (
        "ppermute[axis_name='i' axis_size=4 perm=((1, 0), (3, 1))]"
    )
    assert back(lambda x: lax.all_to_all(x, "i", 0, 1, tiled=True), 4, 2) == (
        "all_to_all[axis_name='i' axis_size=4 concat_axis=0 split_axis=1]"
    )


# Several names


def test_several_names_and_their_order() -> None:
    x = fnp.arange(6.0).reshape(2, 3)

    def f(y: Any) -> Any:
        return (
            lax.psum(y, ("i", "j")),
            lax.psum(y, "i"),
            lax.pmax(y, "j"),
            lax.axis_index("i") * 10 + lax.axis_index("j"),
            lax.axis_index(("i", "j")),
            lax.axis_index(("j", "i")),
            lax.axis_size(("i", "j")),
            lax.all_gather(y, ("i", "j")),
            lax.all_gather(y, ("j", "i")),
            lax.pmean(y, ("j", "i")),
        )

    outs = fd.vmap(fd.vmap(f, axis_name="j"), axis_name="i")(x)
    values = np.arange(6).reshape(2, 3)
    flat = np.arange(6.0)
    wanted = [
        np.full((2, 3), 15.0),
        np.broadcast_to([3.0, 5.0, 7.0], (2, 3)),
        np.broadcast_to([[2.0], [5.0]], (2, 3)),
        values // 3 * 10 + values % 3,
        values,
        values % 3 * 2 + values // 3,
        np.full((2, 3), 6),
        np.broadcast_to(flat, (2, 3, 6)),
        np.broadcast_to(flat.reshape(2, 3).T.ravel(), (2, 3, 6)),
        np.full((2, 3), 2.5),
    ]
    for found, value in zip(outs, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(found), value)


SEVERAL = [
    c
    for c in COLLECTIVES
    if c.name.startswith(("psum", "pmean", "pm", "all_gather", "all_to_all", "axis"))
]


@pytest.mark.parametrize("c", SEVERAL, ids=lambda c: c.name)
def test_two_axes_together_are_one(c: Collective) -> None:
    x = operand()
    both = fd.vmap(fd.vmap(lambda y: c(y, ("i", "j")), axis_name="j"), axis_name="i")
    found = np.asarray(both(x.reshape(2, 2, *SHAPE)))
    wanted = c.meaning(x).astype(np.float32)
    assert_same(found.reshape(wanted.shape), wanted)


def test_no_names_at_all() -> None:
    x = fnp.arange(3.0)
    assert_same(lax.psum(x, ()), x)
    assert_same(lax.pmean(x, ()), x)
    assert_same(lax.pmax(x, ()), x)
    assert_same(lax.all_gather(x, ()), x[None])
    assert_same(lax.all_to_all(x[None], (), 0, 1), x[:, None])
    assert_same(lax.psum_scatter(x[None], ()), x)
    assert (lax.axis_size(()), int(lax.axis_index(()))) == (1, 0)


def test_the_inner_one_of_two_axes_of_one_name_counts() -> None:
    x = fnp.arange(6.0).reshape(2, 3)
    f = over(over(lambda y: (lax.psum(y, "i"), lax.axis_size("i"))))
    total, size = f(x)
    assert_same(total, np.repeat([[3.0], [12.0]], 3, axis=1).astype(np.float32))
    assert int(size[0, 0]) == 3
    outer = over(lambda y: (over(lambda z: lax.psum(z, "i"))(y), lax.psum(y, "i")))
    assert_same(outer(x)[1], np.broadcast_to(np.float32([3, 5, 7]), (2, 3)))


@pytest.mark.parametrize("name", ["i", ("a", 1), 1.5, frozenset("a")], ids=repr)
def test_names_are_any_hashable_but_tuples_are_several(name: Any) -> None:
    if isinstance(name, tuple):
        with pytest.raises(ArgumentError):
            fd.vmap(lambda x: lax.psum(x, name), axis_name=name)(fnp.ones(3))
        return
    assert float(fd.vmap(lambda x: lax.psum(x, name), axis_name=name)(fnp.ones(3))[0]) == 3


# Values that are known while tracing, and types


def test_sums_of_python_numbers_are_python_numbers() -> None:
    found = []

    def f(x: Any) -> Any:
        found.append([lax.psum(v, "i") for v in (1, True, 2.5, 1j)] + [lax.axis_size("i")])
        found.append(lax.psum({"a": 1, "b": [x]}, "i")["a"])
        return x

    over(f)(fnp.ones(4))
    fd.jit(over(fd.jit(f)))(fnp.ones(4))
    for values, leaf in zip(found[::2], found[1::2], strict=True):
        assert [type(v) for v in values] == [int, int, float, complex, int]
        assert (values, leaf) == ([4, 4, 10.0, 4j, 4], 4)


def test_types() -> None:
    def f(x: Any) -> Any:
        small = x.astype("int8")
        return (
            lax.psum(x > 1, "i"),
            lax.psum(small, "i"),
            lax.pmean(small, "i"),
            lax.pmax(x > 1, "i"),
            lax.axis_index("i"),
            lax.all_gather(x > 1, "i"),
            lax.ppermute(small, "i", [(0, 1)]),
        )

    program = fd.make_jaxpr(f, axis_env=[("i", 4)])(fnp.ones(()))
    check_closed_jaxpr(program)
    assert [str(a) for a in program.out_avals] == [
        *("i32[]", "i8[]", "f32[]", "bool[]", "i32[]", "bool[4]", "i8[]")
    ]


def test_pytrees() -> None:
    x = {"a": fnp.arange(4.0), "b": (fnp.ones((4, 4)), None)}
    for f in (lax.psum, lax.pmean, lax.pmax, lax.pmin, lax.all_gather):
        found = over(lambda v, f=f: f(v, "i"))(x)
        wanted = over(lambda v, f=f: {"a": f(v["a"], "i"), "b": (f(v["b"][0], "i"), None)})(x)
        assert_same(found, wanted)


@pytest.mark.parametrize("size", [0, 1])
def test_axes_of_no_and_of_one_member(size: int) -> None:
    x = fnp.ones((size, size, 2))
    for f in (
        lambda y: lax.psum(y, "i"),
        lambda y: lax.all_gather(y, "i"),
        lambda y: lax.ppermute(y, "i", [(k, k) for k in range(size)]),
        lambda y: lax.all_to_all(y, "i", 0, 1, tiled=True),
        lambda y: lax.psum_scatter(y, "i", scatter_dimension=0),
        lambda y: lax.axis_index("i"),
    ):
        found = over(f)(x)
        assert found.shape[0] == size
        if size:
            assert_same(found[0], f_of_one(f, x))


def f_of_one(f: Function, x: Any) -> Any:
    return over(f, out_axes=0)(x)[0]


# Programs and caches


def test_a_jitted_function_is_traced_for_each_axis_in_scope() -> None:
    traced = []

    @fd.jit
    def f(x: Any) -> Any:
        traced.append(lax.axis_size("i"))
        return lax.psum(x, "i") + lax.psum(1, "i")

    for size in (4, 5, 4, 5):
        assert float(over(f)(fnp.ones(size))[0]) == 2 * size
    assert traced == [4, 5]
    with pytest.raises(AxisNameError):
        f(1.0)
    fd.vmap(over(f))(fnp.ones((2, 4)))  # an axis without name changes nothing
    assert traced == [4, 5]
    fd.vmap(over(f), axis_name="k")(fnp.ones((2, 4)))
    assert traced == [4, 5, 4]


def test_bodies_of_loops_are_traced_for_each_axis_in_scope() -> None:
    def step(carry: Any, _: None) -> Any:
        return carry + lax.psum(1, "i"), None

    for size in (4, 5):
        found = over(lambda x: lax.scan(step, x, None, length=2)[0])(fnp.zeros(size))
        assert_same(found, np.full(size, 2 * size, np.float32))
    body = fd.checkpoint(lambda x: x * lax.axis_size("i"))
    for size in (4, 5):
        assert float(over(body)(fnp.ones(size))[0]) == size


def test_make_jaxpr_with_axes() -> None:
    f = fd.make_jaxpr(
        lambda x: lax.psum(lax.all_gather(x, "j"), ("i", "j")), axis_env=[("i", 4), ("j", 2)]
    )
    assert str(f(fnp.ones(3))) == (
        "{ lambda ; a:f32[3]. let\n"
        "    b:f32[2,3] = all_gather[all_gather_dimension=0 axis_name='j' axis_size=2 tiled=False]"
        " a\n"
        "    c:f32[2,3] = psum[axes=('i', 'j')] b\n"
        "  in (c,) }"
    )
    inner = fd.make_jaxpr(lambda x: lax.axis_size("i") + x, axis_env=[("i", 4), ("i", 2)])
    assert "2" in str(inner(fnp.ones(())))  # the last one is the innermost


def test_a_program_for_another_size_is_refused() -> None:
    from funcdl.core.jaxpr import eval_jaxpr

    p = fd.make_jaxpr(lambda x: lax.all_gather(x, "i"), axis_env=[("i", 4)])(1.0)
    with pytest.raises(ShapeError) as error:
        over(lambda x: eval_jaxpr(p.jaxpr, p.consts, [x])[0])(fnp.ones(3))
    assert str(error.value) == (
        "all_gather: this program was traced for an axis 'i' of size 4, and is mapped over one of "
        "size 3"
    )
    with pytest.raises(AxisNameError):
        eval_jaxpr(p.jaxpr, p.consts, [fnp.ones(())])


def test_carried_values_stay_unbatched_where_they_are() -> None:
    def f(x: Any) -> Any:
        total = lax.psum(x, "i")
        return lax.scan(lambda c, _: (c + lax.psum(c, "i"), None), total, None, length=2)[0]

    found = fd.vmap(f, axis_name="i", out_axes=None)(fnp.ones(4))
    assert_same(found, np.float32(4 * 25))
    assert_same(fd.vmap(fd.jit(f), axis_name="i", out_axes=None)(fnp.ones(4)), found)


def test_conditions_over_all_members() -> None:
    def f(x: Any) -> Any:
        return lax.while_loop(lambda s: lax.pmax(s, "i") < 100, lambda s: s * 2, x)

    assert_same(over(f)(fnp.asarray([1.0, 3.0])), np.float32([64, 192]))
    assert_same(over(f)(fnp.asarray([60.0, 3.0])), np.float32([120, 6]))


def test_identity_forwards_sum_backwards() -> None:
    """The rule of tensor parallelism, on a value that all members share."""

    @fd.custom_vjp
    def shared(w: Any) -> Any:
        return w

    shared.defvjp(lambda w: (w, None), lambda _, ct: (lax.psum(ct, "i"),))
    x = fnp.arange(4.0)
    member = over(fd.grad(lambda w, y: shared(w) * y), in_axes=(None, 0))
    assert_same(member(2.0, x), np.full(4, 6, np.float32))
    total = fd.grad(lambda w: over(lambda y: shared(w) * y)(x).sum())(2.0)
    assert float(total) == 24
    assert float(fd.jit(fd.grad(lambda w: over(lambda y: shared(w) * y)(x).sum()))(2.0)) == 24


def test_without_jit() -> None:
    with fd.disable_jit():
        f = fd.jit(lambda x: lax.scan(lambda c, _: (lax.psum(c, "i"), None), x, None, length=2)[0])
        assert_same(over(f)(fnp.ones(3)), np.full(3, 9, np.float32))
