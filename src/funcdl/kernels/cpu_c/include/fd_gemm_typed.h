/* The part of fd_gemm.h that is written once and included for each element type: FD_T is the type,
 * FD_NAME(f) adds its short name, FD_NR is the width of the micro-tile and FD_TRANSPOSED the size
 * of the blocks that fd_transpose moves. Without include guard. */

/* C[MR][NR] = or += A B for a panel B[k][NR]; rows of A and of C are a_row and ldc elements apart,
 * columns of A a_k. The kernels below fix where A's elements are, so that their addresses need no
 * arithmetic. */
FD_INLINE void FD_NAME(fd_gemm_product)(int64_t k_count, const FD_T *a, int64_t a_row, int64_t a_k,
                                        const FD_T *b, FD_T *c, int64_t ldc, int accumulate) {
  typedef FD_NAME(fd_vector) vector;
  typedef FD_NAME(fd_unaligned) unaligned;
  enum { lanes = FD_VECTOR_BYTES / sizeof(FD_T) };
  vector sum[FD_MR][FD_NR_VECTORS] = {{{0}}};
  for (int64_t k = 0; k < k_count; k++) {
    vector row[FD_NR_VECTORS];
#pragma GCC unroll 16
    for (int j = 0; j < FD_NR_VECTORS; j++) row[j] = *(const unaligned *)(b + j * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < FD_MR; i++) {
      vector scalar = a[i * a_row] - (vector){0}; /* to all lanes; x - 0 is x, also for -0 */
#pragma GCC unroll 16
      for (int j = 0; j < FD_NR_VECTORS; j++)
        sum[i][j] = FD_NAME(fd_vector_fma)(scalar, row[j], sum[i][j]);
    }
    a += a_k;
    b += FD_NR;
  }
#pragma GCC unroll 16
  for (int i = 0; i < FD_MR; i++) {
#pragma GCC unroll 16
    for (int j = 0; j < FD_NR_VECTORS; j++) {
      unaligned *out = (unaligned *)(c + i * ldc + j * lanes);
      if (accumulate) sum[i][j] += *out;
      *out = sum[i][j];
    }
  }
}

/* The product of two panels, A[k][MR] and B[k][NR]. */
static __attribute__((noinline, unused)) void FD_NAME(fd_gemm_micro)(
    int64_t k_count, const FD_T *a, const FD_T *b, FD_T *c, int64_t ldc, int accumulate) {
  FD_NAME(fd_gemm_product)(k_count, a, 1, FD_MR, b, c, ldc, accumulate);
}

/* C[mc][nc] = or += A B on packed panels. C has room for mc and nc rounded up to FD_MR and FD_NR,
 * and the padding is written, too. Panels of A stay in the innermost cache while B's pass. */
static inline __attribute__((unused)) void FD_NAME(fd_gemm_tile)(
    int64_t mc, int64_t nc, int64_t kc, const FD_T *a, const FD_T *b, FD_T *c, int64_t ldc,
    int accumulate) {
  for (int64_t i = 0; i < mc; i += FD_MR)
    for (int64_t j = 0; j < nc; j += FD_NR)
      FD_NAME(fd_gemm_micro)(kc, a + i * kc, b + j * kc, c + i * ldc + j, ldc, accumulate);
}

/* Zero padded panels: to[i / width][k][i % width] = from[i * i_stride + k * k_stride]. */
FD_INLINE void FD_NAME(fd_pack)(FD_T *to, const FD_T *from, int64_t i_stride, int64_t k_stride,
                                int64_t i_count, int64_t k_count, int width) {
  enum { block = FD_TRANSPOSED, line = 64 / sizeof(FD_T) };
  for (int64_t i = 0; i < i_count; i += width, to += width * k_count, from += width * i_stride) {
    int present = i_count - i < width ? (int)(i_count - i) : width;
    int64_t k = 0;
    if (present == width && i_stride == 1) {
      for (; k < k_count; k++)
        __builtin_memcpy(to + k * width, from + k * k_stride, (uint64_t)width * sizeof(FD_T));
    } else if (present == width && k_stride == 1) {
      /* A cache line of every row in turn: rows a power of two apart share few cache sets. */
      for (; k + line <= k_count; k += line) {
        int r = 0;
        for (; r + block <= width; r += block)
          for (int d = 0; d < line; d += block)
            FD_NAME(fd_transpose)(to + (k + d) * width + r, width, from + r * i_stride + k + d,
                                  i_stride);
        for (; r < width; r++)
          for (int d = 0; d < line; d++) to[(k + d) * width + r] = from[r * i_stride + k + d];
      }
    }
    for (; k < k_count; k++)
      for (int r = 0; r < width; r++)
        to[k * width + r] = r < present ? from[r * i_stride + k * k_stride] : (FD_T)0;
  }
}

/* A[mc][kc], rows rs and columns cs elements apart, to panels of FD_MR rows. */
static __attribute__((noinline, unused)) void FD_NAME(fd_pack_a)(
    FD_T *to, const FD_T *from, int64_t rs, int64_t cs, int64_t mc, int64_t kc) {
  FD_NAME(fd_pack)(to, from, rs, cs, mc, kc, FD_MR);
}

/* B[kc][nc], rows rs and columns cs elements apart, to panels of FD_NR columns. */
static __attribute__((noinline, unused)) void FD_NAME(fd_pack_b)(
    FD_T *to, const FD_T *from, int64_t rs, int64_t cs, int64_t kc, int64_t nc) {
  FD_NAME(fd_pack)(to, from, cs, rs, nc, kc, FD_NR);
}
