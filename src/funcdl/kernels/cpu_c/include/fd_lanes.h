/* What the lanes of a row's accumulators come to: fd_sum_lanes_f32(x, count) and the like, for
 * `count` elements of x that fill 64 bytes or a multiple of them. Maxima and minima are of numbers:
 * NaN has a size above that of Inf, and the greatest size notes whether there was one.
 *
 * fd_from_f32(lane, first, x, other): x in lanes from `first` on, and `other` before. It is made of
 * bits: if one lane only has x, gcc computes that one apart from all vectors. */
#ifndef FD_LANES_H
#define FD_LANES_H

#include "fd_types.h"

/* On vectors, of which C knows no conditional expression. */
#define FD_SUM_OF(a, b) ((a) + (b))
#define FD_PROD_OF(a, b) ((a) * (b))
#define FD_CHOICE(a, b, which) \
  ((__typeof__(a))(((which) & (__typeof__(which))(a)) | (~(which) & (__typeof__(which))(b))))
#define FD_MAX_OF(a, b) FD_CHOICE(a, b, (a) > (b))
#define FD_MIN_OF(a, b) FD_CHOICE(a, b, (a) < (b))

/* By halves, so that few operations wait for each other. Elements are named one by one: where the
 * address of a vector is taken, gcc leaves the accumulators in memory. */
#define FD_EIGHT(a, i) {a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], a[i + 5], a[i + 6], a[i + 7]}
#define FD_FOUR(a, i) {a[i], a[i + 1], a[i + 2], a[i + 3]}
#define FD_FOLD_OF_16(OF, T, a)                                             \
  typedef T eight __attribute__((vector_size(8 * sizeof(T))));              \
  const eight first = FD_EIGHT(a, 0), second = FD_EIGHT(a, 8), both = OF(first, second); \
  FD_FOLD_OF_8(OF, T, both)
#define FD_FOLD_OF_8(OF, T, a)                                                   \
  typedef T four __attribute__((vector_size(4 * sizeof(T))));                    \
  const four low = FD_FOUR(a, 0), high = FD_FOUR(a, 4), sum = OF(low, high);     \
  const four turned = {sum[2], sum[3], sum[0], sum[1]}, pairs = OF(sum, turned); \
  const four swapped = {pairs[1], pairs[0], pairs[3], pairs[2]};                 \
  const four all = OF(pairs, swapped);                                           \
  return all[0];
#define FD_FOLD(name, OF, T, t, FOLD)                          \
  FD_INLINE T fd_##name##_lanes_##t(const T *x, int count) {   \
    typedef T lanes __attribute__((vector_size(64)));          \
    const int step = (int)(64 / sizeof(T));                    \
    lanes total, more;                                         \
    __builtin_memcpy(&total, x, sizeof total);                 \
    for (int at = step; at < count; at += step) {              \
      __builtin_memcpy(&more, x + at, sizeof more);            \
      total = OF(total, more);                                 \
    }                                                          \
    FOLD(OF, T, total)                                         \
  }
#define FD_LANES(T, t, U, u, FOLD, inf)                                  \
  FD_FOLD(sum, FD_SUM_OF, T, t, FOLD)                                    \
  FD_FOLD(prod, FD_PROD_OF, T, t, FOLD)                                  \
  FD_FOLD(max, FD_MAX_OF, T, t, FOLD)                                    \
  FD_FOLD(min, FD_MIN_OF, T, t, FOLD)                                    \
  FD_FOLD(max, FD_MAX_OF, U, u, FOLD)                                    \
  FD_INLINE T fd_from_##t(int64_t lane, int64_t first, T x, T other) {   \
    const U all = (U) - (lane >= first);                                 \
    return fd_from_bits_##t((fd_bits_##t(x) & all) | (fd_bits_##t(other) & ~all)); \
  }                                                                      \
  FD_INLINE U fd_size_##t(T x) { return fd_bits_##t(x) & ((U)-1 >> 1); } \
  FD_INLINE int fd_nan_in_lanes_##t(const U *sizes, int count) {         \
    return fd_max_lanes_##u(sizes, count) > fd_bits_##t(inf);            \
  }
FD_LANES(float, f32, uint32_t, u32, FD_FOLD_OF_16, FD_INF_F32)
FD_LANES(double, f64, uint64_t, u64, FD_FOLD_OF_8, FD_INF_F64)
#undef FD_LANES
#undef FD_FOLD
#undef FD_FOLD_OF_8
#undef FD_FOLD_OF_16
#undef FD_FOUR
#undef FD_EIGHT
#undef FD_MIN_OF
#undef FD_MAX_OF
#undef FD_CHOICE
#undef FD_PROD_OF
#undef FD_SUM_OF

#endif
