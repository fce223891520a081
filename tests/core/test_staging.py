from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from tests.core import programs, toy
from tests.core.toy import add, array, f32, mul

from funcdl.core.array import Array, as_array
from funcdl.core.jaxpr import ClosedJaxpr, Literal, closed_fun, eval_jaxpr, last_uses, sub_jaxprs
from funcdl.core.staging import JaxprTrace, JaxprTracer, hoist_consts, trace_to_jaxpr
from funcdl.core.trace import Trace, context, current_trace, eval_trace, new_trace
from funcdl.errors import LeafTypeError, LeakedTracerError


def test_equations_know_the_users_line() -> None:
    def f(x: Any) -> list[Any]:
        y = add(x, x)
        return [mul(y, y)]

    jaxpr, consts = trace_to_jaxpr(f, [f32(3)], names=["x"])
    assert consts == []
    assert jaxpr.names == ("x",)
    first = f.__code__.co_firstlineno
    sources = [eqn.source for eqn in jaxpr.eqns]
    assert [(s.file, s.line, s.text) for s in sources if s] == [
        (__file__, first + 1, "y = add(x, x)"),
        (__file__, first + 2, "return [mul(y, y)]"),
    ]
    assert str(sources[0]) == f"{__file__}:{first + 1} ({f.__qualname__})"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2.0:~f32[]"),
        (2, "2:~i32[]"),
        (True, "True:bool[]"),
        (np.float16(2), "2.0:f16[]"),
        (np.int64(3), "3:i64[]"),
        (Array(np.array(2, np.float32)), "2.0:f32[]"),
    ],
)
def test_scalars_become_literals(value: Any, text: str) -> None:
    jaxpr, consts = trace_to_jaxpr(lambda: [toy.cast(value, dtype=np.dtype(np.int8)), value], [])
    assert consts == []
    assert str(jaxpr) == (
        f"{{ lambda ; . let\n    a:i8[] = cast[dtype=i8] {text}\n  in (a, {text}) }}"
    )


def test_arrays_become_constants_once_each() -> None:
    one, other = array(1, 2), array(1, 2)

    def f(x: Any) -> list[Any]:
        return [add(mul(x, one), mul(one, other)), one]

    jaxpr, consts = trace_to_jaxpr(f, [f32(2)])
    assert [c is x for c, x in zip(consts, [one, other], strict=True)] == [True, True]
    assert jaxpr.eqns[0].invars[1] is jaxpr.eqns[1].invars[0] is jaxpr.outvars[1]
    assert [type(atom) for eqn in jaxpr.eqns for atom in eqn.invars].count(Literal) == 0
    outs = closed_fun(ClosedJaxpr(jaxpr, consts))(array(10, 20))
    assert [out.tolist() for out in outs] == [[11, 44], [1, 2]]


def test_numpy_arrays_are_copied_when_they_are_seen() -> None:
    weights = np.ones(2, np.float32)

    def f(x: Any) -> list[Any]:
        y = mul(x, weights)
        weights[:] = 7
        return [y]

    jaxpr, consts = trace_to_jaxpr(f, [f32(2)])
    assert eval_jaxpr(jaxpr, consts, [array(1, 2)])[0].tolist() == [1, 2]


def test_constants_stay_distinct_when_python_reuses_addresses() -> None:
    def f(x: Any) -> list[Any]:
        for i in range(50):
            x = add(x, np.full(2, i, np.float32))
        return [x]

    jaxpr, consts = trace_to_jaxpr(f, [f32(2)])
    assert len(consts) == 50
    assert eval_jaxpr(jaxpr, consts, [array(0, 0)])[0].tolist() == [1225, 1225]


def test_types_of_outputs_are_inferred() -> None:
    def f(x: Any) -> list[Any]:
        first, second = toy.halves(x)
        seen.append((first.shape, first.dtype, first.weak_type, first.ndim, first.size))
        return [add(first, second), toy.reduce_sum(x, axes=(0, 1)), add(1.0, 2.0)]

    seen: list[Any] = []
    jaxpr, _ = trace_to_jaxpr(f, [f32(4, 3)])
    assert seen == [((2, 3), np.float32, False, 2, 6)]
    assert [str(atom.aval) for atom in jaxpr.outvars] == ["f32[2,3]", "f32[]", "~f32[]"]


def test_inputs_and_outputs_may_repeat_or_be_unused() -> None:
    jaxpr, consts = trace_to_jaxpr(lambda x, y: [x, x, 3], [f32(2), f32()])
    x = array(1, 2)
    outs = eval_jaxpr(jaxpr, consts, [x, array(0)])
    assert outs[0] is x
    assert outs[1] is x
    assert outs[2].item() == 3


def test_outputs_must_be_arrays() -> None:
    with pytest.raises(LeafTypeError, match="got str: 'loss'"):
        trace_to_jaxpr(lambda x: ["loss"], [f32()])
    assert context.trace is eval_trace


def test_errors_of_the_function_end_the_trace() -> None:
    leaked = []

    def f(x: Any) -> Any:
        leaked.append(x)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trace_to_jaxpr(f, [f32()])
    assert context.trace is eval_trace
    with pytest.raises(LeakedTracerError):
        add(leaked[0], leaked[0])


LEAK = """a traced value of type f32[3] was used outside the function that was being traced by jit.
It was created at {where}: {text}
It leaked through a side effect, such as a global, an attribute, or a list of an outer scope that \
the traced function wrote to: return the value from the function instead. \
Or a custom derivative rule defined inside that function uses it: pass it as an argument."""


def leak() -> tuple[Any, str]:
    leaked = []

    def f(x: Any) -> list[Any]:
        y = add(x, x)
        leaked.append(y)
        return [y]

    trace_to_jaxpr(f, [f32(3)])
    line = f.__code__.co_firstlineno + 1
    where = f"{__file__}:{line} ({f.__qualname__})"
    return leaked[0], LEAK.format(where=where, text="y = add(x, x)")


def in_another_trace(tracer: Any) -> None:
    trace_to_jaxpr(lambda: [add(tracer, tracer)], [])


def as_an_output(tracer: Any) -> None:
    trace_to_jaxpr(lambda: [tracer], [])


@pytest.mark.parametrize(
    "use", [lambda tracer: add(tracer, tracer), in_another_trace, as_an_output]
)
def test_leaked_tracers_are_explained(use: Any) -> None:
    tracer, message = leak()
    with pytest.raises(LeakedTracerError) as caught:
        use(tracer)
    assert isinstance(caught.value, RuntimeError)
    assert str(caught.value) == message


def test_values_that_are_no_arrays_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"expected an Array, got int: 3"):
        add(3, 3)


def test_tracers_say_what_they_are() -> None:
    def f(x: Any) -> list[Any]:
        texts.append(repr(x))
        with pytest.raises(TypeError, match=r"unhashable type: 'JaxprTracer' \(f32\[3\]\)"):
            hash(x)
        with pytest.raises(TypeError, match="item assignment to f32"):
            x[0] = 1
        return [x]

    texts: list[str] = []
    trace_to_jaxpr(f, [f32(3)], name="grad")
    assert texts == ["Tracer<f32[3]>(under grad)"]


def test_hoisting_separates_arrays_from_tracers() -> None:
    weights = array(1, 2, 3)
    found: list[Any] = []

    def outer(x: Any) -> list[Any]:
        y = add(x, x)
        inner, consts = trace_to_jaxpr(
            lambda z: [add(mul(mul(z, y), weights), x)], [f32(3)], names=["z"]
        )
        closed, captured = hoist_consts(inner, consts)
        found[:] = [closed, [c is v for c, v in zip(captured, (y, x), strict=True)]]
        return toy.call(*captured, x, jaxpr=closed)

    jaxpr, consts = trace_to_jaxpr(outer, [f32(3)])
    closed, captured_are_tracers = found
    assert consts == []
    assert captured_are_tracers == [True, True]
    assert [c is weights for c in closed.consts] == [True]
    assert closed.jaxpr.names == ("captured0", "captured1", "z")
    assert str(closed) == (
        "{ lambda a:f32[3]; b:f32[3] c:f32[3] d:f32[3]. let\n"
        "    e:f32[3] = mul d b\n"
        "    f:f32[3] = mul e a\n"
        "    g:f32[3] = add f c\n"
        "  in (g,) }"
    )
    assert sub_jaxprs(jaxpr.eqns[1].params) == [closed]
    x = array(1, 1, 1)
    (out,) = closed_fun(closed)(add(x, x), x, x)
    assert out.tolist() == [3, 5, 7]


def test_hoisting_without_names_or_constants() -> None:
    jaxpr, consts = trace_to_jaxpr(lambda x: [x], [f32()])
    closed, captured = hoist_consts(jaxpr, consts)
    assert (closed.consts, captured, closed.jaxpr.names) == ((), [], None)
    assert closed.in_avals == closed.out_avals == [f32()]


def test_evaluation_equals_the_traced_function() -> None:
    def f(x: Any, y: Any) -> list[Any]:
        low, high = toy.halves(mul(x, y))
        return [add(low, high), x, toy.reduce_sum(high, axes=(0,))]

    args = [array(1, 2, 3, 4), array(5, 6, 7, 8)]
    jaxpr, consts = trace_to_jaxpr(f, [f32(4), f32(4)])
    outs = eval_jaxpr(jaxpr, consts, args)
    for out, expected in zip(outs, f(*args), strict=True):
        assert out.aval == expected.aval
        assert out.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["weighted", "nested", "odd"])
def test_tracing_an_evaluation_gives_the_same_program(name: str) -> None:
    jaxpr = programs.NAMED[name]()
    consts = [toy.zeros(var.aval) for var in jaxpr.constvars]
    avals = [var.aval for var in jaxpr.invars]
    again, consts_again = trace_to_jaxpr(lambda *args: eval_jaxpr(jaxpr, consts, args), avals)
    assert str(again) == str(jaxpr)
    assert all(a is b for a, b in zip(consts, consts_again, strict=True))


def test_wrong_numbers_of_arguments_are_refused() -> None:
    jaxpr, _ = trace_to_jaxpr(lambda x: [x], [f32()])
    for consts, args in (([], []), ([], [1, 2]), ([1], [1])):
        with pytest.raises(ValueError, match="zip"):
            eval_jaxpr(jaxpr, consts, args)


def test_last_uses_frees_every_variable_but_the_outputs_once() -> None:
    def f(x: Any, unused: Any) -> list[Any]:
        y = add(x, x)
        add(y, y)
        z = mul(y, y)
        return [z, x]

    jaxpr, _ = trace_to_jaxpr(f, [f32(), f32()])
    y, dead, z = (eqn.outvars[0] for eqn in jaxpr.eqns)
    assert jaxpr.outvars == (z, jaxpr.invars[0])
    assert last_uses(jaxpr) == {1: [dead], 2: [y]}


def test_replace_keeps_the_other_fields() -> None:
    jaxpr = programs.weighted()
    eqn = jaxpr.eqns[0]
    changed = eqn.replace(params={"axis": 1})
    assert changed.params == {"axis": 1}
    assert (changed.primitive, changed.invars, changed.outvars, changed.source) == (
        eqn.primitive,
        eqn.invars,
        eqn.outvars,
        eqn.source,
    )
    assert str(jaxpr.replace()) == str(jaxpr)


def test_traces_nest_and_are_one_to_a_thread() -> None:
    outer, inner = JaxprTrace("outer"), JaxprTrace("inner")
    seen: list[Trace] = []
    with new_trace(outer):
        with current_trace(inner):
            assert context.trace is inner
            thread = threading.Thread(target=lambda: seen.append(context.trace))
            thread.start()
            thread.join()
        assert context.trace is outer
    assert context.trace is eval_trace
    assert seen == [eval_trace]
    assert (outer.alive, inner.alive) == (False, True)


def test_an_inner_trace_captures_tracers_of_the_outer_one() -> None:
    def outer(x: Any) -> list[Any]:
        inner, consts = trace_to_jaxpr(lambda: [add(x, x), x], [])
        assert [c is x for c in consts] == [True]
        assert isinstance(x, JaxprTracer)
        return eval_jaxpr(inner, consts, [])

    jaxpr, consts = trace_to_jaxpr(outer, [f32(2)])
    assert consts == []
    assert str(jaxpr) == "{ lambda ; a:f32[2]. let\n    b:f32[2] = add a a\n  in (b, a) }"
    assert eval_jaxpr(jaxpr, consts, [as_array(np.float32([1, 2]))])[0].tolist() == [2, 4]
