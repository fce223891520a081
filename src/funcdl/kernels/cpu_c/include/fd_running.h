/* Running sums, products and extremes along a row.
 *
 * fd_running_<op>_<t>(x, n, total) replaces x[i] by the result of `op` over `total` and the
 * elements up to x[i], and returns the last of these; fd_running_back_<op>_<t> goes from the end to
 * the start. Eight elements are combined among themselves before they meet the total: so each step
 * waits for one operation and not for eight. */
#ifndef FD_RUNNING_H
#define FD_RUNNING_H

#include "fd_math.h"
#include "fd_types.h"

/* A hint to vectorise, where OpenMP is there to read it. */
#ifdef _OPENMP
#define FD_LANES _Pragma("omp simd")
#else
#define FD_LANES
#endif

#define FD_ADD_FLOAT(a, b) ((a) + (b))
#define FD_MUL_FLOAT(a, b) ((a) * (b))

#define FD_RUNNING_ROW(name, T, AT, COMBINE)                                                     \
  static inline __attribute__((unused)) T name(T *x, int64_t n, T total) {                       \
    int64_t i = 0;                                                                               \
    for (; i + 8 <= n; i += 8) {                                                                 \
      const T a0 = AT(0), a1 = COMBINE(a0, AT(1)), a2 = COMBINE(a1, AT(2)),                      \
              a3 = COMBINE(a2, AT(3)), a4 = COMBINE(a3, AT(4)), a5 = COMBINE(a4, AT(5)),         \
              a6 = COMBINE(a5, AT(6)), a7 = COMBINE(a6, AT(7));                                  \
      AT(0) = COMBINE(total, a0);                                                                \
      AT(1) = COMBINE(total, a1);                                                                \
      AT(2) = COMBINE(total, a2);                                                                \
      AT(3) = COMBINE(total, a3);                                                                \
      AT(4) = COMBINE(total, a4);                                                                \
      AT(5) = COMBINE(total, a5);                                                                \
      AT(6) = COMBINE(total, a6);                                                                \
      total = AT(7) = COMBINE(total, a7);                                                        \
    }                                                                                            \
    for (; i < n; ++i) total = AT(0) = COMBINE(total, AT(0));                                    \
    return total;                                                                                \
  }
#define FD_AHEAD(k) x[i + (k)]
#define FD_BACK(k) x[n - 1 - i - (k)]
#define FD_RUNNING(T, t, op, COMBINE)                               \
  FD_RUNNING_ROW(fd_running_##op##_##t, T, FD_AHEAD, COMBINE)       \
  FD_RUNNING_ROW(fd_running_back_##op##_##t, T, FD_BACK, COMBINE)

/* log(exp(a) + exp(b)) without an overflow on the way. */
FD_INLINE float fd_running_pair_f32(float a, float b) {
  float rest = fd_log1p_f32(fd_exp_f32(-__builtin_fabsf(a - b)));
  return a == b ? a + 0x1.62e43p-1f : fd_max_f32(a, b) + rest;
}
FD_INLINE double fd_running_pair_f64(double a, double b) {
  double rest = fd_log1p_f64(fd_exp_f64(-__builtin_fabs(a - b)));
  return a == b ? a + 0x1.62e42fefa39efp-1 : fd_max_f64(a, b) + rest;
}

/* A row of them, in blocks: exponentials relative to the largest element are added up. Where some
 * element is more than `range` below that, a block is taken one element after the other: up to
 * there exponentials are normal numbers, with all of their bits. */
#define FD_RUNNING_LOGSUMEXP(name, T, t, AT, range)                                              \
  static inline __attribute__((unused)) T name(T *x, int64_t n, T total) {                       \
    for (int64_t i = 0; i < n; i += 64) {                                                        \
      const int64_t count = n - i < 64 ? n - i : 64;                                             \
      T high = total, low = AT(0), part[64];                                                     \
      int fits = 1;                                                                              \
      for (int64_t k = 0; k < count; ++k) {                                                      \
        high = AT(k) > high ? AT(k) : high;                                                      \
        low = AT(k) < low ? AT(k) : low;                                                         \
        fits &= AT(k) == AT(k);                                                                  \
      }                                                                                          \
      /* Not where anything is infinite or NaN: the difference is none, or too large. */         \
      if (!fits || !(high - low <= (range))) {                                                   \
        for (int64_t k = 0; k < count; ++k) total = AT(k) = fd_running_pair_##t(total, AT(k));   \
        continue;                                                                                \
      }                                                                                          \
      FD_LANES for (int64_t k = 0; k < count; ++k) part[k] = fd_exp_##t(AT(k) - high);           \
      T sum = fd_exp_##t(total - high);                                                          \
      for (int64_t k = 0; k < count; ++k) part[k] = sum += part[k];                              \
      FD_LANES for (int64_t k = 0; k < count; ++k) AT(k) = high + fd_log_##t(part[k]);           \
      total = AT(count - 1);                                                                     \
    }                                                                                            \
    return total;                                                                                \
  }
FD_RUNNING_LOGSUMEXP(fd_running_logsumexp_f32, float, f32, FD_AHEAD, 60.0f)
FD_RUNNING_LOGSUMEXP(fd_running_back_logsumexp_f32, float, f32, FD_BACK, 60.0f)
FD_RUNNING_LOGSUMEXP(fd_running_logsumexp_f64, double, f64, FD_AHEAD, 600.0)
FD_RUNNING_LOGSUMEXP(fd_running_back_logsumexp_f64, double, f64, FD_BACK, 600.0)

/* As fd_max and fd_min. Only the test for NaN, which is foreseen, may become a branch. */
#define FD_RUNNING_EXTREME(T, name, sign) \
  FD_INLINE T name(T a, T b) {            \
    T better = a sign b ? a : b;          \
    return a != a ? a : better;           \
  }
FD_RUNNING_EXTREME(float, fd_running_larger_f32, >)
FD_RUNNING_EXTREME(float, fd_running_smaller_f32, <)
FD_RUNNING_EXTREME(double, fd_running_larger_f64, >)
FD_RUNNING_EXTREME(double, fd_running_smaller_f64, <)

#define FD_RUNNING_FLOAT(T, t)                   \
  FD_RUNNING(T, t, sum, FD_ADD_FLOAT)            \
  FD_RUNNING(T, t, prod, FD_MUL_FLOAT)           \
  FD_RUNNING(T, t, max, fd_running_larger_##t)   \
  FD_RUNNING(T, t, min, fd_running_smaller_##t)
#define FD_RUNNING_INT(T, t)           \
  FD_RUNNING(T, t, sum, fd_add_##t)    \
  FD_RUNNING(T, t, prod, fd_mul_##t)   \
  FD_RUNNING(T, t, max, fd_max_##t)    \
  FD_RUNNING(T, t, min, fd_min_##t)
FD_RUNNING_FLOAT(float, f32)
FD_RUNNING_FLOAT(double, f64)
FD_RUNNING_INT(int8_t, i8)
FD_RUNNING_INT(int16_t, i16)
FD_RUNNING_INT(int32_t, i32)
FD_RUNNING_INT(int64_t, i64)
FD_RUNNING_INT(uint8_t, u8)
FD_RUNNING_INT(uint16_t, u16)
FD_RUNNING_INT(uint32_t, u32)
FD_RUNNING_INT(uint64_t, u64)
#undef FD_RUNNING_INT
#undef FD_RUNNING_FLOAT
#undef FD_RUNNING_EXTREME
#undef FD_RUNNING_LOGSUMEXP
#undef FD_RUNNING
#undef FD_BACK
#undef FD_AHEAD
#undef FD_RUNNING_ROW
#undef FD_MUL_FLOAT
#undef FD_ADD_FLOAT

#endif
