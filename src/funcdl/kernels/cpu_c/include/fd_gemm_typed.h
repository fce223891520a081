/* The part of fd_gemm.h that is written once and included for each element type: FD_T is the type,
 * FD_NAME(f) adds its short name, FD_NR is the width of the micro-tile, FD_TRANSPOSED the size of the
 * blocks that fd_transpose moves, and FD_DEFINED is whether shared functions are defined here (see
 * FD_SHARED). Without include guard. */

/* C[mc][nc] = or += A B. Element (i, k) of A is a[i * a_row + k * a_k]; row k of B begins at
 * b + k * b_k. Strips of FD_NR columns of B are b_strip elements apart: FD_NR in place, FD_NR * kc
 * in panels, whose padding C then has room for. In place nc is a vector wide or wider, and the last
 * vector may overlap the one before it, so that nothing can be accumulated.
 *
 * The cache fetches the tile of some arrays meanwhile, unless it has before, for the terms that this
 * product is added to. */
FD_SHARED void FD_NAME(fd_gemm_ahead)(
    int64_t mc, int64_t nc, int64_t kc, const FD_T *a, int64_t a_row, int64_t a_k, const FD_T *b,
    int64_t b_k, int64_t b_strip, FD_T *c, int64_t c_row, int accumulate, int arrays,
    const fd_ahead *ahead);
/* The same, with nothing to fetch. */
FD_INLINE void FD_NAME(fd_gemm)(int64_t mc, int64_t nc, int64_t kc, const FD_T *a, int64_t a_row,
                                int64_t a_k, const FD_T *b, int64_t b_k, int64_t b_strip, FD_T *c,
                                int64_t c_row, int accumulate) {
  FD_NAME(fd_gemm_ahead)(mc, nc, kc, a, a_row, a_k, b, b_k, b_strip, c, c_row, accumulate, 0, 0);
}

/* B[kc][nc] to panels: to[n / FD_NR][k][n % FD_NR] = from[k * k_stride + n * n_stride]. The last
 * panel is zero padded to whole vectors. */
FD_SHARED void FD_NAME(fd_pack)(FD_T *to, const FD_T *from, int64_t k_stride, int64_t n_stride,
                                int64_t kc, int64_t nc);

#if FD_DEFINED
/* C = or += A B for a few rows of A and some vectors of columns, both constants of the caller.
 * Element (i, k) of A is a[i * a_row + k * a_k]; row k of B begins at b + k * b_k. */
FD_INLINE void FD_NAME(fd_gemm_rows)(int rows, int vectors, int64_t k_count, const FD_T *a,
                                      int64_t a_row, int64_t a_k, const FD_T *b, int64_t b_k,
                                      FD_T *c, int64_t c_row, int accumulate) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T) };
  vector sum[FD_MR][FD_NR_VECTORS] = {{{0}}};
  for (int64_t k = 0; k < k_count; k++) {
    vector row[FD_NR_VECTORS];
#pragma GCC unroll 16
    for (int j = 0; j < vectors; j++) row[j] = *(const unaligned *)(b + j * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      vector scalar = a[i * a_row] - (vector){0}; /* to all lanes; x - 0 is x, also for -0 */
#pragma GCC unroll 16
      for (int j = 0; j < vectors; j++)
        sum[i][j] = FD_NAME(fd_vector_fma)(scalar, row[j], sum[i][j]);
    }
    a += a_k;
    b += b_k;
  }
  /* Up to three times a stride is part of an address. */
  char *const fours[] = {(char *)c, (char *)(c + 4 * c_row)};
  c_row *= sizeof(FD_T);
  if (accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      const unaligned *out = (const unaligned *)(fours[i / 4] + i % 4 * c_row);
#pragma GCC unroll 16
      for (int j = 0; j < vectors; j++) sum[i][j] += out[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    unaligned *out = (unaligned *)(fours[i / 4] + i % 4 * c_row);
#pragma GCC unroll 16
    for (int j = 0; j < vectors; j++) out[j] = sum[i][j];
  }
}

/* Functions for the micro-tile, for what is left of the rows, and for one vector of columns. */
#define FD_MICRO(rows, width, vectors)                                                            \
  static __attribute__((noinline, unused)) void FD_NAME(fd_gemm_##rows##_rows_##width)(           \
      int64_t k_count, const FD_T *a, int64_t a_row, int64_t a_k, const FD_T *b, int64_t b_k,     \
      FD_T *c, int64_t c_row, int accumulate) {                                                   \
    FD_NAME(fd_gemm_rows)(rows, vectors, k_count, a, a_row, a_k, b, b_k, c, c_row, accumulate);  \
  }
#define FD_MICROS(rows) FD_MICRO(rows, wide, FD_NR_VECTORS) FD_MICRO(rows, narrow, 1)
FD_MICROS(1)
FD_MICROS(2)
FD_MICROS(4)
#if FD_MR == 6
FD_MICROS(6)
#else
FD_MICROS(8)
#endif
#undef FD_MICROS
#undef FD_MICRO

/* Have the cache fetch FD_NR columns of rows of B that are needed next: the lines of the last element
 * of each 64 bytes. If rows are not aligned, that of the first one has come with the strip before. */
FD_INLINE void FD_NAME(fd_prefetch)(int64_t rows, const FD_T *b, int64_t b_k) {
  enum { line = 64 / sizeof(FD_T) };
  for (; rows > 0; rows--, b += b_k)
#pragma GCC unroll 4
    for (int at = line - 1; at < FD_NR; at += line) __builtin_prefetch(b + at, 0, 2);
}

/* Rows of A times some vectors of columns, for FD_DEPTH terms or fewer. With each micro-tile the
 * cache fetches `share` rows of B from `next` on: far rows are found by no prefetcher. It also
 * fetches the part of the arrays `ahead` that belongs to the micro-tile. */
#define FD_ROWS(rows)                                                                             \
  (wide ? FD_NAME(fd_gemm_##rows##_rows_wide) : FD_NAME(fd_gemm_##rows##_rows_narrow))(           \
      kc, a + i * a_row, a_row, a_k, b, b_k, c + i * c_row, c_row, accumulate)
FD_INLINE void FD_NAME(fd_gemm_strip)(int wide, int64_t mc, int64_t kc, const FD_T *a,
                                      int64_t a_row, int64_t a_k, const FD_T *b, int64_t b_k,
                                      FD_T *c, int64_t c_row, int accumulate, const FD_T *next,
                                      int64_t share, int arrays, const fd_ahead *ahead, int64_t j) {
  int64_t i = 0;
  for (; i + FD_MR <= mc; i += FD_MR, next += share * b_k) {
    FD_NAME(fd_prefetch)(share, next, b_k);
    for (int at = 0; at < arrays; at++) fd_fetch(&ahead[at], i, FD_MR, j, FD_NR);
#if FD_MR == 8
    FD_ROWS(8);
#else
    FD_ROWS(6);
#endif
  }
  for (; i + 4 <= mc; i += 4) FD_ROWS(4);
  for (; i + 2 <= mc; i += 2) FD_ROWS(2);
  for (; i < mc; i++) FD_ROWS(1);
}
#undef FD_ROWS

/* A block of FD_DEPTH columns of A meets all of B before the next one does, so that it stays in the
 * second cache, even with rows a power of two apart, which share few of its sets. */
FD_SHARED void FD_NAME(fd_gemm_ahead)(
    int64_t mc, int64_t nc, int64_t kc, const FD_T *a, int64_t a_row, int64_t a_k, const FD_T *b,
    int64_t b_k, int64_t b_strip, FD_T *c, int64_t c_row, int accumulate, int arrays,
    const fd_ahead *ahead) {
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T) };
  const int64_t wide = nc / FD_NR * FD_NR;
  /* In place, and with time to fetch. */
  const int64_t share = mc >= 64 && b_strip == FD_NR ? FD_DEPTH * FD_MR / mc : 0;
  int64_t k = 0;
  do {
    const int64_t count = kc - k < FD_DEPTH ? kc - k : FD_DEPTH;
    const FD_T *const rows = b + k * b_k;
    const int more = accumulate || k > 0;
    for (int64_t j = 0; j < wide; j += FD_NR) {
      const FD_T *strip = rows + j / FD_NR * b_strip;
      /* After the last strip come those of the next terms, and then, as a rule, the next tile's. */
      const FD_T *next = j + FD_NR < wide    ? strip + b_strip
                         : k + FD_DEPTH < kc ? rows + FD_DEPTH * b_k
                                             : b + wide / FD_NR * b_strip;
      FD_NAME(fd_gemm_strip)(1, mc, count, a + k * a_k, a_row, a_k, strip, b_k, c + j, c_row,
                             more, next, share, more ? 0 : arrays, ahead, j);
    }
  } while ((k += FD_DEPTH) < kc);
  for (int64_t j = wide; j < nc; j += lanes) {
    const int64_t at = j + lanes <= nc ? j : nc - lanes;
    k = 0;
    do {
      const int64_t count = kc - k < FD_DEPTH ? kc - k : FD_DEPTH;
      FD_NAME(fd_gemm_strip)(0, mc, count, a + k * a_k, a_row, a_k,
                             b + at / FD_NR * b_strip + at % FD_NR + k * b_k, b_k, c + at, c_row,
                             accumulate || k > 0, b, 0, 0, ahead, 0);
    } while ((k += FD_DEPTH) < kc);
  }
}

/* to[k][c] = from[k * k_stride + c * n_stride] for c from `begin` on, rows of `to` FD_NR wide. */
FD_INLINE void FD_NAME(fd_pack_rest)(FD_T *to, const FD_T *from, int64_t k_stride, int64_t n_stride,
                                     int64_t kc, int begin, int end) {
  for (int64_t k = 0; k < kc; k++)
    for (int c = begin; c < end; c++) to[k * FD_NR + c] = from[k * k_stride + c * n_stride];
}

FD_SHARED void FD_NAME(fd_pack)(FD_T *to, const FD_T *from, int64_t k_stride, int64_t n_stride,
                                int64_t kc, int64_t nc) {
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), width = FD_NR };
  enum { block = FD_TRANSPOSED, line = 64 / sizeof(FD_T) };
  for (; nc > 0; nc -= width, to += width * kc, from += width * n_stride) {
    const int present = nc < width ? (int)nc : width, blocks = present / block * block;
    if (present % lanes != 0)
      for (int64_t k = 0; k < kc; k++)
        *(FD_NAME(fd_unaligned) *)(to + k * width + present / lanes * lanes) =
            (FD_NAME(fd_vector)){0};
    if (n_stride == 1 && present == width) {
      for (int64_t k = 0; k < kc; k++)
        __builtin_memcpy(to + k * width, from + k * k_stride, width * sizeof(FD_T));
    } else if (n_stride == 1) {
      for (int64_t k = 0; k < kc; k++)
        for (int c = 0; c < blocks; c += block)
          __builtin_memcpy(to + k * width + c, from + k * k_stride + c, block * sizeof(FD_T));
      FD_NAME(fd_pack_rest)(to, from, k_stride, n_stride, kc, blocks, present);
    } else if (k_stride == 1) {
      /* A cache line of every column in turn: columns a power of two apart share few cache sets. */
      const int64_t whole = kc / block * block;
      for (int64_t k = 0; k < whole; k += line) {
        /* No prefetcher follows so many columns: fetch the line after next, or the next panel's. */
        const int64_t later = k + 2 * line;
        const FD_T *next = from + (later < kc ? later : width * n_stride + later - kc);
        for (int c = 0; c < present; c++) __builtin_prefetch(next + c * n_stride, 0, 2);
        for (int c = 0; c < blocks; c += block)
          for (int64_t d = k; d < k + line && d < whole; d += block)
            FD_NAME(fd_transpose)(to + d * width + c, width, from + c * n_stride + d, n_stride);
      }
      FD_NAME(fd_pack_rest)(to, from, 1, n_stride, kc, blocks, present);
      FD_NAME(fd_pack_rest)(to + whole * width, from + whole, 1, n_stride, kc - whole, 0, blocks);
    } else {
      FD_NAME(fd_pack_rest)(to, from, k_stride, n_stride, kc, 0, present);
    }
  }
}
#endif
