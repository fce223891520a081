/* The micro-tile of fd_conv.h that is FD_CONV_TILE vectors wide. Without include guard. */

#define FD_PASTE_(a, b) a##b
#define FD_PASTE(a, b) FD_PASTE_(a, b)
#define FD_ROWS FD_PASTE(FD_CONV_ROWS_, FD_CONV_TILE)

/* c[to[i]][columns] = the products of some windows, a constant number, with a panel of the kernel,
 * over runs `first` to `last`; in `edge`, where not all windows or columns are to be stored. */
FD_INLINE void FD_CONV_NAME(fd_conv_rows, FD_CONV_TILE)(
    const int rows, int64_t valid, const fd_block *block, const int64_t *from, const int64_t *to,
    int64_t first, int64_t last, const FD_T *x, const FD_T *panel, FD_T *c, FD_T *edge,
    int64_t columns) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), width = FD_CONV_TILE * lanes };
  const int64_t run = block->run, *tap = block->tap, *place = block->place;
  vector sum[FD_ROWS][FD_CONV_TILE] = {{{0}}};
  const FD_T *row[FD_ROWS];
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) row[r] = x + from[r];
  for (int64_t t = first; t < last; t++) {
    const FD_T *b = panel + place[t] * width;
    for (int64_t k = tap[t], end = k + run; k < end; k++, b += width) {
      vector right[FD_CONV_TILE];
#pragma GCC unroll 16
      for (int j = 0; j < FD_CONV_TILE; j++) right[j] = *(const unaligned *)(b + j * lanes);
#pragma GCC unroll 16
      for (int r = 0; r < rows; r++) {
        vector left = row[r][k] - (vector){0}; /* to all lanes; x - 0 is x, also for -0 */
#pragma GCC unroll 16
        for (int j = 0; j < FD_CONV_TILE; j++)
          sum[r][j] = FD_NAME(fd_vector_fma)(left, right[j], sum[r][j]);
      }
    }
  }
  const int whole = valid >= rows && columns == width;
  if (whole && first > 0)
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
      for (int j = 0; j < FD_CONV_TILE; j++)
        sum[r][j] += *(const unaligned *)(c + to[r] + j * lanes);
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    FD_T *out = whole ? c + to[r] : edge + r * width;
#pragma GCC unroll 16
    for (int j = 0; j < FD_CONV_TILE; j++) *(unaligned *)(out + j * lanes) = sum[r][j];
  }
}

/* c[to[i]][columns] = the products of window i of the block with a panel of the kernel, over at
 * most `group` runs of terms from number `first` on; later ones are added to what is there. Fetched
 * before: the lines that the tile's results go to, and those that only the next tile meets. */
static __attribute__((noinline, unused)) void FD_CONV_NAME(fd_conv_tiles, FD_CONV_TILE)(
    const fd_block *block, int64_t first, int64_t group, const FD_T *x, const FD_T *panel, FD_T *c,
    int64_t columns) {
  enum { width = FD_CONV_TILE * FD_VECTOR_BYTES / sizeof(FD_T) };
  const int64_t last = block->runs - first < group ? block->runs : first + group;
  const int64_t *from = block->from, *to = block->to;
  FD_T edge[FD_ROWS * width];
  for (int64_t left = block->count, rows; left > 0; left -= rows, from += rows, to += rows) {
    rows = FD_CONV_FOUR(left, FD_ROWS) ? 4 : FD_ROWS;
    for (int r = 0; r < FD_ROWS; r++)
      for (int j = 0; j < FD_CONV_TILE; j++)
        __builtin_prefetch(c + to[r] + j * (FD_VECTOR_BYTES / sizeof(FD_T)), 1, 2);
    if (left > FD_ROWS && last > first) {
      /* Windows that overlap or are neighbours meet no gaps. */
      const int64_t met = from[FD_ROWS - 1], fresh = from[2 * FD_ROWS - 1] - met;
      if (fresh <= FD_ROWS * block->run)
        fd_conv_fetch_all(x + met + block->tap[last - 1] + block->run,
                          fresh * (int64_t)sizeof(FD_T));
    }
    if (rows == 4)
      FD_CONV_NAME(fd_conv_rows, FD_CONV_TILE)(4, left, block, from, to, first, last, x, panel, c,
                                               edge, columns);
    else
      FD_CONV_NAME(fd_conv_rows, FD_CONV_TILE)(FD_ROWS, left, block, from, to, first, last, x,
                                               panel, c, edge, columns);
    if (left < rows || columns < width)
      for (int64_t r = 0; r < rows && r < left; r++)
        for (int64_t j = 0; j < columns; j++) {
          FD_T *out = c + to[r] + j;
          *out = first > 0 ? *out + edge[r * width + j] : edge[r * width + j];
        }
  }
}

/* c[r][columns] += the sum over all positions of x[position + row[r]] * panel[position], for the
 * first `valid` of some rows, a constant number. */
FD_INLINE void FD_CONV_NAME(fd_conv_outer_rows, FD_CONV_TILE)(
    const int rows, int64_t valid, const fd_outer *at, const int64_t *row, const FD_T *x,
    const FD_T *panel, int64_t step, FD_T *c, int64_t ldc) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T) };
  vector sum[FD_ROWS][FD_CONV_TILE] = {{{0}}};
  for (int64_t i = 0; i < at->images; i++)
    for (int64_t y = 0; y < at->rows; y++) {
      const FD_T *a = x + i * at->image_from + y * at->row_from;
      const FD_T *b = panel + (i * at->image_panel + y * at->row_panel) * step;
      for (int64_t p = 0; p < at->columns; p++, a += at->column_from, b += step) {
        vector right[FD_CONV_TILE];
#pragma GCC unroll 16
        for (int j = 0; j < FD_CONV_TILE; j++) right[j] = *(const unaligned *)(b + j * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
          vector left = a[row[r]] - (vector){0};
#pragma GCC unroll 16
          for (int j = 0; j < FD_CONV_TILE; j++)
            sum[r][j] = FD_NAME(fd_vector_fma)(left, right[j], sum[r][j]);
        }
      }
    }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++)
    if (r < valid) {
#pragma GCC unroll 16
      for (int j = 0; j < FD_CONV_TILE; j++)
        *(unaligned *)(c + r * ldc + j * lanes) += sum[r][j];
    }
}

/* c[f][columns] += the sum over all positions of x[position + place[f]] * panel[position], for all
 * features f: the gradient of a tap of a kernel, or of several. Without `place`, features lie
 * together. Rows of the panel are `step` elements apart, those of c ldc, with room for the panel.
 */
static __attribute__((noinline, unused)) void FD_CONV_NAME(fd_conv_outer_tiles, FD_CONV_TILE)(
    const fd_outer *at, int64_t features, const int64_t *place, const FD_T *x, const FD_T *panel,
    int64_t step, FD_T *c, int64_t ldc, fd_stream *ahead) {
  x += at->from;
  panel += at->panel * step;
  for (int64_t f = 0, rows; f < features; f += rows, c += rows * ldc) {
    const int64_t left = features - f;
    int64_t row[FD_ROWS];
    rows = FD_CONV_FOUR(left, FD_ROWS) ? 4 : FD_ROWS;
    for (int i = 0; i < FD_CONV_STREAMS; i++) fd_conv_fetch(&ahead[i]);
#pragma GCC unroll 16
    for (int r = 0; r < FD_ROWS; r++) {
      int64_t last = r < left ? f + r : features - 1;
      row[r] = place ? place[last] : last;
    }
    if (rows == 4)
      FD_CONV_NAME(fd_conv_outer_rows, FD_CONV_TILE)(4, left, at, row, x, panel, step, c, ldc);
    else
      FD_CONV_NAME(fd_conv_outer_rows, FD_CONV_TILE)(FD_ROWS, left, at, row, x, panel, step, c,
                                                     ldc);
  }
}
#undef FD_ROWS
#undef FD_PASTE
#undef FD_PASTE_
