/* Elementary functions in float.
 *
 * Polynomial coefficients are weighted minimax fits (Lawson iteration on Chebyshev nodes), each
 * coefficient rounded in turn and the rest fitted again. "N ulp" is the largest error measured, with
 * FMA and without. Where a table or double arithmetic is used, the reason is given. */
#ifndef FD_MATH_F32_H
#define FD_MATH_F32_H

#include "fd_math_f64.h"
#include "fd_types.h"

#define FD_FMA fd_fma_f32

/* Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum: rounds without SSE4.1. */
#define FD_ROUNDER_F32 0x1.8p23f
/* ln 2 = high + low; high has 15 bits, so that its product with an exponent is exact. */
#define FD_LN2_HIGH_F32 0x1.62e4p-1f
#define FD_LN2_LOW_F32 0x1.7f7d1cp-20f

FD_INLINE float fd_abs_f32(float x) { return __builtin_fabsf(x); }
FD_INLINE float fd_copysign_f32(float x, float s) { return __builtin_copysignf(x, s); }
FD_INLINE float fd_sqrt_f32(float x) { return __builtin_sqrtf(x); }
/* 1.0 ulp: two correctly rounded steps. */
FD_INLINE float fd_rsqrt_f32(float x) { return 1.0f / __builtin_sqrtf(x); }
FD_INLINE float fd_floor_f32(float x) { return __builtin_floorf(x); }
FD_INLINE float fd_ceil_f32(float x) { return __builtin_ceilf(x); }
FD_INLINE float fd_round_even_f32(float x) { return __builtin_rintf(x); }
/* The largest float below 1/2: adding 1/2 itself would carry 0.49999997 to 1. */
FD_INLINE float fd_round_away_f32(float x) {
  return fd_copysign_f32(__builtin_truncf(x + fd_copysign_f32(0x1.fffffep-2f, x)), x);
}
FD_INLINE float fd_sign_f32(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }
FD_INLINE int fd_is_finite_f32(float x) { return __builtin_fabsf(x) < FD_INF_F32; }

/* 2^n for -126 <= n <= 127. */
FD_INLINE float fd_power_of_two_f32(int32_t n) {
  return fd_from_bits_f32(((uint32_t)n + 127u) << 23);
}
/* x * 2^n in two steps, so that a subnormal result is rounded once and 2^128 need not exist. */
FD_INLINE float fd_scale_f32(float x, int32_t n) {
  int32_t half = n >> 1;
  return x * fd_power_of_two_f32(half) * fd_power_of_two_f32(n - half);
}

/* x = n ln 2 + r with |r| <= ln 2 / 2. Returns e^r - 1 = r + r^2 P(r), within 0.2 ulp of e^r. */
FD_INLINE float fd_exp_reduced_f32(float x, int32_t *n) {
  float shifted = FD_FMA(x, 0x1.715476p0f, FD_ROUNDER_F32);
  float k = shifted - FD_ROUNDER_F32;
  *n = (int32_t)(fd_bits_f32(shifted) - fd_bits_f32(FD_ROUNDER_F32));
  float r = FD_FMA(k, -FD_LN2_LOW_F32, FD_FMA(k, -FD_LN2_HIGH_F32, x));
  float p = FD_FMA(0x1.6d5476p-10f, r, 0x1.1228e6p-7f);
  p = FD_FMA(p, r, 0x1.5554e2p-5f);
  p = FD_FMA(p, r, 0x1.5554aep-3f);
  p = FD_FMA(p, r, 0.5f);
  return FD_FMA(r * r, p, r);
}

/* e^x = 2^n (1 + (e^r - 1)). The ends of the clamp already give Inf and 0. */
FD_INLINE float fd_exp_f32(float x) {
  int32_t n;
  x = x > 89.0f ? 89.0f : x;
  x = x < -105.0f ? -105.0f : x;
  float em1 = fd_exp_reduced_f32(x, &n);
  return fd_scale_f32(1.0f + em1, n);
}

/* 2^x = 2^n 2^r, |r| <= 1/2 exactly; 2^r = 1 + r P(r). */
FD_INLINE float fd_exp2_f32(float x) {
  x = x > 129.0f ? 129.0f : x;
  x = x < -151.0f ? -151.0f : x;
  float shifted = x + FD_ROUNDER_F32;
  float r = x - (shifted - FD_ROUNDER_F32);
  int32_t n = (int32_t)(fd_bits_f32(shifted) - fd_bits_f32(FD_ROUNDER_F32));
  float p = FD_FMA(0x1.4705aep-13f, r, 0x1.5f0ee8p-10f);
  p = FD_FMA(p, r, 0x1.3b25fap-7f);
  p = FD_FMA(p, r, 0x1.c6af7p-5f);
  p = FD_FMA(p, r, 0x1.ebfbe6p-3f);
  p = FD_FMA(p, r, 0x1.62e43p-1f);
  return fd_scale_f32(FD_FMA(p, r, 1.0f), n);
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), halved so that n = 128 does not overflow early. */
FD_INLINE float fd_expm1_f32(float x) {
  int32_t n;
  float bounded = x > 89.0f ? 89.0f : x;
  bounded = bounded < -18.0f ? -18.0f : bounded;
  float em1 = fd_exp_reduced_f32(bounded, &n);
  float half = fd_power_of_two_f32(n - 1);
  float y = 2.0f * FD_FMA(half, em1, half - 0.5f);
  return x == 0 ? x : y; /* keeps -0 */
}

/* log(2^k (1 + f)) for 1 + f in [sqrt(1/2), sqrt(2)): k ln 2 + (f - f^2/2 + f^3 Q(f)). */
FD_INLINE float fd_log_reduced_f32(float f, float k) {
  float q = FD_FMA(0x1.13cca8p-4f, f, -0x1.dda4d8p-4f);
  q = FD_FMA(q, f, 0x1.e6dd68p-4f);
  q = FD_FMA(q, f, -0x1.fc3c78p-4f);
  q = FD_FMA(q, f, 0x1.233acep-3f);
  q = FD_FMA(q, f, -0x1.555b94p-3f);
  q = FD_FMA(q, f, 0x1.99a47ap-3f);
  q = FD_FMA(q, f, -0x1.000008p-2f);
  q = FD_FMA(q, f, 0x1.555548p-2f);
  float square = f * f;
  float low = FD_FMA(k, FD_LN2_LOW_F32, f * square * q);
  low = FD_FMA(-0.5f, square, low);
  return FD_FMA(k, FD_LN2_HIGH_F32, f + low);
}

/* Exponent of x, moved so that x / 2^k is in [sqrt(1/2), sqrt(2)); bits of that sqrt: 0x3f3504f3. */
FD_INLINE int32_t fd_log_exponent_f32(float x) {
  return (int32_t)(fd_bits_f32(x) - 0x3f3504f3u) >> 23;
}

/* Results at and outside of the ends of log's domain. */
FD_INLINE float fd_log_ends_f32(float x, float y) {
  y = x == FD_INF_F32 || x != x ? x : y;
  y = x == 0 ? -FD_INF_F32 : y;
  return x < 0 ? FD_NAN_F32 : y;
}

/* Writes x = m 2^k and returns m - 1; a subnormal x is scaled to a normal number first. */
FD_INLINE float fd_log_split_f32(float x, float *k) {
  int tiny = x < 0x1p-126f;
  float normal = tiny ? x * 0x1p23f : x;
  int32_t e = fd_log_exponent_f32(normal);
  *k = (float)(tiny ? e - 23 : e);
  return fd_from_bits_f32(fd_bits_f32(normal) - ((uint32_t)e << 23)) - 1.0f;
}

FD_INLINE float fd_log_f32(float x) {
  float k, f = fd_log_split_f32(x, &k);
  return fd_log_ends_f32(x, fd_log_reduced_f32(f, k));
}

/* k + log(m) / ln 2, with 1 / ln 2 in two parts. */
FD_INLINE float fd_log2_f32(float x) {
  float k, f = fd_log_split_f32(x, &k);
  float ln = fd_log_reduced_f32(f, 0.0f);
  float y = FD_FMA(ln, 0x1.715476p0f, FD_FMA(ln, 0x1.4ae0cp-26f, k));
  return fd_log_ends_f32(x, y);
}

/* As log of u = 1 + x, but f = x 2^-k + (2^-k - 1) is rounded once, not from the rounded u. From
 * 2^24 on, u is as good as x, and 2^-k would become subnormal. */
FD_INLINE float fd_log1p_f32(float x) {
  float u = 1.0f + x;
  int32_t e = fd_log_exponent_f32(u);
  float inverse = fd_power_of_two_f32(e > 24 ? 0 : -e);
  float large = fd_from_bits_f32(fd_bits_f32(u) - ((uint32_t)e << 23)) - 1.0f;
  float f = e > 24 ? large : FD_FMA(x, inverse, inverse - 1.0f);
  float y = fd_log_ends_f32(u, fd_log_reduced_f32(f, (float)e));
  return x == 0 ? x : y; /* keeps -0 */
}

/* tanh |x| = (e^2|x| - 1) / (e^2|x| + 1); it rounds to 1 from 9.02 on. */
FD_INLINE float fd_tanh_f32(float x) {
  int32_t n;
  float a = fd_abs_f32(x);
  a = a > 9.5f ? 9.5f : a;
  float em1 = fd_exp_reduced_f32(2.0f * a, &n);
  float scale = fd_power_of_two_f32(n);
  em1 = FD_FMA(scale, em1, scale - 1.0f);
  return fd_copysign_f32(em1 / (em1 + 2.0f), x);
}

/* By e^-|x|, which cannot overflow: 1 / (1 + e^-x) right of 0, e^x / (1 + e^x) left of it. */
FD_INLINE float fd_logistic_f32(float x) {
  float e = fd_exp_f32(-fd_abs_f32(x));
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/* |x| < 0.9: x + x P(x^2). Above: 1 - e^Q(|x|) with Q = log erfc, up to 4, where erf rounds to 1. */
FD_INLINE float fd_erf_f32(float x) {
  int32_t n;
  float a = fd_abs_f32(x), z = x * x;
  float p = FD_FMA(0x1.600796p-14f, z, -0x1.aaff0ap-11f);
  p = FD_FMA(p, z, 0x1.54d5cap-8f);
  p = FD_FMA(p, z, -0x1.b80eeap-6f);
  p = FD_FMA(p, z, 0x1.ce2dfap-4f);
  p = FD_FMA(p, z, -0x1.812742p-2f);
  p = FD_FMA(p, z, 0x1.06eba8p-3f);
  float small = FD_FMA(p, x, x);
  float b = a > 4.0f ? 4.0f : a;
  float q = FD_FMA(0x1.9f3deap-13f, b, -0x1.918798p-9f);
  q = FD_FMA(q, b, 0x1.6d7bap-6f);
  q = FD_FMA(q, b, -0x1.aa62acp-4f);
  q = FD_FMA(q, b, -0x1.4623f4p-1f);
  q = FD_FMA(q, b, -0x1.20b6b2p0f);
  q = FD_FMA(q, b, -0x1.61a13ap-13f);
  float em1 = fd_exp_reduced_f32(q, &n);
  float scale = fd_power_of_two_f32(n);
  float large = (1.0f - scale) - scale * em1;
  return a < 0.9f ? small : fd_copysign_f32(large, x);
}

/* ---- sine, cosine, tangent ---- */

/* 2^k 2/pi modulo 4 for k = 0 .. 104, in two parts: the first in units of 2^-27, so that its product
 * with a float's 24 bits is exact in double. With it every finite float is reduced without a branch
 * (after Payne and Hanek, 1983). */
static const double fd_two_over_pi_f32[105][2] __attribute__((unused)) = {
    {0x1.45f306c000000p-1, 0x1.c9c882a53f84fp-29}, {0x1.45f306e000000p+0, -0x1.b1bbead603d8bp-31},
    {-0x1.7419f24000000p+0, -0x1.b1bbead603d8bp-30}, {0x1.17cc1b8000000p+0, -0x1.b1bbead603d8bp-29},
    {-0x1.d067c92000000p+0, 0x1.391054a7f09d6p-30}, {0x1.7cc1b7p-2, 0x1.391054a7f09d6p-29},
    {0x1.7cc1b74000000p-1, -0x1.8ddf56b01ec54p-29}, {0x1.7cc1b72000000p+0, 0x1.c882a53f84eb0p-30},
    {-0x1.067c91c000000p+0, 0x1.c882a53f84eb0p-29}, {0x1.f306dca000000p+0, -0x1.bbead603d8a83p-31},
    {-0x1.9f246cp-4, -0x1.bbead603d8a83p-30}, {-0x1.9f246cp-3, -0x1.bbead603d8a83p-29},
    {-0x1.9f246c8000000p-2, 0x1.1054a7f09d5f4p-30}, {-0x1.9f246c8000000p-1, 0x1.1054a7f09d5f4p-29},
    {-0x1.9f246c6000000p+0, -0x1.df56b01ec5417p-29}, {0x1.836e4e4000000p-1, 0x1.054a7f09d5f48p-31},
    {0x1.836e4e4000000p+0, 0x1.054a7f09d5f48p-30}, {-0x1.f246c7p-1, 0x1.054a7f09d5f48p-29},
    {-0x1.f246c6e000000p+0, -0x1.f56b01ec54170p-29}, {0x1.b72722p-4, 0x1.529fc2757d1f5p-33},
    {0x1.b72722p-3, 0x1.529fc2757d1f5p-32}, {0x1.b72722p-2, 0x1.529fc2757d1f5p-31},
    {0x1.b72722p-1, 0x1.529fc2757d1f5p-30}, {0x1.b72722p+0, 0x1.529fc2757d1f5p-29},
    {-0x1.236377c000000p-1, -0x1.5ac07b1505c16p-29}, {-0x1.236377e000000p+0, 0x1.4a7f09d5f47d5p-29},
    {0x1.b939106000000p+0, -0x1.6b01ec5417056p-29}, {-0x1.1b1bbec000000p-1, 0x1.29fc2757d1f53p-29},
    {-0x1.1b1bbea000000p+0, -0x1.ac07b1505c159p-29}, {0x1.c9c882a000000p+0, 0x1.4fe13abe8fa9ap-30},
    {-0x1.b1bbebp-2, 0x1.4fe13abe8fa9ap-29}, {-0x1.b1bbeac000000p-1, -0x1.603d8a82e0acbp-29},
    {-0x1.b1bbeae000000p+0, 0x1.3f84eafa3ea6ap-29}, {0x1.391054c000000p-1, -0x1.80f62a0b82b2dp-29},
    {0x1.391054a000000p+0, 0x1.fc2757d1f534ep-30}, {-0x1.8ddf56c000000p+0, 0x1.fc2757d1f534ep-29},
    {0x1.c882a54000000p-1, -0x1.ec54170565912p-35}, {0x1.c882a54000000p+0, -0x1.ec54170565912p-34},
    {-0x1.bbead6p-2, -0x1.ec54170565912p-33}, {-0x1.bbead6p-1, -0x1.ec54170565912p-32},
    {-0x1.bbead6p+0, -0x1.ec54170565912p-31}, {0x1.1054a8p-1, -0x1.ec54170565912p-30},
    {0x1.1054a8p+0, -0x1.ec54170565912p-29}, {-0x1.df56b02000000p+0, 0x1.3abe8fa9a6ee0p-32},
    {0x1.054a7fp-2, 0x1.3abe8fa9a6ee0p-31}, {0x1.054a7fp-1, 0x1.3abe8fa9a6ee0p-30},
    {0x1.054a7fp+0, 0x1.3abe8fa9a6ee0p-29}, {-0x1.f56b01e000000p+0, -0x1.8a82e0acb223fp-29},
    {0x1.529fc2p-4, 0x1.d5f47d4d37703p-30}, {0x1.529fc2p-3, 0x1.d5f47d4d37703p-29},
    {0x1.529fc28000000p-2, -0x1.505c1596447e5p-31}, {0x1.529fc28000000p-1, -0x1.505c1596447e5p-30},
    {0x1.529fc28000000p+0, -0x1.505c1596447e5p-29}, {-0x1.5ac07b2000000p+0, 0x1.5f47d4d377037p-29},
    {0x1.4a7f09e000000p+0, -0x1.4170565911f92p-29}, {-0x1.6b01ec6000000p+0, 0x1.7d1f534ddc0dbp-29},
    {0x1.29fc276000000p+0, -0x1.05c1596447e49p-29}, {-0x1.ac07b16000000p+0, 0x1.f47d4d377036ep-29},
    {0x1.4fe13ac000000p-1, -0x1.70565911f924fp-33}, {0x1.4fe13ac000000p+0, -0x1.70565911f924fp-32},
    {-0x1.603d8a8000000p+0, -0x1.70565911f924fp-31}, {0x1.3f84ebp+0, -0x1.70565911f924fp-30},
    {-0x1.80f62ap+0, -0x1.70565911f924fp-29}, {0x1.fc2757c000000p-1, 0x1.1f534ddc0db63p-29},
    {0x1.fc2757e000000p+0, -0x1.c1596447e493bp-29}, {-0x1.ec5418p-6, 0x1.f534ddc0db629p-31},
    {-0x1.ec5418p-5, 0x1.f534ddc0db629p-30}, {-0x1.ec5418p-4, 0x1.f534ddc0db629p-29},
    {-0x1.ec5417p-3, -0x1.596447e493ad5p-33}, {-0x1.ec5417p-2, -0x1.596447e493ad5p-32},
    {-0x1.ec5417p-1, -0x1.596447e493ad5p-31}, {-0x1.ec5417p+0, -0x1.596447e493ad5p-30},
    {0x1.3abe90p-3, -0x1.596447e493ad5p-29}, {0x1.3abe8f8000000p-2, 0x1.4d377036d8a56p-29},
    {0x1.3abe8fc000000p-1, -0x1.65911f924eb53p-29}, {0x1.3abe8fa000000p+0, 0x1.34ddc0db6295ap-29},
    {-0x1.8a82e0a000000p+0, -0x1.96447e493ad4dp-29}, {0x1.d5f47d4000000p-1, 0x1.a6ee06db14acdp-30},
    {0x1.d5f47d4000000p+0, 0x1.a6ee06db14acdp-29}, {-0x1.505c158000000p-2, -0x1.6447e493ad4cep-30},
    {-0x1.505c158000000p-1, -0x1.6447e493ad4cep-29}, {-0x1.505c15a000000p+0, 0x1.377036d8a5665p-29},
    {0x1.5f47d4e000000p+0, -0x1.911f924eb5336p-29}, {-0x1.4170566000000p+0, 0x1.bb81b6c52b328p-30},
    {0x1.7d1f534000000p+0, 0x1.bb81b6c52b328p-29}, {-0x1.05c1596000000p+0, -0x1.11f924eb53362p-30},
    {0x1.f47d4d4000000p+0, -0x1.11f924eb53362p-29}, {-0x1.70565ap-4, 0x1.dc0db6295993cp-29},
    {-0x1.705659p-3, -0x1.1f924eb53361ep-31}, {-0x1.705659p-2, -0x1.1f924eb53361ep-30},
    {-0x1.705659p-1, -0x1.1f924eb53361ep-29}, {-0x1.7056592000000p+0, 0x1.c0db6295993c4p-29},
    {0x1.1f534de000000p+0, -0x1.f924eb53361dep-31}, {-0x1.c159644000000p+0, -0x1.f924eb53361dep-30},
    {0x1.f534dep-2, -0x1.f924eb53361dep-29}, {0x1.f534ddc000000p-1, 0x1.b6c52b3278872p-34},
    {0x1.f534ddc000000p+0, 0x1.b6c52b3278872p-33}, {-0x1.596448p-4, 0x1.b6c52b3278872p-32},
    {-0x1.596448p-3, 0x1.b6c52b3278872p-31}, {-0x1.596448p-2, 0x1.b6c52b3278872p-30},
    {-0x1.596448p-1, 0x1.b6c52b3278872p-29}, {-0x1.596447e000000p+0, -0x1.24eb53361de38p-30},
    {0x1.4d37704000000p+0, -0x1.24eb53361de38p-29}, {-0x1.65911fa000000p+0, 0x1.b6295993c4390p-29},
    {0x1.34ddc0e000000p+0, -0x1.275a99b0ef1bfp-30},
};

/* Returns r and writes n for |x| = n pi/2 + r modulo 2 pi, |r| <= pi/4, r within 2^-51 or so. In
 * double, since in float the three-part constant would serve only up to |x| of about 10^5. */
FD_INLINE double fd_reduce_f32(float x, uint32_t *n) {
  const double rounder = 0x1.8p52;
  uint32_t u = fd_bits_f32(x) & 0x7fffffffu;
  int32_t k = (int32_t)(u >> 23) - 150; /* |x| = m 2^k, m < 2^24 */
  k = k < 0 ? 0 : k;
  k = k > 104 ? 104 : k; /* Inf and NaN */
  double m = (double)fd_from_bits_f32(u - ((uint32_t)k << 23));
  double high = m * fd_two_over_pi_f32[k][0], low = m * fd_two_over_pi_f32[k][1];
  double shifted = (high + low) + rounder;
  *n = (uint32_t)fd_bits_f64(shifted);
  return ((high - (shifted - rounder)) + low) * 0x1.921fb54442d18p0;
}
/* On |r| <= pi/4, both to 2^-37. */
FD_INLINE double fd_sin_reduced_f32(double r) {
  double z = r * r;
  double s = fd_fma_f64(0x1.6cd1c2077e50ap-19, z, -0x1.a00f7e06c0591p-13);
  s = fd_fma_f64(fd_fma_f64(s, z, 0x1.11110868d37fbp-7), z, -0x1.5555554c71ae8p-3);
  return fd_fma_f64(s * z, r, r);
}
FD_INLINE double fd_cos_reduced_f32(double r) {
  double z = r * r;
  double c = fd_fma_f64(-0x1.241fbca8d3015p-22, z, 0x1.a010e4942f9e5p-16);
  c = fd_fma_f64(fd_fma_f64(c, z, -0x1.6c16b83324a14p-10), z, 0x1.5555554ee1ba1p-5);
  return fd_fma_f64(fd_fma_f64(c, z, -0.5), z, 1.0);
}

FD_INLINE float fd_sin_f32(float x) {
  uint32_t n;
  double r = fd_reduce_f32(x, &n);
  float y = (float)(n & 1 ? fd_cos_reduced_f32(r) : fd_sin_reduced_f32(r));
  uint32_t sign = (n << 30) ^ fd_bits_f32(x);
  y = fd_from_bits_f32(fd_bits_f32(y) ^ (sign & 0x80000000u));
  return fd_is_finite_f32(x) ? y : FD_NAN_F32;
}
FD_INLINE float fd_cos_f32(float x) {
  uint32_t n;
  double r = fd_reduce_f32(x, &n);
  float y = (float)(n & 1 ? fd_sin_reduced_f32(r) : fd_cos_reduced_f32(r));
  y = fd_from_bits_f32(fd_bits_f32(y) ^ (((n + 1) << 30) & 0x80000000u));
  return fd_is_finite_f32(x) ? y : FD_NAN_F32;
}
FD_INLINE float fd_tan_f32(float x) {
  uint32_t n;
  double r = fd_reduce_f32(x, &n);
  double s = fd_sin_reduced_f32(r), c = fd_cos_reduced_f32(r);
  float y = (float)((n & 1 ? -c : s) / (n & 1 ? s : c));
  y = fd_from_bits_f32(fd_bits_f32(y) ^ (fd_bits_f32(x) & 0x80000000u));
  return fd_is_finite_f32(x) ? y : FD_NAN_F32;
}

/* ---- by the C library: rare, so that scalar calls do ---- */

FD_INLINE float fd_cbrt_f32(float x) { return __builtin_cbrtf(x); }
FD_INLINE float fd_asin_f32(float x) { return __builtin_asinf(x); }
FD_INLINE float fd_acos_f32(float x) { return __builtin_acosf(x); }
FD_INLINE float fd_atan_f32(float x) { return __builtin_atanf(x); }
FD_INLINE float fd_atan2_f32(float y, float x) { return __builtin_atan2f(y, x); }
FD_INLINE float fd_sinh_f32(float x) { return __builtin_sinhf(x); }
FD_INLINE float fd_cosh_f32(float x) { return __builtin_coshf(x); }
FD_INLINE float fd_asinh_f32(float x) { return __builtin_asinhf(x); }
FD_INLINE float fd_acosh_f32(float x) { return __builtin_acoshf(x); }
FD_INLINE float fd_atanh_f32(float x) { return __builtin_atanhf(x); }
FD_INLINE float fd_erfc_f32(float x) { return __builtin_erfcf(x); }
FD_INLINE float fd_rem_f32(float x, float y) { return __builtin_fmodf(x, y); }
FD_INLINE float fd_nextafter_f32(float x, float y) { return __builtin_nextafterf(x, y); }

/* |x|^y = e^(y log|x|) in double, whose 53 bits leave 24 good ones after the product with y. */
FD_INLINE float fd_pow_f32(float x, float y) {
  double a = (double)fd_abs_f32(x);
  float magnitude = (float)fd_exp_f64((double)y * fd_log_f64(a));
  magnitude = y == 0 || a == 1 ? 1.0f : magnitude;
  float half = 0.5f * fd_abs_f32(y); /* y is an odd integer when y/2 ends in .5 */
  int odd = fd_abs_f32(y) < 0x1p24f && half - __builtin_floorf(half) == 0.5f;
  int whole = __builtin_floorf(y) == y;
  float signed_ = odd ? fd_copysign_f32(magnitude, x) : magnitude;
  signed_ = x < 0 && !whole && x != -FD_INF_F32 ? FD_NAN_F32 : signed_;
  signed_ = x == -1.0f && fd_abs_f32(y) == FD_INF_F32 ? 1.0f : signed_;
  return (x == 1.0f || y == 0) ? 1.0f : (x != x || y != y) ? FD_NAN_F32 : signed_;
}

#undef FD_FMA

#endif
