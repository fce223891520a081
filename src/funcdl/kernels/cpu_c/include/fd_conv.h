/* Convolution without a matrix of windows: sums of products whose left factors are read from the
 * image, or from a padded copy of a band of it, through one pointer for each row of the micro-tile
 * (Dukhan, "The indirect convolution algorithm", 2019). Kernels are packed to panels; arrays are in
 * the order batch, rows, columns, features. Bands, panels and threads are the caller's. */
#ifndef FD_CONV_H
#define FD_CONV_H

#include <string.h>

#include "fd_gemm.h"

/* Micro-tiles of 1 to FD_CONV_VECTORS vectors: FD_CONV_ROWS_n positions by n vectors of features.
 * Measured with AVX-512: 6 by 4, 8 by 3 and 8 by 2 reach 97 % of the peak. (14 by 2 reaches 94 %,
 * and 80 % in images 32 wide, whose edges leave more of its rows unused; 8 by 2 then 88 %.) Where
 * vectors run along input features, FD_CONV_SUMS of them are sums. */
#if defined(__AVX512F__)
#define FD_CONV_VECTORS 4
#define FD_CONV_ROWS_1 14
#define FD_CONV_ROWS_2 8
#define FD_CONV_ROWS_3 8
#define FD_CONV_ROWS_4 6
#define FD_CONV_SUMS 18
#else
#define FD_CONV_VECTORS 2
#define FD_CONV_ROWS_1 10
#define FD_CONV_ROWS_2 6
#define FD_CONV_SUMS 10
#endif
/* What is left of a number of rows is computed four at a time where fewer are wasted so. */
#define FD_CONV_FOUR(left, rows) ((left) <= 4 || ((left) > (rows) && (left) <= 8))
/* Terms that a panel passes through the windows of a block at a time: it stays in the second-level
 * cache meanwhile. */
#define FD_CONV_TERMS 768
/* Lists of positions have room for so many more, which repeat the last one. */
#define FD_CONV_SLACK 14
/* Features of a panel, and what some features are rounded up to in panels. */
#define FD_CONV_WIDTH_F32 (FD_CONV_VECTORS * FD_VECTOR_BYTES / 4)
#define FD_CONV_WIDTH_F64 (FD_CONV_VECTORS * FD_VECTOR_BYTES / 8)
#define FD_CONV_ROUNDED_F32(n) \
  (((n) + FD_VECTOR_BYTES / 4 - 1) / (FD_VECTOR_BYTES / 4) * (FD_VECTOR_BYTES / 4))
#define FD_CONV_ROUNDED_F64(n) \
  (((n) + FD_VECTOR_BYTES / 8 - 1) / (FD_VECTOR_BYTES / 8) * (FD_VECTOR_BYTES / 8))

static inline __attribute__((unused)) void fd_conv_fetch_all(const void *at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)at + i, 0, 2);
}

/* The part of a dimension that a band holds: `count` places from `first` on, of an array that has
 * `size` places, `stride` elements apart. Places outside of it are padding. */
typedef struct {
  int64_t count, first, size, stride;
} fd_span;

/* Windows first, first + period, ... of one dimension, `count` of them, that meet `taps` elements:
 * the first of them meets `element` at `place` in the kernel. */
typedef struct {
  int64_t first, count, place, element, taps;
} fd_class;

/* The windows from `begin` to `end` of one dimension. The next window of a class meets elements
 * `step` further; the next tap is `place_step` and `element_step` further. In memory, neighbouring
 * elements are `from` apart, neighbouring results `to`, neighbouring places of the kernel `places`.
 */
typedef struct {
  int64_t begin, end, period, step, place_step, element_step, from, to, places;
} fd_motion;

/* Windows of a row class and a column class: where they begin and where their sums go; and their
 * taps, as runs of terms that are contiguous in the windows and in the kernel: those of one tap in
 * some pieces, or those of a row of taps. */
typedef struct {
  int64_t count, runs, run, *from, *to, *tap, *place;
} fd_block;

static __attribute__((noinline, unused)) void fd_conv_list(
    fd_block *block, fd_class row, fd_motion rows, fd_class column, fd_motion columns,
    int64_t images, int64_t image_from, int64_t image_to, int64_t features, int64_t pieces) {
  int64_t at = 0, skipped = rows.begin - row.first + rows.period - 1;
  skipped = skipped > 0 ? skipped / rows.period : 0;
  int64_t count = rows.end - row.first + rows.period - 1;
  count = count > 0 ? count / rows.period : 0;
  if (count > row.count) count = row.count;
  for (int64_t i = 0; i < images; i++)
    for (int64_t r = skipped; r < count; r++) {
      int64_t from = i * image_from + (row.element + r * rows.step) * rows.from;
      int64_t to = i * image_to + (row.first + r * rows.period - rows.begin) * rows.to;
      for (int64_t c = 0; c < column.count; c++, at++) {
        block->from[at] = from + (column.element + c * columns.step) * columns.from;
        block->to[at] = to + (column.first + c * columns.period) * columns.to;
      }
    }
  for (int i = 0; at > 0 && i < FD_CONV_SLACK; i++) {
    block->from[at + i] = block->from[at - 1];
    block->to[at + i] = block->to[at - 1];
  }
  block->count = at;
  int joined = columns.element_step * columns.from == features && columns.place_step == 1 &&
               column.taps * features <= FD_CONV_TERMS;
  int64_t taps = joined && column.taps > 0 ? 1 : column.taps, runs = 0;
  if (joined) features *= column.taps;
  block->run = features / pieces;
  for (int64_t r = 0; r < row.taps; r++)
    for (int64_t c = 0; c < taps; c++)
      for (int64_t p = 0; p < pieces; p++, runs++) {
        block->tap[runs] = r * rows.element_step * rows.from +
                           c * columns.element_step * columns.from + p * block->run;
        block->place[runs] = (row.place + r * rows.place_step) * rows.places +
                             (column.place + c * columns.place_step) * columns.places +
                             p * block->run;
      }
  block->runs = runs;
}

/* The elements that one tap of the kernel meets along a dimension, in windows `begin` to `end`: in
 * window k, element `offset` + k * `step`, of `size`. Elements are `from` apart in memory. */
typedef struct {
  int64_t begin, end, offset, step, size, from;
} fd_meeting;

/* Positions that contribute to the gradient of a tap: where they begin in the image and in panels
 * of the other factor, and the steps between them. */
typedef struct {
  int64_t images, rows, columns, from, panel;
  int64_t image_from, row_from, column_from, image_panel, row_panel;
} fd_outer;

/* Memory that is read after what is computed now: rows of cache lines, `step` bytes apart, of which
 * every micro-tile has the cache fetch a share. A tile has FD_CONV_STREAMS of these. */
#define FD_CONV_STREAMS 2
typedef struct {
  const char *at;
  int64_t step, lines, line, left, share;
} fd_stream;

/* Rows of some bytes, which so many micro-tiles share. */
static inline __attribute__((unused)) fd_stream fd_conv_stream(const void *at, int64_t rows,
                                                               int64_t bytes, int64_t step,
                                                               int64_t tiles) {
  int64_t lines = (bytes + 63) / 64, left = rows * lines;
  return (fd_stream){(const char *)at, step, lines, 0, left, (left + tiles - 1) / tiles};
}

static inline __attribute__((unused)) void fd_conv_fetch(fd_stream *ahead) {
  int64_t count = ahead->share < ahead->left ? ahead->share : ahead->left;
  ahead->left -= count;
  for (; count > 0; count--) {
    __builtin_prefetch(ahead->at + ahead->line * 64, 0, 2);
    if (++ahead->line == ahead->lines) {
      ahead->line = 0;
      ahead->at += ahead->step;
    }
  }
}

static inline __attribute__((unused)) void fd_conv_meet(fd_meeting *m) {
  int64_t first = m->offset < 0 ? (m->step - 1 - m->offset) / m->step : 0;
  int64_t left = m->size - m->offset, last = left > 0 ? (left + m->step - 1) / m->step : 0;
  if (m->begin < first) m->begin = first;
  if (m->end > last) m->end = last;
}

/* The windows of a block in which a tap meets elements; panels hold `image_panel` windows an image
 * and `row_panel` windows a row. */
static __attribute__((noinline, unused)) fd_outer fd_conv_contributors(
    fd_meeting row, fd_meeting column, int64_t images, int64_t image_from, int64_t image_panel,
    int64_t row_panel) {
  int64_t begin = row.begin;
  fd_conv_meet(&row);
  fd_conv_meet(&column);
  fd_outer outer = {
      .images = column.begin < column.end ? images : 0,
      .rows = row.end - row.begin,
      .columns = column.end - column.begin,
      .from = (row.offset + row.begin * row.step) * row.from +
              (column.offset + column.begin * column.step) * column.from,
      .panel = (row.begin - begin) * row_panel + column.begin,
      .image_from = image_from,
      .row_from = row.step * row.from,
      .column_from = column.step * column.from,
      .image_panel = image_panel,
      .row_panel = row_panel,
  };
  return outer;
}

#define FD_T float
#define FD_NAME(name) name##_f32
#define FD_ROUNDED FD_CONV_ROUNDED_F32
#define FD_WIDTH FD_CONV_WIDTH_F32
#define FD_TRANSPOSED 4
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH
#undef FD_TRANSPOSED

#define FD_T double
#define FD_NAME(name) name##_f64
#define FD_ROUNDED FD_CONV_ROUNDED_F64
#define FD_WIDTH FD_CONV_WIDTH_F64
#define FD_TRANSPOSED 2
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH
#undef FD_TRANSPOSED

#endif
