/* Running sums, products and extremes along a row.
 *
 * fd_running_<op>_<t>(x, n, total) replaces x[i] by the result of `op` over `total` and the elements
 * up to x[i], and returns the last of these; fd_running_back_<op>_<t> goes from the end to the start.
 * Eight elements are combined among themselves before they meet the total: so each step waits for
 * one operation and not for eight. */
#ifndef FD_RUNNING_H
#define FD_RUNNING_H

#include "fd_math.h"
#include "fd_types.h"

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

#define FD_RUNNING_FLOAT(T, t)                    \
  FD_RUNNING(T, t, sum, FD_ADD_FLOAT)             \
  FD_RUNNING(T, t, prod, FD_MUL_FLOAT)            \
  FD_RUNNING(T, t, max, fd_max_##t)               \
  FD_RUNNING(T, t, min, fd_min_##t)               \
  FD_RUNNING(T, t, logsumexp, fd_running_pair_##t)
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
#undef FD_RUNNING
#undef FD_BACK
#undef FD_AHEAD
#undef FD_RUNNING_ROW
#undef FD_MUL_FLOAT
#undef FD_ADD_FLOAT

#endif
