/* kernel matrix_vector(x: f32[1000000] in, y: f32[1000] in, out0: f32[1000] out)
 *   axes m:1000 n:1 k:1000
 *   schedule m:parallel k:vector
 *   any n_m */
static void matrix_vector(const float *restrict x, const float *restrict y, float *restrict out0,
                          const int64_t n_m) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t m = 0; m < n_m; ++m) {
    /* v3: sum of v2 over k */
    float acc3 = 0.0f;
    #pragma omp simd reduction(+:acc3)
    for (int64_t k = 0; k < 1000; ++k) {
      const float v0 = x[k + m * 1000];
      const float v1 = y[k];
      const float v2 = v0 * v1;
      acc3 += v2;
    }
    out0[m] = acc3;
  }
}
