/* Matrix product: register-tiled micro-kernels, a loop over a tile, packing of the right operand.
 *
 * The left operand is never copied: micro-kernels broadcast its elements from where they are, a
 * few rows at a time, which stay in the innermost cache while columns pass. The right one is read
 * in rows of whole vectors, in place where its columns are contiguous, else from panels of FD_NR
 * columns, k-major and zero padded. (Measured: as fast as packing both operands, in the manner of
 * Goto and van de Geijn, 2008, at 1024 and above, and 5 to 20 % faster below.) Threads and tiles
 * are the caller's. */
#ifndef FD_GEMM_H
#define FD_GEMM_H

#include <stddef.h>

#include "fd_transpose.h"
#include "fd_types.h"

/* The micro-tile, a whole number of vectors wide: enough accumulators to hide the latency of FMA, and
 * few enough rows that their addresses stay in registers. Measured: 97 % of the peak in AVX-512. */
#define FD_NR_VECTORS 2
#if defined(__AVX512F__)
#define FD_VECTOR_BYTES 64
#define FD_MR 8
#elif defined(__AVX2__)
#define FD_VECTOR_BYTES 32
#define FD_MR 6
#else
#define FD_VECTOR_BYTES 16
#define FD_MR 6
#endif
/* Terms that a micro-kernel adds up before it moves on: that many rows of its columns stay in the
 * innermost cache, and rounding errors grow with this number and not with k. */
#define FD_DEPTH 256
#define FD_LANES_F32 (FD_VECTOR_BYTES / 4)
#define FD_LANES_F64 (FD_VECTOR_BYTES / 8)
#define FD_NR_F32 (FD_NR_VECTORS * FD_LANES_F32)
#define FD_NR_F64 (FD_NR_VECTORS * FD_LANES_F64)

typedef float fd_vector_f32 __attribute__((vector_size(FD_VECTOR_BYTES)));
typedef double fd_vector_f64 __attribute__((vector_size(FD_VECTOR_BYTES)));
/* The same for memory that may be aligned to its elements only. */
typedef fd_vector_f32 fd_unaligned_f32 __attribute__((aligned(4), may_alias));
typedef fd_vector_f64 fd_unaligned_f64 __attribute__((aligned(8), may_alias));

/* a * b + c, fused where the target can: -ffp-contract=off keeps compilers from doing it. */
#if defined(__clang__)
#define FD_FUSE _Pragma("clang fp contract(fast)")
#define FD_FMA_F32(a, b, c) (a) * (b) + (c)
#define FD_FMA_F64(a, b, c) (a) * (b) + (c)
#elif defined(__AVX512F__)
/* All lanes, rounding as set (4). The builtins, since <immintrin.h> takes 150 ms to compile. */
#define FD_FUSE
#define FD_FMA_F32(a, b, c) __builtin_ia32_vfmaddps512_mask(a, b, c, 0xffff, 4)
#define FD_FMA_F64(a, b, c) __builtin_ia32_vfmaddpd512_mask(a, b, c, 0xff, 4)
#elif defined(__FMA__) && FD_VECTOR_BYTES == 32
#define FD_FUSE
#define FD_FMA_F32(a, b, c) __builtin_ia32_vfmaddps256(a, b, c)
#define FD_FMA_F64(a, b, c) __builtin_ia32_vfmaddpd256(a, b, c)
#else
#define FD_FUSE
#define FD_FMA_F32(a, b, c) (a) * (b) + (c)
#define FD_FMA_F64(a, b, c) (a) * (b) + (c)
#endif
FD_INLINE fd_vector_f32 fd_vector_fma_f32(fd_vector_f32 a, fd_vector_f32 b, fd_vector_f32 c) {
  FD_FUSE return FD_FMA_F32(a, b, c);
}
FD_INLINE fd_vector_f64 fd_vector_fma_f64(fd_vector_f64 a, fd_vector_f64 b, fd_vector_f64 c) {
  FD_FUSE return FD_FMA_F64(a, b, c);
}
#undef FD_FUSE
#undef FD_FMA_F32
#undef FD_FMA_F64

/* A tile of an array that is read or written once its product is there: element (i, j) is at
 * first + i * row + j * column, in bytes. */
typedef struct {
  const void *first;
  int64_t row, column;
} fd_ahead;

/* Have the cache fetch some rows and columns of the tile. */
FD_INLINE void fd_fetch(const fd_ahead *tile, int64_t i, int rows, int64_t j, int columns) {
  const char *at = (const char *)tile->first + i * tile->row + j * tile->column;
  const int64_t bytes = columns * tile->column;
  for (int row = 0; row < rows; row++, at += tile->row)
    for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(at + byte, 0, 2);
}

#define FD_T float
#define FD_NAME(name) name##_f32
#define FD_NR FD_NR_F32
#define FD_TRANSPOSED 4
#define FD_DEFINED FD_DEFINES(GEMM_F32)
#include "fd_gemm_typed.h"
#undef FD_DEFINED
#define FD_DEFINED FD_DEFINES(DOTS_F32)
#include "fd_dots_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#undef FD_NR
#undef FD_TRANSPOSED

#define FD_T double
#define FD_NAME(name) name##_f64
#define FD_NR FD_NR_F64
#define FD_TRANSPOSED 2
#define FD_DEFINED FD_DEFINES(GEMM_F64)
#include "fd_gemm_typed.h"
#undef FD_DEFINED
#define FD_DEFINED FD_DEFINES(DOTS_F64)
#include "fd_dots_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#undef FD_NR
#undef FD_TRANSPOSED

#endif
