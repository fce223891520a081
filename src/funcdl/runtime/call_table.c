/* Runs the calls of a program: a table of 64-bit words, which call_table.py writes, in place of code
 * that would have to be compiled for each program.
 *
 * A place is two words: a slot of the table of addresses, and bytes past what it points to. The
 * records of a list stand one after the other, up to a word FD_END:
 *
 *   FD_KERNEL  function, number of pointers, number of numbers, label, places..., numbers...
 *   FD_SCAN    words in all, length, reverse, number of shares, positions of the body and of the
 *              shares, copies if the length is 0
 *   FD_WHILE   words in all, place of the flag, positions of condition and body and of the copies
 *              after no step, after an odd and after an even number of steps
 *   FD_BRANCH  words in all, place of the index, number of branches, their positions
 *
 * Positions count words from the start of their record. Copies: a count; for each a source, a
 * target, a number of bytes. A body: a number of slots, for each a binding, then a list of records.
 * A binding: a stride in bytes, and five places, of which all but the first may be absent (slot -1):
 * the base, that of the first step, of the last, of even steps and of odd ones.
 *
 * A share is a way to run a scan in parts that do not touch each other, which threads work on at the
 * same time: a number of parts, for each slot of the body the bytes from one part's memory to the
 * next one's, then the list of records that every part runs in place of the body's.
 *
 * A function that misses memory (fd_memory.h) says so, and no record after its own is run: what
 * they would read is undefined, and a loop might never end.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FD_END, FD_KERNEL, FD_SCAN, FD_WHILE, FD_BRANCH };
enum { BINDING_WORDS = 11, COPY_WORDS = 5 };

typedef void fd_kernel(void *const *pointers, const int64_t *numbers, _Atomic int64_t *missing);

/* How many bytes a function asked for in vain, or 0, and its label. */
struct failure {
  _Atomic int64_t missing;
  int64_t label;
};

typedef void fd_member_function(void *context, int member, int members);
typedef void fd_pool_function(fd_member_function *function, void *context, int members,
                              const void *site);

static _Atomic int fd_threads = 1;
static fd_pool_function *_Atomic fd_pool_run; /* NULL: older clangs take no initializer here */

/* As in fd_runtime.h. */
__attribute__((visibility("default"))) void fd_set_num_threads(int count);
void fd_set_num_threads(int count) { fd_threads = count; }

#ifndef __clang__
/* clang's kernels have the threads of its own library, which do not know the pool's. */
__attribute__((visibility("default"))) void fd_set_pool(fd_pool_function *run);
void fd_set_pool(fd_pool_function *run) { fd_pool_run = run; }
#endif

static char *place(void **slots, const int64_t *words) { return (char *)slots[words[0]] + words[1]; }

static void copy_all(void **slots, const int64_t *words) {
  for (int64_t count = *words++; count > 0; --count, words += COPY_WORDS)
    memmove(place(slots, words + 2), place(slots, words), (size_t)words[4]);
}

/* The slots of a body's step; those that never change are there after the first one. */
static void bind(void **slots, const int64_t *body, void **inner, int64_t step, int64_t position,
                 int64_t length) {
  const int64_t count = body[0], *words = body + 1;
  for (int64_t i = 0; i < count; ++i, words += BINDING_WORDS) {
    const int64_t *base = words + 1, *first = words + 3, *last = words + 5, *even = words + 7;
    if (last[0] >= 0 && step == length - 1) {
      inner[i] = place(slots, last);
    } else if (first[0] >= 0 && step == 0) {
      inner[i] = place(slots, first);
    } else if (even[0] >= 0) {
      inner[i] = place(slots, even + (step & 1) * 2);
    } else if (words[0] != 0) {
      inner[i] = place(slots, base) + position * words[0];
    } else if (step <= 1) {
      inner[i] = place(slots, base);
    }
  }
}

/* How a slot moves from one step to the next: to an even step, and to an odd one. */
struct move {
  int64_t slot;
  uintptr_t bytes[2];
};

/* The moves of a body's slots between steps that are neither the first nor the last; their count. */
static int64_t moves_of(void **slots, const int64_t *body, bool reverse, struct move *moves) {
  const int64_t count = body[0], *words = body + 1;
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i, words += BINDING_WORDS) {
    const int64_t *even = words + 7;
    if (even[0] >= 0) {
      const uintptr_t there = (uintptr_t)place(slots, even + 2) - (uintptr_t)place(slots, even);
      moves[found++] = (struct move){i, {-there, there}};
    } else if (words[0] != 0) {
      const uintptr_t stride = (uintptr_t)(reverse ? -words[0] : words[0]);
      moves[found++] = (struct move){i, {stride, stride}};
    }
  }
  return found;
}

/* From the slots of the step before to those of this one. */
static void advance(void **inner, const struct move *moves, int64_t count, int64_t step) {
  for (int64_t i = 0; i < count; ++i) {
    void **slot = inner + moves[i].slot;
    *slot = (void *)((uintptr_t)*slot + moves[i].bytes[step & 1]);
  }
}

/* Like what else runs functions, false where one has failed. */
static bool run(void **slots, const int64_t *words, struct failure *failure);

static bool run_body(void **inner, const int64_t *body, struct failure *failure) {
  return run(inner, body + 1 + body[0] * BINDING_WORDS, failure);
}

/* All steps of a scan, with the records of its body, or those of a share and the part's number. */
static bool run_steps(void **slots, const int64_t *scan, const int64_t *share, int64_t part,
                      struct failure *failure) {
  const int64_t length = scan[2], *body = scan + scan[5], count = body[0];
  const int64_t *strides = share == NULL ? NULL : share + 1;
  const int64_t *calls = share == NULL ? body + 1 + count * BINDING_WORDS : strides + count;
  void *bound[count + 1], *inner[count + 1];
  struct move moves[count + 1];
  const int64_t moving = length > 3 ? moves_of(slots, body, scan[3], moves) : 0;
  for (int64_t step = 0; step < length; ++step) {
    if (step > 1 && step < length - 1) {
      advance(inner, moves, moving, step);
    } else {
      bind(slots, body, bound, step, scan[3] ? length - 1 - step : step, length);
      for (int64_t i = 0; i < count; ++i)
        inner[i] = share == NULL ? bound[i] : (char *)bound[i] + part * strides[i];
    }
    if (!run(inner, calls, failure)) return false;
  }
  return true;
}

struct shared_scan {
  void **slots;
  const int64_t *scan, *share;
  atomic_flag failed;
  struct failure *failure; /* of the first part that fails */
};

static void run_part(void *context, int member, int members) {
  struct shared_scan *all = context;
  struct failure failure = {0, 0};
  (void)members;
  if (run_steps(all->slots, all->scan, all->share, member, &failure)) return;
  if (atomic_flag_test_and_set(&all->failed)) return;
  all->failure->label = failure.label;
  all->failure->missing = failure.missing;
}

/* The share with the fewest parts that leaves threads idle for at most a fifth of the time, or NULL
 * where threads better work together on every kernel. */
static const int64_t *choose_share(const int64_t *scan) {
  const int64_t threads = fd_threads;
  if (threads < 2 || fd_pool_run == NULL) return NULL;
  for (int64_t i = 0; i < scan[4]; ++i) {
    const int64_t *share = scan + scan[6 + i], parts = share[0];
    const int64_t turns = (parts + threads - 1) / threads;
    if (5 * parts >= 4 * turns * threads) return share;
  }
  return NULL;
}

static bool run_scan(void **slots, const int64_t *words, struct failure *failure) {
  const int64_t *share = choose_share(words);
  if (words[2] == 0) copy_all(slots, words + 6 + words[4]);
  if (share == NULL) return run_steps(slots, words, NULL, 0, failure);
  struct shared_scan all = {slots, words, share, ATOMIC_FLAG_INIT, failure};
  fd_pool_function *const pool = fd_pool_run;
  pool(run_part, &all, (int)share[0], share);
  return failure->missing == 0;
}

static bool run_while(void **slots, const int64_t *words, struct failure *failure) {
  const int64_t *condition = words + words[4], *body = words + words[5];
  const uint8_t *flag = (const uint8_t *)place(slots, words + 2);
  void *outer[condition[0] + 1], *inner[body[0] + 1];
  struct move outer_moves[condition[0] + 1], inner_moves[body[0] + 1];
  const int64_t outer_moving = moves_of(slots, condition, false, outer_moves);
  const int64_t inner_moving = moves_of(slots, body, false, inner_moves);
  int64_t step = 0;
  for (;; ++step) {
    if (step > 1)
      advance(outer, outer_moves, outer_moving, step);
    else
      bind(slots, condition, outer, step, step, -1);
    if (!run_body(outer, condition, failure)) return false;
    if (!*flag) break;
    if (step > 1)
      advance(inner, inner_moves, inner_moving, step);
    else
      bind(slots, body, inner, step, step, -1);
    if (!run_body(inner, body, failure)) return false;
  }
  copy_all(slots, words + words[step == 0 ? 6 : step % 2 == 1 ? 7 : 8]);
  return true;
}

static bool run_branch(void **slots, const int64_t *words, struct failure *failure) {
  const int64_t index = *(const int32_t *)place(slots, words + 2), last = words[4] - 1;
  const int64_t *body = words + words[5 + (index < 0 || index > last ? last : index)];
  void *inner[body[0] + 1];
  bind(slots, body, inner, 0, 0, -1);
  return run_body(inner, body, failure);
}

/* The next record, or NULL. */
static const int64_t *run_kernel(void **slots, const int64_t *words, struct failure *failure) {
  const int64_t count = words[2], *places = words + 5;
  void *pointers[count + 1];
  for (int64_t i = 0; i < count; ++i) pointers[i] = place(slots, places + 2 * i);
  const int64_t *numbers = places + 2 * count;
  ((fd_kernel *)(uintptr_t)words[1])(pointers, numbers, &failure->missing);
  if (failure->missing == 0) return numbers + words[3];
  failure->label = words[4];
  return NULL;
}

static bool run(void **slots, const int64_t *words, struct failure *failure) {
  for (;;) {
    bool done;
    switch (*words) {
      case FD_KERNEL:
        words = run_kernel(slots, words, failure);
        if (words == NULL) return false;
        continue;
      case FD_SCAN:
        done = run_scan(slots, words, failure);
        break;
      case FD_WHILE:
        done = run_while(slots, words, failure);
        break;
      case FD_BRANCH:
        done = run_branch(slots, words, failure);
        break;
      default:
        return true;
    }
    if (!done) return false;
    words += words[1];
  }
}

/* NULL, or where one failed the bytes that it asked for in vain, and its label: of this thread, until
 * its next failing call. */
__attribute__((visibility("default"))) const int64_t *fd_run_calls(void **slots,
                                                                   const int64_t *words);
const int64_t *fd_run_calls(void **slots, const int64_t *words) {
  static _Thread_local int64_t failed[2];
  struct failure failure = {0, 0};
  if (run(slots, words, &failure)) return NULL;
  failed[0] = failure.missing;
  failed[1] = failure.label;
  return failed;
}
