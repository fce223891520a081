/* kernel matrix_vector(x: f32[1000000] in, y: f32[1000] in, out0: f32[1000] out)
 *   axes m:1000 n:1 k:1000
 *   schedule m:parallel k:vector
 *   any n_m */
static void matrix_vector(const float *restrict x, const float *restrict y, float *restrict out0,
                          const int64_t n_m) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t m = 0; m < n_m; ++m) {
    /* v3: sum of v2 over k */
    float part3[64];
    for (int lane = 0; lane < 64; ++lane) part3[lane] = 0.0f;
    #pragma omp simd
    for (int64_t lane = 0; lane < 40; ++lane) {
      const int64_t k = 960 + lane;
      const float v0 = x[k + m * 1000];
      const float v1 = y[k];
      const float v2 = v0 * v1;
      part3[lane] += v2;
    }
    for (int64_t k_group = 0; k_group < 960; k_group += 64) {
      #pragma GCC unroll 16
      #pragma GCC ivdep
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t k = k_group + lane;
        const float v0 = x[k + m * 1000];
        const float v1 = y[k];
        const float v2 = v0 * v1;
        part3[lane] += v2;
      }
    }
    const float acc3 = fd_sum_lanes_f32(part3, 64);
    out0[m] = acc3;
  }
}
