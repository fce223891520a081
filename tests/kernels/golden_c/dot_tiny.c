/* kernel dot_tiny(x: f32[16000] in, y: f32[16000] in, out0: f32[16000] out)
 *   axes b:1000 m:4 n:4 k:4
 *   schedule b:parallel m:loop n:tile(1024) k:loop n:vector
 *   any n_b */
static void dot_tiny(const float *restrict x, const float *restrict y, float *restrict out0,
                     const int64_t n_b) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t b = 0; b < n_b; ++b) {
    for (int64_t m = 0; m < 4; ++m) {
      /* v3: sum of v2 over k */
      _Alignas(64) float acc3[4];
      #pragma omp simd
      for (int64_t n = 0; n < 4; ++n) {
        acc3[n] = 0.0f;
      }
      #pragma GCC unroll 8
      for (int64_t k = 0; k < 4; ++k) {
        const float v0 = x[b * 16 + k + m * 4];
        #pragma omp simd
        for (int64_t n = 0; n < 4; ++n) {
          const float v1 = y[b * 16 + k * 4 + n];
          const float v2 = v0 * v1;
          acc3[n] += v2;
        }
      }
      #pragma omp simd
      for (int64_t n = 0; n < 4; ++n) {
        out0[b * 16 + m * 4 + n] = acc3[n];
      }
    }
  }
}
