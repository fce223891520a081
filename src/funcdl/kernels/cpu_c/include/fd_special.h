/* The inverse of the error function, which the C library lacks. */
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

#endif
