/* The stable order of a row's elements, by one key after the other.
 *
 * fd_sort_key_<t> turns an element into an unsigned number in the same order: zeros of both signs
 * are equal, NaN comes last. fd_sort_by_<t> reorders positions by their keys, and leaves those of
 * equal keys as they were; so, of several keys, the last one is taken first. fd_sort_first_<t> finds
 * the positions of a few smallest keys. Every result is determined by the keys alone. */
#ifndef FD_SORT_H
#define FD_SORT_H

#include "fd_types.h"

FD_INLINE uint32_t fd_sort_key_f32(float x) {
  uint32_t u = fd_bits_f32(x == 0.0f ? 0.0f : x);
  u ^= u >> 31 ? 0xffffffffu : 0x80000000u;
  return x != x ? 0xffffffffu : u;
}
FD_INLINE uint64_t fd_sort_key_f64(double x) {
  uint64_t u = fd_bits_f64(x == 0.0 ? 0.0 : x);
  u ^= u >> 63 ? UINT64_MAX : (uint64_t)1 << 63;
  return x != x ? UINT64_MAX : u;
}
FD_INLINE uint64_t fd_sort_key_i64(int64_t x) { return (uint64_t)x ^ (uint64_t)1 << 63; }
FD_INLINE uint64_t fd_sort_key_u64(uint64_t x) { return x; }
FD_INLINE uint32_t fd_sort_key_i32(int32_t x) { return (uint32_t)x ^ 0x80000000u; }
FD_INLINE uint32_t fd_sort_key_i16(int16_t x) { return fd_sort_key_i32(x); }
FD_INLINE uint32_t fd_sort_key_i8(int8_t x) { return fd_sort_key_i32(x); }
FD_INLINE uint32_t fd_sort_key_u32(uint32_t x) { return x; }
FD_INLINE uint32_t fd_sort_key_u16(uint16_t x) { return x; }
FD_INLINE uint32_t fd_sort_key_u8(uint8_t x) { return x; }
FD_INLINE uint32_t fd_sort_key_bool(uint8_t x) { return x; }

/* Up to so many pairs are inserted one by one: counting clears and adds up 1024 places. */
enum { FD_SORT_FEW = 40 };

/* Sorts by the upper 32 bits; returns the array, of the two, that holds the result. */
static inline __attribute__((unused)) uint64_t *fd_sort_pairs(uint64_t *a, uint64_t *b, int64_t n) {
  if (n <= FD_SORT_FEW) {
    for (int64_t i = 1; i < n; ++i) {
      const uint64_t pair = a[i];
      int64_t at = i;
      for (; at > 0 && a[at - 1] >> 32 > pair >> 32; --at) a[at] = a[at - 1];
      a[at] = pair;
    }
    return a;
  }
  /* By digits of eight bits, the lowest first; a digit that all share is skipped. */
  uint32_t places[4][256];
  __builtin_memset(places, 0, sizeof places);
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t pair = a[i];
    ++places[0][pair >> 32 & 255];
    ++places[1][pair >> 40 & 255];
    ++places[2][pair >> 48 & 255];
    ++places[3][pair >> 56];
  }
  for (int digit = 0; digit < 4; ++digit) {
    const int shift = 32 + 8 * digit;
    uint32_t *const place = places[digit];
    if (place[a[0] >> shift & 255] == n) continue;
    uint32_t next = 0;
    for (int value = 0; value < 256; ++value) {
      const uint32_t count = place[value];
      place[value] = next;
      next += count;
    }
    for (int64_t i = 0; i < n; ++i) b[place[a[i] >> shift & 255]++] = a[i];
    uint64_t *const swapped = a;
    a = b;
    b = swapped;
  }
  return a;
}

static inline __attribute__((unused)) void fd_sort_start(int32_t *order, int64_t n) {
  for (int64_t i = 0; i < n; ++i) order[i] = (int32_t)i;
}

/* `space` has room for 2 n numbers. */
static inline __attribute__((unused)) void fd_sort_by_u32(const uint32_t *key, int32_t *order,
                                                          uint64_t *space, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    space[i] = (uint64_t)key[order[i]] << 32 | (uint32_t)order[i];
  }
  const uint64_t *const sorted = fd_sort_pairs(space, space + n, n);
  for (int64_t i = 0; i < n; ++i) order[i] = (int32_t)(uint32_t)sorted[i];
}

static inline __attribute__((unused)) void fd_sort_by_u64(const uint64_t *key, int32_t *order,
                                                          uint64_t *space, int64_t n) {
  for (int shift = 0; shift < 64; shift += 32) {
    for (int64_t i = 0; i < n; ++i) {
      space[i] = key[order[i]] >> shift << 32 | (uint32_t)order[i];
    }
    const uint64_t *const sorted = fd_sort_pairs(space, space + n, n);
    for (int64_t i = 0; i < n; ++i) order[i] = (int32_t)(uint32_t)sorted[i];
  }
}

/* fd_sort_first finds at most FD_SORT_FIRST positions, and sorts FD_SORT_ROOM at a time. */
enum { FD_SORT_FIRST = 64, FD_SORT_ROOM = 512, FD_SORT_BLOCK = 32 };

/* Whether to search a row once for each of its first positions. A search takes a few steps for each
 * vector of 64 bytes and some 60 to find the least of a vector; to sort, about 25 for each key. */
FD_INLINE int fd_sort_by_search(int64_t n, int64_t first, int64_t size) {
  return first * (n * size / 8 + 60) <= n * 25;
}

/* The first positions in the order of keys.
 *
 * By search: the next one has the least key of those after the last in order. Otherwise by sorting
 * the positions of keys less than the largest that may still be among the first, whenever there is
 * no more room for such. Most blocks of a long row have none. */
#define FD_SORT_FIRST_BY(t, T)                                                                    \
  static inline __attribute__((unused)) void fd_sort_search_##t(const T *key, int32_t *order,     \
                                                                int64_t n, int64_t first) {       \
    T last = 0;                                                                                   \
    int32_t at = -1;                                                                              \
    for (int64_t j = 0; j < first; ++j) {                                                         \
      T least = (T)-1;                                                                            \
      _Pragma("omp simd reduction(min : least)") for (int32_t i = 0; i < (int32_t)n; ++i) {       \
        const T own = (key[i] > last) | ((key[i] == last) & (i > at)) ? key[i] : (T)-1;           \
        least = own < least ? own : least;                                                        \
      }                                                                                           \
      const int32_t after = least == last ? at : -1;                                              \
      int32_t place = INT32_MAX;                                                                  \
      _Pragma("omp simd reduction(min : place)") for (int32_t i = 0; i < (int32_t)n; ++i) {       \
        const int32_t own = (key[i] == least) & (i > after) ? i : INT32_MAX;                      \
        place = own < place ? own : place;                                                        \
      }                                                                                           \
      order[j] = at = place;                                                                      \
      last = least;                                                                               \
    }                                                                                             \
  }                                                                                               \
  static inline __attribute__((unused)) void fd_sort_first_##t(const T *key, int32_t *order,      \
                                                               int64_t n, int64_t first) {        \
    if (fd_sort_by_search(n, first, sizeof(T))) {                                                 \
      fd_sort_search_##t(key, order, n, first);                                                   \
      return;                                                                                     \
    }                                                                                             \
    uint64_t space[2 * FD_SORT_ROOM];                                                             \
    int32_t place[FD_SORT_ROOM];                                                                  \
    int64_t count = n < FD_SORT_ROOM ? n : FD_SORT_ROOM;                                          \
    fd_sort_start(place, count);                                                                  \
    fd_sort_by_##t(key, place, space, count);                                                     \
    for (int64_t i = count; i < n;) {                                                             \
      const T last = key[place[first - 1]];                                                       \
      for (count = first; i < n && count <= FD_SORT_ROOM - FD_SORT_BLOCK;) {                      \
        const int64_t end = i + FD_SORT_BLOCK < n ? i + FD_SORT_BLOCK : n;                        \
        T some = 0;                                                                               \
        _Pragma("omp simd reduction(| : some)") for (int64_t j = i; j < end; ++j) {               \
          some |= key[j] < last;                                                                  \
        }                                                                                         \
        if (some) {                                                                               \
          for (int64_t j = i; j < end; ++j) {                                                     \
            place[count] = (int32_t)j;                                                            \
            count += key[j] < last;                                                               \
          }                                                                                       \
        }                                                                                         \
        i = end;                                                                                  \
      }                                                                                           \
      fd_sort_by_##t(key, place, space, count);                                                   \
    }                                                                                             \
    for (int64_t j = 0; j < first; ++j) order[j] = place[j];                                      \
  }
FD_SORT_FIRST_BY(u32, uint32_t)
FD_SORT_FIRST_BY(u64, uint64_t)

#endif
