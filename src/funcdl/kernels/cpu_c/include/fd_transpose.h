/* Transposition in blocks that fit in registers, and of tiles that fit in the first-level cache. */
#ifndef FD_TRANSPOSE_H
#define FD_TRANSPOSE_H

#include "fd_types.h"

/* fd_transpose_x(to, to_stride, from, from_stride): to[k * to_stride + i] = from[i * from_stride + k],
 * i and k below `count`, where a row of the block is a vector of 16 bytes, which every target
 * shuffles in one instruction.
 *
 * fd_turn_b(to, to_stride, from, from_stride, rows, columns): the same for i below `rows`, k below
 * `columns` and elements of b bytes. Every cache line of `from` is read at once: rows a power of
 * two apart share few sets of a cache, and lines would be gone before their next use. */
#if defined(__clang__) || __GNUC__ >= 12
#define FD_SHUFFLE(mask, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FD_SHUFFLE(mask, a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif
#define FD_TRANSPOSE(name, element, integer, bytes, count)                                         \
  typedef element fd_row_##name __attribute__((vector_size(16), aligned(bytes), may_alias));       \
  typedef integer fd_mask_##name __attribute__((vector_size(16)));                                 \
  FD_INLINE void fd_transpose_##name(element *to, int64_t to_stride, const element *from,          \
                                     int64_t from_stride) {                                        \
    fd_row_##name row[count], pair[count];                                                         \
    _Pragma("GCC unroll 16") for (int i = 0; i < count; i++) row[i] =                              \
        *(const fd_row_##name *)(from + i * from_stride);                                          \
    /* Interleaving the first half of the rows with the second moves a bit of the row's number to  \
     * the column's. */                                                                            \
    _Pragma("GCC unroll 4") for (int bit = 1; bit < count; bit *= 2) {                             \
      _Pragma("GCC unroll 8") for (int i = 0; i < count / 2; i++) {                                \
        pair[2 * i] = FD_SHUFFLE(fd_mask_##name, row[i], row[i + count / 2], FD_LOW_##bytes);      \
        pair[2 * i + 1] = FD_SHUFFLE(fd_mask_##name, row[i], row[i + count / 2], FD_HIGH_##bytes); \
      }                                                                                            \
      _Pragma("GCC unroll 16") for (int i = 0; i < count; i++) row[i] = pair[i];                   \
    }                                                                                              \
    _Pragma("GCC unroll 16") for (int i = 0; i < count; i++) *(fd_row_##name *)(to +               \
                                                                               i * to_stride) =    \
        row[i];                                                                                    \
  }                                                                                                \
  static __attribute__((noinline, unused)) void fd_turn_##bytes(                                   \
      void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t rows,            \
      int64_t columns) {                                                                           \
    typedef element __attribute__((may_alias)) item;                                               \
    item *out = to;                                                                                \
    const item *in = from;                                                                         \
    const int64_t whole_rows = rows / count * count, whole = columns / count * count;              \
    for (int64_t r = 0; r < whole_rows; r += count)                                                \
      for (int64_t c = 0; c < whole; c += count)                                                   \
        fd_transpose_##name(out + c * to_stride + r, to_stride, in + r * from_stride + c,          \
                            from_stride);                                                          \
    for (int64_t r = 0; r < rows; r++)                                                             \
      for (int64_t c = r < whole_rows ? whole : 0; c < columns; c++)                               \
        out[c * to_stride + r] = in[r * from_stride + c];                                          \
  }
#define FD_LOW_8 0, 2
#define FD_HIGH_8 1, 3
#define FD_LOW_4 0, 4, 1, 5
#define FD_HIGH_4 2, 6, 3, 7
#define FD_LOW_2 0, 8, 1, 9, 2, 10, 3, 11
#define FD_HIGH_2 4, 12, 5, 13, 6, 14, 7, 15
#define FD_LOW_1 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FD_HIGH_1 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
FD_TRANSPOSE(f64, double, int64_t, 8, 2)
FD_TRANSPOSE(f32, float, int32_t, 4, 4)
FD_TRANSPOSE(u16, uint16_t, uint16_t, 2, 8)
FD_TRANSPOSE(u8, uint8_t, uint8_t, 1, 16)
#undef FD_TRANSPOSE
static __attribute__((noinline, unused)) void fd_turn_16(void *to, int64_t to_stride,
                                                         const void *from, int64_t from_stride,
                                                         int64_t rows, int64_t columns) {
  typedef double item __attribute__((vector_size(16), aligned(8), may_alias));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++)
      ((item *)to)[c * to_stride + r] = ((const item *)from)[r * from_stride + c];
}
#undef FD_SHUFFLE

#endif
