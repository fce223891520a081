/* Special functions that the C library lacks or has with a side effect. */
#ifndef FD_SPECIAL_H
#define FD_SPECIAL_H

#include "fd_math_f32.h"
#include "fd_math_f64.h"

/* Inverse error function: x P(w) with w = -log(1 - x^2), one polynomial below w = 5 and one in
 * sqrt(w) above (the form is M. Giles's, "Approximating the erfinv function", 2010). Only the
 * logarithm in float, since errors of the polynomials would add up to 2.7 ulp. */
FD_INLINE float fd_erf_inv_f32(float x) {
  double w = -(double)fd_log_f32((1.0f - x) * (1.0f + x));
  double c = w - 2.5;
  double p = fd_fma_f64(-0x1.29711ap-27, c, 0x1.a0a252p-26);
  p = fd_fma_f64(p, c, 0x1.f279dep-22);
  p = fd_fma_f64(p, c, -0x1.d2aa58p-19);
  p = fd_fma_f64(p, c, -0x1.4c75c8p-18);
  p = fd_fma_f64(p, c, 0x1.ca0a3ep-13);
  p = fd_fma_f64(p, c, -0x1.486738p-10);
  p = fd_fma_f64(p, c, -0x1.11c6d2p-8);
  p = fd_fma_f64(p, c, 0x1.f91e8cp-3);
  p = fd_fma_f64(p, c, 0x1.805c5ep0);
  double t = fd_sqrt_f64(w) - 3.0;
  double q = fd_fma_f64(-0x1.4b44b4p-13, t, 0x1.55a502p-14);
  q = fd_fma_f64(q, t, 0x1.51cc56p-10);
  q = fd_fma_f64(q, t, -0x1.df1266p-9);
  q = fd_fma_f64(q, t, 0x1.7a04cap-8);
  q = fd_fma_f64(q, t, -0x1.f3d56ap-8);
  q = fd_fma_f64(q, t, 0x1.3524fcp-7);
  q = fd_fma_f64(q, t, 0x1.006dbap0);
  q = fd_fma_f64(q, t, 0x1.6a9efep1);
  float y = (float)((double)x * (w < 5.0 ? p : q));
  return fd_abs_f32(x) == 1.0f ? fd_copysign_f32(FD_INF_F32, x) : y;
}

/* The same form, coarse (3e-4), then two steps of Halley's method (cubic) on erf, whose terms nearly
 * cancel x, or on erfc. */
FD_INLINE double fd_erf_inv_f64(double x) {
  double a = fd_abs_f64(x);
  double w = -fd_log_f64((1.0 - a) * (1.0 + a));
  double c = w - 2.5;
  double p = fd_fma_f64(0x1.848e58p-13, c, -0x1.4de2c8p-10);
  p = fd_fma_f64(fd_fma_f64(p, c, -0x1.0c74p-8), c, 0x1.f92d6p-3);
  p = fd_fma_f64(p, c, 0x1.805a7ap0);
  double t = fd_sqrt_f64(w) - 4.0;
  double q = fd_fma_f64(0x1.19b1e6p-10, t, -0x1.391d2ep-9);
  q = fd_fma_f64(fd_fma_f64(q, t, -0x1.464dcap-12), t, 0x1.02dbe2p0);
  q = fd_fma_f64(q, t, 0x1.eb92bp1);
  double y = a * (w < 5.0 ? p : q);
  for (int step = 0; step < 2; step++) {
    double near = (y - a) + y * fd_erf_near_f64(y * y);
    double excess = y < 0.84 ? near : (1.0 - a) - fd_erfc_far_f64(y);
    double newton = excess * 0x1.c5bf891b4ef6ap-1 * fd_exp_f64(y * y); /* sqrt(pi) / 2 */
    y -= newton / (1.0 + y * newton);
  }
  y = a == 1.0 ? FD_INF_F64 : a < 0x1p-500 ? a * 0x1.c5bf891b4ef6ap-1 : y;
  return fd_copysign_f64(y, x);
}

/* digamma in (0, 10). With r its root and h = x - r, the recurrence leaves the sum of
 * h / ((x + k) (r + k)) over 9 steps, all terms of one sign; what remains is the difference of the
 * asymptotic series at x + 9 and r + 9, where it has the factor h as well. So nothing cancels. */
static inline __attribute__((unused)) double fd_digamma_near_f64(double x) {
  static const double inverse[] = {/* 1 / (r + k) */
      0x1.5e4b1810ad60ep-1, 0x1.9ffbf270d7af3p-2, 0x1.27d0707a55c1ap-2,
      0x1.cb065c2facf78p-3, 0x1.76fabf6bd4665p-3, 0x1.3cf2a2147cb61p-3,
      0x1.1278851535beap-3, 0x1.e4113f04b6acfp-4, 0x1.b0e8022457f11p-4};
  const double top = 0x1.4ec5b0c6ad7c8p3; /* r + 9 */
  double h = (x - 0x1.762d86356be3fp0) - 0x1.b86a722197829p-54;
  double y = x + 9.0, z = 1.0 / (y * y);
  double series = 0x1.5505d66b00ac8p-4 - z * (0x1.0fe3c91640e4bp-7 - z * (0x1.019be2bc3f641p-8 -
                  z * (0x1.0ca43c7a92058p-8 - z * (0x1.e44f78cb0baa1p-8 -
                  z * (0x1.4d1c012a1766ep-6 - z * (1.0 / 12))))));
  double sum = 0.5 / (y * top) + (y + top) * z / (top * top) * series;
  for (int k = 8; k >= 0; k--) sum += inverse[k] / (x + k);
  return h * sum + fd_log1p_f64(h / top);
}

/* Derivative of lgamma; NaN at its poles, as lax.digamma. Left of 0 by reflection, from 10 by the
 * asymptotic series (Abramowitz and Stegun 6.3.5, 6.3.7, 6.3.18). Within 3.5 ulp right of 0. Left of
 * it the error is absolute near the root between any two poles: 2^-50, more where the terms of the
 * reflection are larger. */
static inline __attribute__((unused)) double fd_digamma_f64(double x) {
  double fraction = x - __builtin_rint(x);
  if (x <= 0 && (fraction == 0 || x == -FD_INF_F64)) return FD_NAN_F64;
  const double pi = 0x1.921fb54442d18p1;
  double y = x < 0 ? 1.0 - x : x;
  double sum = x < 0 ? -pi / __builtin_tan(pi * fraction) : 0.0;
  if (y < 10.0) return sum + fd_digamma_near_f64(y);
  double z = 1.0 / (y * y);
  double series = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 -
                  z * (1.0 / 132 - z * (691.0 / 32760 - z * (1.0 / 12)))))));
  return x == FD_INF_F64 ? x : sum + (__builtin_log(y) - 0.5 / y - series);
}
FD_INLINE float fd_digamma_f32(float x) { return (float)fd_digamma_f64((double)x); }

/* Not lgamma, which writes the sign of gamma to a variable that all threads share. glibc's is within
 * 2 ulp right of 0, near its roots 1 and 2 as well, and within 5 left of it. */
extern double lgamma_r(double x, int *sign);

FD_INLINE double fd_lgamma_f64(double x) {
  int sign;
  return x == -FD_INF_F64 ? FD_INF_F64 : lgamma_r(x, &sign);
}
FD_INLINE float fd_lgamma_f32(float x) { return (float)fd_lgamma_f64((double)x); }

#endif
