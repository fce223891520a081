/* Numbers in two doubles, high + low, low being a few ulp of high at most: some 2^-103, for results
 * that are a small difference (T. J. Dekker, "A floating-point technique for extending the available
 * precision", 1971; D. E. Knuth, "The Art of Computer Programming", vol. 2, 4.2.2). */
#ifndef FD_WIDE_H
#define FD_WIDE_H

#include "fd_math_f64.h"

typedef struct { double high, low; } fd_wide;

/* a + b exactly, where |a| >= |b| or a is 0. */
FD_INLINE fd_wide fd_wide_ordered(double a, double b) {
  double high = a + b;
  return (fd_wide){high, b - (high - a)};
}
/* a + b exactly. */
FD_INLINE fd_wide fd_wide_sum(double a, double b) {
  double high = a + b, part = high - a;
  return (fd_wide){high, (a - (high - part)) + (b - part)};
}
/* The first 26 bits of x, rounded: the rest has as many, and its sign. */
FD_INLINE double fd_wide_leading(double x) {
  return fd_from_bits_f64((fd_bits_f64(x) + 0x4000000u) & 0xfffffffff8000000u);
}
/* a b exactly, but for overflow and underflow. */
FD_INLINE fd_wide fd_wide_product(double a, double b) {
  double high = a * b;
#if defined(__FMA__) || defined(__aarch64__)
  return (fd_wide){high, __builtin_fma(a, b, -high)};
#else
  double a0 = fd_wide_leading(a), b0 = fd_wide_leading(b), a1 = a - a0, b1 = b - b0;
  return (fd_wide){high, (((a0 * b0 - high) + a0 * b1) + a1 * b0) + a1 * b1};
#endif
}

FD_INLINE fd_wide fd_wide_add(fd_wide a, fd_wide b) {
  fd_wide s = fd_wide_sum(a.high, b.high);
  return fd_wide_ordered(s.high, s.low + (a.low + b.low));
}
FD_INLINE fd_wide fd_wide_scale(fd_wide a, double b) {
  fd_wide p = fd_wide_product(a.high, b);
  return (fd_wide){p.high, p.low + a.low * b};
}
FD_INLINE fd_wide fd_wide_mul(fd_wide a, fd_wide b) {
  fd_wide p = fd_wide_product(a.high, b.high);
  return (fd_wide){p.high, p.low + (a.high * b.low + a.low * b.high)};
}
FD_INLINE fd_wide fd_wide_div(fd_wide a, fd_wide b) {
  double inverse = 1.0 / b.high, q = a.high * inverse;
  fd_wide p = fd_wide_scale(b, q);
  return fd_wide_ordered(q, ((a.high - p.high) - p.low + a.low) * inverse);
}
FD_INLINE fd_wide fd_wide_negative(fd_wide a) { return (fd_wide){-a.high, -a.low}; }
/* a times a power of two. */
FD_INLINE fd_wide fd_wide_scale_exactly(fd_wide a, double b) {
  return (fd_wide){a.high * b, a.low * b};
}

/* pairs[0] + pairs[1] z + ..., then doubles from the power n on, which must be too small for their
 * rounding to count. */
static inline __attribute__((unused)) fd_wide fd_wide_polynomial(
    fd_wide z, const fd_wide *pairs, int n, const double *tail, int tail_n) {
  fd_wide sum = {0, 0};
  for (int k = tail_n - 1; k >= 0; k--) sum.high = fd_fma_f64(sum.high, z.high, tail[k]);
  for (int k = n - 1; k >= 0; k--) {
    fd_wide term = fd_wide_mul(sum, z);
    sum = fd_wide_sum(pairs[k].high, term.high);
    sum.low += term.low + pairs[k].low;
  }
  return sum;
}

/* For normal numbers: with x = m 2^k, k ln 2 + 2 artanh(s), s = (m - 1) / (m + 1). */
static inline __attribute__((unused)) fd_wide fd_wide_log(fd_wide x) {
  static const fd_wide odd[] = {/* 1 / (2k + 1) */
      {0x1p0, 0x0p0}, {0x1.5555555555555p-2, 0x1.5555555555555p-56},
      {0x1.999999999999ap-3, -0x1.999999999999ap-57},
      {0x1.2492492492492p-3, 0x1.2492492492492p-57},
      {0x1.c71c71c71c71cp-4, 0x1.c71c71c71c71cp-58},
      {0x1.745d1745d1746p-4, -0x1.745d1745d1746p-59},
      {0x1.3b13b13b13b14p-4, -0x1.3b13b13b13b14p-58},
      {0x1.1111111111111p-4, 0x1.1111111111111p-60},
      {0x1.e1e1e1e1e1e1ep-5, 0x1.e1e1e1e1e1e1ep-61}, {0x1.af286bca1af28p-5, 0x1.af286bca1af28p-59}};
  static const double odd_tail[] = {
      0x1.8618618618618p-5, 0x1.642c8590b2164p-5, 0x1.47ae147ae147bp-5, 0x1.2f684bda12f68p-5,
      0x1.1a7b9611a7b96p-5, 0x1.0842108421084p-5, 0x1.f07c1f07c1f08p-6, 0x1.d41d41d41d41dp-6,
      0x1.bacf914c1badp-6, 0x1.a41a41a41a41ap-6, 0x1.8f9c18f9c18fap-6};
  int64_t e = fd_log_exponent_f64(x.high);
  double k = fd_small_int_f64(e), scale = fd_power_of_two_f64(-e);
  fd_wide m = {x.high * scale, x.low * scale};
  fd_wide s = fd_wide_div(fd_wide_add(m, (fd_wide){-1.0, 0}), fd_wide_add(m, (fd_wide){1.0, 0}));
  fd_wide series = fd_wide_polynomial(fd_wide_mul(s, s), odd, 10, odd_tail, 11);
  fd_wide near = fd_wide_mul(fd_wide_scale_exactly(s, 2.0), series);
  /* ln 2 in three parts; the first product is exact. */
  fd_wide low = fd_wide_product(k, FD_LN2_LOW_F64);
  low.low += k * -0x1.9ff0342542fc3p-90;
  return fd_wide_add((fd_wide){k * FD_LN2_HIGH_F64, 0}, fd_wide_add(low, near));
}

#endif
