/* kernel column_sum(x: f32[10000000] in, out0: f32[1000] out)
 *   axes i:10000 j:1000
 *   schedule j:parallel(64) i:tile(256) i:loop j:vector
 *   any n_i */
static void column_sum(const float *restrict x, float *restrict out0, const int64_t n_i) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t j_tile = 0; j_tile < 1000; j_tile += 64) {
    const int64_t j_end = j_tile + 64 < 1000 ? j_tile + 64 : 1000;
    /* v1: sum of v0 over i */
    double sum1[64];
    float acc1[64];
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      sum1[j - j_tile] = 0.0;
    }
    for (int64_t i_tile = 0; i_tile < n_i; i_tile += 256) {
      const int64_t i_end = i_tile + 256 < n_i ? i_tile + 256 : n_i;
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        acc1[j - j_tile] = 0.0f;
      }
      for (int64_t i = i_tile; i < i_end; ++i) {
        #pragma omp simd
        for (int64_t j = j_tile; j < j_end; ++j) {
          const float v0 = x[i * 1000 + j];
          acc1[j - j_tile] += v0;
        }
      }
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        sum1[j - j_tile] += acc1[j - j_tile];
      }
    }
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      out0[j] = (float)sum1[j - j_tile];
    }
  }
}
