/* The micro-tile of fd_conv.h that is FD_CONV_TILE vectors wide. Without include guard. */

#define FD_PASTE_(a, b) a##b
#define FD_PASTE(a, b) FD_PASTE_(a, b)
#define FD_ROWS FD_PASTE(FD_CONV_ROWS_, FD_CONV_TILE)

/* c[to[i]][columns] = Σ_t Σ_k x[from[i] + tap[t] + k] · panel, for i below `count`. */
static __attribute__((noinline, unused)) void FD_CONV_NAME(fd_conv_tiles, FD_CONV_TILE)(
    int64_t taps, int64_t run, const int64_t *tap, const FD_T *x, const FD_T *panel, FD_T *c,
    int64_t count, const int64_t *from, const int64_t *to, int64_t columns) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), width = FD_CONV_TILE * lanes };
  for (int64_t i = 0; i < count; i += FD_ROWS, from += FD_ROWS, to += FD_ROWS) {
    vector sum[FD_ROWS][FD_CONV_TILE] = {{{0}}};
    const FD_T *row[FD_ROWS], *b = panel;
#pragma GCC unroll 16
    for (int r = 0; r < FD_ROWS; r++) row[r] = x + from[r];
    for (int64_t t = 0; t < taps; t++)
      for (int64_t k = tap[t], end = k + run; k < end; k++, b += width) {
        vector right[FD_CONV_TILE];
#pragma GCC unroll 16
        for (int j = 0; j < FD_CONV_TILE; j++) right[j] = *(const unaligned *)(b + j * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < FD_ROWS; r++) {
          vector left = row[r][k] - (vector){0}; /* to all lanes; x - 0 is x, also for -0 */
#pragma GCC unroll 16
          for (int j = 0; j < FD_CONV_TILE; j++)
            sum[r][j] = FD_NAME(fd_vector_fma)(left, right[j], sum[r][j]);
        }
      }
    if (count - i >= FD_ROWS && columns == width) {
#pragma GCC unroll 16
      for (int r = 0; r < FD_ROWS; r++)
#pragma GCC unroll 16
        for (int j = 0; j < FD_CONV_TILE; j++) *(unaligned *)(c + to[r] + j * lanes) = sum[r][j];
    } else {
      vector edge[FD_ROWS][FD_CONV_TILE];
#pragma GCC unroll 16
      for (int r = 0; r < FD_ROWS; r++)
#pragma GCC unroll 16
        for (int j = 0; j < FD_CONV_TILE; j++) edge[r][j] = sum[r][j];
      for (int r = 0; r < FD_ROWS && r < count - i; r++)
        memcpy(c + to[r], edge[r], (size_t)columns * sizeof(FD_T));
    }
  }
}
#undef FD_ROWS
#undef FD_PASTE
#undef FD_PASTE_
