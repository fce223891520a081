"""The identity through which no derivative flows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.jvp_rules import zero_jvp
from funcdl.ops.lowering import View
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import elementwise_batch

stop_gradient = Primitive("stop_gradient")
stop_gradient.impl = lambda x: x
stop_gradient.shape = lambda x: ShapedArray(x.shape, x.dtype)
stop_gradient.jvp = zero_jvp(stop_gradient)
stop_gradient.batch = elementwise_batch(stop_gradient)
stop_gradient.lower = View(lambda reader, index, params: reader.read(0, index), alias=True)


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(), (3, 2), (0,)]:
        yield Sample((random_array(rng, shape, dtype),))


registry.add(Op(stop_gradient, registry.ALL, _samples))
