/* Convolutions of integers, which wrap around: fd_conv.h for 32 and 64 bits. */
#ifndef FD_CONV_INT_H
#define FD_CONV_INT_H

#include "fd_conv.h"
#include "fd_gemm_int.h"

#define FD_CONV_ROUNDED_I32 FD_CONV_ROUNDED_F32
#define FD_CONV_ROUNDED_U32 FD_CONV_ROUNDED_F32
#define FD_CONV_ROUNDED_I64 FD_CONV_ROUNDED_F64
#define FD_CONV_ROUNDED_U64 FD_CONV_ROUNDED_F64
#define fd_fma_i32(a, b, c) ((a) * (b) + (c))
#define fd_fma_u32 fd_fma_i32
#define fd_fma_i64 fd_fma_i32
#define fd_fma_u64 fd_fma_i32

#define FD_ROUNDED FD_CONV_ROUNDED_F32
#define FD_WIDTH FD_CONV_WIDTH_F32
#define FD_TRANSPOSED 4
#define FD_T int32_t
#define FD_NAME(name) name##_i32
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#define FD_T uint32_t
#define FD_NAME(name) name##_u32
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH
#undef FD_TRANSPOSED

#define FD_ROUNDED FD_CONV_ROUNDED_F64
#define FD_WIDTH FD_CONV_WIDTH_F64
#define FD_TRANSPOSED 2
#define FD_T int64_t
#define FD_NAME(name) name##_i64
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#define FD_T uint64_t
#define FD_NAME(name) name##_u64
#include "fd_conv_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_ROUNDED
#undef FD_WIDTH
#undef FD_TRANSPOSED

#endif
