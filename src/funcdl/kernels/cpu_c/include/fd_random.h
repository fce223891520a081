/* Counter-based random bits. */
#ifndef FD_RANDOM_H
#define FD_RANDOM_H

#include "fd_types.h"

FD_INLINE uint32_t fd_rotate_left(uint32_t x, int by) { return x << by | x >> (32 - by); }

/* Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", 2011). */
FD_INLINE void fd_threefry2x32(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t *o0,
                               uint32_t *o1) {
  const uint32_t k2 = k0 ^ k1 ^ 0x1bd11bdau;
  uint32_t x0 = c0 + k0, x1 = c1 + k1;
#define FD_ROUND(by) (x0 += x1, x1 = fd_rotate_left(x1, by) ^ x0)
#define FD_INJECT(a, b, n) (x0 += (a), x1 += (b) + (n))
  FD_ROUND(13), FD_ROUND(15), FD_ROUND(26), FD_ROUND(6), FD_INJECT(k1, k2, 1u);
  FD_ROUND(17), FD_ROUND(29), FD_ROUND(16), FD_ROUND(24), FD_INJECT(k2, k0, 2u);
  FD_ROUND(13), FD_ROUND(15), FD_ROUND(26), FD_ROUND(6), FD_INJECT(k0, k1, 3u);
  FD_ROUND(17), FD_ROUND(29), FD_ROUND(16), FD_ROUND(24), FD_INJECT(k1, k2, 4u);
  FD_ROUND(13), FD_ROUND(15), FD_ROUND(26), FD_ROUND(6), FD_INJECT(k2, k0, 5u);
#undef FD_ROUND
#undef FD_INJECT
  *o0 = x0;
  *o1 = x1;
}

#endif
