/* The loops that machine_peaks.py times: multiply-adds in registers, a triad and a sum of arrays. */
#include <stdint.h>
#include "fd_runtime.h"
#define EXPORT __attribute__((visibility("default")))

/* As many chains as hide the latency of multiply-adds and stay in registers. */
#if defined(__AVX512F__)
enum { BYTES = 64, CHAINS = 24 };
#elif defined(__AVX__)
enum { BYTES = 32, CHAINS = 12 };
#elif defined(__aarch64__)
enum { BYTES = 16, CHAINS = 24 };
#else
enum { BYTES = 16, CHAINS = 12 };
#endif
typedef float vec __attribute__((vector_size(BYTES)));
typedef float unaligned_vec __attribute__((vector_size(BYTES), aligned(4)));
enum { LANES = BYTES / sizeof(float) };

EXPORT int operations_a_step(void) { return CHAINS * LANES * 2; }

static float fma_loop(int64_t steps, int64_t first) {
  vec a[CHAINS];
  for (int i = 0; i < CHAINS; i++) a[i] = (vec){0} + (float)(i + first);
  const vec x = (vec){0} + 0.999f, y = (vec){0} + 0.001f;
  for (int64_t s = 0; s < steps; s++)
    #pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) a[i] = a[i] * x + y;
  float sum = 0;
  for (int i = 0; i < CHAINS; i++) sum += a[i][0];
  return sum;
}

/* sizes: how many loops, steps of each. */
EXPORT void multiply_add(void **slots) {
  const int64_t *sizes = slots[0];
  float *out = slots[1];
  #pragma omp parallel for num_threads(fd_num_threads)
  for (int64_t t = 0; t < sizes[0]; t++) out[t] = fma_loop(sizes[1], t);
}

static void triad_pass(int64_t n, float *restrict a, const float *restrict b,
                       const float *restrict c) {
  for (int64_t i = 0; i < n; i++) a[i] = b[i] + 0.5f * c[i];
}

/* n is a multiple of 128, as many as 8 vectors have at most. */
static float sum_pass(int64_t n, const float *a) {
  vec s[8] = {0};
  for (int64_t i = 0; i < n; i += 8 * LANES)
    #pragma GCC unroll 8
    for (int k = 0; k < 8; k++) s[k] += *(const unaligned_vec *)(a + i + k * LANES);
  return (s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7])[0];
}

/* sizes: slices, elements of each, the first slice's offset, passes over each slice. */
EXPORT void triad(void **slots) {
  const int64_t *sizes = slots[0];
  #pragma omp parallel for num_threads(fd_num_threads)
  for (int64_t t = 0; t < sizes[0]; t++) {
    const int64_t at = sizes[2] + t * sizes[1];
    for (int64_t pass = 0; pass < sizes[3]; pass++) {
      triad_pass(sizes[1], (float *)slots[1] + at, (float *)slots[2] + at, (float *)slots[3] + at);
      __asm__ volatile("" ::: "memory");
    }
  }
}

EXPORT void sum(void **slots) {
  const int64_t *sizes = slots[0];
  float *out = slots[4];
  #pragma omp parallel for num_threads(fd_num_threads)
  for (int64_t t = 0; t < sizes[0]; t++) {
    const int64_t at = sizes[2] + t * sizes[1];
    for (int64_t pass = 0; pass < sizes[3]; pass++) {
      for (int k = 1; k < 4; k++) out[t] = sum_pass(sizes[1], (float *)slots[k] + at);
      __asm__ volatile("" ::: "memory");
    }
  }
}
