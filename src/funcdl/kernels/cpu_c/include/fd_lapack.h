/* LAPACK's functions for batches of matrices stored by rows.
 *
 * Their addresses are the runtime's to find (runtime/lapack.py): it hands each unit the table of
 * them, which all units share. LAPACK stores matrices by columns, so they are turned on the way in
 * and out, wherever the turned problem is another one. A matrix for which LAPACK fails has NaN as
 * its result. Matrices with NaN or infinities are not given to algorithms that iterate, which may
 * never return from them.
 *
 * Threads share a batch of small matrices, and LAPACK's own threads work on a very large one: at most as
 * many as compiled code has, whatever the process lets LAPACK have otherwise. */
#ifndef FD_LAPACK_H
#define FD_LAPACK_H

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "fd_memory.h"
#include "fd_runtime.h"
#include "fd_transpose.h"
#include "fd_types.h"

#define FD_FRAGMENT "fd_lapack_routines.h"
#include "fd_lapack_types.h"
#undef FD_FRAGMENT

/* One for the process, all words of 8 bytes; runtime/lapack.py knows this layout. */
typedef struct {
  /* How many threads LAPACK may use, and to change it; NULL where it lets nobody ask. */
  int (*get_threads)(void);
  void (*set_threads)(int);
  /* Calls that run with fewer threads than `threads_before`, the process's own number; both are
   * only touched by who has made `lock` 1. */
  _Atomic int64_t lock;
  int64_t limited, threads_before;
  /* Whether a thread is about to fork, and how many are inside of LAPACK. */
  _Atomic int64_t forking, inside;
  fd_lapack_routines_f32 of_f32;
  fd_lapack_routines_f64 of_f64;
  fd_lapack_routines_c64 of_c64;
  fd_lapack_routines_c128 of_c128;
} fd_lapack_table;

static fd_lapack_table *_Atomic fd_lapack;

/* Called by the loader. */
__attribute__((visibility("default"))) void fd_set_lapack(void *table);
void fd_set_lapack(void *table) { fd_lapack = table; }

/* Operations from which on threads share a batch, and LAPACK's own threads a matrix: they wait for
 * each other all the time, and add up in another order than one thread does. */
#define FD_LAPACK_SHARE 0x1p17
#define FD_LAPACK_LARGE 0x1p32

#define FD_LAPACK_UNUSED static __attribute__((noinline, unused))

FD_INLINE void fd_lapack_lock(fd_lapack_table *table) {
  while (atomic_exchange(&table->lock, 1) != 0) {
  }
}

/* Around what LAPACK does for a matrix: it has locks of its own, which a forked child would find as
 * they are at that moment, so forks wait until no thread is inside. */
FD_LAPACK_UNUSED void fd_lapack_enter(fd_lapack_table *table) {
  for (;;) {
    atomic_fetch_add(&table->inside, 1);
    if (atomic_load(&table->forking) == 0) return;
    atomic_fetch_sub(&table->inside, 1);
    while (atomic_load(&table->forking) != 0) sched_yield();
  }
}

FD_INLINE void fd_lapack_leave(fd_lapack_table *table) { atomic_fetch_sub(&table->inside, 1); }

/* Let LAPACK use at most so many threads until the matching end, which takes what this returns.
 * Calls of several threads may overlap: the first notes the process's number, which the last one
 * restores. */
FD_LAPACK_UNUSED int fd_lapack_begin(fd_lapack_table *table, int threads) {
  if (table->get_threads == NULL) return 0;
  fd_lapack_enter(table);
  fd_lapack_lock(table);
  const int current = table->get_threads();
  const int limits = current > threads || table->limited > 0;
  if (limits && table->limited++ == 0) table->threads_before = current;
  if (current > threads) table->set_threads(threads);
  atomic_store(&table->lock, 0);
  fd_lapack_leave(table);
  return limits;
}

FD_LAPACK_UNUSED void fd_lapack_end(fd_lapack_table *table, int limits) {
  if (!limits) return;
  fd_lapack_enter(table);
  fd_lapack_lock(table);
  if (--table->limited == 0) table->set_threads((int)table->threads_before);
  atomic_store(&table->lock, 0);
  fd_lapack_leave(table);
}

/* What the matrices of a batch have in common: sizes that LAPACK takes by address, and those of its
 * workspaces. */
typedef struct {
  fd_lapack_table *table;
  int m, n, k, others;
  int work, real_work, int_work;
  int lower, left, right, transpose, conjugate, unit, pivoting;
  const void *in[4];
  void *out[4];
} fd_lapack_job;

typedef void fd_lapack_one(const fd_lapack_job *job, char *memory, int64_t at);

/* Do every matrix of a batch, each with so many bytes of memory, and `operations`. */
FD_LAPACK_UNUSED void fd_lapack_each(fd_lapack_one *one, const fd_lapack_job *job, int64_t count,
                                     double operations, int64_t bytes, fd_missing *missing) {
  const int available = fd_num_threads;
  const int large = operations >= FD_LAPACK_LARGE && count < available;
  const int threads =
      count > 1 && !large && operations * (double)count >= FD_LAPACK_SHARE ? available : 1;
  const int64_t most = threads > 1 ? 4 * (int64_t)threads : 1, parts = count < most ? count : most;
  const int limits = fd_lapack_begin(job->table, large ? available : 1);
  _Pragma("omp parallel for num_threads(threads) schedule(static)")
  for (int64_t part = 0; part < parts; part++) {
    char *const memory = fd_take(bytes, missing);
    if (memory == NULL) continue;
    const int64_t end = count * (part + 1) / parts;
    for (int64_t at = count * part / parts; at < end; at++) {
      fd_lapack_enter(job->table);
      one(job, memory, at);
      fd_lapack_leave(job->table);
    }
    free(memory);
  }
  fd_lapack_end(job->table, limits);
}

/* What an array takes of a workspace, and the next one of it. */
FD_INLINE int64_t fd_lapack_room(int64_t bytes) { return (bytes + 63) / 64 * 64; }
FD_INLINE void *fd_lapack_cut(char **memory, int64_t bytes) {
  void *const array = *memory;
  *memory += fd_lapack_room(bytes);
  return array;
}

/* The size of a workspace from LAPACK's answer, which float may have rounded. */
FD_INLINE int fd_lapack_size(double answer) { return (int)(answer * (1 + 0x1p-20)) + 1; }

/* Rows become columns: to[c * rows + r] = from[r * columns + c], by tiles that stay in a cache. */
#define FD_LAPACK_TURN(bytes)                                                            \
  FD_LAPACK_UNUSED void fd_lapack_turn_##bytes(void *to, const void *from, int64_t rows, \
                                               int64_t columns) {                        \
    enum { TILE = 512 / bytes };                                                         \
    for (int64_t r = 0; r < rows; r += TILE)                                             \
      for (int64_t c = 0; c < columns; c += TILE)                                        \
        fd_turn_##bytes((char *)to + (c * rows + r) * bytes, rows,                       \
                        (const char *)from + (r * columns + c) * bytes, columns,         \
                        rows - r < TILE ? rows - r : TILE,                               \
                        columns - c < TILE ? columns - c : TILE);                        \
  }
FD_LAPACK_TURN(4)
FD_LAPACK_TURN(8)
FD_LAPACK_TURN(16)
#undef FD_LAPACK_TURN

#define FD_FRAGMENT "fd_lapack_factors.h"
#include "fd_lapack_types.h"
#undef FD_FRAGMENT
#define FD_FRAGMENT "fd_lapack_spectra.h"
#include "fd_lapack_types.h"
#undef FD_FRAGMENT
#undef FD_LAPACK_UNUSED
#endif
