/* Elementary functions in double: as fd_math_f32.h, with longer polynomials. Largest errors found:
 * exp 1.0 ulp, expm1 1.9, log 0.8, log1p 1.4, tanh 1.5, logistic 1.9, rsqrt 1.5. */
#ifndef FD_MATH_F64_H
#define FD_MATH_F64_H

#include "fd_types.h"

#define FD_FMA fd_fma_f64

#define FD_ROUNDER_F64 0x1.8p52
/* ln 2 = high + low; high has 33 bits. */
#define FD_LN2_HIGH_F64 0x1.62e42fef00000p-1
#define FD_LN2_LOW_F64 0x1.473de6af278edp-34

FD_INLINE double fd_abs_f64(double x) { return __builtin_fabs(x); }
FD_INLINE double fd_copysign_f64(double x, double s) { return __builtin_copysign(x, s); }
FD_INLINE double fd_sqrt_f64(double x) { return __builtin_sqrt(x); }
FD_INLINE double fd_rsqrt_f64(double x) { return 1.0 / __builtin_sqrt(x); }
FD_INLINE double fd_floor_f64(double x) { return __builtin_floor(x); }
FD_INLINE double fd_ceil_f64(double x) { return __builtin_ceil(x); }
FD_INLINE double fd_round_even_f64(double x) { return __builtin_rint(x); }
FD_INLINE double fd_round_away_f64(double x) {
  return fd_copysign_f64(__builtin_trunc(x + fd_copysign_f64(0x1.fffffffffffffp-2, x)), x);
}
FD_INLINE double fd_sign_f64(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }
FD_INLINE int fd_is_finite_f64(double x) { return __builtin_fabs(x) < FD_INF_F64; }

FD_INLINE double fd_power_of_two_f64(int64_t n) {
  return fd_from_bits_f64(((uint64_t)n + 1023u) << 52);
}
FD_INLINE double fd_scale_f64(double x, int64_t n) {
  /* No arithmetic 64-bit shift before AVX-512: bias, shift without sign, take the bias off. */
  int64_t half = (int64_t)(((uint64_t)n + 4096u) >> 1) - 2048;
  return x * fd_power_of_two_f64(half) * fd_power_of_two_f64(n - half);
}

/* e^r - 1 = r + r^2 P(r) on |r| <= ln 2 / 2, within 0.2 ulp of e^r. */
FD_INLINE double fd_exp_reduced_f64(double x, int64_t *n) {
  double shifted = FD_FMA(x, 0x1.71547652b82fep0, FD_ROUNDER_F64);
  double k = shifted - FD_ROUNDER_F64;
  *n = (int64_t)(fd_bits_f64(shifted) - fd_bits_f64(FD_ROUNDER_F64));
  double r = FD_FMA(k, -FD_LN2_LOW_F64, FD_FMA(k, -FD_LN2_HIGH_F64, x));
  double p = FD_FMA(0x1.1f8de50ff1a3bp-29, r, 0x1.af5f70c030426p-26);
  p = FD_FMA(p, r, 0x1.27e4cafc3161ap-22);
  p = FD_FMA(p, r, 0x1.71ddf7ee8ca0ap-19);
  p = FD_FMA(p, r, 0x1.a01a01addd12dp-16);
  p = FD_FMA(p, r, 0x1.a01a01b00d6ecp-13);
  p = FD_FMA(p, r, 0x1.6c16c16c14f5bp-10);
  p = FD_FMA(p, r, 0x1.111111110f646p-7);
  p = FD_FMA(p, r, 0x1.5555555555558p-5);
  p = FD_FMA(p, r, 0x1.5555555555559p-3);
  p = FD_FMA(p, r, 0.5);
  return FD_FMA(r * r, p, r);
}

FD_INLINE double fd_exp_f64(double x) {
  int64_t n;
  x = x > 710.0 ? 710.0 : x;
  x = x < -746.0 ? -746.0 : x;
  double em1 = fd_exp_reduced_f64(x, &n);
  return fd_scale_f64(1.0 + em1, n);
}

FD_INLINE double fd_expm1_f64(double x) {
  int64_t n;
  double bounded = x > 710.0 ? 710.0 : x;
  bounded = bounded < -38.0 ? -38.0 : bounded;
  double em1 = fd_exp_reduced_f64(bounded, &n);
  double half = fd_power_of_two_f64(n - 1);
  double y = 2.0 * FD_FMA(half, em1, half - 0.5);
  return x == 0 ? x : y;
}

/* k ln 2 + log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)), by s = f / (2 + f): log(1 + f) is
 * 2 artanh s = 2s + s R(s^2), written as f - (f^2/2 - s (f^2/2 + R)): f is exact, 2s is not. */
FD_INLINE double fd_log_reduced_f64(double f, double k) {
  double s = f / (2.0 + f), z = s * s;
  double p = FD_FMA(0x1.2f01dfd5cc611p-3, z, 0x1.39a217c2e0520p-3);
  p = FD_FMA(p, z, 0x1.74663b237a5bep-3);
  p = FD_FMA(p, z, 0x1.c71c521c9f681p-3);
  p = FD_FMA(p, z, 0x1.24924941d843fp-2);
  p = FD_FMA(p, z, 0x1.999999997ff8ep-2);
  p = FD_FMA(p, z, 0x1.5555555555592p-1);
  double half_square = 0.5 * f * f;
  double low = FD_FMA(k, FD_LN2_LOW_F64, s * FD_FMA(p, z, half_square));
  return FD_FMA(k, FD_LN2_HIGH_F64, f - (half_square - low));
}

/* floor(log2(x / sqrt(1/2))); made positive before the shift, for targets that lack an arithmetic
 * one. */
FD_INLINE int64_t fd_log_exponent_f64(double x) {
  const uint64_t root = 0x3fe6a09e667f3bcdu, bias = (uint64_t)2048 << 52;
  return (int64_t)((fd_bits_f64(x) - root + bias) >> 52) - 2048;
}
FD_INLINE double fd_log_ends_f64(double x, double y) {
  y = x == FD_INF_F64 || x != x ? x : y;
  y = x == 0 ? -FD_INF_F64 : y;
  return x < 0 ? FD_NAN_F64 : y;
}
/* The exact double of a small integer, without an int64 conversion that needs AVX-512. */
FD_INLINE double fd_small_int_f64(int64_t n) {
  return fd_from_bits_f64((uint64_t)n + fd_bits_f64(FD_ROUNDER_F64)) - FD_ROUNDER_F64;
}

FD_INLINE double fd_log_f64(double x) {
  int tiny = x < 0x1p-1022;
  double normal = tiny ? x * 0x1p52 : x;
  int64_t e = fd_log_exponent_f64(normal);
  double f = fd_from_bits_f64(fd_bits_f64(normal) - ((uint64_t)e << 52)) - 1.0;
  double k = fd_small_int_f64(e) - (tiny ? 52.0 : 0.0);
  return fd_log_ends_f64(x, fd_log_reduced_f64(f, k));
}

FD_INLINE double fd_log1p_f64(double x) {
  double u = 1.0 + x;
  int64_t e = fd_log_exponent_f64(u);
  double inverse = fd_power_of_two_f64(e > 53 ? 0 : -e);
  double large = fd_from_bits_f64(fd_bits_f64(u) - ((uint64_t)e << 52)) - 1.0;
  double f = e > 53 ? large : FD_FMA(x, inverse, inverse - 1.0);
  double y = fd_log_ends_f64(u, fd_log_reduced_f64(f, fd_small_int_f64(e)));
  return x == 0 ? x : y;
}

FD_INLINE double fd_tanh_f64(double x) {
  int64_t n;
  double a = fd_abs_f64(x), z = x * x;
  double p = FD_FMA(0x1.dc85d154b094ap-15, z, -0x1.c8d6f39f3ffdcp-13);
  p = FD_FMA(p, z, 0x1.31d1d178c83eap-11);
  p = FD_FMA(p, z, -0x1.7d492f28d27a1p-10);
  p = FD_FMA(p, z, 0x1.d6cdfa314faa4p-9);
  p = FD_FMA(p, z, -0x1.226e1642a823ep-7);
  p = FD_FMA(p, z, 0x1.664f47b4f6f49p-6);
  p = FD_FMA(p, z, -0x1.ba1ba1b70b8ccp-5);
  p = FD_FMA(p, z, 0x1.111111110e2c4p-3);
  p = FD_FMA(p, z, -0x1.5555555555537p-2);
  double small = FD_FMA(p * z, x, x);
  a = a > 20.0 ? 20.0 : a;
  double em1 = fd_exp_reduced_f64(2.0 * a, &n);
  double scale = fd_power_of_two_f64(n);
  em1 = FD_FMA(scale, em1, scale - 1.0);
  return fd_copysign_f64(a < 0.5 ? small : em1 / (em1 + 2.0), x);
}

FD_INLINE double fd_logistic_f64(double x) {
  double e = fd_exp_f64(-fd_abs_f64(x));
  double d = 1.0 + e, rest = e - (d - 1.0);
  double y = (x < 0 ? e : 1.0) / d;
  return FD_FMA(-y, rest * FD_FMA(-0.5, d, 1.46), y);
}

/* ---- by the C library ---- */

FD_INLINE double fd_exp2_f64(double x) { return __builtin_exp2(x); }
FD_INLINE double fd_log2_f64(double x) { return __builtin_log2(x); }
FD_INLINE double fd_sin_f64(double x) { return __builtin_sin(x); }
FD_INLINE double fd_cos_f64(double x) { return __builtin_cos(x); }
FD_INLINE double fd_tan_f64(double x) { return __builtin_tan(x); }
FD_INLINE double fd_erf_f64(double x) { return __builtin_erf(x); }
FD_INLINE double fd_erfc_f64(double x) { return __builtin_erfc(x); }
FD_INLINE double fd_cbrt_f64(double x) { return __builtin_cbrt(x); }
FD_INLINE double fd_asin_f64(double x) { return __builtin_asin(x); }
FD_INLINE double fd_acos_f64(double x) { return __builtin_acos(x); }
FD_INLINE double fd_atan_f64(double x) { return __builtin_atan(x); }
FD_INLINE double fd_atan2_f64(double y, double x) { return __builtin_atan2(y, x); }
FD_INLINE double fd_sinh_f64(double x) { return __builtin_sinh(x); }
FD_INLINE double fd_cosh_f64(double x) { return __builtin_cosh(x); }
FD_INLINE double fd_asinh_f64(double x) { return __builtin_asinh(x); }
FD_INLINE double fd_acosh_f64(double x) { return __builtin_acosh(x); }
FD_INLINE double fd_atanh_f64(double x) { return __builtin_atanh(x); }
FD_INLINE double fd_pow_f64(double x, double y) { return __builtin_pow(x, y); }
FD_INLINE double fd_rem_f64(double x, double y) { return __builtin_fmod(x, y); }
FD_INLINE double fd_nextafter_f64(double x, double y) { return __builtin_nextafter(x, y); }

#undef FD_FMA

#endif
