/* Included by fd_fft_tasks.h for each FD_T: transforms of panels, which are filled and emptied. */

typedef FD_NAME(fd_vector) FD_NAME(fd_fft_vector);
typedef FD_FFT_INTEGER FD_NAME(fd_fft_mask) __attribute__((vector_size(FD_VECTOR_BYTES)));
typedef struct {
  FD_NAME(fd_vector) re, im;
} FD_NAME(fd_fft_pair);
#define FD_V FD_NAME(fd_fft_vector)
#define FD_PAIR FD_NAME(fd_fft_pair)

FD_INLINE FD_PAIR FD_NAME(fd_fft_add)(FD_PAIR a, FD_PAIR b) {
  return (FD_PAIR){a.re + b.re, a.im + b.im};
}
FD_INLINE FD_PAIR FD_NAME(fd_fft_sub)(FD_PAIR a, FD_PAIR b) {
  return (FD_PAIR){a.re - b.re, a.im - b.im};
}
FD_INLINE FD_PAIR FD_NAME(fd_fft_mul)(FD_PAIR a, FD_PAIR w) {
  return (FD_PAIR){FD_NAME(fd_vector_fma)(a.re, w.re, -a.im * w.im),
                   FD_NAME(fd_vector_fma)(a.re, w.im, a.im * w.re)};
}
/* Times -i. */
FD_INLINE FD_PAIR FD_NAME(fd_fft_quarter)(FD_PAIR a) { return (FD_PAIR){a.im, -a.re}; }
/* A number of the table in all lanes; x - 0 is x, also for -0. */
FD_INLINE FD_PAIR FD_NAME(fd_fft_all)(const FD_T *at) {
  return (FD_PAIR){at[0] - (FD_V){0}, at[1] - (FD_V){0}};
}
#define FD_ADD FD_NAME(fd_fft_add)
#define FD_SUB FD_NAME(fd_fft_sub)

/* Transforms of 2, 4, 8 and odd numbers of elements, in place. */
FD_INLINE void FD_NAME(fd_fft_two)(FD_PAIR *a, FD_PAIR *b) {
  const FD_PAIR sum = FD_ADD(*a, *b);
  *b = FD_SUB(*a, *b);
  *a = sum;
}
FD_INLINE void FD_NAME(fd_fft_four)(FD_PAIR *a0, FD_PAIR *a1, FD_PAIR *a2, FD_PAIR *a3) {
  const FD_PAIR even = FD_ADD(*a0, *a2), odd = FD_SUB(*a0, *a2);
  const FD_PAIR sum = FD_ADD(*a1, *a3);
  const FD_PAIR turned = FD_NAME(fd_fft_quarter)(FD_SUB(*a1, *a3));
  *a0 = FD_ADD(even, sum);
  *a2 = FD_SUB(even, sum);
  *a1 = FD_ADD(odd, turned);
  *a3 = FD_SUB(odd, turned);
}
FD_INLINE void FD_NAME(fd_fft_eight)(FD_PAIR *a) {
  const FD_V root = (FD_T)0.70710678118654752440 - (FD_V){0};
  FD_NAME(fd_fft_four)(&a[0], &a[2], &a[4], &a[6]);
  FD_NAME(fd_fft_four)(&a[1], &a[3], &a[5], &a[7]);
  const FD_PAIR first = {(a[3].re + a[3].im) * root, (a[3].im - a[3].re) * root};
  const FD_PAIR third = {(a[7].im - a[7].re) * root, -(a[7].re + a[7].im) * root};
  const FD_PAIR second = FD_NAME(fd_fft_quarter)(a[5]);
  const FD_PAIR b0 = a[0], b1 = a[2], b2 = a[4], b3 = a[6], zeroth = a[1];
  a[0] = FD_ADD(b0, zeroth), a[4] = FD_SUB(b0, zeroth);
  a[1] = FD_ADD(b1, first), a[5] = FD_SUB(b1, first);
  a[2] = FD_ADD(b2, second), a[6] = FD_SUB(b2, second);
  a[3] = FD_ADD(b3, third), a[7] = FD_SUB(b3, third);
}
/* Elements that are as far from either end meet conjugate roots, of which one has the sum of the
 * elements times the real part, and their difference times the imaginary one. */
FD_INLINE void FD_NAME(fd_fft_odd)(int radix, FD_PAIR *a, const FD_T *roots, int64_t step) {
  FD_PAIR sums[FD_FFT_RADIX / 2], gaps[FD_FFT_RADIX / 2];
  const int half = radix / 2;
  const FD_PAIR zeroth = a[0];
#pragma GCC unroll 4
  for (int j = 0; j < half; j++) {
    sums[j] = FD_ADD(a[j + 1], a[radix - 1 - j]);
    gaps[j] = FD_SUB(a[j + 1], a[radix - 1 - j]);
    a[0] = FD_ADD(a[0], sums[j]);
  }
#pragma GCC unroll 4
  for (int k = 1; k <= half; k++) {
    FD_PAIR even = zeroth, odd = {{0}, {0}};
    int at = 0;
#pragma GCC unroll 4
    for (int j = 0; j < half; j++) {
      at = at + k < radix ? at + k : at + k - radix;
      const FD_PAIR root = FD_NAME(fd_fft_all)(roots + 2 * step * at);
      even.re = FD_NAME(fd_vector_fma)(sums[j].re, root.re, even.re);
      even.im = FD_NAME(fd_vector_fma)(sums[j].im, root.re, even.im);
      odd.re = FD_NAME(fd_vector_fma)(gaps[j].re, root.im, odd.re);
      odd.im = FD_NAME(fd_vector_fma)(gaps[j].im, root.im, odd.im);
    }
    a[k] = (FD_PAIR){even.re - odd.im, even.im + odd.re};
    a[radix - k] = (FD_PAIR){even.re + odd.im, even.im - odd.re};
  }
}

/* One factor of n = radix * length * stride: x[length's part j][stride] to y[...][k][stride], turned
 * by the roots of order n, of which every stride-th is one of order n / stride. */
FD_INLINE void FD_NAME(fd_fft_butterflies)(int radix, int turn, int64_t length, int64_t stride,
                                           int64_t p, const FD_T *roots, int swap,
                                           const FD_V *restrict x, FD_V *restrict y) {
  FD_PAIR turns[FD_FFT_RADIX];
#pragma GCC unroll 8
  for (int k = 1; k < radix; k++)
    if (turn) turns[k] = FD_NAME(fd_fft_all)(roots + 2 * p * k * stride);
  for (int64_t q = 0; q < stride; q++) {
    FD_PAIR a[FD_FFT_RADIX];
#pragma GCC unroll 8
    for (int j = 0; j < radix; j++) {
      const FD_V *const from = x + 2 * (q + stride * (p + length * j));
      a[j] = (FD_PAIR){from[swap], from[1 - swap]};
    }
    if (radix == 2) {
      FD_NAME(fd_fft_two)(&a[0], &a[1]);
    } else if (radix == 4) {
      FD_NAME(fd_fft_four)(&a[0], &a[1], &a[2], &a[3]);
    } else if (radix == 8) {
      FD_NAME(fd_fft_eight)(a);
    } else {
      FD_NAME(fd_fft_odd)(radix, a, roots, length * stride);
    }
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) {
      FD_V *const to = y + 2 * (q + stride * (radix * p + k));
      if (turn && k > 0) a[k] = FD_NAME(fd_fft_mul)(a[k], turns[k]);
      to[swap] = a[k].re;
      to[1 - swap] = a[k].im;
    }
  }
}
#define FD_FFT_FACTOR(name, radix)                                                             \
  static __attribute__((noinline, unused)) void FD_NAME(fd_fft_by_##name)(                     \
      int by, int64_t length, int64_t stride, const FD_T *roots, int swap,                     \
      const FD_V *restrict x, FD_V *restrict y) {                                              \
    (void)by;                                                                                  \
    FD_NAME(fd_fft_butterflies)(radix, 0, length, stride, 0, roots, swap, x, y);               \
    for (int64_t p = 1; p < length; p++)                                                       \
      FD_NAME(fd_fft_butterflies)(radix, 1, length, stride, p, roots, swap, x, y);             \
  }
FD_FFT_FACTOR(2, 2)
FD_FFT_FACTOR(3, 3)
FD_FFT_FACTOR(4, 4)
FD_FFT_FACTOR(5, 5)
FD_FFT_FACTOR(8, 8)
FD_FFT_FACTOR(any, by)
#undef FD_FFT_FACTOR

/* The transforms of a panel of n elements; returns which of the two buffers has them. `swap` is 1 for
 * inverse ones. */
static __attribute__((noinline, unused)) FD_V *FD_NAME(fd_fft_panel)(int64_t n,
                                                                     const int64_t *factors,
                                                                     const FD_T *roots, int swap,
                                                                     FD_V *x, FD_V *y) {
  int64_t length = n, stride = 1;
  for (; *factors != 0; factors++) {
    const int radix = (int)*factors;
    length /= radix;
    switch (radix) {
      case 2: FD_NAME(fd_fft_by_2)(2, length, stride, roots, swap, x, y); break;
      case 3: FD_NAME(fd_fft_by_3)(3, length, stride, roots, swap, x, y); break;
      case 4: FD_NAME(fd_fft_by_4)(4, length, stride, roots, swap, x, y); break;
      case 5: FD_NAME(fd_fft_by_5)(5, length, stride, roots, swap, x, y); break;
      case 8: FD_NAME(fd_fft_by_8)(8, length, stride, roots, swap, x, y); break;
      default: FD_NAME(fd_fft_by_any)(radix, length, stride, roots, swap, x, y);
    }
    stride *= radix;
    FD_V *const other = x;
    x = y;
    y = other;
  }
  return x;
}

/* A square of as many vectors as they have lanes. */
FD_INLINE void FD_NAME(fd_fft_turn)(FD_V *row) {
  FD_V pair[FD_FFT_LANES];
  _Pragma("GCC unroll 4") for (int bit = 1; bit < FD_FFT_LANES; bit *= 2) {
    _Pragma("GCC unroll 8") for (int i = 0; i < FD_FFT_LANES / 2; i++) {
      pair[2 * i] = FD_FFT_PICK(LOW, row[i], row[i + FD_FFT_LANES / 2]);
      pair[2 * i + 1] = FD_FFT_PICK(HIGH, row[i], row[i + FD_FFT_LANES / 2]);
    }
    _Pragma("GCC unroll 16") for (int i = 0; i < FD_FFT_LANES; i++) row[i] = pair[i];
  }
}
/* Where a vector begins, of which the last overlaps the one before it rather than the end. */
FD_INLINE int64_t FD_NAME(fd_fft_start)(int64_t at, int64_t end) {
  return at + FD_FFT_LANES <= end ? at : end > FD_FFT_LANES ? end - FD_FFT_LANES : 0;
}
/* to[k * step] = column k of some rows, at most as many as there are lanes; other lanes are 0. */
static __attribute__((noinline, unused)) void FD_NAME(fd_fft_gather)(FD_V *to, int64_t step,
                                                                     const FD_T *from,
                                                                     int64_t stride, int64_t rows,
                                                                     int64_t columns) {
  enum { lanes = FD_FFT_LANES };
  FD_T edge[lanes * lanes];
  for (int64_t next = 0; next < columns; next += lanes) {
    const int64_t c = FD_NAME(fd_fft_start)(next, columns);
    const int64_t width = columns < lanes ? columns : lanes;
    const FD_T *at = from + c;
    int64_t apart = stride;
    if (width < lanes || rows < lanes) {
      memset(edge, 0, sizeof edge);
      for (int64_t r = 0; r < rows; r++)
        memcpy(edge + r * lanes, from + c + r * stride, (size_t)width * sizeof(FD_T));
      at = edge;
      apart = lanes;
    }
    FD_V row[lanes];
    _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) row[i] =
        *(const FD_NAME(fd_unaligned) *)(at + i * apart);
    FD_NAME(fd_fft_turn)(row);
    if (width == lanes) {
      _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) to[(c + i) * step] = row[i];
    } else {
      _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) {
        if (i < width) to[(c + i) * step] = row[i];
      }
    }
  }
}
/* The other way. */
static __attribute__((noinline, unused)) void FD_NAME(fd_fft_scatter)(FD_T *to, int64_t stride,
                                                                      const FD_V *from,
                                                                      int64_t step, int64_t rows,
                                                                      int64_t columns) {
  enum { lanes = FD_FFT_LANES };
  FD_T edge[lanes * lanes];
  for (int64_t next = 0; next < columns; next += lanes) {
    const int64_t c = FD_NAME(fd_fft_start)(next, columns);
    const int64_t width = columns < lanes ? columns : lanes;
    const int whole = width == lanes && rows == lanes;
    FD_T *const at = whole ? to + c : edge;
    const int64_t apart = whole ? stride : lanes;
    FD_V row[lanes];
    if (width == lanes) {
      _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) row[i] = from[(c + i) * step];
    } else {
      _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) row[i] =
          i < width ? from[(c + i) * step] : (FD_V){0};
    }
    FD_NAME(fd_fft_turn)(row);
    _Pragma("GCC unroll 16") for (int i = 0; i < lanes; i++) *(FD_NAME(fd_unaligned) *)(
        at + i * apart) = row[i];
    if (!whole) {
      for (int64_t r = 0; r < rows; r++)
        memcpy(to + c + r * stride, edge + r * lanes, (size_t)width * sizeof(FD_T));
    }
  }
}

/* Some complex numbers, at most as many as there are lanes, as a pair of vectors. */
FD_INLINE FD_PAIR FD_NAME(fd_fft_load)(const FD_T *from, int64_t count) {
  FD_T edge[2 * FD_FFT_LANES];
  if (count < FD_FFT_LANES) {
    memset(edge, 0, sizeof edge);
    memcpy(edge, from, (size_t)(2 * count) * sizeof(FD_T));
    from = edge;
  }
  const FD_V low = *(const FD_NAME(fd_unaligned) *)from;
  const FD_V high = *(const FD_NAME(fd_unaligned) *)(from + FD_FFT_LANES);
  return (FD_PAIR){FD_FFT_PICK(EVEN, low, high), FD_FFT_PICK(ODD, low, high)};
}
FD_INLINE void FD_NAME(fd_fft_store)(FD_T *to, FD_PAIR x, int64_t count) {
  FD_T edge[2 * FD_FFT_LANES];
  FD_T *const at = count < FD_FFT_LANES ? edge : to;
  *(FD_NAME(fd_unaligned) *)at = FD_FFT_PICK(LOW, x.re, x.im);
  *(FD_NAME(fd_unaligned) *)(at + FD_FFT_LANES) = FD_FFT_PICK(HIGH, x.re, x.im);
  if (count < FD_FFT_LANES) memcpy(to, edge, (size_t)(2 * count) * sizeof(FD_T));
}
