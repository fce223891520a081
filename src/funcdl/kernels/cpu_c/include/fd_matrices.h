/* Factors and triangular systems of batches of small matrices, stored by rows.
 *
 * LAPACK's algorithms without blocks: a matrix of these sizes stays in the nearest caches, and
 * needs neither copies nor a library. Inner loops run along rows, so that they are
 * vectors. Which thread does a matrix changes nothing about its bits. */
#ifndef FD_MATRICES_H
#define FD_MATRICES_H

#include <math.h>
#include <string.h>

#include "fd_memory.h"
#include "fd_runtime.h"
#include "fd_types.h"

enum {
  /* The most rows of matrices that have a column copied on the stack. */
  FD_MATRIX_ROWS = 128,
  /* Columns of right-hand sides that are solved for at a time: their rows stay in the cache. */
  FD_MATRIX_COLUMNS = 256,
  /* Multiplications from which on threads share a batch. */
  FD_MATRIX_SHARE = 1 << 15,
};

/* Matrices of n rows and columns, and right-hand sides of `others` columns (rows, on the right). */
typedef struct {
  int64_t count, n, others;
  int64_t left, lower, transpose, unit;
} fd_triangular;

/* How many threads share a batch of tasks of so many multiplications each. */
FD_INLINE int fd_matrix_threads(int64_t tasks, int64_t work) {
  return tasks > 1 && work >= FD_MATRIX_SHARE / tasks ? fd_num_threads : 1;
}
#define FD_FOR_MATRICES _Pragma("omp parallel for num_threads(threads) schedule(static)")

/* The order that exchanges of rows leave them in; one with a row that is not there is none. */
static inline __attribute__((unused)) void fd_lu_pivots_to_permutation_i32(
    int64_t count, int64_t steps, int64_t rows, const int32_t *pivots, int32_t *order,
    fd_missing *missing) {
  (void)missing;
  for (int64_t m = 0; m < count; m++, pivots += steps, order += rows) {
    for (int64_t i = 0; i < rows; i++) order[i] = (int32_t)i;
    for (int64_t i = 0; i < steps; i++) {
      const int32_t other = pivots[i], kept = order[i];
      if (other < 0 || other >= rows) continue;
      order[i] = order[other];
      order[other] = kept;
    }
  }
}

#define FD_T float
#define FD_NAME(name) name##_f32
#include "fd_matrices_typed.h"
#undef FD_T
#undef FD_NAME

#define FD_T double
#define FD_NAME(name) name##_f64
#include "fd_matrices_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_FOR_MATRICES
#endif
