/* A pool of threads for parallel regions.
 *
 * A region has many members (parts of its work), which threads claim one by one by an atomic ticket.
 * The caller claims members too, so that it never waits for a thread that has not started: at worst
 * it does everything itself. Idle threads spin for a short while, then sleep on a futex. One region
 * runs on the pool at a time; a second one, from another thread, is done by its caller alone.
 *
 * libgomp, in contrast, gives each thread a fixed part: when another process takes a core, every
 * region waits for it, and a forked child waits forever.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void fd_member_function(void *context, int member, int members);

enum { SPINS = 4000, MAX_MEMBERS = 1 << 20 };

static fd_member_function *job_function;
static void *job_context;
/* Generation (24 bits), number of members (20), next member to claim (20). The generation makes a
 * claim fail that was read from an earlier region. */
static _Atomic uint64_t ticket;
static _Atomic int unfinished;
static _Atomic uint32_t epoch; /* changes with every region; idle threads wait for that */
static _Atomic int sleepers;
static _Atomic int busy;
static _Atomic int wanted_threads;
static int running_threads; /* changed only while `busy` is held */

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void work(void) {
  for (;;) {
    uint64_t seen = atomic_load(&ticket);
    const uint32_t next = seen & (MAX_MEMBERS - 1);
    const uint32_t members = seen >> 20 & (MAX_MEMBERS - 1);
    if (next >= members) return;
    if (!atomic_compare_exchange_weak(&ticket, &seen, seen + 1)) continue;
    /* An unfinished member of this region is ours now, so the job cannot change. */
    job_function(job_context, (int)next, (int)members);
    atomic_fetch_sub(&unfinished, 1);
  }
}

static void *idle(void *unused) {
  for (;;) {
    const uint32_t seen = atomic_load(&epoch);
    work();
    int spins = 0;
    while (atomic_load(&epoch) == seen && spins < SPINS) {
      pause_briefly();
      ++spins;
    }
    if (atomic_load(&epoch) != seen) continue;
    atomic_fetch_add(&sleepers, 1);
    syscall(SYS_futex, &epoch, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&sleepers, 1);
  }
  return unused;
}

static void start_threads(void) {
  sigset_t all, before;
  pthread_attr_t attributes;
  sigfillset(&all);
  /* Signals are for the threads that the process had before. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  while (running_threads < atomic_load(&wanted_threads)) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, idle, NULL) != 0) break;
    ++running_threads;
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void forget_threads(void) {
  running_threads = 0;
  atomic_store(&busy, 0);
  atomic_store(&sleepers, 0);
  atomic_store(&unfinished, 0);
}

__attribute__((constructor)) static void prepare(void) {
  pthread_atfork(NULL, NULL, forget_threads);
}

/* How many threads besides the caller may work; those that run already are kept. */
__attribute__((visibility("default"))) void fd_pool_resize(int threads) {
  atomic_store(&wanted_threads, threads);
}

/* Call `function` once for each member, and return when all are done. */
__attribute__((visibility("default"))) void fd_pool_run(fd_member_function *function,
                                                        void *context, int members) {
  int free = 0;
  if (atomic_load(&wanted_threads) == 0 || members < 2 || members >= MAX_MEMBERS ||
      !atomic_compare_exchange_strong(&busy, &free, 1)) {
    for (int member = 0; member < members; ++member) function(context, member, members);
    return;
  }
  if (running_threads < atomic_load(&wanted_threads)) start_threads();
  job_function = function;
  job_context = context;
  atomic_store(&unfinished, members);
  const uint64_t generation = (atomic_load(&ticket) >> 40) + 1;
  atomic_store(&ticket, generation << 40 | (uint64_t)members << 20);
  atomic_fetch_add(&epoch, 1);
  if (atomic_load(&sleepers) > 0) {
    syscall(SYS_futex, &epoch, FUTEX_WAKE_PRIVATE, running_threads, NULL, NULL, 0);
  }
  work();
  for (int spins = 0; atomic_load(&unfinished) > 0; ++spins) {
    if (spins < SPINS) {
      pause_briefly();
    } else {
      sched_yield();
    }
  }
  atomic_store(&busy, 0);
}
