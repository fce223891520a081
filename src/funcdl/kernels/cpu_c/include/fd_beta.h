/* The regularized incomplete beta function. */
#ifndef FD_BETA_H
#define FD_BETA_H

#include "fd_gamma.h"

/* The continued fraction of DLMF 8.17.22 by the modified algorithm of Lentz, good left of the mean.
 * It takes about sqrt(max(a, b)) steps. */
FD_FUNCTION double fd_beta_fraction(double a, double b, double x) {
  double d = 1.0 / (1.0 - (a + b) / (a + 1.0) * x), c = 1.0, value = d;
  for (int n = 1; n < 20000; n++) {
    double even = n / (a + 2 * n - 1) * ((b - n) / (a + 2 * n)) * x;
    double odd = -(a + n) / (a + 2 * n) * ((a + b + n) / (a + 2 * n + 1)) * x;
    d = 1.0 / (1.0 + even * d);
    c = 1.0 + even / c;
    value *= c * d;
    d = 1.0 / (1.0 + odd * d);
    c = 1.0 + odd / c;
    value *= c * d;
    if (fd_abs_f64(c * d - 1.0) < 2e-16) break;
  }
  return value;
}

FD_FUNCTION double fd_regularized_incomplete_beta_f64(double a, double b, double x) {
  const double inf = FD_INF_F64;
  if (!(a >= 0) || !(b >= 0) || !(x >= 0) || !(x <= 1) || (a == 0 && b == 0) ||
      (a == inf && b == inf))
    return FD_NAN_F64;
  if (x == 0 || x == 1) return x;
  if (a == 0 || b == inf) return 1;
  if (b == 0 || a == inf) return 0;
  double y = 1.0 - x;
  /* x^a y^b / beta(a, b), with Stirling's formula taken out of all three gamma functions. */
  double excess = x * b - y * a, left = x / a * (a + b), right = y / b * (a + b);
  double from_mean = a * fd_log_excess(left, excess / a) + b * fd_log_excess(right, -excess / b);
  /* The fraction takes too long for large shapes: the leading term of DLMF 8.18.9. */
  if (a > 1e8 && b > 1e8)
    return 0.5 * fd_erfc_f64(-fd_copysign_f64(__builtin_sqrt(from_mean), excess));
  double exponent = -from_mean + fd_stirling_rest(a + b) - fd_stirling_rest(a) - fd_stirling_rest(b);
  double front = __builtin_exp(exponent) * 0x1.9884533d43651p-2 * __builtin_sqrt(b / (a + b)) *
                 __builtin_sqrt(a);
  if (front == 0) return excess > 0;
  /* The fraction still converges further right, where for small b the difference to 1 is needed. */
  if (x <= (a + 1.0) / (a + b + 2.0) || (b < 1.0 && x < 0.999))
    return front * fd_beta_fraction(a, b, x) / a;
  return 1.0 - front * fd_beta_fraction(b, a, y) / b;
}

FD_FUNCTION float fd_regularized_incomplete_beta_f32(float a, float b, float x) {
  return (float)fd_regularized_incomplete_beta_f64(a, b, x);
}

#endif
