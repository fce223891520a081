/* Elementary functions in float.
 *
 * Polynomial coefficients are weighted minimax fits (Lawson iteration on Chebyshev nodes), each
 * coefficient rounded in turn and the rest fitted again. "N ulp" is the largest error found over
 * 4 * 10^7 arguments of every magnitude, with FMA and without. */
#ifndef FD_MATH_F32_H
#define FD_MATH_F32_H

#include "fd_math_f64.h"
#include "fd_types.h"

#define FD_FMA fd_fma_f32

/* Adding 1.5 * 2^23 leaves the nearest integer in the low bits: this rounds without SSE4.1. */
#define FD_ROUNDER_F32 0x1.8p23f
/* ln 2 = high + low; high has 15 bits, so that its product with an exponent is exact. */
#define FD_LN2_HIGH_F32 0x1.62e4p-1f
#define FD_LN2_LOW_F32 0x1.7f7d1cp-20f

FD_INLINE float fd_abs_f32(float x) { return __builtin_fabsf(x); }
FD_INLINE float fd_copysign_f32(float x, float s) { return __builtin_copysignf(x, s); }
FD_INLINE float fd_sqrt_f32(float x) { return __builtin_sqrtf(x); }
/* 1.5 ulp. */
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
/* The same from n + 127 in the low bits of `biased`, whatever the high ones hold. */
FD_INLINE float fd_power_of_biased_f32(uint32_t biased) { return fd_from_bits_f32(biased << 23); }

/* 2^n p from n + 126 in the low 9 bits of `biased` and 2p in `twice`, where -152 <= n <= 128. By a
 * product with 2^(n - 1), so that a subnormal result is rounded once; what is below 2^-126 of that
 * is taken from the exponent of 2p. Nothing is where n = 128, so that Inf and NaN stay. */
FD_INLINE float fd_scale_f32(float twice, uint32_t biased) {
  int32_t power = (int32_t)(biased << 23), least = 1 << 23;
  int32_t normal = power > least ? power : least;
  uint32_t scaled = fd_bits_f32(twice) + (uint32_t)(power - normal);
  return fd_from_bits_f32(scaled) * fd_from_bits_f32((uint32_t)normal);
}

/* The lesser of x and a bound, and the greater; NaN stays. The bounds are variables, and `used`, so
 * that gcc does not know their values: with a constant it compares into a mask, in a unit that
 * multiplies, and selects; with a variable it makes one vminps or vmaxps, in a unit that adds. */
#define FD_BOUND(name, value) static float name __attribute__((used)) = value
FD_INLINE float fd_at_most_f32(float x, float bound) { return bound < x ? bound : x; }
FD_INLINE float fd_at_least_f32(float x, float bound) { return bound > x ? bound : x; }

/* x = n ln 2 + r with |r| <= ln 2 / 2; returns r. The low bits of `biased` are those of n + bias:
 * what rounds to n adds the bias on the way. n is at most `most`, for NaN too, and r what is left;
 * with UINT32_MAX x must have a bound. */
FD_INLINE float fd_exp_rest_f32(float x, uint32_t bias, uint32_t most, uint32_t *biased) {
  const float rounder = FD_ROUNDER_F32 + (float)bias;
  uint32_t sum = fd_bits_f32(FD_FMA(x, 0x1.715476p0f, rounder));
  uint32_t last = most == UINT32_MAX ? most : fd_bits_f32(rounder) + most;
  *biased = sum < last ? sum : last;
  float k = fd_from_bits_f32(*biased) - rounder;
  return FD_FMA(k, -FD_LN2_LOW_F32, FD_FMA(k, -FD_LN2_HIGH_F32, x));
}

/* factor P(by r) where e^r = 1 + r + r^2 P(r), within 0.2 ulp of e^r. */
FD_INLINE float fd_exp_curve_f32(float r, float by, float factor) {
  const float square = by * by, cube = by * square;
  float p = FD_FMA(factor * by * cube * 0x1.6a4d6p-10f, r, factor * cube * 0x1.12398ep-7f);
  p = FD_FMA(p, r, factor * square * 0x1.5558bp-5f);
  p = FD_FMA(p, r, factor * by * 0x1.555492p-3f);
  return FD_FMA(p, r, factor * 0x1.fffffcp-2f);
}

/* e^r - 1 where x = n ln 2 + r, for x with a bound. */
FD_INLINE float fd_exp_reduced_f32(float x, uint32_t bias, uint32_t *biased) {
  float r = fd_exp_rest_f32(x, bias, UINT32_MAX, biased);
  return FD_FMA(r * r, fd_exp_curve_f32(r, 1.0f, 1.0f), r);
}

/* e^x = 2^n e^r. From n = 128 on, 2 e^r is so large that the product is Inf. 1.2 ulp. */
FD_BOUND(fd_exp_least_f32, -105.0f); /* of which 0 comes out */
FD_INLINE float fd_exp_f32(float x) {
  uint32_t n;
  float r = fd_exp_rest_f32(fd_at_least_f32(x, fd_exp_least_f32), 126, 128, &n);
  float twice = FD_FMA(FD_FMA(fd_exp_curve_f32(r, 1.0f, 2.0f), r, 2.0f), r, 2.0f);
  return fd_scale_f32(twice, n);
}

/* 2^x = 2^n 2^r, |r| <= 1/2 exactly; twice 2^r = 2 + r P(r). 1.1 ulp. */
FD_BOUND(fd_exp2_least_f32, -151.0f);
FD_INLINE float fd_exp2_f32(float x) {
  const float rounder = FD_ROUNDER_F32 + 126.0f;
  float bounded = fd_at_least_f32(x, fd_exp2_least_f32);
  uint32_t sum = fd_bits_f32(bounded + rounder), last = fd_bits_f32(rounder) + 128;
  uint32_t n = sum < last ? sum : last;
  float r = bounded - (fd_from_bits_f32(n) - rounder);
  float p = FD_FMA(0x1.4705aep-12f, r, 0x1.5f0ee8p-9f);
  p = FD_FMA(p, r, 0x1.3b25fap-6f);
  p = FD_FMA(p, r, 0x1.c6af7p-4f);
  p = FD_FMA(p, r, 0x1.ebfbe6p-2f);
  p = FD_FMA(p, r, 0x1.62e43p0f);
  return fd_scale_f32(FD_FMA(p, r, 2.0f), n);
}

/* e^x - 1 = 2^n (e^r - 1) + (2^n - 1), halved so that n = 128 does not overflow early. 1.6 ulp. */
FD_BOUND(fd_expm1_least_f32, -18.0f);
FD_BOUND(fd_expm1_most_f32, 89.0f);
FD_INLINE float fd_expm1_f32(float x) {
  uint32_t n;
  float bounded = fd_at_least_f32(fd_at_most_f32(x, fd_expm1_most_f32), fd_expm1_least_f32);
  float em1 = fd_exp_reduced_f32(bounded, 126, &n);
  float half = fd_power_of_biased_f32(n);
  float y = 2.0f * FD_FMA(half, em1, half - 0.5f);
  return fd_abs_f32(x) >= 0x1p-26f ? y : x; /* keeps -0, half a subnormal, and NaN */
}

/* log(2^k (1 + f)) for 1 + f in [sqrt(1/2), sqrt(2)): k ln 2 + (f - f^2/2 + f^3 Q(f)).
 * 0.8 ulp for log. */
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

/* Exponent of x, moved so that x / 2^k is in [sqrt(1/2), sqrt(2)); 0x3f3504f3 is that sqrt. */
FD_INLINE int32_t fd_log_exponent_f32(float x) {
  return (int32_t)(fd_bits_f32(x) - 0x3f3504f3u) >> 23;
}

/* Results at and outside of the ends of log's domain. */
FD_INLINE float fd_log_ends_f32(float x, float y) {
  y = x == FD_INF_F32 || x != x ? x : y;
  y = x == 0 ? -FD_INF_F32 : y;
  return x < 0 ? FD_NAN_F32 : y;
}

/* x is 2^k (1 + f); a subnormal one is scaled to a normal number first. */
FD_INLINE float fd_log_f32(float x) {
  int tiny = x < 0x1p-126f;
  float normal = tiny ? x * 0x1p23f : x;
  int32_t e = fd_log_exponent_f32(normal);
  float k = (float)(tiny ? e - 23 : e);
  float f = fd_from_bits_f32(fd_bits_f32(normal) - ((uint32_t)e << 23)) - 1.0f;
  return fd_log_ends_f32(x, fd_log_reduced_f32(f, k));
}

/* As log of u = 1 + x, but f = x 2^-k + (2^-k - 1) is rounded once, not from the rounded u. From
 * 2^24 on, u is as good as x, and 2^-k would become subnormal. 1.4 ulp. */
FD_INLINE float fd_log1p_f32(float x) {
  float u = 1.0f + x;
  int32_t e = fd_log_exponent_f32(u);
  float inverse = fd_power_of_two_f32(e > 24 ? 0 : -e);
  float large = fd_from_bits_f32(fd_bits_f32(u) - ((uint32_t)e << 23)) - 1.0f;
  float f = e > 24 ? large : FD_FMA(x, inverse, inverse - 1.0f);
  float y = fd_log_ends_f32(u, fd_log_reduced_f32(f, (float)e));
  return x == 0 ? x : y; /* keeps -0 */
}

/* (1 - e) / (1 + e) with e = e^(-2|x|), which rounds to 1 from 9.02 on. |x| = n ln(2) / 2 + r and
 * e = 2^-n (1 - 2w). ln 2 in one part does: its error counts n times, but e only 2^-n. 2.0 ulp. */
FD_BOUND(fd_tanh_most_f32, 9.5f);
FD_INLINE float fd_tanh_f32(float x) {
  const float rounder = FD_ROUNDER_F32 + 127.0f;
  float a = fd_at_most_f32(fd_abs_f32(x), fd_tanh_most_f32);
  float shifted = FD_FMA(a, -0x1.715476p1f, rounder);
  float r = FD_FMA(shifted - rounder, 0x1.62e43p-2f, a);
  float w = FD_FMA(r * r, fd_exp_curve_f32(r, -2.0f, -2.0f), r);
  uint32_t power = fd_bits_f32(shifted) << 23;
  float scale = fd_from_bits_f32(power), twice = fd_from_bits_f32(power + (1u << 23));
  float difference = FD_FMA(twice, w, 1.0f - scale), sum = FD_FMA(-twice, w, 1.0f + scale);
  return fd_copysign_f32(difference / sum, x);
}

/* 1 / (1 + e^-x), both times 2^-30, since e^-x may be beyond 2^128 where the result is subnormal.
 * e^-x = 2^n (1 + em1); what 2^n + 1 loses where n is 24 or more is added to the smaller term.
 * 1.8 ulp. */
FD_BOUND(fd_logistic_least_f32, -20.0f); /* 1 + e^-20 rounds to 1 */
FD_BOUND(fd_logistic_most_f32, 105.0f);
FD_INLINE float fd_logistic_f32(float x) {
  const float one = 0x1p-30f;
  uint32_t n;
  float bounded = fd_at_least_f32(fd_at_most_f32(-x, fd_logistic_most_f32), fd_logistic_least_f32);
  float em1 = fd_exp_reduced_f32(bounded, 127 - 30, &n);
  float scale = fd_power_of_biased_f32(n), sum = scale + one, rest = one - (sum - scale);
  return one / (sum + FD_FMA(scale, em1, rest));
}

/* 1 - e^q with q = log erfc |x| = |x| P(|x|) - |x|, up to 3.93, where erf rounds to 1; P is small
 * where a small result is q. ln 2 in one part does, as in tanh. 1.8 ulp. */
FD_BOUND(fd_erf_most_f32, 3.93f);
FD_INLINE float fd_erf_f32(float x) {
  const float rounder = FD_ROUNDER_F32 + 127.0f;
  float a = fd_at_most_f32(fd_abs_f32(x), fd_erf_most_f32);
  float p = FD_FMA(0x1.3aebeap-17f, a, -0x1.f27876p-14f);
  p = FD_FMA(p, a, 0x1.4e2414p-11f);
  p = FD_FMA(p, a, -0x1.b741c8p-10f);
  p = FD_FMA(p, a, 0x1.636e48p-13f);
  p = FD_FMA(p, a, 0x1.39b7cep-6f);
  p = FD_FMA(p, a, -0x1.a4f8c4p-4f);
  p = FD_FMA(p, a, -0x1.45f3p-1f);
  p = FD_FMA(p, a, -0x1.06eba8p-3f);
  float q = FD_FMA(p, a, -a);
  float shifted = FD_FMA(q, 0x1.715476p0f, rounder);
  float r = FD_FMA(shifted - rounder, -0x1.62e43p-1f, q);
  float em1 = FD_FMA(r * r, fd_exp_curve_f32(r, 1.0f, 1.0f), r);
  float scale = fd_power_of_biased_f32(fd_bits_f32(shifted));
  return fd_copysign_f32(FD_FMA(-scale, em1, 1.0f - scale), x);
}

/* e^(-x^2) / (1 + 2x) times a polynomial in (x - 3) / (x + 3) for x >= 0, up to 10.2, where it
 * rounds to 0; in double, since the rounding of x^2 is large in the exponent. 0.6 ulp. */
FD_INLINE float fd_erfc_f32(float x) {
  double a = fd_abs_f64((double)x);
  a = a > 10.5 ? 10.5 : a;
  double t = (a - 3.0) / (a + 3.0);
  double p = fd_fma_f64(-0x1.182bff80d3f38p-12, t, -0x1.966635ac08c22p-11);
  p = fd_fma_f64(p, t, 0x1.06952d7f14648p-9);
  p = fd_fma_f64(p, t, 0x1.50681c0f0c055p-9);
  p = fd_fma_f64(p, t, -0x1.85ea463949a84p-6);
  p = fd_fma_f64(p, t, 0x1.17bd47a678c53p-4);
  p = fd_fma_f64(p, t, -0x1.e8887ed58a7dcp-4);
  p = fd_fma_f64(p, t, 0x1.098411d4b37e6p-3);
  p = fd_fma_f64(p, t, -0x1.85a19a30b5e46p-5);
  p = fd_fma_f64(p, t, -0x1.15c0894ca2622p-3);
  p = fd_fma_f64(p, t, 0x1.40c522dbf46ddp+0);
  double y = fd_exp_f64(-a * a) * p / (1.0 + 2.0 * a);
  return (float)(x < 0 ? 2.0 - y : y);
}

/* Sine, cosine, tangent: 0.51 ulp, for all floats. */

/* 2^k 2/pi modulo 4 for k = 0 .. 104, in parts of 29 bits that count 2^-27, 2^-56 and 2^-85: their
 * products with a float's 24 bits are exact in double, and so every finite float is reduced without
 * a branch (after Payne and Hanek, 1983). gcc gathers from rows of 32 bits only. */
static const int32_t fd_two_over_pi_high[105] __attribute__((unused)) = {
    85445659, 170891319, -195088274, 146694364, -243482185, 49906542, 99813085, 199626169,
    -137618574, 261633765, -13603382, -27206764, -54413529, -108827058, -217654115, 101562681,
    203125362, -130620188, -261240375, 14390161, 28780322, 57560644, 115121288, 230242576,
    -76385759, -152771519, 231327875, -74215163, -148430325, 240010261, -56850390, -113700779,
    -227401559, 82067795, 164135589, -208599734, 119671445, 239342890, -58185132, -116370264,
    -232740528, 71389856, 142779712, -251311489, 34247934, 68495868, 136991736, -262887439,
    11096033, 22192066, 44384133, 88768266, 177536532, -181797849, 173275215, -190320483,
    156229947, -224411019, 88048875, 176097750, -184675412, 167520088, -201830736, 133209439,
    266418879, -4033155, -8066310, -16132620, -32265239, -64530478, -129060956, -258121912,
    20627088, 41254175, 82508351, 165016701, -206837509, 123195893, 246391786, -44087339,
    -88174678, -176349357, 184172199, -168526515, 199817882, -137235147, 262400618, -12069677,
    -24139353, -48278706, -96557412, -193114825, 150641263, -235588386, 65694140, 131388279,
    262776558, -11317796, -22635592, -45271184, -90542368, -181084735, 174701442, -187468029,
    161934855,
};
static const int32_t fd_two_over_pi_middle[105] __attribute__((unused)) = {
    240010261, -56850390, -113700779, -227401559, 82067795, 164135589, -208599734, 119671445,
    239342890, -58185132, -116370264, -232740528, 71389856, 142779712, -251311489, 34247934,
    68495868, 136991736, -262887439, 11096033, 22192066, 44384133, 88768266, 177536532,
    -181797849, 173275215, -190320483, 156229947, -224411019, 88048875, 176097750, -184675412,
    167520088, -201830736, 133209439, 266418879, -4033155, -8066310, -16132620, -32265239,
    -64530478, -129060956, -258121912, 20627088, 41254175, 82508351, 165016701, -206837509,
    123195893, 246391786, -44087339, -88174678, -176349357, 184172199, -168526515, 199817882,
    -137235147, 262400618, -12069677, -24139353, -48278706, -96557412, -193114825, 150641263,
    -235588386, 65694140, 131388279, 262776558, -11317796, -22635592, -45271184, -90542368,
    -181084735, 174701442, -187468029, 161934855, -213001202, 110868507, 221737015, -93396882,
    -186793765, 163283383, -210304146, 116262619, 232525238, -71820436, -143640871, 249589169,
    -37692573, -75385147, -150770294, 235330325, -66210263, -132420525, -264841051, 7188811,
    14377622, 28755243, 57510486, 115020973, 230041946, -76787021, -153574042, 229722829,
    -77425255,
};
static const int32_t fd_two_over_pi_low[105] __attribute__((unused)) = {
    88048875, 176097750, -184675412, 167520088, -201830736, 133209439, 266418879, -4033155,
    -8066310, -16132620, -32265239, -64530478, -129060956, -258121912, 20627088, 41254175,
    82508351, 165016701, -206837509, 123195893, 246391786, -44087339, -88174678, -176349357,
    184172199, -168526515, 199817882, -137235147, 262400618, -12069677, -24139353, -48278706,
    -96557412, -193114825, 150641263, -235588386, 65694140, 131388279, 262776558, -11317796,
    -22635592, -45271184, -90542368, -181084735, 174701442, -187468029, 161934855, -213001202,
    110868507, 221737015, -93396882, -186793765, 163283383, -210304146, 116262619, 232525238,
    -71820436, -143640871, 249589169, -37692573, -75385147, -150770294, 235330325, -66210263,
    -132420525, -264841051, 7188811, 14377622, 28755243, 57510486, 115020973, 230041946,
    -76787021, -153574042, 229722829, -77425255, -154850510, 227169893, -82531126, -165062252,
    206746408, -123378097, -246756194, 43358524, 86717049, 173434097, -190002718, 156865476,
    -223139960, 90590993, 181181986, -174506940, 187857031, -161156850, 214557213, -107756487,
    -215512974, 105844964, 211689928, -113491056, -226982111, 82906689, 165813378, -205244156,
    126382600,
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
  double high = m * (0x1p-27 * fd_two_over_pi_high[k]);
  double low = m * (0x1p-56 * fd_two_over_pi_middle[k] + 0x1p-85 * fd_two_over_pi_low[k]);
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

/* Computed in double, whose 53 bits need no care: 0.51 ulp, cbrt 0.59. */

FD_INLINE float fd_cbrt_f32(float x) {
  float y = (float)fd_cbrt_near_f64(fd_abs_f64((double)x));
  return x == 0 || !fd_is_finite_f32(x) ? x : fd_copysign_f32(y, x);
}
/* (e + e / (e + 1)) / 2 with e = e^|x| - 1. */
FD_INLINE float fd_sinh_f32(float x) {
  double a = fd_abs_f64((double)x);
  double e = fd_expm1_f64(a > 100.0 ? 100.0 : a);
  return fd_copysign_f32((float)(0.5 * (e + e / (e + 1.0))), x);
}
FD_INLINE float fd_cosh_f32(float x) {
  double e = fd_exp_f64(fd_abs_f64((double)x));
  return (float)(0.5 * (e + 1.0 / e));
}
/* log(a + sqrt(a^2 + 1)) = log1p(a + (sqrt(a^2 + 1) - 1)), and the difference without cancellation. */
FD_INLINE float fd_asinh_f32(float x) {
  double a = fd_abs_f64((double)x), z = a * a;
  float y = (float)fd_log1p_f64(a + z / (1.0 + fd_sqrt_f64(z + 1.0)));
  return fd_copysign_f32(fd_is_finite_f32(x) ? y : x, x);
}
FD_INLINE float fd_acosh_f32(float x) {
  double t = (double)x - 1.0;
  float y = (float)fd_log1p_f64(t + fd_sqrt_f64(t * ((double)x + 1.0)));
  return x < 1.0f ? FD_NAN_F32 : y;
}
FD_INLINE float fd_atanh_f32(float x) {
  double a = fd_abs_f64((double)x);
  return fd_copysign_f32((float)(0.5 * fd_log1p_f64(2.0 * a / (1.0 - a))), x);
}

/* The angle of (x, y) from t = the lesser over the greater of |x| and |y|: atan(t) = t + t z Q(z)
 * with z = t^2, mirrored at pi/4 and pi/2. `start` is 0, pi/2 or pi, whose second part counts where
 * the angle is subtracted from it or added. 0/0 is 0 and Inf/Inf is 1. 1.5 ulp. */
FD_INLINE float fd_atan2_f32(float y, float x) {
  float a = fd_abs_f32(x), b = fd_abs_f32(y);
  int steep = b > a;
  float most = steep ? b : a, least = steep ? a : b;
  float t = least / most;
  t = least == most ? 1.0f : t;
  t = most == 0 ? 0.0f : t;
  float z = t * t;
  float q = FD_FMA(-0x1.d32dacp-10f, z, 0x1.6410e4p-7f);
  q = FD_FMA(q, z, -0x1.fd6fbcp-6f);
  q = FD_FMA(q, z, 0x1.da24cap-5f);
  q = FD_FMA(q, z, -0x1.580814p-4f);
  q = FD_FMA(q, z, 0x1.c08c1ap-4f);
  q = FD_FMA(q, z, -0x1.242084p-3f);
  q = FD_FMA(q, z, 0x1.9991e4p-3f);
  q = FD_FMA(q, z, -0x1.55553ep-2f);
  float angle = FD_FMA(t * z, q, t);
  int left = fd_bits_f32(x) >> 31;
  float start = steep ? 0x1.921fb6p0f : left ? 0x1.921fb6p1f : 0.0f;
  float rest = steep ? -0x1.777a5cp-25f : left ? -0x1.777a5cp-24f : 0.0f;
  angle = steep != left ? -angle : angle;
  angle = start + (angle + rest);
  angle = fd_copysign_f32(angle, y);
  return x != x || y != y ? x + y : angle;
}
FD_INLINE float fd_atan_f32(float x) { return fd_atan2_f32(x, 1.0f); }

/* asin(t) = t + t z P(z) with z = t^2, for t up to 0.5625. Beyond, asin(x) = pi/2 - 2 asin(t) with
 * z = (1 - |x|) / 2, which is exact. Returns t z P(z). */
FD_INLINE int fd_asin_split_f32(float x, float *t, float *rest) {
  float a = fd_abs_f32(x);
  int far = a > 0.5625f;
  float z = far ? FD_FMA(a, -0.5f, 0.5f) : a * a;
  *t = far ? fd_sqrt_f32(z) : a;
  float p = FD_FMA(0x1.84fb2ap-5f, z, 0x1.b9eb22p-8f);
  p = FD_FMA(p, z, 0x1.169d7ap-5f);
  p = FD_FMA(p, z, 0x1.6a59a8p-5f);
  p = FD_FMA(p, z, 0x1.334932p-4f);
  p = FD_FMA(p, z, 0x1.555526p-3f);
  *rest = *t * z * p;
  return far;
}
/* 1.4 ulp. */
FD_INLINE float fd_asin_f32(float x) {
  float t, rest;
  int far = fd_asin_split_f32(x, &t, &rest);
  float angle = t + rest;
  return fd_copysign_f32(far ? 0x1.921fb6p0f - FD_FMA(2.0f, angle, 0x1.777a5cp-25f) : angle, x);
}
/* 1.2 ulp. */
FD_INLINE float fd_acos_f32(float x) {
  float t, rest;
  int far = fd_asin_split_f32(x, &t, &rest);
  float angle = t + rest, signed_ = fd_copysign_f32(angle, x);
  float near = 0x1.921fb6p0f - (signed_ + 0x1.777a5cp-25f);
  float twice = 2.0f * angle;
  return !far ? near : x < 0 ? 0x1.921fb6p1f - (twice + 0x1.777a5cp-24f) : twice;
}

/* Calls of the C library: rare, so that scalar ones do. */

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

#undef FD_BOUND
#undef FD_FMA

#endif
