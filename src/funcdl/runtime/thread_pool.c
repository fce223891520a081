/* A pool of threads for parallel regions.
 *
 * A region has many members (parts of its work), which threads claim one by one by an atomic ticket.
 * The caller claims members too, so that it never waits for a thread that has not started: at worst
 * it does everything itself. Idle threads spin for a short while, then sleep on a futex, from which
 * they are woken where that pays (see `help_pays`). One region runs on the pool at a time; a second
 * one, from another thread, is done by its caller alone.
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
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef void fd_member_function(void *context, int member, int members);

enum { SPINS = 4000, MAX_MEMBERS = 1 << 20, SITES = 256 };
/* Times are in nanoseconds. So long do idle threads spin, looking at the clock now and then. */
enum { PATIENCE = 70000, SPINS_A_LOOK = 64 };

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
/* When the last region's work was done, which is known where threads sleep, and the epoch of the
 * last region whose own caller looked at the clock. */
static _Atomic int64_t quiet_since;
static _Atomic uint32_t timed;
/* The rest is read and changed only while `busy` is held. */
static int running_threads;
/* Regions that follow one another without a pause in which awake threads fall asleep: where and when
 * the first was (later by what was spent in waking), and how long they were thought to take. */
static struct {
  const void *site;
  int64_t start, expected;
} burst;
/* How long bursts were that began at a site. */
static struct {
  const void *site;
  int64_t length;
} known[SITES];
static int64_t wake_cost = 10000; /* of one thread, to its waker; follows what is measured */

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* False where no member was left. */
static bool work_on_one(void) {
  for (;;) {
    uint64_t seen = atomic_load(&ticket);
    const uint32_t next = seen & (MAX_MEMBERS - 1);
    const uint32_t members = seen >> 20 & (MAX_MEMBERS - 1);
    if (next >= members) return false;
    if (!atomic_compare_exchange_weak(&ticket, &seen, seen + 1)) continue;
    /* An unfinished member of this region is ours now, so the job cannot change. */
    job_function(job_context, (int)next, (int)members);
    atomic_fetch_sub(&unfinished, 1);
    return true;
  }
}

static void work(void) {
  while (work_on_one()) continue;
}

/* Whether another region than the one of epoch `seen` comes soon after `start`. */
static bool spin(uint32_t seen, int64_t start) {
  do {
    for (int spins = 0; spins < SPINS_A_LOOK; ++spins) {
      if (atomic_load(&epoch) != seen) return true;
      pause_briefly();
    }
  } while (now() - start < PATIENCE);
  return atomic_load(&epoch) != seen;
}

static void *idle(void *unused) {
  for (;;) {
    const uint32_t seen = atomic_load(&epoch);
    work();
    const int64_t start = now();
    if (spin(seen, start)) continue;
    /* A thread that was woken too late to help would note too late a time. */
    if (seen != atomic_load(&timed)) atomic_store(&quiet_since, start);
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

static int site_index(const void *site) {
  return (int)(((uintptr_t)site >> 4) * 0x9e3779b1u >> 16 & (SITES - 1));
}

/* Note the length of the burst that is over, up to `most`, and begin one at `site`. */
static void next_burst(const void *site, int64_t start, int64_t most) {
  const int last = site_index(burst.site), first = site_index(site);
  int64_t length = atomic_load(&quiet_since) - burst.start;
  if (length > most) length = most;
  /* Shorter ones are believed step by step: a loop may serve several sizes in turn. */
  if (known[last].site == burst.site && length < known[last].length)
    length += (known[last].length - length) / 2;
  known[last].site = burst.site;
  known[last].length = length;
  burst.site = site;
  burst.start = start;
  burst.expected = known[first].site == site ? known[first].length : INT64_MAX;
}

/* Whether to wake the threads that sleep, for a region that has begun.
 *
 * Waking a thread costs its waker a system call (12 us on a virtual machine), and the thread comes
 * after several times as long again: to a region of little work it is a loss. But what is woken
 * stays awake for the rest of a burst, so it is the burst's length that decides. At its first region
 * that is unknown; but programs repeat themselves, and the burst is taken to become as long as the
 * last ones that began at the same site. One that becomes longer shows it by the time since its
 * start, and by that of a member, of which the caller does the first meanwhile. */
static bool help_pays(const void *site, int members, int sleeping) {
  const int64_t enough = wake_cost * (7 + sleeping);
  const int64_t start = now();
  if (start - atomic_load(&quiet_since) >= PATIENCE) next_burst(site, start, 4 * enough);
  if (burst.expected >= enough) return true;
  work_on_one();
  return start - burst.start + (now() - start) * members >= enough;
}

static void wake(void) {
  const int64_t start = now();
  const long woken = syscall(SYS_futex, &epoch, FUTEX_WAKE_PRIVATE, running_threads, NULL, NULL, 0);
  const int64_t spent = now() - start;
  burst.start += spent;
  if (woken <= 0) return;
  /* By a quarter at most: something else may have run meanwhile. */
  const int64_t cost = spent / woken, least = wake_cost * 3 / 4, most = wake_cost * 5 / 4;
  wake_cost = cost < least ? least : cost > most ? most : cost;
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

/* Call `function` once for each member, and return when all are done. `site` is an address that
 * tells one region of a program from others; nothing is read there. */
__attribute__((visibility("default"))) void fd_pool_run(fd_member_function *function,
                                                        void *context, int members,
                                                        const void *site) {
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
  const uint32_t begun = atomic_fetch_add(&epoch, 1) + 1;
  const int sleeping = atomic_load(&sleepers);
  if (sleeping > 0 && help_pays(site, members, sleeping)) wake();
  work();
  if (sleeping > 0) {
    /* Before the wait for a thread that may have come late, and made the region longer. */
    atomic_store(&quiet_since, now());
    atomic_store(&timed, begun);
  }
  for (int spins = 0; atomic_load(&unfinished) > 0; ++spins) {
    if (spins < SPINS) {
      pause_briefly();
    } else {
      sched_yield();
    }
  }
  atomic_store(&busy, 0);
}
