/* Element types and the operations on them that C leaves undefined or lacks.
 *
 * Needs gcc or clang (builtins only, no <math.h>: a generated unit must compile fast) and the flags
 * of isa.py. Every function is free of branches, so that `#pragma omp simd` vectorises its callers.
 * Functions that exist for several types end in the short name: fd_div_i32, fd_f32_to_bf16. */
#ifndef FD_TYPES_H
#define FD_TYPES_H

#include <stdint.h>

/* Forced: at -O2 gcc refuses to inline the longer functions, and a call stops vectorisation. */
#define FD_INLINE static inline __attribute__((always_inline, unused))
/* Compiled as if no caller were known: with their numbers, a compiler might add in another order. */
#if defined(__clang__)
#define FD_APART __attribute__((noinline, unused))
#else
#define FD_APART __attribute__((noipa, unused))
#endif
/* Functions that take as long to compile as a kernel, and are the same for all. Where FD_LINKED is 1,
 * a unit only declares them, and is linked with the objects that define them: units with FD_OBJECT_x
 * (objects.py). */
#if FD_LINKED
#define FD_SHARED __attribute__((visibility("hidden")))
#else
#define FD_SHARED static __attribute__((noinline, unused))
#endif
#define FD_DEFINES(object) (!FD_LINKED || FD_OBJECT_##object)

typedef uint16_t fd_bf16; /* storage only: arithmetic happens in float */
typedef uint16_t fd_f16;

/* 0, but gcc does not know it: a position to which this is added is no comparison's mask to it. */
static int32_t fd_zero __attribute__((used)) = 0;

#define FD_INF_F32 __builtin_inff()
#define FD_NAN_F32 __builtin_nanf("")
#define FD_INF_F64 __builtin_inf()
#define FD_NAN_F64 __builtin_nan("")

FD_INLINE uint32_t fd_bits_f32(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}
FD_INLINE float fd_from_bits_f32(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}
FD_INLINE uint64_t fd_bits_f64(double x) {
  uint64_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}
FD_INLINE double fd_from_bits_f64(uint64_t u) {
  double x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}

/* One rounding where the target has the instruction; elsewhere two, since a library call would be
 * slower than the whole function around it and could not be vectorised. */
#if defined(__FMA__) || defined(__aarch64__)
FD_INLINE float fd_fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FD_INLINE double fd_fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
FD_INLINE float fd_fma_f32(float a, float b, float c) { return a * b + c; }
FD_INLINE double fd_fma_f64(double a, double b, double c) { return a * b + c; }
#endif

/* From and to bfloat16 and float16: round to nearest even, NaN stays NaN (quiet). */

FD_INLINE float fd_bf16_to_f32(fd_bf16 h) { return fd_from_bits_f32((uint32_t)h << 16); }

FD_INLINE fd_bf16 fd_f32_to_bf16(float x) {
  uint32_t u = fd_bits_f32(x);
  uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (fd_bf16)(x != x ? ((u >> 16) | 0x40u) : rounded);
}

/* Bit code and not _Float16: gcc 12 does not vectorise conversions by F16C. */
FD_INLINE float fd_f16_to_f32(fd_f16 h) {
  uint32_t sign = ((uint32_t)h & 0x8000u) << 16;
  uint32_t u = ((uint32_t)h & 0x7fffu) << 13;
  uint32_t exponent = u & 0x0f800000u;
  /* Rebias by 127 - 15; Inf and NaN once more, to reach the largest exponent. */
  uint32_t finite = u + (exponent == 0x0f800000u ? 224u << 23 : 112u << 23);
  /* A subnormal is its mantissa in units of 2^-24: put it below a leading one, subtract that. */
  float subnormal = fd_from_bits_f32(u + (113u << 23)) - 0x1p-14f;
  uint32_t magnitude = exponent == 0 ? fd_bits_f32(subnormal) : finite;
  return fd_from_bits_f32(magnitude | sign);
}

FD_INLINE fd_f16 fd_f32_to_f16(float x) {
  uint32_t u = fd_bits_f32(x) & 0x7fffffffu;
  uint32_t sign = (fd_bits_f32(x) >> 16) & 0x8000u;
  /* Rounding may carry into the exponent, up to Inf: the encoding makes that right by itself. */
  uint32_t normal = (u - (112u << 23) + 0xfffu + ((u >> 13) & 1u)) >> 13;
  /* Adding 1/2 aligns the mantissa so that its last bit counts 2^-24, the subnormal unit. */
  uint32_t subnormal = fd_bits_f32(fd_from_bits_f32(u) + 0.5f) - 0x3f000000u;
  uint32_t magnitude = u < 0x38800000u ? subnormal : normal;
  magnitude = u >= 0x47800000u ? 0x7c00u : magnitude;
  magnitude = u > 0x7f800000u ? 0x7e00u : magnitude;
  return (fd_f16)(magnitude | sign);
}

/* Rounds to odd on the way through float, so that the second rounding sees what the first cut. */
FD_INLINE fd_f16 fd_f64_to_f16(double x) {
  float f = (float)x;
  double back = (double)f;
  uint32_t u = fd_bits_f32(f);
  uint32_t toward_zero = u - (__builtin_fabs(back) > __builtin_fabs(x) ? 1u : 0u);
  uint32_t odd = back == x || x != x ? u : (toward_zero | 1u);
  return fd_f32_to_f16(fd_from_bits_f32(odd));
}
FD_INLINE double fd_f16_to_f64(fd_f16 h) { return (double)fd_f16_to_f32(h); }

/* Twice rounded, as ml_dtypes does it: the reference and this must agree. */
FD_INLINE fd_bf16 fd_f64_to_bf16(double x) { return fd_f32_to_bf16((float)x); }
FD_INLINE double fd_bf16_to_f64(fd_bf16 h) { return (double)fd_bf16_to_f32(h); }

/* From float to integer: toward zero, NaN gives 0, out of range the nearest end (as XLA). */

/* `low` and `high` are the first values outside of the range that the float type can hold. */
#define FD_FLOAT_TO_INT(F, f, I, i, low, high, min, max) \
  FD_INLINE I fd_##f##_to_##i(F x) {                     \
    int inside = x > (low) && x < (high);                \
    I in_range = (I)(inside ? x : (F)0);                 \
    I end = x >= (high) ? (max) : x <= (low) ? (min) : 0; \
    return inside ? in_range : end;                      \
  }
/* Where min - 1 is no float, `low` is the next float below min, and no value lies between. */
#define FD_FLOAT_TO_INTS(F, f, low32, low64)                                                     \
  FD_FLOAT_TO_INT(F, f, int8_t, i8, (F)-129, (F)128, INT8_MIN, INT8_MAX)                         \
  FD_FLOAT_TO_INT(F, f, int16_t, i16, (F)-32769, (F)32768, INT16_MIN, INT16_MAX)                 \
  FD_FLOAT_TO_INT(F, f, int32_t, i32, (F)(low32), (F)0x1p31, INT32_MIN, INT32_MAX)               \
  FD_FLOAT_TO_INT(F, f, int64_t, i64, (F)(low64), (F)0x1p63, INT64_MIN, INT64_MAX)               \
  FD_FLOAT_TO_INT(F, f, uint8_t, u8, (F)-1, (F)256, 0, UINT8_MAX)                                \
  FD_FLOAT_TO_INT(F, f, uint16_t, u16, (F)-1, (F)65536, 0, UINT16_MAX)                           \
  FD_FLOAT_TO_INT(F, f, uint32_t, u32, (F)-1, (F)0x1p32, 0, UINT32_MAX)                          \
  FD_FLOAT_TO_INT(F, f, uint64_t, u64, (F)-1, (F)0x1p64, 0, UINT64_MAX)
FD_FLOAT_TO_INTS(float, f32, -0x1.000002p31, -0x1.000002p63)
FD_FLOAT_TO_INTS(double, f64, -2147483649.0, -0x1.0000000000001p63)
#undef FD_FLOAT_TO_INTS
#undef FD_FLOAT_TO_INT

/* Integers: every result is defined, as XLA defines it. */

/* T is the type and t its short name, U and S the unsigned and the signed type of its width.
 * div truncates; x / 0 has all bits set, x rem 0 = x; MIN / -1 = MIN, MIN rem -1 = 0.
 * Shifts by the width or more (also by a negative amount) give 0, or the highest bit everywhere for
 * an arithmetic one. A negative power of x is 0 unless x is 1 or -1. All else wraps. */
#define FD_INT_COMMON(T, t, U, S, bits, is_bad_pair)                                            \
  FD_INLINE T fd_div_##t(T x, T y) {                                                            \
    T q = (T)(x / (y == 0 || (is_bad_pair) ? (T)1 : y));                                        \
    return y == 0 ? (T)-1 : q;                                                                  \
  }                                                                                             \
  FD_INLINE T fd_rem_##t(T x, T y) {                                                            \
    T r = (T)(x % (y == 0 || (is_bad_pair) ? (T)1 : y));                                        \
    return y == 0 ? x : r;                                                                      \
  }                                                                                             \
  FD_INLINE T fd_add_##t(T x, T y) { return (T)(U)((U)x + (U)y); }                              \
  FD_INLINE T fd_sub_##t(T x, T y) { return (T)(U)((U)x - (U)y); }                              \
  FD_INLINE T fd_mul_##t(T x, T y) { return (T)(U)(1u * (U)x * (U)y); }                         \
  FD_INLINE T fd_neg_##t(T x) { return (T)(U)(0u - (U)x); }                                     \
  FD_INLINE T fd_max_##t(T x, T y) { return x > y ? x : y; }                                    \
  FD_INLINE T fd_min_##t(T x, T y) { return x < y ? x : y; }                                    \
  FD_INLINE T fd_shift_left_##t(T x, T y) {                                                     \
    return (U)y >= (bits) ? (T)0 : (T)(U)((uint64_t)(U)x << ((U)y & ((bits)-1)));               \
  }                                                                                             \
  FD_INLINE T fd_shift_right_logical_##t(T x, T y) {                                            \
    return (U)y >= (bits) ? (T)0 : (T)(U)((U)x >> ((U)y & ((bits)-1)));                         \
  }                                                                                             \
  FD_INLINE T fd_shift_right_arithmetic_##t(T x, T y) {                                         \
    return (T)((S)x >> ((U)y >= (bits) ? (U)((bits)-1) : (U)y));                                \
  }                                                                                             \
  FD_INLINE T fd_population_count_##t(T x) { return (T)__builtin_popcountll((U)x); }            \
  FD_INLINE T fd_clz_##t(T x) {                                                                 \
    uint64_t top = (uint64_t)(U)x << (64 - (bits));                                             \
    return (T)(x == 0 ? (bits) : __builtin_clzll(top | (x == 0))); /* clz(0) is undefined */    \
  }                                                                                             \
  FD_INLINE T fd_pow_##t(T x, T y) {                                                            \
    U result = 1, base = (U)x;                                                                  \
    for (U n = y < (T)1 ? 0 : (U)y; n != 0; n = (U)(n >> 1)) {                                  \
      result = (U)(n & 1 ? 1u * result * base : result);                                        \
      base = (U)(1u * base * base);                                                             \
    }                                                                                           \
    T inverse = x == (T)1 ? (T)1 : x != (T)-1 ? (T)0 : y & 1 ? (T)-1 : (T)1;                    \
    return y < (T)1 && y != 0 ? inverse : (T)result;                                            \
  }
#define FD_INT_SIGNED(T, t, U, bits, min)                                 \
  FD_INT_COMMON(T, t, U, T, bits, (x == (min) && y == -1))                \
  FD_INLINE T fd_abs_##t(T x) { return x < 0 ? fd_neg_##t(x) : x; }       \
  FD_INLINE T fd_sign_##t(T x) { return (T)((x > 0) - (x < 0)); }
#define FD_INT_UNSIGNED(T, t, S, bits)      \
  FD_INT_COMMON(T, t, T, S, bits, 0)        \
  FD_INLINE T fd_abs_##t(T x) { return x; } \
  FD_INLINE T fd_sign_##t(T x) { return (T)(x != 0); }
FD_INT_SIGNED(int8_t, i8, uint8_t, 8, INT8_MIN)
FD_INT_SIGNED(int16_t, i16, uint16_t, 16, INT16_MIN)
FD_INT_SIGNED(int32_t, i32, uint32_t, 32, INT32_MIN)
FD_INT_SIGNED(int64_t, i64, uint64_t, 64, INT64_MIN)
FD_INT_UNSIGNED(uint8_t, u8, int8_t, 8)
FD_INT_UNSIGNED(uint16_t, u16, int16_t, 16)
FD_INT_UNSIGNED(uint32_t, u32, int32_t, 32)
FD_INT_UNSIGNED(uint64_t, u64, int64_t, 64)
#undef FD_INT_UNSIGNED
#undef FD_INT_SIGNED
#undef FD_INT_COMMON

/* Floating point: NaN wins, whichever operand holds it. */

/* By two selects: of one on two conditions gcc moves the masks through general registers. */
#define FD_NAN_WINS(name, T, sign)           \
  FD_INLINE T fd_##name(T a, T b) {          \
    T other = a != a ? a : b;                \
    return a sign b ? a : other;             \
  }
FD_NAN_WINS(max_f32, float, >)
FD_NAN_WINS(min_f32, float, <)
FD_NAN_WINS(max_f64, double, >)
FD_NAN_WINS(min_f64, double, <)
#undef FD_NAN_WINS

#endif
