"""What differs from JAX on purpose: patterns of ``namespace.name kind aspect word``, and reasons.

The kind is the dtype under test; the word is what differs: ``value``, ``dtype``, ``weak``,
``shape``, ``refused`` (here, not in JAX), or ``accepted`` (here, not in JAX).
"""

from __future__ import annotations

from collections.abc import Mapping

_REAL = "defined for real numbers"
_ANGLE = "the angle of a point in the plane, whose coordinates are real, as in NumPy"
_INDEX = "indices have the default width of integers, as other functions' indices do"
_LENIENT = "a dtype that NumPy or SciPy take, and JAX does not"

KNOWN: Mapping[str, str] = {
    # top level
    ".jvp * accepted": "integers as tangents of integers count as zero",
    ".linearize * accepted": "integers as tangents of integers count as zero",
    # numpy
    "numpy.quantile * accepted": "quantiles in arrays of any rank, as NumPy's",
    "numpy.einsum * accepted": "paths as einsum_path gives them",
    "numpy.fill_diagonal * accepted": "wrap=True, as in NumPy",
    "numpy.ix_ * accepted": "masks that are known when tracing, as NumPy takes them",
    "numpy.array_repr * value": "JAX shows the name of a class of its implementation",
    **{f"numpy.{name} c64 * refused": _ANGLE for name in ("arctan2", "atan2")},
    "numpy.argpartition c64 * accepted": _LENIENT,
    "numpy.partition c64 * accepted": _LENIENT,
    "numpy.argpartition f64 * dtype": _INDEX,
    "numpy.digitize f64 * dtype": _INDEX,
    "numpy.searchsorted f64 * dtype": _INDEX,
    "numpy.*divide bool * value": "0 / 0 is NaN; XLA takes a shortcut for booleans",
    "numpy.fmod bool * value": "remainders of division by zero are not defined for integers",
    "numpy.divmod bool * value": "quotients by zero are not defined for integers",
    "numpy.polyval bool * dtype": "sums of booleans are integers",
    "numpy.* bool * accepted": _LENIENT,
    # lax
    "lax.atan2 c64 * refused": _ANGLE,
    "lax.cumlogsumexp c64 * refused": _REAL,
    "lax.clamp * accepted": "numbers of Python take the dtype of the arrays beside them",
    "lax.ppermute * accepted": "pairs may leave places out, as outside of vmap",
    "lax.composite * accepted": "a composite has the derivative of its decomposition",
    "lax.pmax * accepted": "the derivative of a maximum, as without a mapped axis",
    "lax.pmin * accepted": "the derivative of a minimum, as without a mapped axis",
    "lax.random_gamma_grad * refused": "second derivatives of samples: no formula is known here",
    "lax.scaled_dot * accepted": "it has derivatives here",
    "lax.reciprocal i32 * accepted": "a quotient of integers, as in NumPy",
    "lax.pow i32 * accepted": "powers of integers, as in NumPy",
    "lax.conv* bool * refused": "sums of booleans are no booleans",
    "lax.custom_root * weak": "a root has the strong type of its guess, whatever the steps make",
    "ops.segment_prod * accepted": "products have derivatives where rows meet",
    # random
    "random.wald f32 ?[vj]p value": "the choice between two roots depends on the mean, too",
    # nn
    "nn.gelu c64 * refused": "the approximation holds on the real line",
    "nn.initializers.variance_scaling * refused": "complex weights are not drawn yet",
    "nn.standardize c64 * accepted": _LENIENT,
    "nn.squareplus bool * weak": "the weak number b decides on the type, as for integers",
    "nn.* i32 * accepted": _LENIENT,
    "nn.* bool * accepted": _LENIENT,
    # fft and scipy
    "numpy.fft.hfft * refused": "a transform of no points is a mistake, as in NumPy",
    "numpy.fft.irfft * refused": "a transform of no points is a mistake, as in NumPy",
    "scipy.special.zeta * refused": "no formula is known for the first argument",
    "scipy.special.spence f?? vjp value": "JAX gives NaN for some harmless arguments",
    **{
        f"scipy.special.{name} c64 * refused": _REAL
        for name in ("boxcox", "boxcox1p", "erfcx", "gamma", "loggamma")
    },
    "scipy.special.* * accepted": _LENIENT,
    "scipy.special.expi * value": "JAX gives NaN for half types, and at the pole for integers",
    "scipy.special.exp1 f16 * value": "JAX gives NaN for half types",
    "scipy.special.loggamma bool * value": "poles are infinite for booleans, too",
    "scipy.special.polygamma bool * value": "poles are infinite for booleans, too",
    "scipy.special.zeta bool * value": "NaN where SciPy gives it",
    "scipy.stats.gumbel_* vjp accepted": "it has derivatives under jit",
    "scipy.stats.* * accepted": _LENIENT,
    "scipy.stats.* c64 * refused": _REAL,
    "scipy.stats.sem c64 * dtype": "a standard error is real",
    "scipy.stats.* * weak": "numbers of Python beside integers make weak floats, as in arithmetic",
    "scipy.stats.* bool * value": "scales and shapes of 0 have no distribution",
    "scipy.stats.* i32 * value": "scales and shapes of 0 have no distribution",
    "scipy.fft.idct* *f16 * value": "half types are computed in single precision throughout",
    "scipy.stats.poisson.entropy * ?[vj]p value": "JAX gives NaN for some harmless arguments",
    "scipy.optimize.minimize f64 value value": "both minima are within the tolerance asked for",
    "scipy.optimize.minimize * accepted": _LENIENT,
    **{f"scipy.signal.{name} *f16 * accepted": _LENIENT for name in ("detrend", "fftconvolve")},
    "scipy.ndimage.map_coordinates bool * accepted": _LENIENT,
    "scipy.cluster.vq.vq c64 * refused": "distances are compared, which are real",
    "scipy.sparse.linalg.* f16 * value": "JAX gives NaN for half types",
    # linalg
    "*linalg.* i32 * accepted": "integers count as floats, as in numpy.linalg",
    "*linalg.* bool * accepted": "booleans count as floats, as in numpy.linalg",
    "*linalg.* f16 * refused": "LAPACK has no half types",
    "*linalg.* bf16 * refused": "LAPACK has no half types",
    **{
        f"*linalg.{name} bool * weak": "booleans become strong floats, as elsewhere in linalg"
        for name in ("cho_solve", "cholesky", "eigh")
    },
    "lax.linalg.cholesky_update * accepted": "JAX has no batching rule for it",
    "lax.linalg.symmetric_product c64 * accepted": _LENIENT,
    "numpy.linalg.vector_norm * dtype": "a root of a sum of integers is a float, as in NumPy",
    "numpy.linalg.eigh bool * value": "of a singular matrix: any basis",
    "numpy.linalg.cond bool * value": "of a singular matrix: infinite up to rounding",
}

# Factors of the usual tolerance, where rounding is magnified.
TOLERANCES: Mapping[str, float] = {
    "lax.scaled_dot": 3000.0,  # through bfloat16, whatever the operands
    "scipy.linalg.expm": 20.0,  # 9 squarings; here the error is 3e-6, in JAX 1.5e-4
}
