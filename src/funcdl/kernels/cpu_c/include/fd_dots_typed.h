/* Products with vectors along k, the part of fd_gemm.h for fewer columns than make a vector: included
 * for each element type, as fd_gemm_typed.h is. */

/* C = A B with vectors along k, where it is contiguous in both operands: element (i, k) of A is
 * a[i * a_row + k], and (k, j) of B is b[j * b_column + k]. */
FD_SHARED void FD_NAME(fd_dots)(int64_t mc, int64_t nc, int64_t kc, const FD_T *a, int64_t a_row,
                                const FD_T *b, int64_t b_column, FD_T *c, int64_t c_row);

#if FD_DEFINED
/* C = or += the sums of the lanes of `sum`. One function for tiles of all sizes. */
static __attribute__((noinline, unused)) void FD_NAME(fd_dots_store)(
    int rows, int columns, FD_NAME(fd_vector) (*sum)[4], FD_T *c, int64_t c_row, int accumulate) {
  typedef FD_T quarter __attribute__((vector_size(16)));
  enum { each = 16 / sizeof(FD_T), parts = FD_VECTOR_BYTES / 16 };
  for (int i = 0; i < rows; i++) {
    for (int j = 0; j < columns; j++) {
      quarter part[parts];
      __builtin_memcpy(part, &sum[i][j], sizeof part);
#pragma GCC unroll 4
      for (int half = parts / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
        for (int p = 0; p < half; p++) part[p] += part[p + half];
      }
      FD_T total = part[0][0] + part[0][1];
      if (each == 4) total += part[0][each - 2] + part[0][each - 1];
      if (accumulate) total += c[i * c_row + j];
      c[i * c_row + j] = total;
    }
  }
}

/* The last `count` elements of some rows of `all`, less than a vector each, as whole vectors with
 * zeros elsewhere. */
static __attribute__((noinline, unused)) void FD_NAME(fd_dots_rest)(FD_NAME(fd_vector) *to, int rows,
                                                                    const FD_T *from, int64_t row,
                                                                    int64_t all, int64_t count) {
  typedef int8_t bytes __attribute__((vector_size(FD_VECTOR_BYTES)));
  typedef bytes unaligned __attribute__((aligned(1), may_alias));
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T), last = 2 * FD_VECTOR_BYTES - 1 };
  static const int8_t kept[2 * FD_VECTOR_BYTES] = {[FD_VECTOR_BYTES ... last] = -1};
  if (all >= lanes) {
    const bytes mask = *(const unaligned *)(kept + count * (int64_t)sizeof(FD_T));
    for (int i = 0; i < rows; i++)
      to[i] = (FD_NAME(fd_vector))(*(const unaligned *)(from + i * row + all - lanes) & mask);
    return;
  }
  for (int i = 0; i < rows; i++) {
    to[i] = (FD_NAME(fd_vector)){0};
    __builtin_memcpy(&to[i], from + i * row, (size_t)count * sizeof(FD_T));
  }
}

/* sum[i][j] += the products of the lanes of row i of A and column j of B, constant numbers of them. */
FD_INLINE void FD_NAME(fd_dots_add)(int rows, int columns, FD_NAME(fd_vector) (*sum)[4],
                                    const FD_T *a, int64_t a_row, const FD_T *b,
                                    int64_t b_column) {
  typedef FD_NAME(fd_unaligned) unaligned;
  FD_NAME(fd_vector) right[4];
#pragma GCC unroll 4
  for (int j = 0; j < columns; j++) right[j] = *(const unaligned *)(b + j * b_column);
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++) {
    const FD_NAME(fd_vector) left = *(const unaligned *)(a + i * a_row);
#pragma GCC unroll 4
    for (int j = 0; j < columns; j++) sum[i][j] = FD_NAME(fd_vector_fma)(left, right[j], sum[i][j]);
  }
}

/* C = or += A B for up to 4 rows and columns. */
FD_INLINE void FD_NAME(fd_dots_tile)(int rows, int columns, int64_t kc, const FD_T *a,
                                     int64_t a_row, const FD_T *b, int64_t b_column, FD_T *c,
                                     int64_t c_row, int accumulate) {
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T) };
  FD_NAME(fd_vector) sum[4][4] = {{{0}}}, totals[4][4], last_a[4], last_b[4];
  const int64_t rest = kc % lanes;
  /* Before there are sums, which no register would keep during a call. */
  if (rest > 0) {
    FD_NAME(fd_dots_rest)(last_a, rows, a, a_row, kc, rest);
    FD_NAME(fd_dots_rest)(last_b, columns, b, b_column, kc, rest);
  }
  for (int64_t k = 0; k + lanes <= kc; k += lanes)
    FD_NAME(fd_dots_add)(rows, columns, sum, a + k, a_row, b + k, b_column);
  if (rest > 0)
    FD_NAME(fd_dots_add)(rows, columns, sum, (const FD_T *)last_a, lanes, (const FD_T *)last_b,
                         lanes);
  /* A function that got `sum` itself would keep it in memory. */
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < columns; j++) totals[i][j] = sum[i][j];
  }
  FD_NAME(fd_dots_store)(rows, columns, totals, c, c_row, accumulate);
}

#define FD_DOTS(rows, columns)                                                                    \
  static __attribute__((noinline, unused)) void FD_NAME(fd_dots_##rows##_by_##columns)(           \
      int64_t kc, const FD_T *a, int64_t a_row, const FD_T *b, int64_t b_column, FD_T *c,         \
      int64_t c_row, int accumulate) {                                                            \
    FD_NAME(fd_dots_tile)(rows, columns, kc, a, a_row, b, b_column, c, c_row, accumulate);        \
  }
FD_DOTS(4, 4)
FD_DOTS(4, 2)
FD_DOTS(4, 1)
FD_DOTS(1, 4)
FD_DOTS(1, 2)
FD_DOTS(1, 1)
#undef FD_DOTS

/* Each lane adds up FD_DEPTH terms before it moves on. */
#define FD_DOTS(columns)                                                                          \
  (rows == 4 ? FD_NAME(fd_dots_4_by_##columns) : FD_NAME(fd_dots_1_by_##columns))(                \
      count, a + i * a_row + k, a_row, b + j * b_column + k, b_column, c + i * c_row + j, c_row,  \
      k > 0)
FD_SHARED void FD_NAME(fd_dots)(int64_t mc, int64_t nc, int64_t kc, const FD_T *a, int64_t a_row,
                                const FD_T *b, int64_t b_column, FD_T *c, int64_t c_row) {
  enum { block = FD_DEPTH * (FD_VECTOR_BYTES / sizeof(FD_T)) };
  for (int64_t k = 0; k < kc; k += block) {
    const int64_t count = kc - k < block ? kc - k : block;
    int64_t rows = 4;
    for (int64_t i = 0; i < mc; i += rows) {
      if (mc - i < rows) rows = 1;
      int64_t j = 0;
      for (; j + 4 <= nc; j += 4) FD_DOTS(4);
      for (; j + 2 <= nc; j += 2) FD_DOTS(2);
      for (; j < nc; j++) FD_DOTS(1);
    }
  }
}
#undef FD_DOTS
#endif
