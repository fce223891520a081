/* Incomplete gamma functions and their derivatives, the zeta function of Hurwitz and polygamma. All
 * compute in double, by different expansions in different regions; loops are bounded. */
#ifndef FD_GAMMA_H
#define FD_GAMMA_H

#include "fd_lgamma.h"
#include "fd_math_f32.h"

#define FD_FUNCTION static __attribute__((unused))

/* lgamma(1 + a) for |a| <= 1/4: the Taylor series (DLMF 5.7.3), with zeta(k) / k from k = 2. */
FD_FUNCTION double fd_lgamma_near_1(double a) {
  static const double c[] = {
      0x1.a51a6625307d3p-1, 0x1.9a4d55beab2d7p-2, 0x1.151322ac7d848p-2, 0x1.a8b9c17aa6149p-3,
      0x1.5b40cb100c306p-3, 0x1.2703a1dcea3aep-3, 0x1.010b36af86397p-3, 0x1.c806706d57db4p-4,
      0x1.9a01e385d5f8fp-4, 0x1.748c33114c6d6p-4, 0x1.556ad63243bc4p-4, 0x1.3b1d971fc5985p-4,
      0x1.2496df8320c5fp-4, 0x1.11133476e7fe0p-4, 0x1.00010064cdeb2p-4, 0x1.e1e2d311e8abdp-5,
      0x1.c71ce3a20b419p-5, 0x1.af28a1b5688a0p-5, 0x1.9999b3352d5bap-5, 0x1.86186db77bfbfp-5,
      0x1.745d1d1778df9p-5, 0x1.642c88591b66dp-5, 0x1.555556aaafdcdp-5, 0x1.47ae151eb9fb7p-5};
  double sum = 0;
  for (int k = 23; k >= 0; k--) sum = c[k] - a * sum;
  return a * (a * sum - 0x1.2788cfc6fb619p-1); /* Euler's constant */
}

/* m - log(ratio), which is m^2/2 near 0, where m is ratio - 1. */
FD_FUNCTION double fd_log_excess(double ratio, double m) {
  if (m < -0.5 || m > 1.0) return m - __builtin_log(ratio);
  double r = m / (2.0 + m), z = r * r, sum = 0;
  for (int k = 25; k >= 1; k--) sum = sum * z + 1.0 / (2 * k + 1);
  return r * (m - 2.0 * z * sum); /* log(1 + m) = 2 atanh(r), and m - 2 r = r m */
}

/* log(gamma(a)) less Stirling's formula (DLMF 5.11.1). */
FD_FUNCTION double fd_stirling_rest(double a) {
  if (a < 10.0)
    return fd_lgamma_f64(a) - (a - 0.5) * __builtin_log(a) + a - 0x1.d67f1c864beb5p-1;
  double z = 1.0 / (a * a);
  double sum = 1.0 / 156;
  sum = sum * z - 691.0 / 360360;
  sum = sum * z + 1.0 / 1188;
  sum = sum * z - 1.0 / 1680;
  sum = sum * z + 1.0 / 1260;
  sum = sum * z - 1.0 / 360;
  sum = sum * z + 1.0 / 12;
  return sum / a;
}

/* P(a, x) and Q(a, x) = 1 - P, the derivative of P in a, and that of the x at which P is constant:
 * -(dP/da) / (dP/dx). The last two stand only after a call with `derivatives`. */
typedef struct { double p, q, by_a, x_by_a; } fd_igamma_parts;

/* Uniform expansion for large a (N. M. Temme, "The asymptotic expansion of the incomplete gamma
 * functions", 1979; DLMF 8.12.3). With eta^2/2 = m - log(1 + m) and x = a (1 + m),
 *   Q = erfc(eta sqrt(a/2))/2 + g S,  g = exp(-a eta^2/2) / sqrt(2 pi a),
 * where S solves S' = a (eta S + 1 - f/G), f = eta/m = sum d_n eta^n and G is gamma(a) over its
 * Stirling formula. So the coefficients b_n of G S obey b_(n-1) = (n+1)/a b_(n+1) + d_n, and
 * G = 1 + b_1/a. The d_n follow from m (dm/deta) = eta (1 + m). */
FD_FUNCTION fd_igamma_parts fd_igamma_uniform(double a, double m, double half_square) {
  static const double d[] = {
      0x1p0, -0x1.5555555555555p-2, 0x1.5555555555555p-4, -0x1.e573ac901e574p-7,
      0x1.2f684bda12f68p-10, 0x1.71de3a556c734p-12, -0x1.76e06fec7273bp-13, 0x1.48c5892f7cd83p-15,
      -0x1.255370652afc1p-19, -0x1.f1b22f594c6b5p-20, 0x1.bd6d21e4b4109p-21, -0x1.7b5f9a2d0465cp-23,
      0x1.ccf5ceb7f0d9fp-28, 0x1.6097d55c37c1cp-27, -0x1.2d2197c7a2faap-28, 0x1.f6e66d24d5c8ap-31,
      -0x1.c0d9b6edf2b0bp-36, -0x1.0070a87340428p-34, 0x1.ac9475c463659p-36, -0x1.61ca701fd754ap-38,
      0x1.ef98008f5eec2p-44, 0x1.7ba0759769d7cp-42, -0x1.3989bebb193c0p-43, 0x1.0104fc4369a3cp-45,
      -0x1.283fe7950ad7bp-51, -0x1.1ca914d71a27cp-49, 0x1.d2e7d5ca48b90p-51,
      -0x1.7cfbcf3db9bfcp-53};
  double eta = fd_copysign_f64(__builtin_sqrt(2.0 * half_square), m);
  double above = 0, b = 0, sum = 0;          /* b_(n+1), b_n, the part of G S from b_n on */
  double above_by_a = 0, b_by_a = 0, sum_by_a = 0;
  for (int n = 27; n >= 1; n--) {
    double next = (n + 1) / a * above + d[n];
    double next_by_a = (n + 1) / a * (above_by_a - above / a);
    above = b, b = next;
    above_by_a = b_by_a, b_by_a = next_by_a;
    sum = sum * eta + b;
    sum_by_a = sum_by_a * eta + b_by_a;
  }
  double g = __builtin_exp(-a * half_square) * 0x1.9884533d43651p-2 / __builtin_sqrt(a);
  double big = 1.0 + above / a;
  double big_by_a = (above_by_a - above / a) / a;
  double s = sum / big, s_by_a = (sum_by_a - s * big_by_a) / big;
  double z = __builtin_sqrt(a * half_square);
  double tail = 0.5 * fd_erfc_f64(z), rest = m < 0 ? -g * s : g * s;
  double slope = 1.0 + big * (s_by_a - 0.5 * eta - s * (0.5 / a + half_square));
  fd_igamma_parts out;
  out.p = m < 0 ? tail + rest : 1.0 - (tail + rest);
  out.q = m < 0 ? 1.0 - (tail + rest) : tail + rest;
  out.by_a = -g / big * slope;
  out.x_by_a = (1.0 + m) * slope;
  return out;
}

FD_FUNCTION fd_igamma_parts fd_igamma_all(double a, double x, int derivatives) {
  const double nan = FD_NAN_F64, inf = FD_INF_F64;
  if (!(a >= 0) || !(x >= 0) || (a == 0 && x == 0) || (a == inf && x == inf))
    return (fd_igamma_parts){nan, nan, nan, nan};
  if (a == 0) return (fd_igamma_parts){1, 0, nan, nan};
  if (x == 0 || a == inf) return (fd_igamma_parts){0, 1, 0, x == 0 ? 0 : nan};
  if (x == inf) return (fd_igamma_parts){1, 0, 0, nan};
  double m = (x - a) / a, half_square = 0, density; /* density: x^a exp(-x) / gamma(1 + a) */
  if (a >= 12.0) {
    half_square = fd_log_excess(x / a, m);
    if (half_square < 0.5) return fd_igamma_uniform(a, m, half_square);
    density = __builtin_exp(-a * half_square - fd_stirling_rest(a)) * 0x1.9884533d43651p-2 /
              __builtin_sqrt(a);
  } else {
    density = x > 1000.0 ? 0 : __builtin_pow(x, a) * __builtin_exp(-x) / __builtin_tgamma(1.0 + a);
  }
  double digamma = derivatives ? fd_digamma_f64(1.0 + a) : 0;
  double log_ratio = derivatives ? __builtin_log(x) - digamma : 0;
  fd_igamma_parts out;
  if (x <= a || x < 1.5) {
    /* The series of DLMF 8.7.1, and its derivative by terms. */
    double term = 1, sum = 1, harmonic = 0, sum_by_a = 0;
    for (int n = 1; n < 200; n++) {
      term *= x / (a + n);
      sum += term;
      if (derivatives) {
        harmonic += 1.0 / (a + n);
        sum_by_a -= term * harmonic;
      }
      if (term < 1e-18 * sum) break;
    }
    out.p = density * sum;
    out.q = 1.0 - out.p;
    out.by_a = density * (sum * log_ratio + sum_by_a);
    out.x_by_a = -(x / a) * (sum * log_ratio + sum_by_a);
    if (a < 1.0 && !derivatives) {
      /* Q may be tiny: DLMF 8.7.3 with the first term of its sum apart. */
      double log_gamma = a < 0.25 ? fd_lgamma_near_1(a) : fd_lgamma_f64(1.0 + a);
      double power = a * __builtin_log(x) - log_gamma, part = 1, rest = 0;
      for (int n = 1; n < 40; n++) {
        part *= -x / n;
        rest += part / (a + n);
      }
      out.q = -fd_expm1_f64(power) - __builtin_exp(power) * a * rest;
    }
    return out;
  }
  /* Legendre's continued fraction, even part (DLMF 8.9.2), from its end. */
  double tail = 0, tail_by_a = 0;
  for (int n = 12 + (int)(130.0 / x); n >= 1; n--) {
    double below = x + (2 * n + 1) - a - tail;
    tail = n * (n - a) / below;
    tail_by_a = (tail * (1.0 + tail_by_a) - n) / below;
  }
  double fraction = 1.0 / (x + 1.0 - a - tail);
  double by_a = fraction * (log_ratio + 1.0 / a + fraction * (1.0 + tail_by_a));
  out.q = density * a * fraction;
  out.p = 1.0 - out.q;
  out.by_a = -density * a * by_a;
  out.x_by_a = x * by_a;
  return out;
}

FD_FUNCTION double fd_igamma_f64(double a, double x) { return fd_igamma_all(a, x, 0).p; }
FD_FUNCTION double fd_igammac_f64(double a, double x) { return fd_igamma_all(a, x, 0).q; }
FD_FUNCTION double fd_igamma_grad_a_f64(double a, double x) { return fd_igamma_all(a, x, 1).by_a; }
FD_FUNCTION double fd_random_gamma_grad_f64(double a, double x) {
  return fd_igamma_all(a, x, 1).x_by_a;
}

/* sum of (q + n)^-s over n >= 0, for s > 1 and q > 0: some terms, then Euler's and Maclaurin's
 * formula (DLMF 25.11.5). */
FD_FUNCTION double fd_zeta_right(double s, double q) {
  /* B_(2j) / (2j)! */
  static const double c[] = {
      0x1.5555555555555p-4, -0x1.6c16c16c16c17p-10, 0x1.1566abc011567p-15, -0x1.bbd779334ef0bp-21,
      0x1.66a8f2bf70ebep-26, -0x1.22805d644267fp-31, 0x1.d6db2c4e09162p-37, -0x1.7da4e1f79955cp-42,
      0x1.355871d652e9ep-47, -0x1.f57d968caacf1p-53, 0x1.967e1f09c376fp-58, -0x1.497d9033a2b5cp-63};
  if (q == FD_INF_F64) return 0;
  double sum = 0, term;
  for (int n = 0; n < 12; n++, q += 1.0) {
    term = __builtin_pow(q, -s);
    sum += term;
    if (term < 1e-20 * sum) return sum;
  }
  term = __builtin_pow(q, -s);
  if (term == 0) return sum;
  sum += term * (q / (s - 1.0) + 0.5);
  double factor = term * s / q;
  for (int j = 0; j < 12; j++) {
    double part = c[j] * factor;
    sum += part;
    if (fd_abs_f64(part) < 1e-18 * sum) break;
    factor *= (s + (2 * j + 1)) * (s + (2 * j + 2)) / (q * q);
  }
  return sum;
}

/* Left of 0 only integer s have real values: the sum over all integers, less the part left of q. */
FD_FUNCTION double fd_zeta_f64(double s, double q) {
  if (!(s >= 1) || q != q) return FD_NAN_F64;
  if (s == 1) return FD_INF_F64;
  if (q <= 0 && q == __builtin_floor(q)) return FD_INF_F64;
  if (s > 1e100) return q > 1 ? 0 : q == 1 ? 1 : FD_INF_F64; /* the largest term, s being even */
  if (q > 0) return fd_zeta_right(s, q);
  if (s != __builtin_floor(s)) return FD_NAN_F64;
  double parity = __builtin_fmod(s, 2.0) == 0 ? 1.0 : -1.0;
  double r = q - __builtin_rint(q);
  double near = fd_abs_f64(r);
  double all = fd_zeta_right(s, near) + parity * fd_zeta_right(s, 1.0 - near);
  return (r < 0 ? parity * all : all) - parity * fd_zeta_right(s, 1.0 - q);
}

/* (-1)^(n+1) n! zeta(n+1, x) (DLMF 25.11.12). */
FD_FUNCTION double fd_polygamma_f64(double n, double x) {
  if (n == 0) return fd_digamma_f64(x);
  if (!(n > 0) || n != __builtin_floor(n) || n == FD_INF_F64) return FD_NAN_F64;
  double sign = __builtin_fmod(n, 2.0) == 0 ? -1.0 : 1.0;
  double zeta = fd_zeta_f64(n + 1.0, x);
  if (n <= 170) return sign * __builtin_tgamma(n + 1.0) * zeta;
  return sign * fd_copysign_f64(
      __builtin_exp(fd_lgamma_f64(n + 1.0) + __builtin_log(fd_abs_f64(zeta))), zeta);
}

#define FD_IN_DOUBLE(name) \
  FD_FUNCTION float fd_##name##_f32(float a, float x) { return (float)fd_##name##_f64(a, x); }
FD_IN_DOUBLE(igamma)
FD_IN_DOUBLE(igammac)
FD_IN_DOUBLE(igamma_grad_a)
FD_IN_DOUBLE(random_gamma_grad)
FD_IN_DOUBLE(zeta)
FD_IN_DOUBLE(polygamma)

#endif
