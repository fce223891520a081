/* kernel column_sum(x: f32[10000000] in, out0: f32[1000] out)
 *   axes i:10000 j:1000
 *   schedule j:parallel(64) i:tile(256) i:loop i:unroll(4) j:vector
 *   any n_i */
static void column_sum(const float *restrict x, float *restrict out0, const int64_t n_i) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t j_tile = 0; j_tile < 1000; j_tile += 64) {
    const int64_t j_end = j_tile + 64 < 1000 ? j_tile + 64 : 1000;
    /* v7: sum of v6 over i */
    _Alignas(64) double sum7[64];
    _Alignas(64) float acc7[64];
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      sum7[j - j_tile] = 0.0;
    }
    for (int64_t i_tile = 0; i_tile < n_i; i_tile += 64) {
      const int64_t i_end = i_tile + 64 < n_i ? i_tile + 64 : n_i;
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        acc7[j - j_tile] = 0.0f;
      }
      for (int64_t i = i_tile; i < i_end; ++i) {
        #pragma omp simd
        for (int64_t j = j_tile; j < j_end; ++j) {
          const float v0 = x[i * 4000 + j];
          const float v1 = x[i * 4000 + j + 1000];
          const float v2 = x[i * 4000 + j + 2000];
          const float v3 = x[i * 4000 + j + 3000];
          const float v4 = v0 + v1;
          const float v5 = v2 + v3;
          const float v6 = v4 + v5;
          acc7[j - j_tile] += v6;
        }
      }
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        sum7[j - j_tile] += acc7[j - j_tile];
      }
    }
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      out0[j] = (float)sum7[j - j_tile];
    }
  }
}
