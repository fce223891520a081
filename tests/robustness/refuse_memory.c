/* Stands before libc and refuses memory when it is told to, for tests of what happens then.
 *
 * Generated code takes working memory from aligned_alloc, the pool of results from posix_memalign
 * and mmap. Python and NumPy take what is smaller than `least_bytes` from them, or from malloc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

static _Atomic long passed, refused;
static _Atomic size_t least_bytes = (size_t)-1;

/* Let the next `pass` requests of at least so many bytes through, and refuse `refuse` after them. */
void refuse_memory(long pass, long refuse, size_t bytes);
void refuse_memory(long pass, long refuse, size_t bytes) {
  passed = pass;
  refused = refuse;
  least_bytes = bytes;
}

/* How many requests are still to be refused. */
long still_to_refuse(void);
long still_to_refuse(void) { return refused; }

static int refuses(size_t bytes) {
  if (bytes < least_bytes) return 0;
  if (atomic_fetch_sub(&passed, 1) > 0) return 0;
  return atomic_fetch_sub(&refused, 1) > 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void *aligned_alloc(size_t alignment, size_t bytes) {
  return refuses(bytes) ? NULL : NEXT(aligned_alloc)(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
  return refuses(bytes) ? ENOMEM : NEXT(posix_memalign)(memory, alignment, bytes);
}

#define MAP(name)                                                                                 \
  void *name(void *where, size_t bytes, int protection, int flags, int file, off_t offset) {      \
    if (refuses(bytes)) {                                                                         \
      errno = ENOMEM;                                                                             \
      return MAP_FAILED;                                                                          \
    }                                                                                             \
    return NEXT(name)(where, bytes, protection, flags, file, offset);                             \
  }
MAP(mmap)
MAP(mmap64) /* the same, where offsets have 64 bits */
