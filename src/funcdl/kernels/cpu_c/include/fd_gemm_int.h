/* Matrix products of integers, which wrap around: fd_gemm.h for 32 and 64 bits. */
#ifndef FD_GEMM_INT_H
#define FD_GEMM_INT_H

#include "fd_gemm.h"

#define FD_VECTOR_OF(type, short, bytes)                                                           \
  typedef type fd_vector_##short __attribute__((vector_size(FD_VECTOR_BYTES)));                    \
  typedef fd_vector_##short fd_unaligned_##short __attribute__((aligned(bytes), may_alias));       \
  FD_INLINE fd_vector_##short fd_vector_fma_##short(fd_vector_##short a, fd_vector_##short b,      \
                                                    fd_vector_##short c) {                         \
    return a * b + c;                                                                              \
  }
FD_VECTOR_OF(int32_t, i32, 4)
FD_VECTOR_OF(uint32_t, u32, 4)
FD_VECTOR_OF(int64_t, i64, 8)
FD_VECTOR_OF(uint64_t, u64, 8)
#undef FD_VECTOR_OF

#define FD_LANES_I32 FD_LANES_F32
#define FD_LANES_U32 FD_LANES_F32
#define FD_LANES_I64 FD_LANES_F64
#define FD_LANES_U64 FD_LANES_F64
#define FD_NR_I32 FD_NR_F32
#define FD_NR_U32 FD_NR_F32
#define FD_NR_I64 FD_NR_F64
#define FD_NR_U64 FD_NR_F64
/* Transposes move bits. */
#define fd_transpose_i32(to, to_stride, from, stride) \
  fd_transpose_f32((float *)(to), to_stride, (const float *)(from), stride)
#define fd_transpose_u32 fd_transpose_i32
#define fd_transpose_i64(to, to_stride, from, stride) \
  fd_transpose_f64((double *)(to), to_stride, (const double *)(from), stride)
#define fd_transpose_u64 fd_transpose_i64

#define FD_NR FD_NR_F32
#define FD_TRANSPOSED 4
#define FD_T int32_t
#define FD_NAME(name) name##_i32
#define FD_DEFINED FD_DEFINES(GEMM_I32)
#include "fd_gemm_typed.h"
#undef FD_DEFINED
#define FD_DEFINED FD_DEFINES(DOTS_I32)
#include "fd_dots_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#define FD_T uint32_t
#define FD_NAME(name) name##_u32
#define FD_DEFINED FD_DEFINES(GEMM_U32)
#include "fd_gemm_typed.h"
#undef FD_DEFINED
#define FD_DEFINED FD_DEFINES(DOTS_U32)
#include "fd_dots_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#undef FD_NR
#undef FD_TRANSPOSED

#define FD_NR FD_NR_F64
#define FD_TRANSPOSED 2
#define FD_T int64_t
#define FD_NAME(name) name##_i64
#define FD_DEFINED FD_DEFINES(GEMM_I64)
#include "fd_gemm_typed.h"
#undef FD_DEFINED
#define FD_DEFINED FD_DEFINES(DOTS_I64)
#include "fd_dots_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#define FD_T uint64_t
#define FD_NAME(name) name##_u64
#define FD_DEFINED FD_DEFINES(GEMM_U64)
#include "fd_gemm_typed.h"
#undef FD_DEFINED
#define FD_DEFINED FD_DEFINES(DOTS_U64)
#include "fd_dots_typed.h"
#undef FD_DEFINED
#undef FD_T
#undef FD_NAME
#undef FD_NR
#undef FD_TRANSPOSED

#endif
