"""Programs that write windows of an array; run as a script, in Triton's interpreter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
from funcdl import lax

ROWS, COLUMNS = 12, 20


def _slice(x: Any, i: Any, y: Any) -> Any:
    return lax.dynamic_update_slice(x, y, (i, 3))


def _row(x: Any, i: Any, y: Any) -> Any:
    return x.at[i].set(fd.numpy.tile(y[0], COLUMNS // 5))


def _element(x: Any, i: Any, y: Any) -> Any:
    return x.at[i, i].set(y[0, 0])


def _from_itself(x: Any, i: Any, y: Any) -> Any:
    return lax.dynamic_update_slice(x, x[3:5] + x[:2], (i, 0))


def _rounded(x: Any, i: Any, y: Any) -> Any:
    return x.astype(np.int8).astype(x.dtype).at[i].set(y[0, 0])


def _loop(x: Any, i: Any, y: Any) -> Any:
    return lax.fori_loop(0, 4, lambda j, x: lax.dynamic_update_slice(x, y * 2, (i + j, 0)), x)


def _while(x: Any, i: Any, y: Any) -> Any:
    def body(state: Any) -> Any:
        n, x = state
        return n + 1, x.at[n].set(x[n] + 1)

    return lax.while_loop(lambda state: state[0] < i, body, (np.int32(0), x))[1]


def _cache(x: Any, i: Any, y: Any) -> Any:
    """A place of its own for each of three examples, as in a cache of keys."""
    places = fd.numpy.stack([i - 5, i * 0, i - 4])
    return fd.vmap(lambda c, p: lax.dynamic_update_slice(c, y[:1], (p, 1)))(x, places)


# With the shape of the array.
PROGRAMS = {
    "slice": (_slice, (ROWS, COLUMNS)),
    "row": (_row, (ROWS, COLUMNS)),
    "element": (_element, (ROWS, COLUMNS)),
    "from itself": (_from_itself, (ROWS, COLUMNS)),
    "rounded": (_rounded, (ROWS, COLUMNS)),
    "loop": (_loop, (ROWS, COLUMNS)),
    "while": (_while, (ROWS, COLUMNS)),
    "cache": (_cache, (3, ROWS // 3, COLUMNS)),
}


def arguments(name: str) -> list[Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=PROGRAMS[name][1]).astype(np.float32)
    return [x, np.int32(6), rng.normal(size=(2, 5)).astype(np.float32)]


def difference(name: str, donated: bool) -> str:
    """Where a program on a GPU differs from the eager one, after some calls; "" where nowhere."""
    function = PROGRAMS[name][0]
    step = fd.jit(function, donate_argnums=(0,) if donated else ())
    x, i, y = arguments(name)
    found, place = fd.device_put(x, "gpu"), fd.device_put(i, "gpu")
    with fd.config.override(backend="reference"):
        wanted = fd.numpy.asarray(x)
        for _ in range(4):
            wanted = function(wanted, i, y)
    for _ in range(4):
        found = step(found, place, y)
    try:
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), 1e-6)
    except AssertionError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    from funcdl.compiler.cuda import target
    from funcdl.kernels.triton.interpret import interpret

    target.MIN_WRITTEN_BYTES = 0
    results = {}
    for case in PROGRAMS:
        with installed(StubGpu(run=interpret)):
            results[case] = difference(case, donated=True)
    print(json.dumps(results))
