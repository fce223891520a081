/* Fourier transforms of batches, along any dimension.
 *
 * A panel holds as many transforms as a vector has lanes, one a lane: element j is two vectors, of
 * real and of imaginary parts. Stockham's algorithm takes it from one buffer to another and back, a
 * factor of the length at a time, and leaves elements in order; nothing in it depends on the lane.
 * Neighbours along another dimension are lanes as they are, and rows become lanes by transposition.
 * A long row is its own panel (Bailey's four steps, 1990): as a matrix, its columns are transformed,
 * turned by roots of unity, and transposed, and so are then the columns of the result. Where a
 * length has a large prime factor, Bluestein's chirps make the transform a convolution.
 *
 * Inverse transforms are forward ones with real and imaginary parts exchanged. Roots of unity are
 * the caller's, rounded once from more digits. Which thread does a panel does not change its bits. */
#ifndef FD_FFT_H
#define FD_FFT_H

#include "fd_fft_tasks.h"
#include "fd_memory.h"
#include "fd_runtime.h"

enum { FD_FFT_SHARE = 1 << 14 }; /* elements from which on threads share a batch */

/* The transforms along one dimension; `in` and `out` may be the same where both are complex. Buffers
 * have one element more than a length, for the spectrum of real numbers. */
#define FD_FFT(T, t, LANES)                                                                        \
  static inline __attribute__((unused)) void fd_fft_##t(fd_fft_sizes sizes, fd_fft_core core,      \
                                                             const void *in, void *out,            \
                                                             const void *table,                    \
                                                             fd_missing *missing) {                \
    const int64_t inner = sizes.inner, n = core.first * core.second;                               \
    const int64_t longest = core.first > core.second ? core.first : core.second;                   \
    const int by_row = core.second > 1;                                                            \
    int64_t tasks = sizes.outer;                                                                   \
    if (sizes.has_chirps) {                                                                        \
      tasks *= inner;                                                                              \
    } else if (inner > 1) {                                                                        \
      tasks *= (inner + LANES - 1) / LANES;                                                        \
    } else if (!by_row) {                                                                          \
      tasks = (tasks + LANES - 1) / LANES;                                                         \
    }                                                                                              \
    const int shared = tasks > 1 && sizes.outer * inner >= FD_FFT_SHARE / n;                       \
    const int threads = shared ? fd_num_threads : 1;                                               \
    const int64_t most = threads > 1 ? 4 * threads : 1, parts = tasks < most ? tasks : most;       \
    const int64_t panel = 2 * (longest + 1) * LANES;                                               \
    const int64_t row = by_row ? 2 * (n + 1) : 0;                                                  \
    (void)threads;                                                                                 \
    _Pragma("omp parallel for num_threads(threads) schedule(static)")                              \
    for (int64_t part = 0; part < parts; part++) {                                                 \
      T *const memory = fd_take((2 * panel + 3 * row) * (int64_t)sizeof(T), missing);              \
      if (memory == NULL) continue;                                                                \
      fd_fft_job_##t job = {.sizes = &sizes, .core = &core, .table = table, .in = in, .out = out}; \
      job.panel = memory;                                                                          \
      job.spare = job.panel + panel;                                                               \
      job.matrix = job.spare + panel;                                                              \
      job.row = job.matrix + row;                                                                  \
      job.whole = job.row + row;                                                                   \
      const int64_t end = tasks * (part + 1) / parts;                                              \
      for (int64_t task = tasks * part / parts; task < end; task++) {                              \
        fd_fft_task_##t(&job, task);                                                               \
      }                                                                                            \
      free(memory);                                                                                \
    }                                                                                              \
  }
FD_FFT(float, f32, FD_LANES_F32)
FD_FFT(double, f64, FD_LANES_F64)
#undef FD_FFT

#endif
