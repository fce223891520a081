/* Fourier transforms of a panel or of a long row: the tasks that fd_fft.h shares among threads. They
 * take a compiler a second, and are the same for all units: see FD_SHARED. */
#ifndef FD_FFT_TASKS_H
#define FD_FFT_TASKS_H

#include <string.h>

#include "fd_gemm.h"

enum {
  FD_FFT_RADIX = 127, /* the largest factor that is not left to Bluestein */
  FD_FFT_FACTORS = 24,
};

/* A transform of complex numbers of length `first * second`, each with its factors in order, then
 * zeros. Where `second` is 1, panels hold whole transforms; else one row is a panel. The table has
 * at `first_roots` the roots of unity of order `first`, likewise `second_roots`, and at `turns` the
 * powers [first][second] of those of order `first * second`. */
typedef struct {
  int64_t first, second;
  int64_t first_factors[FD_FFT_FACTORS], second_factors[FD_FFT_FACTORS];
  int64_t first_roots, second_roots, turns;
} fd_fft_core;

/* What a dimension of an array [outer][length][inner] undergoes. Real ones have no inner dimension:
 * `real` is 1 from real numbers, -1 to them. A real transform of even length is a complex one of
 * half the length, and `half_roots` are in the table the roots of order `length`. Chirps, where
 * there are any, are `length` numbers and then the spectrum of their conjugates, whose length is
 * that of `core`. */
typedef struct {
  int64_t outer, length, inner;
  int64_t inverse, real;
  double scale;
  int64_t half_roots, chirps, spectrum, has_chirps;
} fd_fft_sizes;

/* Interleave the lower or the upper halves of two vectors; reverse the first; take every second of
 * two. */
#if defined(__clang__) || __GNUC__ >= 12
#define FD_FFT_SHUFFLE(mask, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FD_FFT_SHUFFLE(mask, a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif
#define FD_FFT_LOW_2 0, 2
#define FD_FFT_HIGH_2 1, 3
#define FD_FFT_REVERSE_2 1, 0
#define FD_FFT_EVEN_2 0, 2
#define FD_FFT_ODD_2 1, 3
#define FD_FFT_LOW_4 0, 4, 1, 5
#define FD_FFT_HIGH_4 2, 6, 3, 7
#define FD_FFT_REVERSE_4 3, 2, 1, 0
#define FD_FFT_EVEN_4 0, 2, 4, 6
#define FD_FFT_ODD_4 1, 3, 5, 7
#define FD_FFT_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define FD_FFT_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define FD_FFT_REVERSE_8 7, 6, 5, 4, 3, 2, 1, 0
#define FD_FFT_EVEN_8 0, 2, 4, 6, 8, 10, 12, 14
#define FD_FFT_ODD_8 1, 3, 5, 7, 9, 11, 13, 15
#define FD_FFT_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FD_FFT_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FD_FFT_REVERSE_16 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0
#define FD_FFT_EVEN_16 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FD_FFT_ODD_16 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FD_FFT_JOIN_(which, lanes) FD_FFT_##which##_##lanes
#define FD_FFT_JOIN(which, lanes) FD_FFT_JOIN_(which, lanes)
#define FD_FFT_PICK(which, a, b) \
  FD_FFT_SHUFFLE(FD_NAME(fd_fft_mask), a, b, FD_FFT_JOIN(which, FD_FFT_LANES))

#define FD_T float
#define FD_NAME(name) name##_f32
#define FD_FFT_INTEGER int32_t
#if FD_VECTOR_BYTES == 64
#define FD_FFT_LANES 16
#elif FD_VECTOR_BYTES == 32
#define FD_FFT_LANES 8
#else
#define FD_FFT_LANES 4
#endif
#define FD_DEFINED FD_DEFINES(FFT_F32)
#include "fd_fft_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#undef FD_FFT_INTEGER
#undef FD_FFT_LANES

#define FD_T double
#define FD_NAME(name) name##_f64
#define FD_FFT_INTEGER int64_t
#if FD_VECTOR_BYTES == 64
#define FD_FFT_LANES 8
#elif FD_VECTOR_BYTES == 32
#define FD_FFT_LANES 4
#else
#define FD_FFT_LANES 2
#endif
#define FD_DEFINED FD_DEFINES(FFT_F64)
#include "fd_fft_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#undef FD_FFT_INTEGER
#undef FD_FFT_LANES

#endif
