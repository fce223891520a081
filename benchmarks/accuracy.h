/* Measures elementary functions against a wider reference; benchmarks/accuracy.py writes one entry
 * point for each function with the macros at the end.
 *
 * An error counts in ulp: the distance between neighbouring floats at the exact result, that of
 * subnormals below the smallest normal number. Infinity stands for the power of two that follows
 * the largest float, so an early or a late overflow is an error of the same kind. */
#include <math.h>

#include "fd_types.h"
#include "fd_math.h"

/* Vector versions of the C library's functions (libmvec), good to 4 ulp of double. */
#ifdef VECTOR_LIBRARY
#define VECTOR(name) extern __attribute__((simd("notinbranch"))) double name(double);
VECTOR(exp) VECTOR(exp2) VECTOR(expm1) VECTOR(log) VECTOR(log1p) VECTOR(cbrt)
VECTOR(sin) VECTOR(cos) VECTOR(tan) VECTOR(asin) VECTOR(acos) VECTOR(atan) VECTOR(sinh)
VECTOR(cosh) VECTOR(tanh) VECTOR(asinh) VECTOR(acosh) VECTOR(atanh) VECTOR(erf) VECTOR(erfc)
#endif

#define BLOCK 1024
#define HALF_SQRT_PI 0.886226925452758013649083741670572592L

/* 113 bits, for functions that are differences: a library with long double of fewer bits may have
 * its functions in that type as well. */
#if defined(__GLIBC__) && defined(__SIZEOF_FLOAT128__)
typedef __float128 quad;
#define QUAD(name) name##f128
#define LGAMMA lgammaf128_r
extern quad expf128(quad), lgammaf128_r(quad, int *), logf128(quad), rintf128(quad);
extern quad sqrtf128(quad), tanf128(quad);
#else
typedef long double quad;
#define QUAD(name) name##l
#define LGAMMA lgammal_r
extern long double lgammal_r(long double, int *);
#endif
#define PI ((quad)0x1.921fb54442d18p1 + (quad)0x1.1a62633145c06e0e68948127044534p-53L)

/* All doubles, for Python to read. `wrong` counts what no tolerance excuses: a NaN on one side only,
 * a zero or an infinity of the wrong sign, a result outside of the function's range. `back` counts
 * neighbours in the order of arguments, for which a rising function falls. */
typedef struct {
  double ulp, x, y, wrong, wrong_x, wrong_y, back;
} Found;

static void judge(Found *found, double x, double y, long double error, int wrong) {
  if (error > found->ulp) {
    found->ulp = (double)error;
    found->x = x;
    found->y = y;
  }
  if (wrong && !found->wrong++) {
    found->wrong_x = x;
    found->wrong_y = y;
  }
}

FD_INLINE double error_f32(float got, double exact) {
  const double end = 0x1p128;
  double y = got, r = exact;
  y = y > end ? end : y < -end ? -end : y;
  r = r > end ? end : r < -end ? -end : r;
  uint64_t e = fd_bits_f64(r) & 0x7ff0000000000000u;
  const uint64_t least = (uint64_t)(1023 - 126) << 52, most = (uint64_t)(1023 + 127) << 52;
  e = e < least ? least : e > most ? most : e;
  return __builtin_fabs(y - r) * fd_from_bits_f64(((uint64_t)(2046 + 23) << 52) - e);
}

/* Bit by bit instead of by signbit and isnan, and without branches: gcc vectorises this. */
FD_INLINE int wrong_f32(float got, double exact, double low, double high) {
  double y = got;
  int nan = (y != y) ^ (exact != exact);
  int outside = (y < low) | (y > high);
  int end = (y == 0) | (y == FD_INF_F64) | (y == -FD_INF_F64);
  int sign = ((fd_bits_f64(y) ^ fd_bits_f64(exact)) >> 63) != 0;
  return nan | outside | (end & sign & (exact == exact));
}

static long double error_f64(double got, long double exact) {
  const long double end = 0x1p1024L;
  long double y = fabsl((long double)got) > end ? copysignl(end, got) : got;
  long double r = fabsl(exact) > end ? copysignl(end, exact) : exact;
  int e = r == 0 ? -1022 : ilogbl(r);
  e = e < -1022 ? -1022 : e > 1023 ? 1023 : e;
  return ldexpl(fabsl(y - r), 52 - e);
}

#define WRONG(got, exact, low, high) \
  (isnan(got) != isnan(exact) || (!isnan(exact) && ((got) < (low) || (got) > (high) || \
   (((got) == 0 || isinf(got)) && !signbit(got) != !signbit(exact)))))

/* A generator of 64 random bits (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
 * generators"). */
static uint64_t random_bits(uint64_t i) {
  i = (i + 1) * 0x9e3779b97f4a7c15u;
  i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
  i = (i ^ i >> 27) * 0x94d049bb133111ebu;
  return i ^ i >> 31;
}

static const double edges[] = {
    0.0, 0x1p-1074, 0x1p-149, 0x1p-126, 0x1p-1022, 1e-40, 1e-10, 0.1, 0.5, 1.0 - 0x1p-53,
    1.0 - 0x1p-24, 1.0, 1.0 + 0x1p-52, 1.0 + 0x1p-23, 1.5, 2.0, 3.0, 3.141592653589793, 7.0, 8.0,
    100.5, 8388609.0, 16777215.0, 16777218.0, 0x1p53 - 1.0, 0x1p53 + 2.0, 1e30, 0x1.fffffep127,
    1e300, 0x1.fffffffffffffp1023, INFINITY, NAN,
    /* Roots of digamma and lgamma, some of them the closest to a double. */
    -0.5040830082644554, 1.4616321449683622, -1.5734984731623904, -2.4570247382208006,
    -2.6107208684441447, -2.7476826467274127, -3.14358088834998, -3.635293366436901,
    -3.955294284858598, -5.6671624415568855, -5.998607480080875, -40.79287862556773};
#define EDGES ((int64_t)(sizeof edges / sizeof edges[0]))
static double edge(uint64_t i) { return i & 1 ? -edges[i / 2 % EDGES] : edges[i / 2 % EDGES]; }

/* Every second argument is any pattern. Most others have exponents from 2^-30 to 2^11, where most
 * functions do something; some are up to 2^40 floats away from a special value. */
static double any_f64(uint64_t i) {
  uint64_t u = random_bits(i);
  if (i % 8 == 4) {
    double x = edge(u >> 32);
    uint64_t steps = random_bits(~i) >> (24 + u % 40);
    return isfinite(x) ? fd_from_bits_f64(fd_bits_f64(x) + (u >> 8 & 1 ? steps : -steps)) : x;
  }
  uint64_t near = 1023 - 30 + (u >> 52) % 42;
  return fd_from_bits_f64(i & 1 ? u : (u & 0x800fffffffffffffu) | near << 52);
}
static float any_f32(uint64_t i) {
  uint32_t u = (uint32_t)(random_bits(i) >> 32);
  uint32_t near = 127 - 20 + (u >> 23 & 255) % 31;
  return fd_from_bits_f32(i & 1 ? u : (u & 0x807fffffu) | near << 23);
}

/* p: {int64 first, count, stride, mirror}, Found. Argument number i of f32 is the pattern
 * first + i stride: all 2^32 of them, with a stride of 1. With mirror 1 (of even functions) or -1
 * (of odd ones) results at -x must be the same bits but for that sign, so that half of the patterns
 * do. One loop for each step, so that all of them are vectorised. */
#define UNARY_F32(name, exact, low, high) \
  static inline double exact_##name##_f32(double x) { return exact; } \
  __attribute__((visibility("default"))) void accuracy_##name##_f32(void **p) { \
    const int64_t *range = p[0]; \
    Found found = {0}; \
    float x[BLOCK], values[BLOCK + 1] = {NAN}, *y = values + 1; \
    double r[BLOCK], error[BLOCK]; \
    int wrong[BLOCK]; \
    for (int64_t i = 0; i < range[1]; i += BLOCK) { \
      const int32_t n = range[1] - i < BLOCK ? (int32_t)(range[1] - i) : BLOCK; \
      const uint32_t first = (uint32_t)(range[0] + i * range[2]), stride = (uint32_t)range[2]; \
      int32_t back = 0, bad = 0; \
      double most = 0; \
      for (int32_t j = 0; j < BLOCK; j++) x[j] = fd_from_bits_f32(first + (uint32_t)j * stride); \
      _Pragma("omp simd") for (int32_t j = 0; j < BLOCK; j++) y[j] = fd_##name##_f32(x[j]); \
      _Pragma("omp simd") for (int32_t j = 0; j < BLOCK; j++) \
        r[j] = exact_##name##_f32((double)x[j]); \
      _Pragma("omp simd reduction(max : most)") for (int32_t j = 0; j < n; j++) { \
        double e = error_f32(y[j], r[j]); \
        error[j] = e = e == e ? e : 0; \
        most = e > most ? e : most; \
      } \
      _Pragma("omp simd reduction(+ : bad, back)") for (int32_t j = 0; j < n; j++) { \
        int odd = wrong_f32(y[j], r[j], low, high); \
        wrong[j] = odd; \
        bad += odd; \
        back += (int32_t)fd_bits_f32(x[j]) < 0 ? y[j] > y[j - 1] : y[j] < y[j - 1]; \
      } \
      found.back += back; \
      if (range[3]) { \
        const uint32_t sign = range[3] < 0 ? 0x80000000u : 0; \
        _Pragma("omp simd reduction(+ : bad)") for (int32_t j = 0; j < n; j++) { \
          float z = fd_##name##_f32(-x[j]); \
          int odd = ((fd_bits_f32(z) ^ fd_bits_f32(y[j])) != sign) & (y[j] == y[j] || z == z); \
          wrong[j] |= odd; \
          bad += odd; \
        } \
      } \
      if (most > found.ulp || bad) \
        for (int32_t j = 0; j < n; j++) judge(&found, x[j], y[j], error[j], wrong[j]); \
      y[-1] = y[BLOCK - 1]; \
    } \
    *(Found *)p[1] = found; \
  }

#define UNARY_F64(name, exact, low, high) \
  static long double exact_##name##_f64(long double x) { return exact; } \
  __attribute__((visibility("default"))) void accuracy_##name##_f64(void **p) { \
    const int64_t *range = p[0]; \
    Found found = {0}; \
    double x[BLOCK], y[BLOCK]; \
    for (int64_t i = 0; i < range[1]; i += BLOCK) { \
      for (int64_t j = 0; j < BLOCK; j++) { \
        int64_t k = range[0] + (i + j) * range[2]; \
        x[j] = k < 2 * EDGES ? edge(k) : any_f64(k); \
      } \
      _Pragma("omp simd") for (int64_t j = 0; j < BLOCK; j++) y[j] = fd_##name##_f64(x[j]); \
      for (int64_t j = 0; j < BLOCK && i + j < range[1]; j++) { \
        long double r = exact_##name##_f64((long double)x[j]); \
        long double error = isnan(y[j]) || isnan(r) ? 0 : error_f64(y[j], r); \
        judge(&found, x[j], y[j], error, WRONG(y[j], r, low, high)); \
      } \
    } \
    *(Found *)p[1] = found; \
  }

/* All pairs of edges first, then random pairs; half of those with a second argument close to the
 * first or a small whole number. */
#define BINARY(name, exact, t, type, wide) \
  static wide exact_##name##_##t(long double x, long double y) { return (wide)(exact); } \
  __attribute__((visibility("default"))) void accuracy_##name##_##t(void **p) { \
    const int64_t *range = p[0]; \
    Found found = {0}; \
    for (int64_t i = 0; i < range[1]; i++) { \
      int64_t k = range[0] + i * range[2]; \
      type x = any_##t(4 * k), y = any_##t(4 * k + 1 + (k & 1)); \
      if (k % 4 == 2) y = (type)((int64_t)(random_bits(~k) % 129) - 64) / 2; \
      if (k % 4 == 3) y = x * (1 + (type)(random_bits(~k) >> 40) * (type)0x1p-22); \
      if (k < 4 * EDGES * EDGES) x = (type)edge(k % (2 * EDGES)), y = (type)edge(k / (2 * EDGES)); \
      type z = fd_##name##_##t(x, y); \
      wide r = exact_##name##_##t(x, y); \
      long double error = isnan(z) || isnan(r) ? 0 : error_##t(z, r); \
      judge(&found, x, z, error, WRONG(z, r, -INFINITY, INFINITY)); \
      if (found.ulp == (double)error && error > 0) found.back = y; /* the second argument */ \
    } \
    *(Found *)p[1] = found; \
  }

/* References that the C library lacks. */

FD_INLINE double within(double x, double end) { return x > end ? end : x < -end ? -end : x; }
FD_INLINE double above(double x, double end) { return x < end ? end : x; }

/* For float32. Not inlined, since most floats are outside of the domain. */
static __attribute__((noinline, unused)) double wide_erf_inv(double x) {
  if (!(fabs(x) < 1)) return fabs(x) == 1 ? x * INFINITY : NAN;
  return fd_erf_inv_f64(x);
}

static long double exact_erf_inv(long double x) {
  long double y = fd_erf_inv_f64((double)x);
  if (!(fabsl(x) < 1) || fabsl(x) < 0x1p-500L) return fabsl(x) < 1 ? x * HALF_SQRT_PI : y;
  for (int step = 0; step < 2; step++) {
    long double a = fabsl(x), b = fabsl(y);
    long double excess = a < 0.5L ? erfl(b) - a : (1 - a) - erfcl(b);
    y = copysignl(b - excess * HALF_SQRT_PI * expl(b * b), x);
  }
  return y;
}

static quad exact_lgamma(quad x) {
  int sign;
  return LGAMMA(x, &sign);
}

/* Reflection, steps up to 40, the asymptotic series (DLMF 5.11.2). */
static quad exact_digamma(quad x) {
  static const quad c[] = {(quad)1 / 12, (quad)-1 / 120, (quad)1 / 252, (quad)-1 / 240,
                           (quad)1 / 132, (quad)-691 / 32760, (quad)1 / 12, (quad)-3617 / 8160,
                           (quad)43867 / 14364, (quad)-174611 / 6600, (quad)77683 / 276,
                           (quad)-236364091 / 65520};
  quad fraction = x - QUAD(rint)(x), sum = 0, series = 0;
  if ((x <= 0 && fraction == 0) || x == -INFINITY) return NAN;
  if (x == INFINITY) return x;
  if (x < 0) {
    sum = -PI / QUAD(tan)(PI * fraction);
    x = 1 - x;
  }
  for (; x < 40; x += 1) sum -= 1 / x;
  for (int k = 11; k >= 0; k--) series = (series + c[k]) / (x * x);
  return sum + QUAD(log)(x) - 1 / (2 * x) - series;
}

/* The power series up to 40 (DLMF 10.25.2), then the asymptotic one (10.40.1). */
static quad exact_bessel(quad x, int order) {
  quad a = x > 0 ? x : 0 - x, term = 1, sum = 1;
  if (isnan((double)x)) return x;
  if (a < 40) {
    for (int k = 1; term > 0x1p-80 * sum; k++) sum += term *= a * a / 4 / (k * (k + order));
    sum *= QUAD(exp)(-a) * (order ? a / 2 : 1);
  } else {
    for (int k = 1; k < 60 && (term > 0 ? term : -term) > 0x1p-80; k++)
      sum += term *= ((2 * k - 1) * (2 * k - 1) - 4 * order) / (8 * k * a);
    sum /= QUAD(sqrt)(2 * PI * a);
  }
  return order && signbit((double)x) ? -sum : sum;
}
