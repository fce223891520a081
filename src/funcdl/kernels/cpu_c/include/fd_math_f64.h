/* Elementary functions in double: as fd_math_f32.h, with longer polynomials. Largest errors found:
 * exp 1.0 ulp, expm1 1.9, log 0.8, log1p 1.4, tanh 1.5, logistic 1.9, rsqrt 1.5; see
 * docs/accuracy.md for all of them. */
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

/* x = n ln 2 + r. Returns r, |r| <= ln 2 / 2. */
FD_INLINE double fd_exp_rest_f64(double x, int64_t *n) {
  double shifted = FD_FMA(x, 0x1.71547652b82fep0, FD_ROUNDER_F64);
  double k = shifted - FD_ROUNDER_F64;
  *n = (int64_t)(fd_bits_f64(shifted) - fd_bits_f64(FD_ROUNDER_F64));
  return FD_FMA(k, -FD_LN2_LOW_F64, FD_FMA(k, -FD_LN2_HIGH_F64, x));
}
/* e^r - 1 = r + r^2 P(r) on |r| <= ln 2 / 2, within 0.2 ulp of e^r. */
FD_INLINE double fd_expm1_near_f64(double r) {
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
FD_INLINE double fd_exp_reduced_f64(double x, int64_t *n) {
  return fd_expm1_near_f64(fd_exp_rest_f64(x, n));
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
  return fd_abs_f64(x) < 0x1p-55 ? x : y; /* keeps -0, and half a subnormal */
}

/* log(1 + f) - f + f^2/2 for 1 + f in [sqrt(1/2), sqrt(2)), by s = f / (2 + f): log(1 + f) is
 * 2 artanh s = 2s + s R(s^2), written as f - (f^2/2 - s (f^2/2 + R)): f is exact, 2s is not. */
FD_INLINE double fd_log_series_f64(double f, double half_square) {
  double s = f / (2.0 + f), z = s * s;
  double p = FD_FMA(0x1.2f01dfd5cc611p-3, z, 0x1.39a217c2e0520p-3);
  p = FD_FMA(p, z, 0x1.74663b237a5bep-3);
  p = FD_FMA(p, z, 0x1.c71c521c9f681p-3);
  p = FD_FMA(p, z, 0x1.24924941d843fp-2);
  p = FD_FMA(p, z, 0x1.999999997ff8ep-2);
  p = FD_FMA(p, z, 0x1.5555555555592p-1);
  return s * FD_FMA(p, z, half_square);
}
/* k ln 2 + log(1 + f). */
FD_INLINE double fd_log_reduced_f64(double f, double k) {
  double half_square = 0.5 * f * f;
  double low = FD_FMA(k, FD_LN2_LOW_F64, fd_log_series_f64(f, half_square));
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

/* x with its lower half set to 0: products of such numbers are exact. */
FD_INLINE double fd_leading_bits_f64(double x) {
  return fd_from_bits_f64(fd_bits_f64(x) & 0xfffffffff8000000u);
}

/* erf(x) = x + x P(x^2) for |x| <= 0.84. Returns P(z). */
FD_INLINE double fd_erf_near_f64(double z) {
  double p = FD_FMA(-0x1.e6619b796c9c3p-31, z, 0x1.e7ae4932bb4e4p-27);
  p = FD_FMA(p, z, -0x1.5e10549b6e20dp-23);
  p = FD_FMA(p, z, 0x1.b9c8aefb91b2ep-20);
  p = FD_FMA(p, z, -0x1.f4d0aafea4f21p-17);
  p = FD_FMA(p, z, 0x1.f9a316ac0c3f4p-14);
  p = FD_FMA(p, z, -0x1.c02db398a3cebp-11);
  p = FD_FMA(p, z, 0x1.565bcd0cc8470p-8);
  p = FD_FMA(p, z, -0x1.b82ce31280ec9p-6);
  p = FD_FMA(p, z, 0x1.ce2f21a042aafp-4);
  p = FD_FMA(p, z, -0x1.812746b0379e6p-2);
  p = FD_FMA(p, z, 0x1.06eba8214db69p-3);
  return p;
}
/* erfc(a) for a >= 0.84: e^(-a^2) / (1 + 2a) times a polynomial in (a - 4) / (a + 4), up to 28, where
 * it rounds to 0. Squares and quotient in two parts, the first of which are exact. */
FD_INLINE double fd_erfc_far_f64(double a) {
  int64_t n;
  a = a > 28.0 ? 28.0 : a;
  double t = (a - 4.0) / (a + 4.0);
  double p = FD_FMA(-0x1.67fa3128dee34p-27, t, -0x1.a403ddb107533p-27);
  p = FD_FMA(p, t, 0x1.c5e4aa4a32304p-24);
  p = FD_FMA(p, t, 0x1.1fde3f8d8313bp-24);
  p = FD_FMA(p, t, -0x1.b99bb9bcb0974p-21);
  p = FD_FMA(p, t, 0x1.41a5d9b6c3abbp-22);
  p = FD_FMA(p, t, 0x1.7f19bc91ad5ccp-18);
  p = FD_FMA(p, t, -0x1.78a3b73fcffbfp-17);
  p = FD_FMA(p, t, -0x1.9958d66770982p-16);
  p = FD_FMA(p, t, 0x1.3be0d61957f14p-13);
  p = FD_FMA(p, t, -0x1.a1df222b3ca59p-13);
  p = FD_FMA(p, t, -0x1.8d4aa17050e08p-11);
  p = FD_FMA(p, t, 0x1.49c6727ace9e5p-8);
  p = FD_FMA(p, t, -0x1.0962387dac933p-6);
  p = FD_FMA(p, t, 0x1.3079edf6b9159p-5);
  p = FD_FMA(p, t, -0x1.0fb06dfe6b25cp-4);
  p = FD_FMA(p, t, 0x1.7fee004e106bdp-4);
  p = FD_FMA(p, t, -0x1.9ddb23c3e7cf5p-4);
  p = FD_FMA(p, t, 0x1.16ecefcfa547fp-4);
  p = FD_FMA(p, t, 0x1.f7f5df66fd575p-7);
  p = FD_FMA(p, t, -0x1.1df1ad154a28fp-3);
  p = FD_FMA(p, t, -0x1.94807b5ea2483p-55);
  double whole = 0x1.3ba5916e9fd7fp+0 + p, lost = p - (whole - 0x1.3ba5916e9fd7fp+0);
  double top = fd_leading_bits_f64(a);
  double r = fd_exp_rest_f64(-top * top, &n) - (a - top) * (a + top);
  double em1 = fd_expm1_near_f64(r);
  double d = 1.0 + 2.0 * a, inverse = 1.0 / d;
  double d_top = fd_leading_bits_f64(d), d_rest = 2.0 * a - (d_top - 1.0);
  double q = fd_leading_bits_f64(whole * inverse);
  double q_rest = ((whole - q * d_top) - q * d_rest + lost) * inverse;
  return fd_scale_f64(q + FD_FMA(q, em1, FD_FMA(q_rest, em1, q_rest)), n);
}
FD_INLINE double fd_erf_f64(double x) {
  double a = fd_abs_f64(x);
  double near = FD_FMA(x, fd_erf_near_f64(x * x), x);
  return a < 0.84 ? near : fd_copysign_f64(1.0 - fd_erfc_far_f64(a), x);
}
FD_INLINE double fd_erfc_f64(double x) {
  double a = fd_abs_f64(x), far = fd_erfc_far_f64(a);
  double near = FD_FMA(-x, fd_erf_near_f64(x * x), 1.0 - x);
  return a < 0.84 ? near : x < 0 ? 2.0 - far : far;
}

/* Below 3/2: sqrt(2t) P(t), t = x - 1. Above: log(x + sqrt(x^2 - 1)), with what the sum's rounding
 * leaves; from 2^28 on, log(2x). */
FD_INLINE double fd_acosh_f64(double x) {
  double t = x - 1.0;
  double p = FD_FMA(0x1.be5d9c1bba4adp-22, t, -0x1.3597b157b37a4p-19);
  p = FD_FMA(p, t, 0x1.e83a9b8ed5d53p-18);
  p = FD_FMA(p, t, -0x1.3836ab1fd3aa6p-16);
  p = FD_FMA(p, t, 0x1.793527d389ddap-15);
  p = FD_FMA(p, t, -0x1.c970d09a1f6d6p-14);
  p = FD_FMA(p, t, 0x1.1c4d11c52d05cp-12);
  p = FD_FMA(p, t, -0x1.6e8b8a6f93e48p-11);
  p = FD_FMA(p, t, 0x1.f1c71b8e7decep-10);
  p = FD_FMA(p, t, -0x1.6db6db6b40634p-8);
  p = FD_FMA(p, t, 0x1.333333332fa3cp-6);
  p = FD_FMA(p, t, -0x1.5555555555535p-4);
  p = FD_FMA(p, t, 0x1.000000000p+0);
  double near = fd_sqrt_f64(2.0 * t) * p;
  double root = fd_sqrt_f64(t * (x + 1.0));
  double sum = x > 0x1p28 ? x : x + root;
  double rest = (root - (sum - x)) / sum;
  double far = fd_log_f64(sum) + (x > 0x1p28 ? 0x1.62e42fefa39efp-1 : rest);
  return t < 0.5 ? near : far;
}

/* The cube root of a normal number to 2^-26. A third of the exponent and of the leading bits of the
 * fraction is t, with t^3 / x in (0.90, 1.10); then t (t^3 / x)^(-1/3) by a polynomial. */
FD_INLINE double fd_cbrt_near_f64(double x) {
  uint64_t third = (((fd_bits_f64(x) >> 32) * 0x55555556u) >> 32) + 715092000u;
  double t = fd_from_bits_f64(third << 32);
  double r = t * t * (t / x);
  double p = FD_FMA(-0x1.005343de5e342p-3, r, 0x1.8b180374193c8p-1);
  p = FD_FMA(p, r, -0x1.0103d5a56e343p+1);
  p = FD_FMA(p, r, 0x1.6f0d0da2eae79p+1);
  p = FD_FMA(p, r, -0x1.40b74306966f5p+1);
  p = FD_FMA(p, r, 0x1.ffda7ce7d5001p+0);
  return t * p;
}
/* One step of Halley's method from t rounded to 25 bits, whose square is exact. 0.83 ulp. */
FD_INLINE double fd_cbrt_f64(double x) {
  double a = fd_abs_f64(x);
  int tiny = a < 0x1p-1022;
  double normal = tiny ? a * 0x1p54 : a;
  double t = fd_cbrt_near_f64(normal);
  t = fd_from_bits_f64((fd_bits_f64(t) + 0x8000000u) & 0xfffffffff0000000u);
  double r = normal / (t * t);
  t += t * ((r - t) / (t + t + r));
  t = tiny ? t * 0x1p-18 : t;
  return x == 0 || !(a < FD_INF_F64) ? x : fd_copysign_f64(t, x);
}

/* As fd_asin_f32, fd_acos_f32 and fd_atan2_f32, with longer polynomials: 1.6, 1.1 and 1.8 ulp. */

FD_INLINE int fd_asin_split_f64(double x, double *t, double *rest) {
  double a = fd_abs_f64(x);
  int far = a > 0.5625;
  double z = far ? FD_FMA(a, -0.5, 0.5) : a * a;
  *t = far ? fd_sqrt_f64(z) : a;
  double p = FD_FMA(0x1.e9c6f0935f2d2p-5, z, -0x1.3a185222bc215p-4);
  p = FD_FMA(p, z, 0x1.18c68ec0f68f4p-4);
  p = FD_FMA(p, z, -0x1.62989865f06cep-6);
  p = FD_FMA(p, z, 0x1.1e59cf689322fp-6);
  p = FD_FMA(p, z, 0x1.fcfc18d3e25d6p-8);
  p = FD_FMA(p, z, 0x1.84b9efe5d4a3dp-7);
  p = FD_FMA(p, z, 0x1.c8787d8f15a71p-7);
  p = FD_FMA(p, z, 0x1.1c59f99246febp-6);
  p = FD_FMA(p, z, 0x1.6e8b0bdd00af5p-6);
  p = FD_FMA(p, z, 0x1.f1c7219366689p-6);
  p = FD_FMA(p, z, 0x1.6db6db60841b2p-5);
  p = FD_FMA(p, z, 0x1.3333333344538p-4);
  p = FD_FMA(p, z, 0x1.55555555554d9p-3);
  *rest = *t * z * p;
  return far;
}
FD_INLINE double fd_asin_f64(double x) {
  double t, rest;
  int far = fd_asin_split_f64(x, &t, &rest);
  double angle = t + rest;
  double end = 0x1.921fb54442d18p0 - FD_FMA(2.0, angle, -0x1.1a62633145c07p-54);
  return fd_copysign_f64(far ? end : angle, x);
}
FD_INLINE double fd_acos_f64(double x) {
  double t, rest;
  int far = fd_asin_split_f64(x, &t, &rest);
  double angle = t + rest, signed_ = fd_copysign_f64(angle, x);
  double near = 0x1.921fb54442d18p0 - (signed_ - 0x1.1a62633145c07p-54);
  double twice = 2.0 * angle;
  return !far ? near : x < 0 ? 0x1.921fb54442d18p1 - (twice - 0x1.1a62633145c07p-53) : twice;
}

FD_INLINE double fd_atan2_f64(double y, double x) {
  double a = fd_abs_f64(x), b = fd_abs_f64(y);
  int steep = b > a;
  double most = steep ? b : a, least = steep ? a : b;
  double t = least / most;
  t = least == most ? 1.0 : t;
  t = most == 0 ? 0.0 : t;
  double z = t * t;
  double q = FD_FMA(-0x1.53e2aed02fdabp-16, z, 0x1.d3b7a9f32dda3p-13);
  q = FD_FMA(q, z, -0x1.31288b8a34509p-10);
  q = FD_FMA(q, z, 0x1.f96aba2c9b97dp-9);
  q = FD_FMA(q, z, -0x1.2cf6974839449p-7);
  q = FD_FMA(q, z, 0x1.162bc38b4a8bcp-6);
  q = FD_FMA(q, z, -0x1.a726434b78018p-6);
  q = FD_FMA(q, z, 0x1.1715bbefd1fffp-5);
  q = FD_FMA(q, z, -0x1.4f451418f7861p-5);
  q = FD_FMA(q, z, 0x1.7ee3f206d2416p-5);
  q = FD_FMA(q, z, -0x1.ad32b99255749p-5);
  q = FD_FMA(q, z, 0x1.e178173465727p-5);
  q = FD_FMA(q, z, -0x1.11089d079905dp-4);
  q = FD_FMA(q, z, 0x1.3b12b2ea4a689p-4);
  q = FD_FMA(q, z, -0x1.745d02313cf4cp-4);
  q = FD_FMA(q, z, 0x1.c71c709e1efd3p-4);
  q = FD_FMA(q, z, -0x1.2492491fa232bp-3);
  q = FD_FMA(q, z, 0x1.999999998411ap-3);
  q = FD_FMA(q, z, -0x1.555555555544cp-2);
  double angle = FD_FMA(t * z, q, t);
  int left = fd_bits_f64(x) >> 63 != 0;
  double start = steep ? 0x1.921fb54442d18p0 : left ? 0x1.921fb54442d18p1 : 0.0;
  double rest = steep ? 0x1.1a62633145c07p-54 : left ? 0x1.1a62633145c07p-53 : 0.0;
  angle = steep != left ? -angle : angle;
  angle = start + (angle + rest);
  angle = fd_copysign_f64(angle, y);
  return x != x || y != y ? x + y : angle;
}
FD_INLINE double fd_atan_f64(double x) { return fd_atan2_f64(x, 1.0); }

/* Calls of the C library. */

FD_INLINE double fd_exp2_f64(double x) { return __builtin_exp2(x); }
FD_INLINE double fd_sin_f64(double x) { return __builtin_sin(x); }
FD_INLINE double fd_cos_f64(double x) { return __builtin_cos(x); }
FD_INLINE double fd_tan_f64(double x) { return __builtin_tan(x); }
FD_INLINE double fd_sinh_f64(double x) { return __builtin_sinh(x); }
FD_INLINE double fd_cosh_f64(double x) { return __builtin_cosh(x); }
FD_INLINE double fd_asinh_f64(double x) { return __builtin_asinh(x); }
FD_INLINE double fd_atanh_f64(double x) { return __builtin_atanh(x); }
FD_INLINE double fd_pow_f64(double x, double y) { return __builtin_pow(x, y); }
FD_INLINE double fd_rem_f64(double x, double y) { return __builtin_fmod(x, y); }
FD_INLINE double fd_nextafter_f64(double x, double y) { return __builtin_nextafter(x, y); }

#undef FD_FMA

#endif
