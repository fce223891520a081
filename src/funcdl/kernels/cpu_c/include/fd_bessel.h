/* Modified Bessel functions of the first kind, times exp(-|x|). Each term of the sums has its
 * rounding: float64 is within 11 ulp, float32 rounds it. */
#ifndef FD_BESSEL_H
#define FD_BESSEL_H

#include "fd_special.h"

/* sum of z^k / (k! (k + order)!), z = x^2/4 (DLMF 10.25.2): all terms are positive. */
FD_INLINE double fd_bessel_series(double z, int order) {
  double sum = 1;
  for (int k = 48; k >= 1; k--) sum = 1.0 + z * sum * (1.0 / (k * (k + order)));
  return sum;
}

/* sqrt(2 pi x) exp(-x) I(x) for x >= 20 (DLMF 10.40.1): there the terms fall below 2^-53. */
FD_INLINE double fd_bessel_far(double x, int order) {
  double r = 0.125 / x, sum = 1;
  for (int k = 26; k >= 1; k--)
    sum = 1.0 + sum * r * (((2 * k - 1) * (2 * k - 1) - 4 * order) / (double)k);
  return sum;
}

FD_INLINE double fd_bessel_i0e_f64(double x) {
  double a = fd_abs_f64(x), near = a < 20.0 ? a : 20.0, far = a < 20.0 ? 20.0 : a;
  double low = fd_bessel_series(0.25 * near * near, 0) * fd_exp_f64(-near);
  double high = fd_bessel_far(far, 0) * 0x1.9884533d43651p-2 / fd_sqrt_f64(far);
  return x != x ? x : a < 20.0 ? low : high;
}

FD_INLINE double fd_bessel_i1e_f64(double x) {
  double a = fd_abs_f64(x), near = a < 20.0 ? a : 20.0, far = a < 20.0 ? 20.0 : a;
  double low = 0.5 * near * fd_bessel_series(0.25 * near * near, 1) * fd_exp_f64(-near);
  double high = fd_bessel_far(far, 1) * 0x1.9884533d43651p-2 / fd_sqrt_f64(far);
  return x != x ? x : fd_copysign_f64(a < 20.0 ? low : high, x);
}

FD_INLINE float fd_bessel_i0e_f32(float x) { return (float)fd_bessel_i0e_f64((double)x); }
FD_INLINE float fd_bessel_i1e_f32(float x) { return (float)fd_bessel_i1e_f64((double)x); }

#endif
