"""When the pool wakes threads that sleep: on a clock that stands still unless a test moves it."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from funcdl.runtime.thread_pool import SOURCE
from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

# The pool asks this clock for the time, and sleeps and wakes by this system call.
BEFORE = """
#define clock_gettime test_clock
#define syscall test_syscall
"""
AFTER = """
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#undef syscall
long syscall(long number, ...);

static _Atomic int64_t time_now = 1000000000, wake_nanoseconds = 12000;
static _Atomic int wakes, done, done_before_wake, helped, too_often;
static _Atomic int waiter, waits, returns; /* of the only thread of the pool */
static _Atomic int is_waking; /* until the waker has looked at the clock */
static _Atomic int is_held;   /* what is woken does not come */
static _Atomic int looks;     /* of the caller at the clock */
static _Thread_local int is_caller;

struct job { int nanoseconds, needs_help, is_nested, straggling; const void *site; };

int test_clock(clockid_t id, struct timespec *time) {
  const int64_t at = time_now;
  (void)id;
  if (is_caller) is_waking = 0;
  if (is_caller) ++looks;
  time->tv_sec = at / 1000000000;
  time->tv_nsec = at % 1000000000;
  return 0;
}

long test_syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  void *const word = va_arg(arguments, void *);
  const int operation = va_arg(arguments, int);
  const uint32_t value = va_arg(arguments, uint32_t);
  va_end(arguments);
  if (operation == FUTEX_WAKE_PRIVATE) {
    const int before = returns;
    if (wakes++ == 0) done_before_wake = done;
    time_now += wake_nanoseconds;
    is_waking = 1;
    const long woken = syscall(number, word, operation, value, NULL, NULL, 0);
    while (!is_held && returns < before + woken) usleep(100);
    if (woken == 0) is_waking = 0;
    return woken;
  }
  waiter = (int)syscall(SYS_gettid);
  ++waits;
  const long result = syscall(number, word, operation, value, NULL, NULL, 0);
  while (is_held) usleep(100);
  ++returns;
  return result;
}

/* Whether the pool's thread is in the kernel, and not about to be. */
static bool sleeps(void) {
  char text[256] = "";
  snprintf(text, sizeof text, "/proc/self/task/%d/stat", waiter);
  FILE *const file = waits > returns ? fopen(text, "r") : NULL;
  if (file == NULL) return false;
  const bool is_read = fgets(text, sizeof text, file) != NULL;
  fclose(file);
  return is_read && strstr(text, ") S ") != NULL;
}

static void member(void *context, int number, int members) {
  while (!is_caller && is_waking) sched_yield();
  const struct job *const job = context;
  struct job inner = {0, 0, 0, 0, NULL};
  const int looks_before = looks;
  (void)members;
  time_now += job->nanoseconds;
  ++done;
  if (!is_caller && helped++ == 0 && job->straggling) {
    /* The others are done by the caller, which then looks at the clock, and waits for this one. */
    for (int tries = 0; looks == looks_before && tries < 1000; ++tries) usleep(1000);
    time_now += job->straggling;
  }
  if (job->is_nested) fd_pool_run(member, &inner, 3, job->site);
  /* The first member may be what shows that waking pays. */
  const int waits_for_help = is_caller && job->needs_help && number > 0;
  for (int tries = 0; waits_for_help && helped == 0 && too_often == 0; ++tries) {
    if (tries == 5000) too_often = 1;
    usleep(1000);
  }
}

#define EXPORT __attribute__((visibility("default")))
/* The number of wakes; then of members that were done before the first, by others, and in all. */
EXPORT void test_run(int64_t site, int members, int nanoseconds, int needs_help, int is_nested,
                     int straggling, int *found) {
  struct job job = {nanoseconds, needs_help, is_nested, straggling, (const void *)site};
  wakes = done = done_before_wake = helped = 0;
  is_caller = 1;
  fd_pool_run(member, &job, members, job.site);
  found[0] = wakes;
  found[1] = done_before_wake;
  found[2] = helped;
  found[3] = done;
}

EXPORT void test_wakes_take(int64_t nanoseconds) { wake_nanoseconds = nanoseconds; }

EXPORT void test_hold(int hold) { is_held = hold; }

EXPORT void test_pass(int64_t nanoseconds) { time_now += nanoseconds; }

/* Let time pass until the thread sleeps; whether that, and all help so far, came. */
EXPORT int test_sleep(void) {
  int tries = 0;
  for (; !sleeps() && tries < 5000; ++tries) {
    time_now += 100000;
    usleep(1000);
  }
  time_now += 1000000;
  return tries < 5000 && too_often == 0;
}
"""


class Region(Protocol):
    """Run a region; return wakes, members done before the first, done by others, and all."""

    def __call__(
        self,
        site: int,
        nanoseconds: int,
        *,
        needs_help: bool = False,
        is_nested: bool = False,
        straggling: int = 0,
    ) -> tuple[int, int, int, int]: ...


@dataclass
class Pool:
    """A pool of one thread: to run a region, to let the thread sleep, to let time pass."""

    region: Region
    sleep: Callable[[], None]
    pass_time: Callable[[int], None]
    wakes_take: Callable[[int], None]
    hold: Callable[[bool], None]


_MEMBERS = 8


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """A pool that nobody has used before."""
    assert COMPILER is not None
    text = f"{BEFORE}{SOURCE.read_text()}{AFTER}"
    path = COMPILER.build(text, flags=("-O2", "-std=gnu11", "-fvisibility=hidden", "-pthread"))
    # A copy, since a library that is loaded already would bring along what it has learnt.
    library = ctypes.CDLL(str(shutil.copy(path, tmp_path / "pool.so")))
    library.fd_pool_resize(1)

    def region(
        site: int,
        nanoseconds: int,
        *,
        needs_help: bool = False,
        is_nested: bool = False,
        straggling: int = 0,
    ) -> tuple[int, int, int, int]:
        found = (ctypes.c_int * 4)()
        library.test_run(
            ctypes.c_int64(site * 16),
            _MEMBERS,
            nanoseconds,
            needs_help,
            is_nested,
            straggling,
            found,
        )
        wakes, before, helped, done = found
        return wakes, before, helped, done

    def sleep() -> None:
        assert library.test_sleep()

    def pass_time(nanoseconds: int) -> None:
        library.test_pass(ctypes.c_int64(nanoseconds))

    def wakes_take(nanoseconds: int) -> None:
        library.test_wakes_take(ctypes.c_int64(nanoseconds))

    region(0, 0)  # starts the thread
    sleep()
    yield Pool(region, sleep, pass_time, wakes_take, library.test_hold)
    sleep()


SMALL, LARGE = 1000, 1_000_000  # nanoseconds of a member


def learn(pool: Pool, site: int, nanoseconds: int) -> None:
    """Runs of one region, far apart."""
    for _ in range(4):
        pool.region(site, nanoseconds)
        pool.sleep()


def test_what_is_not_known_wakes_at_once(pool: Pool) -> None:
    region = pool.region
    wakes, before, helped, done = region(1, SMALL, needs_help=True)
    assert wakes > 0
    assert (before, done) == (0, _MEMBERS)
    assert helped > 0


def test_small_regions_do_not_wake(pool: Pool) -> None:
    region, sleep = pool.region, pool.sleep
    learn(pool, 1, SMALL)
    for _ in range(20):
        assert region(1, SMALL) == (0, 0, 0, _MEMBERS)
        sleep()


def test_a_thread_that_came_too_late_makes_no_region_look_long(pool: Pool) -> None:
    pool.hold(True)
    assert pool.region(1, SMALL)[::2] == (1, 0)
    pool.pass_time(500_000)
    pool.hold(False)
    pool.sleep()
    assert pool.region(1, SMALL)[0] == 0


def test_nor_does_one_that_takes_long_for_its_member(pool: Pool) -> None:
    wakes, _, helped, _ = pool.region(1, SMALL, needs_help=True, straggling=500_000)
    assert (wakes, helped) == (1, 1)
    pool.sleep()
    assert pool.region(1, SMALL)[0] == 0


def test_nor_does_waking(pool: Pool) -> None:
    pool.wakes_take(200_000)
    assert pool.region(1, SMALL)[0] == 1
    pool.sleep()
    assert pool.region(1, SMALL)[0] == 0


def test_threads_that_are_awake_share_small_regions(pool: Pool) -> None:
    region = pool.region
    learn(pool, 1, SMALL)
    assert region(2, SMALL, needs_help=True)[0] > 0
    assert region(1, SMALL, needs_help=True)[2] > 0


def test_large_regions_wake_at_once(pool: Pool) -> None:
    region, sleep = pool.region, pool.sleep
    learn(pool, 1, SMALL)
    learn(pool, 2, LARGE)
    for _ in range(5):
        wakes, before, helped, _ = region(2, LARGE, needs_help=True)
        assert wakes > 0
        assert (before, helped > 0) == (0, True)
        sleep()


@pytest.mark.parametrize("nanoseconds", [30_000, LARGE])
def test_a_region_that_has_grown_wakes_after_one_member(pool: Pool, nanoseconds: int) -> None:
    region, sleep = pool.region, pool.sleep
    learn(pool, 1, SMALL)
    wakes, before, helped, done = region(1, nanoseconds, needs_help=True)
    assert wakes > 0
    assert (before, done) == (1, _MEMBERS)
    assert helped > 0
    sleep()
    assert region(1, nanoseconds)[:2] == (1, 0)


def test_a_region_of_several_sizes_in_turn_wakes_at_once(pool: Pool) -> None:
    region, sleep = pool.region, pool.sleep
    learn(pool, 1, LARGE)
    for _ in range(5):
        assert region(1, SMALL)[:2] == (1, 0)
        sleep()
        assert region(1, LARGE)[:2] == (1, 0)
        sleep()
    learn(pool, 1, SMALL)
    assert region(1, SMALL)[0] == 0


def test_what_is_worth_a_wake_depends_on_what_one_costs(pool: Pool) -> None:
    nanoseconds, sites = 10_000, count(2)
    for wake, is_worth_it in ((1000, True), (40_000, False), (1000, True)):
        pool.wakes_take(wake)
        for _ in range(20):
            pool.region(next(sites), 0)
            pool.sleep()
        learn(pool, 1, nanoseconds)
        assert (pool.region(1, nanoseconds)[0] > 0) is is_worth_it
        pool.sleep()


@pytest.mark.parametrize("pause", [0, 5000, 60000])
def test_small_regions_in_quick_succession_wake(pool: Pool, pause: int) -> None:
    region, pass_time = pool.region, pool.pass_time
    learn(pool, 1, SMALL)
    passed = 0
    for _ in range(100):
        wakes, _, helped, _ = region(1, SMALL)
        if wakes:
            break
        assert helped == 0
        passed += _MEMBERS * SMALL + pause
        pass_time(pause)
    assert 50_000 < passed < 150_000
    assert region(1, SMALL, needs_help=True)[2] > 0


def test_small_regions_with_longer_pauses_do_not_wake(pool: Pool) -> None:
    region, pass_time = pool.region, pool.pass_time
    learn(pool, 1, SMALL)
    for _ in range(50):
        assert region(1, SMALL)[0] == 0
        pass_time(80_000)


def test_a_burst_is_known_by_its_first_region(pool: Pool) -> None:
    region, sleep, pass_time = pool.region, pool.sleep, pool.pass_time
    for site in range(1, 30):
        learn(pool, site, SMALL)
    first = []
    for _ in range(3):
        wakes = []
        for site in range(1, 30):
            wakes.append(region(site, SMALL)[0])
            pass_time(5000)
        first.append(next(at for at, number in enumerate(wakes) if number))
        sleep()
    assert first[0] > 3
    assert first[1:] == [0, 0]
    assert region(2, SMALL)[0] == 0  # is small where it comes alone


def test_nested_regions_run_inside_their_members(pool: Pool) -> None:
    region, sleep = pool.region, pool.sleep
    learn(pool, 1, SMALL)
    assert region(1, SMALL, is_nested=True) == (0, 0, 0, _MEMBERS * 4)
    sleep()
    assert region(2, SMALL, needs_help=True)[2] > 0
    assert region(1, SMALL, is_nested=True)[3] == _MEMBERS * 4
