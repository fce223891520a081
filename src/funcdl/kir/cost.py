"""What work costs at least: counts of operations and bytes.

The counts follow XLA's, which `jax.stages.Compiled.cost_analysis` returns:

* flops: each application of an elementwise operation or `Select` is one, of any dtype, that is not
  transcendental; a `Dot` is two for each multiply-add, and so is a `Conv`, whose positions in the
  padding and in holes are not counted; a `Reduce` of n elements to m is n − m, and so is a
  `Running` of m rows of n elements in all.
* transcendentals: applications of exp, log, sqrt, sin, erf and the like.
* bytes: every element that a kernel reads counts once, however often it is read, and every element
  that it writes. Kernels find what they have just used in caches, to which this is the ideal.

`kir.kernel_cost` counts them.
"""

from __future__ import annotations

from funcdl.core.records import record


@record
class Cost:
    """Counts of operations and bytes.

    `operations` is all work in units of one float32 addition: transcendentals by the `cost` of
    their row in `kir.elementwise`, and two for one where elements have 64 bits, of which a vector
    register holds half as many.
    """

    flops: int = 0
    transcendentals: int = 0
    operations: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.transcendentals + other.transcendentals,
            self.operations + other.operations,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(
            self.flops * times,
            self.transcendentals * times,
            self.operations * times,
            self.bytes_read * times,
            self.bytes_written * times,
        )
