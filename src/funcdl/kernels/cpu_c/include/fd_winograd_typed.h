/* The part of fd_winograd.h that is written once and included for each element type: FD_T is the
 * type, FD_NAME(f) adds its short name, FD_ROUNDED(n) and FD_WIDTH are those of fd_conv.h. Without
 * include guard. */

/* Part number `part` of `parts` of a kernel's transform G g G': from panels of nine places to panels
 * for each of the 16 positions, `step` elements apart. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_kernel)(
    FD_T *restrict to, const FD_T *restrict panels, int64_t features, int64_t columns, int64_t step,
    int64_t part, int64_t parts) {
  for (int64_t j = 0; j < columns; j += FD_WIDTH) {
    const int64_t width = columns - j < FD_WIDTH ? FD_ROUNDED(columns - j) : FD_WIDTH;
    const int64_t size = features * width;
    const FD_T *g = panels + j * 9 * features;
    FD_T *u = to + j * features;
    const int64_t first = features * part / parts * width, end = features * (part + 1) / parts * width;
#pragma omp simd
    for (int64_t e = first; e < end; e++) {
      FD_T t[4][3];
#pragma GCC unroll 3
      for (int c = 0; c < 3; c++) {
        const FD_T a = g[c * size + e], b = g[(3 + c) * size + e], d = g[(6 + c) * size + e];
        const FD_T even = (FD_T)0.5 * (a + d), odd = (FD_T)0.5 * b;
        t[0][c] = a;
        t[1][c] = even + odd;
        t[2][c] = even - odd;
        t[3][c] = d;
      }
#pragma GCC unroll 4
      for (int r = 0; r < 4; r++) {
        const FD_T even = (FD_T)0.5 * (t[r][0] + t[r][2]), odd = (FD_T)0.5 * t[r][1];
        u[(4 * r) * step + e] = t[r][0];
        u[(4 * r + 1) * step + e] = even + odd;
        u[(4 * r + 2) * step + e] = even - odd;
        u[(4 * r + 3) * step + e] = t[r][2];
      }
    }
  }
}

/* The transform B' d B of a tile: to[position][feature], positions `step` elements apart. */
FD_INLINE void FD_NAME(fd_winograd_tile)(FD_T *restrict to, int64_t step, const FD_T *restrict d,
                                         int64_t row, int64_t column, int64_t features) {
#pragma omp simd
  for (int64_t f = 0; f < features; f++) {
    FD_T t[4][4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      const FD_T *at = d + c * column + f;
      const FD_T d1 = at[row], d2 = at[2 * row];
      t[0][c] = at[0] - d2;
      t[1][c] = d1 + d2;
      t[2][c] = d2 - d1;
      t[3][c] = d1 - at[3 * row];
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
      to[(4 * r) * step + f] = t[r][0] - t[r][2];
      to[(4 * r + 1) * step + f] = t[r][1] + t[r][2];
      to[(4 * r + 2) * step + f] = t[r][2] - t[r][1];
      to[(4 * r + 3) * step + f] = t[r][1] - t[r][3];
    }
  }
}

/* to[place][64] = `features` of `size` by `size` elements from row y and column x on, zeros where
 * these are padding. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_patch)(
    FD_T *to, const FD_T *image, const fd_tiles *tiles, int64_t y, int64_t x, int size,
    int64_t features) {
  for (int r = 0; r < size; r++)
    for (int c = 0; c < size; c++, to += 64)
      if (y + r < 0 || y + r >= tiles->rows.size || x + c < 0 || x + c >= tiles->columns.size)
        memset(to, 0, (size_t)features * sizeof(FD_T));
      else
        memcpy(to, image + (y + r) * tiles->rows.stride + (x + c) * tiles->columns.stride,
               (size_t)features * sizeof(FD_T));
}

/* Whether `size` by `size` elements from row y and column x on are all there. */
FD_INLINE int FD_NAME(fd_winograd_inside)(const fd_tiles *tiles, int64_t y, int64_t x, int size) {
  return y >= 0 && y + size <= tiles->rows.size && x >= 0 && x + size <= tiles->columns.size;
}

/* The transforms of all tiles of a block: to[position][tile][feature], positions `step` elements
 * apart. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_image)(
    FD_T *to, int64_t step, const FD_T *x, const fd_tiles *tiles, int64_t features) {
  FD_T patch[16 * 64];
  for (int64_t i = 0; i < tiles->images; i++, x += tiles->from)
    for (int64_t r = 0; r < tiles->rows.count; r++)
      for (int64_t c = 0; c < tiles->columns.count; c++, to += features) {
        const int64_t y = tiles->rows.first + 2 * r, p = tiles->columns.first + 2 * c;
        if (FD_NAME(fd_winograd_inside)(tiles, y, p, 4)) {
          FD_NAME(fd_winograd_tile)(to, step, x + y * tiles->rows.stride + p * tiles->columns.stride,
                                    tiles->rows.stride, tiles->columns.stride, features);
          continue;
        }
        for (int64_t f = 0; f < features; f += 64) {
          const int64_t count = features - f < 64 ? features - f : 64;
          FD_NAME(fd_winograd_patch)(patch, x + f, tiles, y, p, 4, count);
          FD_NAME(fd_winograd_tile)(to + f, step, patch, 4 * 64, 64, count);
        }
      }
}

/* Some windows of a tile, each summed by itself: where elements that are not finite, or too large
 * to be added, would reach windows that do not meet them. The first meets row y and column x. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_alone)(
    FD_T *to, const FD_T *image, const FD_T *panels, const fd_tiles *tiles, int64_t y, int64_t x,
    const fd_results *results, int64_t rows, int64_t columns, int64_t features, int64_t outputs) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t p = 0; p < columns; p++)
      for (int64_t j = 0; j < outputs; j += FD_WIDTH) {
        const int64_t count = outputs - j < FD_WIDTH ? outputs - j : FD_WIDTH;
        const int64_t width = FD_ROUNDED(count);
        FD_T sum[FD_WIDTH] = {0};
        for (int place = 0; place < 9; place++) {
          const FD_T *g = panels + j * 9 * features + place * features * width;
          const int64_t row = y + r + place / 3, column = x + p + place % 3;
          if (!FD_NAME(fd_winograd_inside)(tiles, row, column, 1)) continue;
          const FD_T *at = image + row * tiles->rows.stride + column * tiles->columns.stride;
          for (int64_t k = 0; k < features; k++, g += width)
#pragma omp simd
            for (int64_t l = 0; l < width; l++) sum[l] = FD_NAME(fd_fma)(at[k], g[l], sum[l]);
        }
        memcpy(to + r * results->row_to + p * results->column_to + j, sum,
               (size_t)count * sizeof(FD_T));
      }
}

/* The transform A' m A of the sums of all tiles, m[position][tile][columns] of `width` columns
 * and positions `step` elements apart, to the windows that they are: to[image][row][column][outputs]. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_windows)(
    FD_T *to, const FD_T *restrict m, int64_t step, const FD_T *x, const FD_T *panels,
    const fd_tiles *tiles, fd_results results, int64_t features, int64_t width, int64_t outputs) {
  for (int64_t i = 0; i < tiles->images; i++, to += results.image_to, x += tiles->from)
    for (int64_t r = 0; r < tiles->rows.count; r++)
      for (int64_t c = 0; c < tiles->columns.count; c++, m += width) {
        /* The second row or column of the last tile may be none: it goes where the first one goes,
         * before it. */
        const int64_t rows = results.rows - 2 * r < 2 ? 1 : 2;
        const int64_t columns = results.columns - 2 * c < 2 ? 1 : 2;
        FD_T *const first = to + 2 * r * results.row_to + 2 * c * results.column_to;
        FD_T *const second = first + (rows - 1) * results.row_to;
        const int64_t right = (columns - 1) * results.column_to;
        int odd = 0;
#pragma omp simd reduction(| : odd)
        for (int64_t j = 0; j < outputs; j++) {
          FD_T s[2][4];
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) {
            const FD_T *sums = m + k * step + j;
            const FD_T m1 = sums[4 * step], m2 = sums[8 * step];
            s[0][k] = sums[0] + m1 + m2;
            s[1][k] = m1 - m2 - sums[12 * step];
          }
          const FD_T y0 = s[0][0] + s[0][1] + s[0][2], y1 = s[0][1] - s[0][2] - s[0][3];
          const FD_T y2 = s[1][0] + s[1][1] + s[1][2], y3 = s[1][1] - s[1][2] - s[1][3];
          const FD_T all = (y0 + y1) + (y2 + y3);
          odd |= all - all != 0;
          second[right + j] = y3;
          second[j] = y2;
          first[right + j] = y1;
          first[j] = y0;
        }
        if (odd)
          FD_NAME(fd_winograd_alone)(first, x, panels, tiles, tiles->rows.first + 2 * r,
                                     tiles->columns.first + 2 * c, &results, rows, columns,
                                     features, outputs);
      }
}

/* The transform A y A' of 2x2 windows' cotangents: to[position][tile][columns] of `width` columns,
 * those behind `outputs` zero, and positions `step` elements apart. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_cotangents)(
    FD_T *restrict to, int64_t step, const FD_T *restrict x, const fd_tiles *tiles,
    int64_t outputs, int64_t width) {
  FD_T patch[4 * 64];
  for (int64_t i = 0; i < tiles->images; i++, x += tiles->from)
    for (int64_t r = 0; r < tiles->rows.count; r++)
      for (int64_t c = 0; c < tiles->columns.count; c++, to += width)
        for (int64_t j = 0; j < width; j += 64) {
          const int64_t left = outputs - j < 64 ? outputs - j : 64, count = left > 0 ? left : 0;
          const int inside = count == 64 && FD_NAME(fd_winograd_inside)(tiles, 2 * r, 2 * c, 2);
          const int64_t row = inside ? tiles->rows.stride : 2 * 64;
          const int64_t column = inside ? tiles->columns.stride : 64;
          const FD_T *y = patch;
          if (inside) {
            y = x + 2 * r * row + 2 * c * column + j;
          } else {
            memset(patch, 0, sizeof patch);
            FD_NAME(fd_winograd_patch)(patch, x + j, tiles, 2 * r, 2 * c, 2, count);
          }
          FD_T *const out = to + j;
          const int64_t columns = width - j < 64 ? width - j : 64;
#pragma omp simd
          for (int64_t l = 0; l < columns; l++) {
            FD_T t[4][2];
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++) {
              const FD_T a = y[k * column + l], b = y[row + k * column + l];
              t[0][k] = a;
              t[1][k] = a + b;
              t[2][k] = a - b;
              t[3][k] = -b;
            }
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
              out[(4 * k) * step + l] = t[k][0];
              out[(4 * k + 1) * step + l] = t[k][0] + t[k][1];
              out[(4 * k + 2) * step + l] = t[k][0] - t[k][1];
              out[(4 * k + 3) * step + l] = -t[k][1];
            }
          }
        }
}

/* The sums of 16 positions to the gradients at the nine places that they are, G' s G, in place, for
 * `count` elements of each. Returns whether all of them are finite. */
static __attribute__((noinline, unused)) int FD_NAME(fd_winograd_gradient)(FD_T *sums,
                                                                           int64_t count) {
  int odd = 0;
#pragma omp simd reduction(| : odd)
  for (int64_t e = 0; e < count; e++) {
    FD_T t[3][4], all = 0;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      const FD_T s1 = sums[(4 + k) * count + e], s2 = sums[(8 + k) * count + e];
      const FD_T even = (FD_T)0.5 * (s1 + s2);
      t[0][k] = sums[k * count + e] + even;
      t[1][k] = (FD_T)0.5 * (s1 - s2);
      t[2][k] = even + sums[(12 + k) * count + e];
    }
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++) {
      const FD_T even = (FD_T)0.5 * (t[k][1] + t[k][2]);
      const FD_T first = t[k][0] + even, last = even + t[k][3];
      const FD_T middle = (FD_T)0.5 * (t[k][1] - t[k][2]);
      sums[(3 * k) * count + e] = first;
      sums[(3 * k + 1) * count + e] = middle;
      sums[(3 * k + 2) * count + e] = last;
      all += first + middle + last;
    }
    odd |= all - all != 0;
  }
  return !odd;
}

/* The gradients at the nine places added up directly: c[place][feature][outputs], with room for
 * `rows` features and `width` outputs. The cotangents' tiles say where they are in memory. */
static __attribute__((noinline, unused)) void FD_NAME(fd_winograd_gradient_alone)(
    FD_T *c, const FD_T *x, const fd_tiles *image, int64_t features, const FD_T *y,
    const fd_tiles *cotangents, int64_t outputs, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < image->images; i++, x += image->from, y += cotangents->from)
    for (int64_t r = 0; r < cotangents->rows.size; r++)
      for (int64_t p = 0; p < cotangents->columns.size; p++) {
        const FD_T *ct = y + r * cotangents->rows.stride + p * cotangents->columns.stride;
        for (int place = 0; place < 9; place++) {
          const int64_t row = image->rows.first + r + place / 3;
          const int64_t column = image->columns.first + p + place % 3;
          if (!FD_NAME(fd_winograd_inside)(image, row, column, 1)) continue;
          const FD_T *at = x + row * image->rows.stride + column * image->columns.stride;
          for (int64_t f = 0; f < features; f++) {
            FD_T *sum = c + (place * rows + f) * width;
#pragma omp simd
            for (int64_t j = 0; j < outputs; j++) sum[j] = FD_NAME(fd_fma)(at[f], ct[j], sum[j]);
          }
        }
      }
}
