/* The part of fd_conv.h that is written once and included for each element type: FD_T is the type,
 * FD_NAME(f) adds its short name, FD_ROUNDED(n), FD_WIDTH and FD_TRANSPOSED are those of this type.
 * Without include guard. */

#define FD_CONV_NAME_(name, n) FD_NAME(name##_##n)
#define FD_CONV_NAME(name, n) FD_CONV_NAME_(name, n)
#define FD_CONV_TILE 1
#include "fd_conv_tile.h"
#undef FD_CONV_TILE
#define FD_CONV_TILE 2
#include "fd_conv_tile.h"
#undef FD_CONV_TILE
#if FD_CONV_VECTORS > 2
#define FD_CONV_TILE 3
#include "fd_conv_tile.h"
#undef FD_CONV_TILE
#define FD_CONV_TILE 4
#include "fd_conv_tile.h"
#undef FD_CONV_TILE
#endif

#define FD_CONV_OUT 1
#include "fd_conv_dots.h"
#undef FD_CONV_OUT
#define FD_CONV_OUT 2
#include "fd_conv_dots.h"
#undef FD_CONV_OUT
#define FD_CONV_OUT 3
#include "fd_conv_dots.h"
#undef FD_CONV_OUT
#define FD_CONV_OUT 4
#include "fd_conv_dots.h"
#undef FD_CONV_OUT

/* A copy of a band, with zeros as padding: to[image][row][column][feature]. */
static __attribute__((noinline, unused)) void FD_NAME(fd_conv_band)(
    FD_T *to, const FD_T *from, int64_t images, int64_t image_stride, fd_span rows, fd_span columns,
    int64_t features, int64_t feature_stride) {
  int64_t left = columns.first < 0 ? -columns.first : 0;
  int64_t end = columns.size - columns.first;
  if (left > columns.count) left = columns.count;
  if (end > columns.count) end = columns.count;
  if (end < left) end = left;
  int dense = feature_stride == 1 && (columns.stride == features || columns.size == 1);
  for (int64_t i = 0; i < images; i++)
    for (int64_t r = 0; r < rows.count; r++, to += columns.count * features) {
      int64_t y = rows.first + r;
      if (y < 0 || y >= rows.size) {
        memset(to, 0, (size_t)(columns.count * features) * sizeof(FD_T));
        continue;
      }
      const FD_T *row = from + i * image_stride + y * rows.stride;
      memset(to, 0, (size_t)(left * features) * sizeof(FD_T));
      if (dense)
        memcpy(to + left * features, row + (columns.first + left) * features,
               (size_t)((end - left) * features) * sizeof(FD_T));
      else
        for (int64_t c = left; c < end; c++)
          for (int64_t f = 0; f < features; f++)
            to[c * features + f] = row[(columns.first + c) * columns.stride + f * feature_stride];
      memset(to + end * features, 0, (size_t)((columns.count - end) * features) * sizeof(FD_T));
    }
}

/* One tap's kernel[features][columns] to panels: the last one is what is left rounded up wide, the
 * others FD_WIDTH. Panels have `depth` terms, those of this tap begin at `at`. */
static __attribute__((noinline, unused)) void FD_NAME(fd_conv_pack)(
    FD_T *to, const FD_T *from, int64_t feature_stride, int64_t column_stride, int64_t features,
    int64_t columns, int64_t depth, int64_t at) {
  /* Rows as long as they are in memory; or a cache line of every column of a panel in turn, while
   * the next ones are fetched. */
  enum { line = 64 / sizeof(FD_T) };
  const int64_t lines = feature_stride == 1 && column_stride != 1 ? features / line * line : 0;
  for (int64_t j = 0; j < columns && lines > 0; j += FD_WIDTH) {
    const int64_t count = columns - j < FD_WIDTH ? columns - j : FD_WIDTH;
    const int64_t width = FD_ROUNDED(count), whole = count - count % FD_TRANSPOSED;
    const FD_T *first = from + j * column_stride;
    FD_T *panel = to + j * depth + at * width;
    for (int64_t k = 0; k < lines; k += line, panel += line * width, first += line) {
      for (int64_t i = 0; i < whole; i += FD_TRANSPOSED) {
        for (int64_t f = i; f < i + FD_TRANSPOSED; f++)
          __builtin_prefetch(first + f * column_stride + 2 * line);
        for (int64_t l = 0; l < line; l += FD_TRANSPOSED)
          FD_NAME(fd_transpose)(panel + l * width + i, width, first + i * column_stride + l,
                                column_stride);
      }
      for (int64_t l = 0; l < line; l++)
        for (int64_t i = whole; i < width; i++)
          panel[l * width + i] = i < count ? first[i * column_stride + l] : (FD_T)0;
    }
  }
  for (int64_t k = lines; k < features; k++)
    for (int64_t j = 0; j < columns; j += FD_WIDTH) {
      const int64_t count = columns - j < FD_WIDTH ? columns - j : FD_WIDTH;
      const int64_t width = FD_ROUNDED(count);
      const FD_T *first = from + k * feature_stride + j * column_stride;
      FD_T *panel = to + j * depth + (at + k) * width;
      if (column_stride == 1 && count == FD_WIDTH) {
        memcpy(panel, first, FD_WIDTH * sizeof(FD_T));
        continue;
      }
      if (column_stride == 1)
        memcpy(panel, first, (size_t)count * sizeof(FD_T));
      else
        for (int64_t i = 0; i < count; i++) panel[i] = first[i * column_stride];
      for (int64_t i = count; i < width; i++) panel[i] = 0;
    }
}

/* Sums of products for a block of windows of x; panels have `depth` terms. `columns` is constant,
 * so that only tiles of the widths that occur are compiled. */
FD_INLINE void FD_NAME(fd_conv_sums)(const fd_block *block, const FD_T *x, const FD_T *panels,
                                     int64_t depth, FD_T *c, const int64_t columns) {
  const int64_t rest = columns % FD_WIDTH, run = block->run;
  const int64_t group = run < FD_CONV_TERMS && run > 0 ? FD_CONV_TERMS / run : 1;
  int64_t j = 0;
  for (; j + FD_WIDTH <= columns; j += FD_WIDTH)
    for (int64_t t = 0; t == 0 || t < block->runs; t += group)
      FD_CONV_NAME(fd_conv_tiles, FD_CONV_VECTORS)(block, t, group, x, panels + j * depth, c + j,
                                                   FD_WIDTH);
  if (rest == 0) return;
  for (int64_t t = 0; t == 0 || t < block->runs; t += group)
    switch (FD_ROUNDED(rest) / (FD_VECTOR_BYTES / sizeof(FD_T))) {
      case 1:
        FD_NAME(fd_conv_tiles_1)(block, t, group, x, panels + j * depth, c + j, rest);
        break;
      case 2:
        FD_NAME(fd_conv_tiles_2)(block, t, group, x, panels + j * depth, c + j, rest);
        break;
#if FD_CONV_VECTORS > 2
      case 3:
        FD_NAME(fd_conv_tiles_3)(block, t, group, x, panels + j * depth, c + j, rest);
        break;
      case 4:
        FD_NAME(fd_conv_tiles_4)(block, t, group, x, panels + j * depth, c + j, rest);
        break;
#endif
    }
}

/* One tap's kernel[features][columns] to rows, one for each column. */
static __attribute__((noinline, unused)) void FD_NAME(fd_conv_pack_rows)(
    FD_T *to, const FD_T *from, int64_t feature_stride, int64_t column_stride, int64_t features,
    int64_t columns, int64_t depth, int64_t at) {
  for (int64_t j = 0; j < columns; j++)
    for (int64_t k = 0; k < features; k++)
      to[j * depth + at + k] = from[k * feature_stride + j * column_stride];
}

/* As fd_conv_sums with rows in place of panels, for up to 4 columns and runs of whole
 * vectors. */
FD_INLINE void FD_NAME(fd_conv_few)(const fd_block *block, const FD_T *x, const FD_T *kernel,
                                    int64_t depth, FD_T *c, const int64_t columns) {
  switch (columns) {
    case 1:
      FD_NAME(fd_conv_dots_1)(block, x, kernel, depth, c);
      break;
    case 2:
      FD_NAME(fd_conv_dots_2)(block, x, kernel, depth, c);
      break;
    case 3:
      FD_NAME(fd_conv_dots_3)(block, x, kernel, depth, c);
      break;
    case 4:
      FD_NAME(fd_conv_dots_4)(block, x, kernel, depth, c);
      break;
  }
}

/* The gradient of a tap of a kernel, or of several, added to c: for all panels of the other factor,
 * which have `depth` positions; or, if that is 0, for that factor as it is in memory, its positions
 * `step` elements apart. `columns` is constant. */
FD_INLINE void FD_NAME(fd_conv_outer)(fd_outer at, int64_t features, const int64_t *place,
                                      const FD_T *x, const FD_T *panels, int64_t depth,
                                      int64_t step, FD_T *c, int64_t ldc, fd_stream *ahead,
                                      const int64_t columns) {
  const int64_t rest = columns % FD_WIDTH;
  int64_t j = 0;
  if (at.images <= 0 || at.rows <= 0) return;
  for (; j + FD_WIDTH <= columns; j += FD_WIDTH)
    FD_CONV_NAME(fd_conv_outer_tiles, FD_CONV_VECTORS)(
        &at, features, place, x, panels + j * (depth ? depth : 1), depth ? FD_WIDTH : step, c + j,
        ldc, ahead);
  if (rest == 0) return;
  if (depth) step = FD_ROUNDED(rest);
  panels += j * (depth ? depth : 1);
  switch (FD_ROUNDED(rest) / (FD_VECTOR_BYTES / sizeof(FD_T))) {
    case 1:
      FD_NAME(fd_conv_outer_tiles_1)(&at, features, place, x, panels, step, c + j, ldc, ahead);
      break;
    case 2:
      FD_NAME(fd_conv_outer_tiles_2)(&at, features, place, x, panels, step, c + j, ldc, ahead);
      break;
#if FD_CONV_VECTORS > 2
    case 3:
      FD_NAME(fd_conv_outer_tiles_3)(&at, features, place, x, panels, step, c + j, ldc, ahead);
      break;
    case 4:
      FD_NAME(fd_conv_outer_tiles_4)(&at, features, place, x, panels, step, c + j, ldc, ahead);
      break;
#endif
  }
}

/* The sums of six windows, in `wide` vectors of channels; `valid` of them are
 * stored. */
FD_INLINE void FD_NAME(fd_conv_depthwise_tile)(const fd_block *block, const int64_t *from,
                                               const int64_t *to, const FD_T *x,
                                               const FD_T *kernel, FD_T *c, int64_t valid,
                                               const int wide) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  vector sum[6][4] = {{{0}}};
  const FD_T *first[6];
#pragma GCC unroll 8
  for (int r = 0; r < 6; r++) first[r] = x + from[r];
  for (int64_t t = 0; t < block->runs; t++) {
    const unaligned *k = (const unaligned *)(kernel + block->place[t]);
    const int64_t tap = block->tap[t];
#pragma GCC unroll 8
    for (int r = 0; r < 6; r++) {
      const unaligned *a = (const unaligned *)(first[r] + tap);
#pragma GCC unroll 8
      for (int j = 0; j < wide; j++) sum[r][j] = FD_NAME(fd_vector_fma)(a[j], k[j], sum[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < 6; r++)
    if (r < valid) {
#pragma GCC unroll 8
      for (int j = 0; j < wide; j++) ((unaligned *)(c + to[r]))[j] = sum[r][j];
    }
}

/* c[to[i]][channel] = the sum over t of x[from[i] + tap[t]][channel] * kernel[place[t]][channel]:
 * each channel for itself. `depth` is unused: the kernel has no panels. */
static __attribute__((noinline, unused)) void FD_NAME(fd_conv_depthwise)(
    const fd_block *block, const FD_T *x, const FD_T *kernel, int64_t depth, FD_T *c,
    int64_t channels) {
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), rows = 6, wide = FD_CONV_VECTORS };
  const int64_t *from = block->from, *to = block->to, count = block->count;
  int64_t f = 0;
  (void)depth;
  /* Channels outside: rows that several windows meet stay in the cache. */
  for (; f + wide * lanes <= channels; f += wide * lanes)
    for (int64_t i = 0; i < count; i += rows)
      FD_NAME(fd_conv_depthwise_tile)(block, from + i, to + i, x + f, kernel + f, c + f, count - i,
                                      wide);
  for (; f + lanes <= channels; f += lanes)
    for (int64_t i = 0; i < count; i += rows)
      FD_NAME(fd_conv_depthwise_tile)(block, from + i, to + i, x + f, kernel + f, c + f, count - i,
                                      1);
  for (int64_t i = 0; i < count; i++)
    for (int64_t g = f; g < channels; g++) {
      FD_T sum = 0;
      for (int64_t t = 0; t < block->runs; t++)
        sum = FD_NAME(fd_fma)(x[from[i] + block->tap[t] + g], kernel[block->place[t] + g], sum);
      c[to[i] + g] = sum;
    }
}

/* c[t][channel] += the sum over positions of x[position + place[t]][channel] times
 * y[position][channel], for all taps t: each channel for itself. Rows of y are `step` elements
 * apart, those of c ldc. */
static __attribute__((noinline, unused)) void FD_NAME(fd_conv_depthwise_outer)(
    fd_outer at, int64_t taps, const int64_t *place, const FD_T *x, const FD_T *y, int64_t step,
    FD_T *c, int64_t ldc, int64_t channels) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), rows = 9 };
  x += at.from;
  y += at.panel * step;
  for (int64_t t = 0; t < taps; t += rows, c += rows * ldc) {
    const int64_t valid = taps - t < rows ? taps - t : rows;
    int64_t row[rows], f = 0;
    for (int r = 0; r < rows; r++) row[r] = place[r < valid ? t + r : taps - 1];
    for (; f + lanes <= channels; f += lanes) {
      vector sum[rows] = {{0}};
      for (int64_t i = 0; i < at.images; i++)
        for (int64_t q = 0; q < at.rows; q++) {
          const FD_T *a = x + i * at.image_from + q * at.row_from + f;
          const FD_T *b = y + (i * at.image_panel + q * at.row_panel) * step + f;
          for (int64_t p = 0; p < at.columns; p++, a += at.column_from, b += step) {
            vector right = *(const unaligned *)b;
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
              sum[r] = FD_NAME(fd_vector_fma)(*(const unaligned *)(a + row[r]), right, sum[r]);
          }
        }
#pragma GCC unroll 16
      for (int r = 0; r < rows; r++)
        if (r < valid) *(unaligned *)(c + r * ldc + f) += sum[r];
    }
    for (; f < channels; f++)
      for (int64_t r = 0; r < valid; r++) {
        FD_T sum = 0;
        for (int64_t i = 0; i < at.images; i++)
          for (int64_t q = 0; q < at.rows; q++)
            for (int64_t p = 0; p < at.columns; p++)
              sum = FD_NAME(fd_fma)(
                  x[i * at.image_from + q * at.row_from + p * at.column_from + f + row[r]],
                  y[(i * at.image_panel + q * at.row_panel + p) * step + f], sum);
        c[r * ldc + f] += sum;
      }
  }
}
#undef FD_CONV_NAME_
#undef FD_CONV_NAME
