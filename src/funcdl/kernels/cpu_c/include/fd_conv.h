/* Convolution without a matrix of windows: sums of products whose left factors are read from the
 * image, or from a padded copy of a band of it, through one pointer for each row of the micro-tile
 * (Dukhan, "The indirect convolution algorithm", 2019). Kernels are packed to panels; arrays are in
 * the order batch, rows, columns, features. Bands, panels and threads are the caller's. */
#ifndef FD_CONV_H
#define FD_CONV_H

#include <string.h>

#include "fd_gemm.h"

/* Micro-tiles of 1 to FD_CONV_VECTORS vectors: FD_CONV_ROWS_n positions by n vectors of features.
 * Measured with AVX-512: 6 by 4 and 8 by 3 reach 97 % of the peak, 14 by 2 reaches 94 %. */
#if defined(__AVX512F__)
#define FD_CONV_VECTORS 4
#define FD_CONV_ROWS_1 14
#define FD_CONV_ROWS_2 14
#define FD_CONV_ROWS_3 8
#define FD_CONV_ROWS_4 6
#else
#define FD_CONV_VECTORS 2
#define FD_CONV_ROWS_1 10
#define FD_CONV_ROWS_2 6
#endif
/* Lists of positions have room for so many more, which repeat the last one. */
#define FD_CONV_SLACK 14
/* Features of a panel, and what some features are rounded up to in panels. */
#define FD_CONV_WIDTH_F32 (FD_CONV_VECTORS * FD_VECTOR_BYTES / 4)
#define FD_CONV_WIDTH_F64 (FD_CONV_VECTORS * FD_VECTOR_BYTES / 8)
#define FD_CONV_ROUNDED_F32(n) \
  (((n) + FD_VECTOR_BYTES / 4 - 1) / (FD_VECTOR_BYTES / 4) * (FD_VECTOR_BYTES / 4))
#define FD_CONV_ROUNDED_F64(n) \
  (((n) + FD_VECTOR_BYTES / 8 - 1) / (FD_VECTOR_BYTES / 8) * (FD_VECTOR_BYTES / 8))

/* The part of a dimension that a band holds: `count` places from `first` on, of an array that has
 * `size` places, `stride` elements apart. Places outside of it are padding. */
typedef struct {
  int64_t count, first, size, stride;
} fd_span;

/* Where some windows begin: `count` of them, `from` elements apart in the band, `to` in the result. */
typedef struct {
  int64_t count, from, to;
} fd_steps;

/* Lists the beginnings of all windows of a block, row-major; returns how many there are. */
static inline __attribute__((unused)) int64_t fd_conv_positions(int64_t *from, int64_t *to,
                                                                fd_steps n, fd_steps y,
                                                                fd_steps x) {
  int64_t at = 0;
  for (int64_t i = 0; i < n.count; i++)
    for (int64_t r = 0; r < y.count; r++)
      for (int64_t c = 0; c < x.count; c++, at++) {
        from[at] = i * n.from + r * y.from + c * x.from;
        to[at] = i * n.to + r * y.to + c * x.to;
      }
  for (int i = 0; at > 0 && i < FD_CONV_SLACK; i++) {
    from[at + i] = from[at - 1];
    to[at + i] = to[at - 1];
  }
  return at;
}

#define FD_T float
#define FD_NAME(name) name##_f32
#define FD_ROUNDED FD_CONV_ROUNDED_F32
#define FD_WIDTH FD_CONV_WIDTH_F32
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH

#define FD_T double
#define FD_NAME(name) name##_f64
#define FD_ROUNDED FD_CONV_ROUNDED_F64
#define FD_WIDTH FD_CONV_WIDTH_F64
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH

#endif
