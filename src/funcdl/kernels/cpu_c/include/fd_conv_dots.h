/* The micro-tile of fd_conv.h for FD_CONV_OUT output features, too few to make a vector of: vectors
 * run along the input features. Without include guard. */

/* c[to[i]][j] = the products of window i of the block with row j of the kernel, of `depth` terms.
 * Runs of terms are whole vectors. */
static __attribute__((noinline, unused)) void FD_CONV_NAME(fd_conv_dots, FD_CONV_OUT)(
    const fd_block *block, const FD_T *x, const FD_T *kernel, int64_t depth, FD_T *c) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  typedef FD_T quarter __attribute__((vector_size(16)));
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), parts = FD_VECTOR_BYTES / 16 };
  enum { most = FD_CONV_SUMS / FD_CONV_OUT, rows = most < 8 ? most : 8 };
  const int64_t count = block->count, run = block->run;
  const int64_t *from = block->from, *to = block->to;
  for (int64_t i = 0; i < count; i += rows, from += rows, to += rows) {
    vector sum[rows][FD_CONV_OUT] = {{{0}}};
    const FD_T *row[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) row[r] = x + from[r];
    for (int64_t t = 0; t < block->runs; t++) {
      const FD_T *b = kernel + block->place[t];
      for (int64_t k = block->tap[t], end = k + run; k < end; k += lanes, b += lanes) {
        vector right[FD_CONV_OUT];
#pragma GCC unroll 8
        for (int j = 0; j < FD_CONV_OUT; j++) right[j] = *(const unaligned *)(b + j * depth);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
          vector left = *(const unaligned *)(row[r] + k);
#pragma GCC unroll 8
          for (int j = 0; j < FD_CONV_OUT; j++)
            sum[r][j] = FD_NAME(fd_vector_fma)(left, right[j], sum[r][j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
      if (r < count - i) {
#pragma GCC unroll 8
        for (int j = 0; j < FD_CONV_OUT; j++) {
          quarter part[parts], total;
          memcpy(part, &sum[r][j], sizeof part);
          total = part[0];
#pragma GCC unroll 4
          for (int p = 1; p < parts; p++) total += part[p];
          FD_T first = total[0] + total[1];
          if (sizeof(FD_T) == 4) first += total[16 / sizeof(FD_T) - 2] + total[16 / sizeof(FD_T) - 1];
          c[to[r] + j] = first;
        }
      }
  }
}
