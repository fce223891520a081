"""A primitive's test calls as programs of the back end "gpu", whatever stands behind it."""

from __future__ import annotations

from itertools import islice

import numpy as np
from tests.ops.table import OPS, assert_close, outputs, samples

from funcdl.core.array import Array
from funcdl.transforms import jit


def check_on_gpu(name: str, dtype: str, count: int | None = None) -> None:
    """The first `count` calls agree with the primitive's reference."""
    primitive = OPS[name].primitive
    for sample in islice(samples(name, dtype), count):
        function = jit(lambda *xs, p=primitive, s=sample: outputs(p(*xs, **s.params)))
        operands = [Array(x).to_device("gpu") for x in sample.args]
        found = function(*operands) if operands else []
        assert primitive.impl is not None
        wanted = outputs(primitive.impl(*sample.args, **sample.params)) if operands else []
        for x, y in zip(found, wanted, strict=True):
            # Programs that look at keys run on the host, equation by equation.
            assert x.platform == ("cpu" if name == "key_use" else "gpu")
            assert x.dtype == np.asarray(y).dtype
            assert_close(x, y, 8, x.dtype)
