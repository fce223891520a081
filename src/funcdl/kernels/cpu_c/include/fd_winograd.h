/* Convolution with kernels of 3x3 places by Winograd's minimal filtering F(2x2, 3x3): 16 products
 * for four neighbouring windows in place of 36 (Lavin and Gray, "Fast algorithms for convolutional
 * neural networks", 2016). Kernel, image and sums are transformed by additions and halves; between,
 * there are 16 products of matrices, one for each position in a tile, by the micro-kernels of
 * fd_conv.h. Bands, panels and threads are the caller's. */
#ifndef FD_WINOGRAD_H
#define FD_WINOGRAD_H

#include "fd_conv.h"

/* Positions of a tile of the image: 4x4. */
#define FD_WINOGRAD_POSITIONS 16
/* Elements between the arrays of two positions: were they a power of two apart, lines of all
 * positions would share one place of the cache. */
#define FD_WINOGRAD_GAP 16

/* The tiles of a block: those of `images`, which are `from` elements apart, `rows.count` by
 * `columns.count` of them. The first one begins at elements `first`, below 0 where that is padding.
 */
typedef struct {
  int64_t images, from;
  fd_span rows, columns;
} fd_tiles;

/* Where the windows of a block go: `rows` by `columns` of them in an image, the strides between
 * images, rows and columns. */
typedef struct {
  int64_t rows, columns, image_to, row_to, column_to;
} fd_results;

/* The rows of a matrix of tiles by features, as the windows of fd_conv_sums, in pieces of terms. */
static __attribute__((noinline, unused)) void fd_winograd_list(fd_block *block, int64_t tiles,
                                                               int64_t features, int64_t pieces,
                                                               int64_t columns) {
  for (int64_t t = 0; t < tiles + FD_CONV_SLACK; t++) {
    const int64_t tile = t < tiles ? t : tiles - 1;
    block->from[t] = tile * features;
    block->to[t] = tile * columns;
  }
  block->count = tiles;
  block->runs = pieces;
  block->run = features / pieces;
  for (int64_t p = 0; p < pieces; p++) block->tap[p] = block->place[p] = p * block->run;
}

#define FD_T float
#define FD_NAME(name) name##_f32
#define FD_ROUNDED FD_CONV_ROUNDED_F32
#define FD_WIDTH FD_CONV_WIDTH_F32
#include "fd_winograd_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH

#define FD_T double
#define FD_NAME(name) name##_f64
#define FD_ROUNDED FD_CONV_ROUNDED_F64
#define FD_WIDTH FD_CONV_WIDTH_F64
#include "fd_winograd_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH

#endif
