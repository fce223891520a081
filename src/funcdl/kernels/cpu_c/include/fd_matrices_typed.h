/* Included by fd_matrices.h for each FD_T. */

/* The lower factor; NaN, but zeros above the diagonal, where a pivot is not positive. */
static inline __attribute__((unused)) void FD_NAME(fd_cholesky_one)(const FD_T *restrict a,
                                                                    FD_T *restrict l, int64_t n) {
  FD_T column[FD_MATRIX_ROWS];
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++) l[i * n + j] = j <= i ? a[i * n + j] : 0;
  }
  for (int64_t k = 0; k < n; k++) {
    const FD_T pivot = l[k * n + k];
    if (!(pivot > 0)) {
      for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) l[i * n + j] = (FD_T)NAN;
      }
      return;
    }
    const FD_T root = (FD_T)sqrt((double)pivot);
    l[k * n + k] = root;
    for (int64_t i = k + 1; i < n; i++) column[i] = l[i * n + k] = l[i * n + k] / root;
    for (int64_t i = k + 1; i < n; i++) {
      const FD_T factor = column[i];
      FD_T *const row = l + i * n;
      _Pragma("omp simd") for (int64_t j = k + 1; j <= i; j++) {
        row[j] = FD_NAME(fd_fma)(-factor, column[j], row[j]);
      }
    }
  }
}

static inline __attribute__((unused)) void FD_NAME(fd_cholesky)(int64_t count, int64_t n,
                                                                const FD_T *a, FD_T *l,
                                                                fd_missing *missing) {
  const int threads = fd_matrix_threads(count, n * n * n / 6);
  (void)missing, (void)threads;
  FD_FOR_MATRICES
  for (int64_t m = 0; m < count; m++) FD_NAME(fd_cholesky_one)(a + m * n * n, l + m * n * n, n);
}

/* L \ U with rows exchanged for the largest pivots; a pivot of zero is left where it is. */
static inline __attribute__((unused)) void FD_NAME(fd_lu_one)(FD_T *restrict a, int32_t *pivots,
                                                              int32_t *order, int64_t rows,
                                                              int64_t columns) {
  const int64_t steps = rows < columns ? rows : columns;
  for (int64_t i = 0; i < rows; i++) order[i] = (int32_t)i;
  for (int64_t k = 0; k < steps; k++) {
    int64_t best = k;
    FD_T largest = (FD_T)fabs((double)a[k * columns + k]);
    for (int64_t i = k + 1; i < rows; i++) {
      const FD_T size = (FD_T)fabs((double)a[i * columns + k]);
      if (size > largest) {
        largest = size;
        best = i;
      }
    }
    pivots[k] = (int32_t)best;
    FD_T *const chosen = a + k * columns;
    if (best != k) {
      FD_T *const other = a + best * columns;
      _Pragma("omp simd") for (int64_t j = 0; j < columns; j++) {
        const FD_T kept = chosen[j];
        chosen[j] = other[j];
        other[j] = kept;
      }
      const int32_t kept = order[k];
      order[k] = order[best];
      order[best] = kept;
    }
    if (chosen[k] == 0) continue;
    for (int64_t i = k + 1; i < rows; i++) {
      FD_T *const row = a + i * columns;
      const FD_T factor = row[k] / chosen[k];
      row[k] = factor;
      _Pragma("omp simd") for (int64_t j = k + 1; j < columns; j++) {
        row[j] = FD_NAME(fd_fma)(-factor, chosen[j], row[j]);
      }
    }
  }
}

static inline __attribute__((unused)) void FD_NAME(fd_lu)(int64_t count, int64_t rows,
                                                          int64_t columns, const FD_T *a,
                                                          FD_T *factors, int32_t *pivots,
                                                          int32_t *order, fd_missing *missing) {
  const int64_t size = rows * columns, steps = rows < columns ? rows : columns;
  const int threads = fd_matrix_threads(count, size * steps / 3);
  (void)missing, (void)threads;
  FD_FOR_MATRICES
  for (int64_t m = 0; m < count; m++) {
    memcpy(factors + m * size, a + m * size, (size_t)size * sizeof(FD_T));
    FD_NAME(fd_lu_one)(factors + m * size, pivots + m * steps, order + m * rows, rows, columns);
  }
}

/* The upper factor of R^T R + w w^T, by rotations that each make an element of a copy of w zero. */
static inline __attribute__((unused)) void FD_NAME(fd_cholesky_update)(
    int64_t count, int64_t n, const FD_T *r, const FD_T *w, FD_T *out, FD_T *copy,
    fd_missing *missing) {
  const int threads = fd_matrix_threads(count, 3 * n * n);
  (void)missing, (void)threads;
  memcpy(copy, w, (size_t)(count * n) * sizeof(FD_T));
  FD_FOR_MATRICES
  for (int64_t m = 0; m < count; m++) {
    FD_T *const rest = copy + m * n;
    for (int64_t k = 0; k < n; k++) {
      const FD_T *const from = r + (m * n + k) * n;
      FD_T *const row = out + (m * n + k) * n;
      const FD_T length = (FD_T)hypot((double)from[k], (double)rest[k]);
      const FD_T c = length == 0 ? 1 : from[k] / length, s = length == 0 ? 0 : rest[k] / length;
      for (int64_t j = 0; j < k; j++) row[j] = 0;
      _Pragma("omp simd") for (int64_t j = k; j < n; j++) {
        const FD_T other = rest[j];
        rest[j] = c * other - s * from[j];
        row[j] = c * from[j] + s * other;
      }
    }
  }
}

/* op(A) x = b in place. A row of A ends a sum, or, transposed, is what a known x takes from others. */
static inline __attribute__((unused)) void FD_NAME(fd_solve_vector)(const FD_T *a, FD_T *restrict x,
                                                                    int64_t n, int lower,
                                                                    int transpose, int unit) {
  for (int64_t step = 0; step < n; step++) {
    const int64_t i = lower != transpose ? step : n - 1 - step;
    const int64_t begin = lower ? 0 : i + 1, end = lower ? i : n;
    const FD_T *const row = a + i * n;
    if (transpose) {
      if (!unit) x[i] /= row[i];
      const FD_T known = x[i];
      _Pragma("omp simd") for (int64_t j = begin; j < end; j++) {
        x[j] = FD_NAME(fd_fma)(-known, row[j], x[j]);
      }
    } else {
      FD_T sum = 0;
      _Pragma("omp simd reduction(+ : sum)") for (int64_t j = begin; j < end; j++) {
        sum = FD_NAME(fd_fma)(row[j], x[j], sum);
      }
      x[i] -= sum;
      if (!unit) x[i] /= row[i];
    }
  }
}

/* The same for columns from `first` to before `last` of a matrix of `stride` columns. */
static inline __attribute__((unused)) void FD_NAME(fd_solve_columns)(
    const FD_T *a, FD_T *x, int64_t n, int64_t stride, int64_t first, int64_t last, int lower,
    int transpose, int unit) {
  for (int64_t step = 0; step < n; step++) {
    const int64_t i = lower != transpose ? step : n - 1 - step;
    const int64_t begin = lower ? 0 : i + 1, end = lower ? i : n;
    const FD_T *const row = a + i * n;
    FD_T *const own = x + i * stride;
    if (transpose && !unit) {
      for (int64_t c = first; c < last; c++) own[c] /= row[i];
    }
    for (int64_t j = begin; j < end; j++) {
      FD_T *const other = x + j * stride;
      FD_T *const target = transpose ? other : own;
      const FD_T *const source = transpose ? own : other;
      const FD_T factor = row[j];
      _Pragma("omp simd") for (int64_t c = first; c < last; c++) {
        target[c] = FD_NAME(fd_fma)(-factor, source[c], target[c]);
      }
    }
    if (!transpose && !unit) {
      for (int64_t c = first; c < last; c++) own[c] /= row[i];
    }
  }
}

static inline __attribute__((unused)) void FD_NAME(fd_triangular_solve)(const fd_triangular at,
                                                                        const FD_T *a,
                                                                        const FD_T *b, FD_T *x,
                                                                        fd_missing *missing) {
  const int64_t n = at.n, size = n * at.others;
  if (size == 0) return;
  const int64_t wide = at.left && at.others > 1;
  const int64_t chunk = wide ? FD_MATRIX_COLUMNS : 1;
  const int64_t chunks = at.left && !wide ? 1 : (at.others + chunk - 1) / chunk;
  const int64_t parts = wide ? at.count * chunks : at.count;
  const int threads = parts == 0 ? 1 : fd_matrix_threads(parts, n * size * at.count / parts / 2);
  (void)missing, (void)threads;
  memcpy(x, b, (size_t)(at.count * size) * sizeof(FD_T));
  FD_FOR_MATRICES
  for (int64_t part = 0; part < parts; part++) {
    const int64_t m = wide ? part / chunks : part;
    const FD_T *const own = a + m * n * n;
    FD_T *const out = x + m * size;
    if (wide) {
      const int64_t first = part % chunks * chunk;
      const int64_t last = first + chunk < at.others ? first + chunk : at.others;
      FD_NAME(fd_solve_columns)
      (own, out, n, at.others, first, last, at.lower != 0, at.transpose != 0, at.unit != 0);
    } else if (at.left) {
      FD_NAME(fd_solve_vector)(own, out, n, at.lower != 0, at.transpose != 0, at.unit != 0);
    } else {
      /* A row x of x op(A) = b is a column of op(A)^T x = b. */
      for (int64_t r = 0; r < at.others; r++) {
        FD_NAME(fd_solve_vector)
        (own, out + r * n, n, at.lower != 0, at.transpose == 0, at.unit != 0);
      }
    }
  }
}
