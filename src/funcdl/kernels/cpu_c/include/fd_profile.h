/* The times of a profiled program's kernels. Each call of the program brings a table along:
 *
 *   kernels, capacity, events,           counts: kernels, places in the ring, events so far
 *   latest,                              the kernel of the latest event
 *   calls, total, least      * kernels   for each kernel, in nanoseconds
 *   kernel, start, end       * capacity  the ring: the latest events
 *
 * so that threads can run a program at once. The clock is that of Python's perf_counter_ns. */
#ifndef FD_PROFILE_H
#define FD_PROFILE_H

#include <stdint.h>
#include <time.h>

static _Thread_local int64_t *fd_profile_table;

static inline int64_t fd_profile_now(void) {
  struct timespec now;
#ifdef CLOCK_MONOTONIC
  clock_gettime(CLOCK_MONOTONIC, &now);
#else /* plain C11 */
  timespec_get(&now, TIME_UTC);
#endif
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void fd_profile_add(int64_t kernel, int64_t start) {
  const int64_t end = fd_profile_now();
  int64_t *const table = fd_profile_table;
  int64_t *const row = table + 4 + 3 * kernel;
  const int64_t elapsed = end - start;
  if (row[0] == 0 || elapsed < row[2]) row[2] = elapsed;
  row[0] += 1;
  row[1] += elapsed;
  if (table[1] > 0) {
    int64_t *const event = table + 4 + 3 * table[0] + 3 * (table[2] % table[1]);
    event[0] = kernel;
    event[1] = start;
    event[2] = end;
  }
  table[2] += 1;
  table[3] = kernel;
}

#define FD_PROFILED(kernel, call)               \
  do {                                          \
    const int64_t fd_start = fd_profile_now();  \
    call;                                       \
    fd_profile_add(kernel, fd_start);           \
  } while (0)

#endif
