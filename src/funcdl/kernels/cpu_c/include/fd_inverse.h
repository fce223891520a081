/* Division of many numbers by one: fd_divide_f32(x, fd_invert_f32(d)) for x / d, in float and
 * double.
 *
 * A vector division takes as long as six multiplications, and a product with the rounded inverse
 * may be 1.5 ulp off. Here the inverse has two parts: high + low is 1 / d within 2^-46 of it, and
 * within 2^-104 in double. x high + x low is rounded once, so that the quotient is the correctly
 * rounded one unless it lies as close to the middle between two floats. Only quotients near the
 * subnormal ones (from 2^-100 down, and where d is outside of 2^-100 .. 2^100) are rounded more
 * than once: at most 1 ulp. low has the sign of high and is not 0, so that Inf, NaN and zeros come
 * out as those of a division. */
#ifndef FD_INVERSE_H
#define FD_INVERSE_H

#include "fd_types.h"

#if defined(__FMA__) || defined(__aarch64__)
/* Where d or its inverse comes close to the ends of the range, `scale` d takes its place. 0, Inf and
 * NaN have inverses that are right by themselves. */
#define FD_INVERSE(T, t, U, small, large, up, down, inf)                     \
  typedef struct {                                                              \
    T high, low, scale;                                                         \
  } fd_inverse_##t;                                                             \
  FD_INLINE fd_inverse_##t fd_invert_##t(T d) {                                 \
    T a = fd_from_bits_##t(fd_bits_##t(d) << 1 >> 1);                           \
    T scale = a < (small) ? (up) : a > (large) ? (down) : (T)1;                 \
    T scaled = d * scale, near = (T)1 / scaled;                                 \
    T size = fd_from_bits_##t(fd_bits_##t(near) << 1 >> 1);                     \
    int ordinary = size > 0 && size < (inf);                                    \
    T high = fd_from_bits_##t(fd_bits_##t(near) - (U)(ordinary ? 1 : 0));       \
    T rest = fd_fma_##t(-scaled, high, (T)1) * near;                            \
    return (fd_inverse_##t){high, ordinary ? rest : near, scale};               \
  }                                                                             \
  FD_INLINE T fd_divide_##t(T x, fd_inverse_##t by) {                           \
    return fd_fma_##t(x, by.high, x * by.low) * by.scale;                       \
  }
#else
#define FD_INVERSE(T, t, U, small, large, up, down, inf)                            \
  typedef struct {                                                                     \
    T divisor;                                                                         \
  } fd_inverse_##t;                                                                    \
  FD_INLINE fd_inverse_##t fd_invert_##t(T d) { return (fd_inverse_##t){d}; }          \
  FD_INLINE T fd_divide_##t(T x, fd_inverse_##t by) { return x / by.divisor; }
#endif
FD_INVERSE(float, f32, uint32_t, 0x1p-100f, 0x1p100f, 0x1p64f, 0x1p-64f, FD_INF_F32)
FD_INVERSE(double, f64, uint64_t, 0x1p-900, 0x1p900, 0x1p600, 0x1p-600, FD_INF_F64)
#undef FD_INVERSE

#endif
