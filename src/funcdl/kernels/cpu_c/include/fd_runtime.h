/* What the runtime tells a loaded unit: how many threads its parallel regions may use, and where
 * the pool is that they run on. */
#ifndef FD_RUNTIME_H
#define FD_RUNTIME_H

#include <stdint.h>

/* The variables are atomic: a thread may load a program, and so set them, while another runs it. */
static _Atomic int fd_threads = 1;
/* Cast, since clang takes no atomic number for that of a region's threads. */
#define fd_num_threads ((int)fd_threads)

/* Called by the loader, and with 1 in a forked child. */
__attribute__((visibility("default"))) void fd_set_num_threads(int count);
void fd_set_num_threads(int count) { fd_threads = count; }

#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__)
/* gcc makes a parallel region a function and a call of GOMP_parallel, and asks for a thread's number
 * to find its share of the loop. These definitions take the place of libgomp's: a region's members
 * are parts of its work, more than there are threads, and the pool's threads claim them one by one.
 * Regions must not contain barriers; "parallel for" has none inside. With clang, its own OpenMP
 * library does the work. */
typedef void fd_member_function(void *context, int member, int members);
typedef void fd_pool_function(fd_member_function *function, void *context, int members,
                              const void *site);

enum { FD_MEMBERS_PER_THREAD = 4 };

static fd_pool_function *_Atomic fd_pool_run = 0;
static _Thread_local int fd_member = 0;
static _Thread_local int fd_members = 1;

__attribute__((visibility("default"))) void fd_set_pool(fd_pool_function *run);
void fd_set_pool(fd_pool_function *run) { fd_pool_run = run; }

struct fd_region {
  void (*body)(void *);
  void *data;
};

/* Members are claimed in turn. Those that are as many claims apart as there are threads would be one
 * thread's if all ran alike: they are neighbours in the loop, so that a thread mostly goes on where
 * its cache has the operands, and finds there what it wrote in the region before. (Measured: 6 % of
 * an MLP's training step, 2 % of a transformer's.) */
static void fd_run_member(void *context, int member, int members) {
  const struct fd_region *region = context;
  const int threads = members < FD_MEMBERS_PER_THREAD ? 1 : members / FD_MEMBERS_PER_THREAD;
  fd_member = member % threads * FD_MEMBERS_PER_THREAD + member / threads;
  fd_members = members;
  region->body(region->data);
}

__attribute__((visibility("hidden"))) void GOMP_parallel(void (*body)(void *), void *data,
                                                         unsigned threads, unsigned flags);
void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
  struct fd_region region = {body, data};
  fd_pool_function *const run = fd_pool_run;
  (void)flags;
  if (threads < 2 || run == 0) {
    fd_run_member(&region, 0, 1);
  } else {
    /* The function of its body tells a region from others. */
    const void *const site = (const void *)(uintptr_t)body;
    run(fd_run_member, &region, (int)threads * FD_MEMBERS_PER_THREAD, site);
  }
}

__attribute__((visibility("hidden"))) int omp_get_thread_num(void);
int omp_get_thread_num(void) { return fd_member; }

__attribute__((visibility("hidden"))) int omp_get_num_threads(void);
int omp_get_num_threads(void) { return fd_members; }
#endif

#endif
