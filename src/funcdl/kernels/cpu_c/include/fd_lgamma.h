/* The logarithm of |gamma| and its derivative. Left of 0 both are differences of larger terms with a
 * root between any two poles, and are computed in pairs of doubles. */
#ifndef FD_LGAMMA_H
#define FD_LGAMMA_H

#include "fd_wide.h"

/* Near some roots doubles come so close that even the error of pairs is too large: there the first two
 * terms of Taylor's series, of rows {root, rest of the root, coefficients}. Whether x is near one. */
static inline __attribute__((unused)) int fd_near_root(
    double x, const double (*rows)[4], int n, double *y) {
  for (int i = 0; i < n; i++) {
    double h = x - rows[i][0];
    if (fd_abs_f64(h) < 0x1p-30) {
      fd_wide line = fd_wide_product(h, rows[i][2]);
      double rest = rows[i][1], all = h - rest;
      *y = line.high + (line.low + (all * all * rows[i][3] - rest * rows[i][2]));
      return 1;
    }
  }
  return 0;
}

/* lgamma(-y) for y > 0, no integer. Up to 32 by 1 / gamma(e - n) = e (e - 1) ... (e - n) /
 * gamma(1 + e) with |e| <= 1/2: all factors are exact, and 1 / gamma is an entire function (Taylor's
 * series, DLMF 5.7.1). Beyond, no double is near a root: Stirling's formula and reflection (DLMF
 * 5.11.1, 5.5.3). */
static __attribute__((noinline, unused)) double fd_lgamma_left(double y) {
  static const fd_wide c[] = {
      {0x1p0, 0x0p0}, {0x1.2788cfc6fb619p-1, -0x1.6cb90701fbfabp-58},
      {-0x1.4fcf4026afa2ep-1, 0x1.8a3db7a90c42ap-56},
      {-0x1.5815e8fa27048p-5, 0x1.b85ea59bc3638p-60}, {0x1.5512320b43fbep-3, 0x1.77e9bfd84d0f8p-57},
      {-0x1.59af103c34092p-5, -0x1.ef8da0241c465p-59},
      {-0x1.3b4af28483e21p-7, -0x1.38dbcf40c139bp-61},
      {0x1.d919c527f60b2p-8, -0x1.a91714b11611fp-62},
      {-0x1.317112ce3a2a8p-10, 0x1.0b48922be53b9p-64},
      {-0x1.c364fe6f1563dp-13, 0x1.6707f71f86f2ep-69},
      {0x1.0c8a78cd9f9d2p-13, -0x1.6193e5e682992p-67},
      {-0x1.51ce8af47eabep-16, 0x1.26de8c501cb48p-75},
      {-0x1.4fad41fc34fbbp-20, -0x1.01776ab160dc8p-75},
      {0x1.302509dbc0de3p-20, -0x1.bf09003481b1ap-75},
      {-0x1.b9986666c225dp-23, -0x1.d12e45de59d01p-79},
      {0x1.a44b7ba22d629p-28, -0x1.4d6f19c81365fp-82},
      {0x1.57bc3fc384334p-28, -0x1.30a82205f48c5p-86},
      {-0x1.44b4cedca388fp-30, -0x1.f1c4c0ce1c9c5p-84},
      {0x1.cae7675c18607p-34, -0x1.d04082c7c66aap-89},
      {0x1.11d065bfaf067p-37, 0x1.16b58cf85bbf4p-91}};
  static const double tail[] = {
      -0x1.0423bac8ca3fbp-38, 0x1.1f20151323cdp-41, -0x1.72cb88ea5ae6ep-46, -0x1.815f72a05f16fp-48,
      0x1.6198491a83bcdp-50, -0x1.10613dde57a89p-53, 0x1.5e3fee81de0eap-60, 0x1.a0dc770fb8a4ap-60,
      -0x1.0f635344a29eap-62, 0x1.43d79a4b90ce8p-66, 0x1.435a100c67b42p-73, -0x1.f0aee5efb2fccp-73,
      0x1.089cd2aab3897p-75, -0x1.0c11b581fb5bap-79};
  static const double roots[][4] = {
      {-0x1.3a7fc9600f86cp1, -0x1.55f64f98af8dp-55, 0x1.83fe966af535fp0, 0x1.36eebb002f55dp2},
      {-0x1.5fb410a1bd901p1, 0x1.a19a96d2e6f85p-54, -0x1.ea12da904b18cp0, 0x1.3267f3c265a52p3},
      {-0x1.9260dbc9e59afp1, -0x1.f717cd335a7b3p-53, 0x1.f20a65f2fac55p2, 0x1.9d4d2977150efp4},
      {-0x1.fa471547c2fe5p1, -0x1.70d4561291237p-56, -0x1.4b99d966c5647p4, 0x1.f76deae0436bep7}};
  double n = __builtin_rint(y), e = n - y, near;
  if (fd_near_root(-y, roots, 4, &near)) return near;
  if (n <= 32.0) {
    fd_wide q = fd_wide_polynomial((fd_wide){e, 0}, c, 20, tail, 14);
    for (double m = 0; m <= n; m++) q = fd_wide_scale(q, y - m);
    q.low = q.high < 0 ? -q.low : q.low;
    q.high = fd_abs_f64(q.high);
    return -__builtin_log(q.high) - q.low / q.high;
  }
  fd_wide log = fd_wide_log((fd_wide){y, 0});
  fd_wide power = fd_wide_add(fd_wide_scale(log, y), fd_wide_scale_exactly(log, 0.5));
  double z = 1.0 / (y * y);
  double stirling = (1.0 / 12 - z * (1.0 / 360 - z * (1.0 / 1260 - z * (1.0 / 1680)))) / y;
  double sine = __builtin_log(2.0 * fd_abs_f64(__builtin_sin(0x1.921fb54442d18p1 * e)));
  fd_wide sum = fd_wide_add((fd_wide){y, 0}, fd_wide_negative(power));
  double rest = sine + (stirling - 0x1.d67f1c864beb5p-1); /* log(2 pi) / 2 */
  fd_wide all = fd_wide_sum(sum.high, -rest);
  return all.high + (all.low + sum.low);
}

/* log(x) for normal x, to 2^-55 or so. */
FD_INLINE fd_wide fd_log_parts(double x) {
  int64_t e = fd_log_exponent_f64(x);
  double k = fd_small_int_f64(e);
  double f = fd_from_bits_f64(fd_bits_f64(x) - ((uint64_t)e << 52)) - 1.0, half_square = 0.5 * f * f;
  fd_wide log = fd_wide_sum(k * FD_LN2_HIGH_F64, f);
  log.low += fd_fma_f64(k, FD_LN2_LOW_F64, fd_log_series_f64(f, half_square)) - half_square;
  return fd_wide_ordered(log.high, log.low);
}

/* Stirling's formula from 8 on, as x (log(x) - 1) - log(x) / 2 + log(2 pi) / 2 and a series. */
static inline __attribute__((unused)) double fd_lgamma_far(double x) {
  fd_wide log = fd_log_parts(x), factor = fd_wide_ordered(log.high, -1.0);
  double inverse = 1.0 / x, z = inverse * inverse;
  double series = fd_fma_f64(-174611.0 / 125400, z, 43867.0 / 244188); /* B_2n / (2n (2n - 1)) */
  series = fd_fma_f64(series, z, -3617.0 / 122400);
  series = fd_fma_f64(series, z, 1.0 / 156);
  series = fd_fma_f64(series, z, -691.0 / 360360);
  series = fd_fma_f64(series, z, 1.0 / 1188);
  series = fd_fma_f64(series, z, -1.0 / 1680);
  series = fd_fma_f64(series, z, 1.0 / 1260);
  series = fd_fma_f64(series, z, -1.0 / 360);
  series = fd_fma_f64(series, z, 1.0 / 12);
  double rest = series * inverse + (0x1.d67f1c864beb5p-1 - 0.5 * log.high);
  return x * factor.high + (x * (factor.low + log.low) + rest);
}

/* Not lgamma, which writes the sign of gamma to a variable that all threads share. The C library's is
 * good in (0, 8), near its roots 1 and 2 as well. */
extern double lgamma_r(double x, int *sign);

FD_INLINE double fd_lgamma_f64(double x) {
  int sign;
  if (x < 0 && x != __builtin_rint(x)) return fd_lgamma_left(-x);
  if (x >= 8.0 && x < FD_INF_F64) return fd_lgamma_far(x);
  return x == -FD_INF_F64 ? FD_INF_F64 : lgamma_r(x, &sign);
}
FD_INLINE float fd_lgamma_f32(float x) { return (float)fd_lgamma_f64((double)x); }

/* digamma in (0, 2): h (slope + h P(h)), where h is the distance from the root right of 0. Below 1
 * that is digamma(x + 1), 1 / x more. P is an interpolation in Chebyshev's nodes. */
static inline __attribute__((unused)) double fd_digamma_near(double x) {
  static const double c[] = {
      -0x1.c563b54aa1a35p-2, 0x1.08b4294d50382p-2, -0x1.4fc1317257d99p-3, 0x1.b9a5b6370eed8p-4,
      -0x1.27baba261d876p-4, 0x1.8fce02b26bb11p-5, -0x1.0fa7ec3665d3ep-5, 0x1.723d67f73a7bcp-6,
      -0x1.f97050a1383abp-7, 0x1.5955cdf6b414p-7, -0x1.d828074aa7973p-8, 0x1.42e14394aa4bap-8,
      -0x1.b9af7abd0d13p-9, 0x1.2e2bcf7ae8615p-9, -0x1.9d6e86958d5a5p-10, 0x1.1a58567289f02p-10,
      -0x1.8209282d7764bp-11, 0x1.0cd378b985cfdp-11, -0x1.74d7374e387d7p-12, 0x1.c4ddeae87f91bp-13,
      -0x1.0c1b9c5bf867p-13, 0x1.1bb581e7a1c63p-13, -0x1.1c19bb0803e9cp-13, 0x1.d56d3c442d62ap-15};
  const double root = 0x1.762d86356be3fp0, root_low = 0x1.b86a722197829p-54;
  const double slope = 0x1.ef72bc8ee38acp-1, slope_low = -0x1.3879eb97bf58dp-55;
  int left = x < 1.0;
  double first = x - (left ? root - 1.0 : root), h = first - root_low, p = 0;
  for (int k = 23; k >= 0; k--) p = fd_fma_f64(p, h, c[k]);
  fd_wide y = fd_wide_product(first, slope);
  y.low += fd_fma_f64(h * p, h, first * slope_low - root_low * slope);
  if (!left) return y.high + y.low;
  double q = 1.0 / x;
  if (q > 0x1p60) return -q;
  fd_wide one = fd_wide_product(q, x), sum = fd_wide_ordered(-q, y.high);
  return sum.high + (sum.low + (y.low + ((one.high - 1.0) + one.low) * q));
}

/* From 2 on: log(x) - 1 / (2x) - z P(z), z = 1 / x^2, P an interpolation in
 * Chebyshev's nodes. */
static inline __attribute__((unused)) double fd_digamma_far(double x) {
  static const double c[] = {
      0x1.5555555555555p-4, -0x1.1111111110bb7p-7, 0x1.04104102806e3p-8, -0x1.11110f985083dp-8,
      0x1.f07b5fb53b219p-8, -0x1.59866b33228b6p-6, 0x1.548220c6fa2dfp-4, -0x1.bd82cae4d5ee4p-2,
      0x1.661c25d5b7d76p1, -0x1.3fdf49f2b7e79p4, 0x1.1e5956f9da3d7p7, -0x1.d95e17de49b82p9,
      0x1.5596b47733c39p12, -0x1.9e825a0348efbp14, 0x1.9b26155ac19b2p16, -0x1.44cff45bf5964p18,
      0x1.8cd7cb33536e9p19, -0x1.6829e12f28a4ep20, 0x1.c818d71b338dp20, -0x1.6706dc7e23577p20,
      0x1.083188dcd5b8ep19};
  double z = 1.0 / (x * x), p = 0;
  for (int k = 20; k >= 0; k--) p = fd_fma_f64(p, z, c[k]);
  fd_wide log = fd_log_parts(x), sum = fd_wide_ordered(log.high, -0.5 / x);
  return sum.high + (sum.low + (log.low - z * p));
}

/* digamma(-y) = digamma(1 + y) + pi cot(pi y) for y > 0, no integer (DLMF 5.5.4). The first by steps
 * up to 16 and the asymptotic series (5.11.2), the other from its poles: with e in [-1/2, 1/2], 1 / e
 * and those at 1 and 2 on both sides by themselves, the others by Taylor's series (4.22.3). */
static __attribute__((noinline, unused)) double fd_digamma_left(double y) {
  static const fd_wide bernoulli[] = {/* B_2n / 2n */
      {0x1.5555555555555p-4, 0x1.5555555555555p-58},
      {-0x1.1111111111111p-7, -0x1.1111111111111p-63}, {0x1.041041041041p-8, 0x1.041041041041p-62},
      {-0x1.1111111111111p-8, -0x1.1111111111111p-64},
      {0x1.f07c1f07c1f08p-8, -0x1.f07c1f07c1f08p-63}, {-0x1.5995995995996p-6, 0x1.9a99a99a99a9ap-60}};
  static const double bernoulli_tail[] = {
      0x1.5555555555555p-4, -0x1.c5e5e5e5e5e5ep-2, 0x1.86e7f9b9fe6e8p1, -0x1.a74ca514ca515p4,
      0x1.1975cc0ed7304p8, -0x1.c2f0566566566p11, 0x1.ac572aaaaaaabp15, -0x1.dc0b1a5cfbe16p19,
      0x1.31fad7cbf3cp24, -0x1.c280563b8bcbdp28, 0x1.7892edfdf5555p33, -0x1.62b8b44651d09p38};
  static const fd_wide poles[] = {/* 2 (zeta(2n) - 1 - 4^-n) */
      {0x1.94699894c1f4dp-1, -0x1.cf184eddbbfe9p-55},
      {0x1.44c8ab1f6120ep-5, -0x1.40ddbddcd235cp-59},
      {0x1.c26130249123ep-9, -0x1.2687a57f87dd5p-66},
      {0x1.66d5f0c72dd18p-12, -0x1.a635b224a59b3p-67},
      {0x1.2e33a5bb97e18p-15, 0x1.1f3054300c05dp-71},
      {0x1.052d9669820cep-18, -0x1.bdf43d1ea3533p-73},
      {0x1.c95e569c2ac3cp-22, 0x1.8438a6b48bdcap-77},
      {0x1.9337ac8bc3ce8p-25, 0x1.56affdbc10b58p-82},
      {0x1.64ca9ba265c95p-28, -0x1.478ccd48a1bdcp-83},
      {0x1.3c594466e9888p-31, -0x1.e484df859cdcdp-87}};
  static const double poles_tail[] = {
      0x1.18cd9d8ef9754p-34, 0x1.f2cffef08fb5p-38, 0x1.bb316ccd9901ap-41, 0x1.89da0b5c572a4p-44,
      0x1.5e0aabaf8556dp-47, 0x1.371fb227a6a8dp-50, 0x1.148ad65290e5ap-53, 0x1.eb9e5ffb2f6bep-57,
      0x1.b4fcffcb3e803p-60, 0x1.846e5516ef4d6p-63, 0x1.59453d64c2971p-66};
  static const double roots[][4] = {
      {-0x1.02172b05ee26p-1, -0x1.2cd704405bff6p-57, 0x1.1e12d46d5ae28p3, -0x1.9e6287497864p-1},
      {-0x1.92d0cbc289d4ap0, -0x1.2262d144a30e4p-56, 0x1.3e20e129a441ep3, -0x1.f35db31e6a1d4p2},
      {-0x1.4e2c19f679e5ap1, 0x1.c7b999bd14f47p-54, 0x1.5b2582701b783p3, -0x1.98a9c8ee5f509p3},
      {-0x1.d1514b041b2a8p1, 0x1.f71449c2a5446p-55, 0x1.74d47ec7ac492p3, -0x1.0f036e4ba3313p4},
      {-0x1.6ab2ca18e6ce3p2, -0x1.da7ecae62c5bdp-59, 0x1.a0af5c72c8e84p3, -0x1.802c5fd17ebafp4}};
  double e = y - __builtin_rint(y), near;
  if (y < 0x1p-60) return 1.0 / y;
  if (fd_near_root(-y, roots, 5, &near)) return near;
  const fd_wide one = {1.0, 0};
  fd_wide w = fd_wide_sum(y, 1.0), sum = {0, 0};
  for (double n = 2; w.high < 16.0; n++) {
    fd_wide term = fd_wide_div(one, w), s = fd_wide_sum(sum.high, term.high);
    sum = (fd_wide){s.high, sum.low + (s.low + term.low)};
    w = fd_wide_sum(y, n);
  }
  fd_wide inverse = fd_wide_div(one, w), z = fd_wide_mul(inverse, inverse);
  fd_wide series = fd_wide_mul(z, fd_wide_polynomial(z, bernoulli, 6, bernoulli_tail, 12));
  sum = fd_wide_add(sum, fd_wide_scale_exactly(inverse, 0.5));
  sum = fd_wide_add(sum, series);
  fd_wide digamma = fd_wide_add(fd_wide_log(w), fd_wide_negative(sum));

  z = fd_wide_product(e, e);
  fd_wide above = fd_wide_add(fd_wide_scale_exactly(z, 2.0), (fd_wide){-5.0, 0});
  fd_wide below = fd_wide_mul(fd_wide_add(z, (fd_wide){-1.0, 0}), fd_wide_add(z, (fd_wide){-4.0, 0}));
  fd_wide pairs = fd_wide_div(fd_wide_scale_exactly(above, 2.0), below);
  fd_wide others = fd_wide_polynomial(z, poles, 10, poles_tail, 11);
  fd_wide rest = fd_wide_add(pairs, fd_wide_negative(others));
  fd_wide cot = fd_wide_add(fd_wide_div(one, (fd_wide){e, 0}), fd_wide_scale(rest, e));
  return fd_wide_add(digamma, cot).high;
}

/* NaN at its poles, as lax.digamma. */
static inline __attribute__((unused)) double fd_digamma_f64(double x) {
  if (x <= 0 && (x == __builtin_rint(x) || x == -FD_INF_F64)) return FD_NAN_F64;
  if (x < 0) return fd_digamma_left(-x);
  return x < 2.0 ? fd_digamma_near(x) : x < FD_INF_F64 ? fd_digamma_far(x) : x;
}
FD_INLINE float fd_digamma_f32(float x) { return (float)fd_digamma_f64((double)x); }

#endif
