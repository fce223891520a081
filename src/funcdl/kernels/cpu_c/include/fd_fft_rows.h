/* Included by fd_fft_tasks.h for each FD_T: transforms of parts of an array, and of long rows. */

/* A transform of real numbers as one of half the length, whose elements are pairs of neighbours: a
 * result z[0..n-1] becomes z[0..n] of the real ones', and the other way before an inverse one (from
 * x to z, and twice as large). `roots` are of order 2 n. Elements k and n - k go together. */
#define FD_FFT_HALVES(name, T)                                                                 \
  FD_INLINE void FD_NAME(fd_fft_unweave_two_##name)(T *a, T *b, T re, T im) {                  \
    const T even = (a[0] + b[0]) * (FD_T)0.5, even_im = (a[1] - b[1]) * (FD_T)0.5;             \
    const T odd = (a[1] + b[1]) * (FD_T)0.5, odd_im = (b[0] - a[0]) * (FD_T)0.5;               \
    const T turned = odd * re - odd_im * im, turned_im = odd * im + odd_im * re;               \
    a[0] = even + turned, a[1] = even_im + turned_im;                                          \
    b[0] = even - turned, b[1] = turned_im - even_im;                                          \
  }                                                                                            \
  FD_INLINE void FD_NAME(fd_fft_weave_two_##name)(T *a, T *b, T re, T im) {                    \
    const T even = a[0] + b[0], even_im = a[1] - b[1];                                         \
    const T gap = a[0] - b[0], gap_im = a[1] + b[1];                                           \
    const T odd = gap * re + gap_im * im, odd_im = gap_im * re - gap * im;                     \
    a[0] = even - odd_im, a[1] = even_im + odd;                                                \
    b[0] = even + odd_im, b[1] = odd - even_im;                                                \
  }                                                                                            \
  /* From the k-th pair on. */                                                                 \
  FD_INLINE void FD_NAME(fd_fft_unweave_##name)(int64_t k, int64_t n, const FD_T *roots,       \
                                                T *z) {                                        \
    const T first = z[0], second = z[1];                                                       \
    z[0] = first + second, z[1] = (T){0};                                                        \
    z[2 * n] = first - second, z[2 * n + 1] = (T){0};                                          \
    for (; k <= n - k; k++) {                                                                  \
      const T re = roots[2 * k] - (T){0}, im = roots[2 * k + 1] - (T){0};                      \
      FD_NAME(fd_fft_unweave_two_##name)(z + 2 * k, z + 2 * (n - k), re, im);                  \
    }                                                                                          \
  }                                                                                            \
  FD_INLINE void FD_NAME(fd_fft_weave_##name)(int64_t k, int64_t n, const FD_T *roots,         \
                                              const T *x, T *z) {                              \
    z[0] = x[0] + x[2 * n], z[1] = x[0] - x[2 * n];                                            \
    for (; k <= n - k; k++) {                                                                  \
      const T re = roots[2 * k] - (T){0}, im = roots[2 * k + 1] - (T){0};                      \
      T a[2] = {x[2 * k], x[2 * k + 1]}, b[2] = {x[2 * (n - k)], x[2 * (n - k) + 1]};          \
      FD_NAME(fd_fft_weave_two_##name)(a, b, re, im);                                          \
      z[2 * k] = a[0], z[2 * k + 1] = a[1];                                                    \
      z[2 * (n - k)] = b[0], z[2 * (n - k) + 1] = b[1];                                        \
    }                                                                                          \
  }                                                                                            \
  /* All n elements of a spectrum whose second half are the conjugates of the first. */        \
  FD_INLINE void FD_NAME(fd_fft_mirror_##name)(int64_t n, const T *x, T *z) {                  \
    z[0] = x[0], z[1] = (T){0};                                                                \
    for (int64_t k = 1; k <= n - k; k++) {                                                     \
      const T re = x[2 * k], im = k < n - k ? x[2 * k + 1] : (T){0};                         \
      z[2 * k] = re, z[2 * k + 1] = im;                                                        \
      z[2 * (n - k)] = re;                                                                     \
      if (k < n - k) z[2 * (n - k) + 1] = -im;                                                 \
    }                                                                                          \
  }
FD_FFT_HALVES(row, FD_T)
FD_FFT_HALVES(panel, FD_V)
#undef FD_FFT_HALVES

/* The same for rows, as far as elements from either end fill vectors. */
FD_INLINE FD_PAIR FD_NAME(fd_fft_reversed)(FD_PAIR x) {
  return (FD_PAIR){FD_FFT_PICK(REVERSE, x.re, x.re), FD_FFT_PICK(REVERSE, x.im, x.im)};
}
FD_INLINE void FD_NAME(fd_fft_load_two)(const FD_T *x, const FD_T *end, FD_V *a, FD_V *b) {
  const FD_PAIR low = FD_NAME(fd_fft_load)(x, FD_FFT_LANES);
  const FD_PAIR high = FD_NAME(fd_fft_reversed)(FD_NAME(fd_fft_load)(end, FD_FFT_LANES));
  a[0] = low.re, a[1] = low.im;
  b[0] = high.re, b[1] = high.im;
}
FD_INLINE void FD_NAME(fd_fft_store_two)(FD_T *z, FD_T *end, const FD_V *a, const FD_V *b) {
  const FD_PAIR low = {a[0], a[1]}, high = {b[0], b[1]};
  FD_NAME(fd_fft_store)(z, low, FD_FFT_LANES);
  FD_NAME(fd_fft_store)(end, FD_NAME(fd_fft_reversed)(high), FD_FFT_LANES);
}
static void FD_NAME(fd_fft_unweave)(int64_t n, const FD_T *roots, FD_T *z) {
  int64_t k = 1, mirror = n - FD_FFT_LANES;
  for (; k + FD_FFT_LANES <= mirror; k += FD_FFT_LANES, mirror -= FD_FFT_LANES) {
    const FD_PAIR root = FD_NAME(fd_fft_load)(roots + 2 * k, FD_FFT_LANES);
    FD_V a[2], b[2];
    FD_NAME(fd_fft_load_two)(z + 2 * k, z + 2 * mirror, a, b);
    FD_NAME(fd_fft_unweave_two_panel)(a, b, root.re, root.im);
    FD_NAME(fd_fft_store_two)(z + 2 * k, z + 2 * mirror, a, b);
  }
  FD_NAME(fd_fft_unweave_row)(k, n, roots, z);
}
static void FD_NAME(fd_fft_weave)(int64_t n, const FD_T *roots, const FD_T *x, FD_T *z) {
  int64_t k = 1, mirror = n - FD_FFT_LANES;
  for (; k + FD_FFT_LANES <= mirror; k += FD_FFT_LANES, mirror -= FD_FFT_LANES) {
    const FD_PAIR root = FD_NAME(fd_fft_load)(roots + 2 * k, FD_FFT_LANES);
    FD_V a[2], b[2];
    FD_NAME(fd_fft_load_two)(x + 2 * k, x + 2 * mirror, a, b);
    FD_NAME(fd_fft_weave_two_panel)(a, b, root.re, root.im);
    FD_NAME(fd_fft_store_two)(z + 2 * k, z + 2 * mirror, a, b);
  }
  FD_NAME(fd_fft_weave_row)(k, n, roots, x, z);
}

/* Neighbours along the inner dimension, `count` of them from `first` on. */
static void FD_NAME(fd_fft_columns)(const FD_JOB *job, int64_t first, int64_t count) {
  const fd_fft_core *const core = job->core;
  const int64_t n = core->first, inner = job->sizes->inner;
  const int swap = (int)job->sizes->inverse;
  const FD_T scale = (FD_T)job->sizes->scale;
  FD_V *const panel = (FD_V *)job->panel, *const spare = (FD_V *)job->spare;
  for (int64_t j = 0; j < n; j++) {
    const FD_PAIR x = FD_NAME(fd_fft_load)(job->in + 2 * (first + j * inner), count);
    panel[2 * j] = x.re * scale;
    panel[2 * j + 1] = x.im * scale;
  }
  const FD_V *const z = FD_NAME(fd_fft_panel)(n, core->first_factors, job->table + core->first_roots,
                                              swap, panel, spare);
  for (int64_t j = 0; j < n; j++) {
    const FD_PAIR x = {z[2 * j], z[2 * j + 1]};
    FD_NAME(fd_fft_store)(job->out + 2 * (first + j * inner), x, count);
  }
}

/* `count` rows from `first` on, each in a lane. */
static void FD_NAME(fd_fft_rows)(const FD_JOB *job, int64_t first, int64_t count) {
  const fd_fft_sizes *const sizes = job->sizes;
  const int64_t n = job->core->first, length = sizes->length, bins = 2 * (length / 2 + 1);
  const int even = n != length;
  const int64_t ins = sizes->real > 0 ? length : sizes->real < 0 ? bins : 2 * length;
  const int64_t outs = sizes->real > 0 ? bins : sizes->real < 0 ? length : 2 * length;
  const FD_T *const in = job->in + first * ins, *const halves = job->table + sizes->half_roots;
  FD_V *x = (FD_V *)job->panel, *y = (FD_V *)job->spare;
  if (sizes->real > 0 && !even) {
    FD_NAME(fd_fft_gather)(x, 2, in, ins, count, ins);
    for (int64_t j = 0; j < n; j++) x[2 * j + 1] = (FD_V){0};
  } else if (sizes->real < 0) {
    FD_NAME(fd_fft_gather)(y, 1, in, ins, count, ins);
    if (even) {
      FD_NAME(fd_fft_weave_panel)(1, n, halves, y, x);
    } else {
      FD_NAME(fd_fft_mirror_panel)(n, y, x);
    }
  } else {
    FD_NAME(fd_fft_gather)(x, 1, in, ins, count, ins);
  }
  if (sizes->scale != 1) {
    for (int64_t j = 0; j < 2 * n; j++) x[j] *= (FD_T)sizes->scale;
  }
  FD_V *const z = FD_NAME(fd_fft_panel)(n, job->core->first_factors,
                                        job->table + job->core->first_roots, (int)sizes->inverse, x,
                                        y);
  if (sizes->real > 0 && even) FD_NAME(fd_fft_unweave_panel)(1, n, halves, z);
  const int step = sizes->real < 0 && !even ? 2 : 1;
  FD_NAME(fd_fft_scatter)(job->out + first * outs, outs, z, step, count, outs);
}

/* One row of first * second complex numbers, or real ones. */
static void FD_NAME(fd_fft_row)(const FD_JOB *job, int swap, FD_T scale, const FD_T *in, int is_real,
                                FD_T *out) {
  enum { lanes = FD_FFT_LANES };
  const fd_fft_core *const core = job->core;
  const int64_t first = core->first, second = core->second;
  FD_V *const panel = (FD_V *)job->panel, *const spare = (FD_V *)job->spare;
  for (int64_t next = 0; next < second; next += lanes) {
    const int64_t c = FD_NAME(fd_fft_start)(next, second), count = second < lanes ? second : lanes;
    for (int64_t j = 0; j < first; j++) {
      if (is_real) {
        FD_V x = {0};
        memcpy(&x, in + j * second + c, (size_t)count * sizeof(FD_T));
        panel[2 * j] = x;
        panel[2 * j + 1] = (FD_V){0};
      } else {
        const FD_PAIR x = FD_NAME(fd_fft_load)(in + 2 * (j * second + c), count);
        panel[2 * j] = x.re;
        panel[2 * j + 1] = x.im;
      }
    }
    FD_V *const z = FD_NAME(fd_fft_panel)(first, core->first_factors,
                                          job->table + core->first_roots, swap, panel, spare);
    const FD_T *const turns = job->table + core->turns;
    for (int64_t k = 1; k < first; k++) {
      const FD_PAIR turn = FD_NAME(fd_fft_load)(turns + 2 * (k * second + c), count);
      const FD_PAIR x = {z[2 * k + swap], z[2 * k + 1 - swap]};
      const FD_PAIR turned = FD_NAME(fd_fft_mul)(x, turn);
      z[2 * k + swap] = turned.re;
      z[2 * k + 1 - swap] = turned.im;
    }
    FD_NAME(fd_fft_scatter)(job->matrix + c * 2 * first, 2 * first, z, 1, count, 2 * first);
  }
  for (int64_t next = 0; next < first; next += lanes) {
    const int64_t c = FD_NAME(fd_fft_start)(next, first), count = first < lanes ? first : lanes;
    for (int64_t j = 0; j < second; j++) {
      const FD_PAIR x = FD_NAME(fd_fft_load)(job->matrix + 2 * (j * first + c), count);
      panel[2 * j] = x.re * scale;
      panel[2 * j + 1] = x.im * scale;
    }
    const FD_V *const z = FD_NAME(fd_fft_panel)(second, core->second_factors,
                                                job->table + core->second_roots, swap, panel, spare);
    for (int64_t j = 0; j < second; j++) {
      const FD_PAIR x = {z[2 * j], z[2 * j + 1]};
      FD_NAME(fd_fft_store)(out + 2 * (j * first + c), x, count);
    }
  }
}

static void FD_NAME(fd_fft_long_row)(const FD_JOB *job, int64_t at) {
  const fd_fft_sizes *const sizes = job->sizes;
  const int64_t n = job->core->first * job->core->second, length = sizes->length;
  const int64_t bins = 2 * (length / 2 + 1);
  const int swap = (int)sizes->inverse, even = n != length;
  const FD_T scale = (FD_T)sizes->scale, *const halves = job->table + sizes->half_roots;
  if (sizes->real == 0) {
    FD_NAME(fd_fft_row)(job, swap, scale, job->in + at * 2 * n, 0, job->out + at * 2 * n);
  } else if (sizes->real > 0) {
    FD_T *const out = job->out + at * bins;
    FD_NAME(fd_fft_row)(job, swap, scale, job->in + at * length, !even, even ? out : job->whole);
    if (even) {
      FD_NAME(fd_fft_unweave)(n, halves, out);
    } else {
      memcpy(out, job->whole, (size_t)bins * sizeof(FD_T));
    }
  } else if (even) {
    FD_NAME(fd_fft_weave)(n, halves, job->in + at * bins, job->row);
    FD_NAME(fd_fft_row)(job, swap, scale, job->row, 0, job->out + at * length);
  } else {
    FD_NAME(fd_fft_mirror_row)(n, job->in + at * bins, job->row);
    FD_NAME(fd_fft_row)(job, swap, scale, job->row, 0, job->whole);
    for (int64_t j = 0; j < n; j++) job->out[at * length + j] = job->whole[2 * j];
  }
}

/* A row, or column, as a convolution with a chirp: jk = (j^2 + k^2 - (j - k)^2) / 2. */
static void FD_NAME(fd_fft_chirped)(const FD_JOB *job, int64_t at) {
  const fd_fft_sizes *const sizes = job->sizes;
  const int64_t length = sizes->length, inner = sizes->inner, bins = length / 2 + 1;
  const int64_t padded = job->core->first * job->core->second;
  const int64_t ins = sizes->real < 0 ? bins : length, outs = sizes->real > 0 ? bins : length;
  const int64_t outer = at / inner, column = at % inner;
  const int swap = (int)sizes->inverse;
  const FD_T *const chirps = job->table + sizes->chirps;
  const FD_T *const spectrum = job->table + sizes->spectrum, scale = (FD_T)sizes->scale;
  FD_T *const row = job->row, *const whole = job->whole;
  for (int64_t j = 0; j < ins; j++) {
    const int64_t place = (outer * ins + j) * inner + column;
    whole[2 * j] = job->in[sizes->real > 0 ? place : 2 * place];
    whole[2 * j + 1] = sizes->real > 0 ? 0 : job->in[2 * place + 1];
  }
  if (sizes->real < 0) {
    whole[1] = 0;
    for (int64_t k = bins; k < length; k++) {
      whole[2 * k] = whole[2 * (length - k)];
      whole[2 * k + 1] = -whole[2 * (length - k) + 1];
    }
    if (length % 2 == 0) whole[length + 1] = 0;
  }
  const FD_T *const reals = whole + swap, *const imaginaries = whole + 1 - swap;
  _Pragma("omp simd") for (int64_t j = 0; j < length; j++) {
    const FD_T re = reals[2 * j], im = imaginaries[2 * j];
    row[2 * j] = re * chirps[2 * j] - im * chirps[2 * j + 1];
    row[2 * j + 1] = re * chirps[2 * j + 1] + im * chirps[2 * j];
  }
  memset(row + 2 * length, 0, (size_t)(2 * (padded - length)) * sizeof(FD_T));
  FD_NAME(fd_fft_row)(job, 0, 1, row, 0, row);
  _Pragma("omp simd") for (int64_t j = 0; j < padded; j++) {
    const FD_T re = row[2 * j], im = row[2 * j + 1];
    row[2 * j] = re * spectrum[2 * j] - im * spectrum[2 * j + 1];
    row[2 * j + 1] = re * spectrum[2 * j + 1] + im * spectrum[2 * j];
  }
  FD_NAME(fd_fft_row)(job, 1, scale, row, 0, row);
  FD_T *const real_out = whole + swap, *const imaginary_out = whole + 1 - swap;
  _Pragma("omp simd") for (int64_t k = 0; k < outs; k++) {
    const FD_T re = row[2 * k], im = row[2 * k + 1];
    real_out[2 * k] = re * chirps[2 * k] - im * chirps[2 * k + 1];
    imaginary_out[2 * k] = re * chirps[2 * k + 1] + im * chirps[2 * k];
  }
  for (int64_t k = 0; k < outs; k++) {
    const int64_t place = (outer * outs + k) * inner + column;
    job->out[sizes->real < 0 ? place : 2 * place] = whole[2 * k];
    if (sizes->real >= 0) job->out[2 * place + 1] = whole[2 * k + 1];
  }
}

FD_SHARED void FD_NAME(fd_fft_task)(const FD_JOB *job, int64_t task) {
  const int64_t outer = job->sizes->outer, inner = job->sizes->inner;
  if (job->sizes->has_chirps) {
    FD_NAME(fd_fft_chirped)(job, task);
  } else if (inner > 1) {
    const int64_t panels = (inner + FD_FFT_LANES - 1) / FD_FFT_LANES;
    const int64_t column = task % panels * FD_FFT_LANES;
    const int64_t count = inner - column < FD_FFT_LANES ? inner - column : FD_FFT_LANES;
    FD_NAME(fd_fft_columns)(job, task / panels * job->sizes->length * inner + column, count);
  } else if (job->core->second > 1) {
    FD_NAME(fd_fft_long_row)(job, task);
  } else {
    const int64_t first = task * FD_FFT_LANES;
    const int64_t count = outer - first < FD_FFT_LANES ? outer - first : FD_FFT_LANES;
    FD_NAME(fd_fft_rows)(job, first, count);
  }
}
#undef FD_V
#undef FD_PAIR
#undef FD_ADD
#undef FD_SUB
