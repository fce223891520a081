/* Working memory of kernels beyond what fits on the stack, and what happens where there is none.
 *
 * A call of a kernel has a number for that, which its threads share. Where the system refuses memory
 * they leave out what they wanted it for, and all that follows; whoever made the call sees that the
 * number is no longer 0, makes no further calls, and says so (call_table.c). Outputs are undefined
 * then, but nothing outside of them is written. */
#ifndef FD_MEMORY_H
#define FD_MEMORY_H

#include <stdint.h>
#include <stdlib.h>

/* How many bytes one of the threads asked for in vain; 0 as long as there is nothing amiss. */
typedef _Atomic int64_t fd_missing;

/* Memory for `free`, aligned for all vectors; NULL where there is none, or where this call has
 * missed some before: the sooner it ends, the better. */
static inline __attribute__((unused)) void *fd_take(int64_t bytes, fd_missing *missing) {
  if (*missing != 0) return NULL;
  /* aligned_alloc wants a multiple of the alignment. */
  void *const memory = aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64);
  if (memory == NULL) *missing = bytes;
  return memory;
}

#endif
