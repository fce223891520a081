/* Values of short rows, each at all elements of its row.
 *
 * FD_SPREAD_b: how many numbers of b bytes one instruction shuffles by a vector of positions, which is
 * how many rows are taken at a time; rows of n elements then are n whole vectors.
 * fd_rows_b(of, n): the row of each element of so many rows of n elements.
 * fd_spread_b(to, from, of): to[i] = from[of[i]] for i below FD_SPREAD_b, where `to` and `from` are
 * arrays of as many. In a loop over vectors gcc keeps both in registers. */
#ifndef FD_SPREAD_H
#define FD_SPREAD_H

#include "fd_types.h"

#if defined(__AVX512F__)
#define FD_SPREAD_BYTES 64
#elif defined(__AVX2__)
#define FD_SPREAD_BYTES 32
#else
#define FD_SPREAD_BYTES 16
#endif
#define FD_SPREAD_4 (FD_SPREAD_BYTES / 4)
#define FD_SPREAD_8 (FD_SPREAD_BYTES / 8)

#if defined(__clang__) || !(defined(__AVX2__) || defined(__aarch64__))
/* No shuffle by a variable vector, or not in one instruction. */
#define FD_SPREAD_VECTOR(bytes, T, to, from, of)                                   \
  T value[FD_SPREAD_##bytes];                                                      \
  __builtin_memcpy(value, from, sizeof value);                                     \
  for (int i = 0; i < FD_SPREAD_##bytes; ++i)                                      \
    __builtin_memcpy((char *)(to) + i * bytes, &value[of[i]], bytes);
#else
#define FD_SPREAD_VECTOR(bytes, T, to, from, of)                                   \
  typedef T vector __attribute__((vector_size(FD_SPREAD_BYTES)));                  \
  vector values, rows;                                                             \
  __builtin_memcpy(&values, from, sizeof values);                                  \
  __builtin_memcpy(&rows, of, sizeof rows);                                        \
  values = __builtin_shuffle(values, rows);                                        \
  __builtin_memcpy(to, &values, sizeof values);
#endif
#define FD_SPREAD(bytes, T)                                                        \
  FD_INLINE void fd_rows_##bytes(T *of, int64_t n) {                               \
    for (int64_t i = 0; i < FD_SPREAD_##bytes * n; ++i) of[i] = (T)(i / n);        \
  }                                                                                \
  FD_INLINE void fd_spread_##bytes(void *to, const void *from, const T *of) {      \
    FD_SPREAD_VECTOR(bytes, T, to, from, of)                                       \
  }
FD_SPREAD(4, int32_t)
FD_SPREAD(8, int64_t)
#undef FD_SPREAD
#undef FD_SPREAD_VECTOR

#endif
