from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import optim
from funcdl.errors import ArgumentError, ShapeError, TreeError

RNG = np.random.default_rng(0)
GRADIENTS = [RNG.standard_normal((2, 3)) * 10.0**-i for i in range(5)]
START = RNG.standard_normal((2, 3))


def run(optimizer: optim.GradientTransformation, gradients: list[Any]) -> list[Any]:
    """Parameters after each step from START."""
    params = {"w": fnp.asarray(START.astype(gradients[0].dtype))}
    state = optimizer.init(params)
    seen = []
    for g in gradients:
        updates, state = optimizer.update({"w": g}, state, params)
        params = optim.apply_updates(params, updates)
        seen.append(np.asarray(params["w"]))
    return seen


def adam_by_the_paper(
    lr: Callable[[int], float],
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    decay: float = 0.0,
) -> list[Any]:
    """Algorithm 1 of Kingma and Ba (2015); with decay, algorithm 2 of Loshchilov and Hutter."""
    theta, m, v = START, 0.0, 0.0
    seen = []
    for t, g in enumerate(GRADIENTS, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - lr(t - 1) * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)
        seen.append(theta)
    return seen


def sgd_by_hand(
    lr: Callable[[int], float], momentum: float = 0.0, nesterov: bool = False
) -> list[Any]:
    theta, m = START, 0.0
    seen = []
    for t, g in enumerate(GRADIENTS):
        m = momentum * m + g
        theta = theta - lr(t) * (g + momentum * m if nesterov else m)
        seen.append(theta)
    return seen


def decaying(count: Any) -> Any:
    return 0.1 / (1 + count)


def constant(rate: float) -> Callable[[int], float]:
    return lambda count: rate


CASES = {
    "sgd": (optim.sgd(0.1), sgd_by_hand(constant(0.1))),
    "sgd, schedule": (optim.sgd(decaying), sgd_by_hand(decaying)),
    "momentum": (optim.sgd(0.1, 0.9), sgd_by_hand(constant(0.1), 0.9)),
    "nesterov": (optim.sgd(0.1, 0.9, nesterov=True), sgd_by_hand(constant(0.1), 0.9, True)),
    "adam": (optim.adam(0.1), adam_by_the_paper(constant(0.1))),
    "adam, options": (
        optim.adam(0.1, b1=0.5, b2=0.75, eps=1e-2),
        adam_by_the_paper(constant(0.1), 0.5, 0.75, 1e-2),
    ),
    "adam without momentum": (
        optim.adam(0.1, b1=0.0),
        adam_by_the_paper(constant(0.1), b1=0.0),
    ),
    "adam, schedule": (optim.adam(decaying), adam_by_the_paper(decaying)),
    "adamw": (
        optim.adamw(0.1, weight_decay=0.2),
        adam_by_the_paper(constant(0.1), decay=0.2),
    ),
    "adamw, schedule": (
        optim.adamw(decaying, weight_decay=0.2),
        adam_by_the_paper(decaying, decay=0.2),
    ),
}


def check(name: str, found: list[Any], dtype: Any) -> None:
    # A schedule computes in the default dtype.
    exact = dtype == np.float64 and "schedule" not in name
    tolerance = 1e-13 if exact else 1e-7 if dtype == np.float64 else 2e-5
    for array, wanted in zip(found, CASES[name][1], strict=True):
        assert array.dtype == dtype
        np.testing.assert_allclose(array, wanted, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_the_papers(name: str, dtype: Any) -> None:
    check(name, run(CASES[name][0], [g.astype(dtype) for g in GRADIENTS]), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_steps_are_those_of_the_papers(dtype: Any) -> None:
    @functools.partial(fd.jit, donate_argnums=(0, 1))
    def step(params: Any, states: Any, g: Any) -> Any:
        new = {
            name: optimizer.update(g, states[name], params[name])
            for name, (optimizer, _) in CASES.items()
        }
        params = {name: optim.apply_updates(params[name], new[name][0]) for name in CASES}
        return params, {name: state for name, (_, state) in new.items()}

    params = {name: fnp.asarray(START.astype(dtype)) for name in CASES}
    states = {name: optimizer.init(params[name]) for name, (optimizer, _) in CASES.items()}
    seen = []
    for g in GRADIENTS:
        params, states = step(params, states, g.astype(dtype))
        seen.append(fd.tree.map(np.array, params))
    for name in CASES:
        check(name, [arrays[name] for arrays in seen], dtype)


def test_first_steps_of_adam_by_hand() -> None:
    # With b1 = b2 = 1/2 and gradients 1, then 3: mu is 1/2, 7/4, nu is 1/2, 19/4; corrected they
    # are 1, 7/3 and 1, 19/3.
    optimizer = optim.adam(1.0, b1=0.5, b2=0.5, eps=0.0)
    state = optimizer.init(fnp.zeros(()))
    first, state = optimizer.update(fnp.asarray(1.0), state)
    second, state = optimizer.update(fnp.asarray(3.0), state)
    assert float(first) == -1.0
    assert float(second) == pytest.approx(-(7 / 3) / (19 / 3) ** 0.5, rel=1e-6)
    memory = state[0]
    assert (int(memory.count), float(memory.mu), float(memory.nu)) == (2, 1.75, 4.75)


def test_schedule_sees_the_number_of_steps_taken() -> None:
    optimizer = optim.sgd(lambda count: fnp.where(count < 2, 1.0, 0.5))
    found = run(optimizer, [np.ones((2, 3))] * 4)
    steps = [round(float((a - b)[0, 0]), 6) for a, b in itertools.pairwise([START, *found])]
    assert steps == [1.0, 1.0, 0.5, 0.5]


def test_count_stops_rather_than_wrap_around() -> None:
    optimizer = optim.sgd(lambda count: count * 1.0)
    last = optim.ScaleByScheduleState(fnp.asarray(np.int32(2**31 - 1)))
    _, (_, state) = optimizer.update(fnp.ones(()), (optim.EmptyState(), last))
    assert int(state.count) == 2**31 - 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_so_and_finite(name: str, dtype: str) -> None:
    optimizer, _ = CASES[name]
    params = {"w": fnp.ones((3,), dtype)}
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(params, state, params)
        params = optim.apply_updates(params, updates)
    assert params["w"].dtype == fnp.dtype(dtype)
    assert np.isfinite(np.asarray(params["w"], np.float32)).all()


@pytest.mark.parametrize("name", CASES)
def test_state_keeps_its_type(name: str) -> None:
    optimizer, _ = CASES[name]
    params: Any = {"w": fnp.ones((3,)), "b": 0.5, "none": None, "list": [fnp.ones((2, 2))]}
    state = optimizer.init(params)
    types = fd.tree.map(lambda x: x.aval, state)
    for _ in range(2):
        updates, state = optimizer.update(params, state, params)
        params = optim.apply_updates(params, updates)
        assert fd.tree.map(lambda x: x.aval, state) == types


def test_optimizer_under_vmap_and_grad() -> None:
    optimizer = optim.adam(0.1, eps_root=1e-8)

    def after_two_steps(w: Any) -> Any:
        state = optimizer.init(w)
        for _ in range(2):
            gradient = fd.grad(lambda w: (w**4).sum())(w)
            updates, state = optimizer.update(gradient, state, w)
            w = optim.apply_updates(w, updates)
        return w

    batch = fnp.asarray([[1.0, 2.0], [-1.0, 0.5]])
    mapped = fd.vmap(after_two_steps)(batch)
    np.testing.assert_allclose(mapped, [after_two_steps(row) for row in batch], rtol=1e-6)
    # At zero gradient the root would have no derivative.
    slope = fd.grad(lambda w: after_two_steps(w).sum())(fnp.zeros((2,)))
    assert np.isfinite(np.asarray(slope)).all()


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.floats(1e-3, 1.0), st.floats(0.1, 0.99)
)
def test_adam_steps_do_not_depend_on_the_gradients_scale(
    gradients: list[float], rate: float, b1: float
) -> None:
    gradients = [g if abs(g) > 1e-3 else 1.0 for g in gradients]
    optimizer = optim.adam(rate, b1=b1, eps=0.0)

    def steps(scale: float) -> list[float]:
        state = optimizer.init(fnp.zeros((), np.float64))
        seen = []
        for g in gradients:
            update, state = optimizer.update(fnp.asarray(np.float64(g * scale)), state)
            seen.append(float(update))
        return seen

    np.testing.assert_allclose(steps(8.0), steps(1.0), rtol=1e-10, atol=1e-12)
    # The bound of section 2.1 of the paper, for a first step.
    assert abs(steps(1.0)[0]) <= rate * (1 + 1e-10)


@pytest.mark.parametrize(
    ("mask", "decayed"),
    [
        (None, {"w": True, "b": True}),
        ({"w": True, "b": False}, {"w": True, "b": False}),
        (False, {"w": False, "b": False}),
        (
            lambda params: fd.tree.map(lambda p: p.ndim > 1, params),
            {"w": True, "b": False},
        ),
    ],
)
def test_mask_of_weight_decay(mask: Any, decayed: dict[str, bool]) -> None:
    params = {"w": fnp.ones((2, 2)), "b": fnp.ones((2,))}
    transformation = optim.add_decayed_weights(0.5, mask)
    zeros = fd.tree.map(fnp.zeros_like, params)
    updates, _ = transformation.update(zeros, transformation.init(params), params)
    assert fd.tree.map(lambda u: bool((u == 0.5).all()), updates) == decayed


def test_chain_applies_in_order_and_nests() -> None:
    double = optim.GradientTransformation(
        lambda params: optim.EmptyState(), lambda updates, state, params=None: (updates * 2, state)
    )
    add_one = optim.add_decayed_weights(1.0)
    params = fnp.ones(())
    for chained, expected in [
        (optim.chain(double, add_one), 7.0),
        (optim.chain(add_one, double), 8.0),
        (optim.chain(optim.chain(add_one, double), optim.identity()), 8.0),
        (optim.chain(), 3.0),
    ]:
        updates, _ = chained.update(fnp.asarray(3.0), chained.init(params), params)
        assert float(updates) == expected


def test_apply_updates_keeps_the_parameters_dtype() -> None:
    params = {"a": fnp.ones((2,), np.float16), "b": fnp.ones((2,), np.float32)}
    found = optim.apply_updates(params, fd.tree.map(lambda p: fnp.ones((2,)), params))
    assert [x.dtype for x in fd.tree.leaves(found)] == [np.float16, np.float32]
    np.testing.assert_array_equal(found["a"], [2, 2])


def test_errors_name_what_does_not_fit() -> None:
    params = {"w": fnp.ones((2,))}
    with pytest.raises(TreeError, match="structure of params"):
        optim.apply_updates(params, {"v": fnp.ones((2,))})
    with pytest.raises(ShapeError, match=r"params\['w'\] is f32\[2\], its update f32\[3\]"):
        optim.apply_updates(params, {"w": fnp.ones((3,))})
    optimizer = optim.adamw(0.1)
    with pytest.raises(ArgumentError, match=r"optimizer\.update"):
        optimizer.update(params, optimizer.init(params))
    with pytest.raises(TreeError, match="mask"):
        masked = optim.adamw(0.1, mask={"v": True})
        masked.update(params, masked.init(params), params)
    with pytest.raises(ArgumentError, match="own init"):
        optimizer.update(params, optim.sgd(0.1).init(params), params)
