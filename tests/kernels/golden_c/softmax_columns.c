/* kernel softmax_columns(x: f32[512000] in, out0: f32[512000] out)
 *   axes i:512 j:1000
 *   schedule j:parallel(64) i:tile(256) i:loop j:vector
 *   any n_i */
static void softmax_columns(const float *restrict x, float *restrict out0, const int64_t n_i) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t j_tile = 0; j_tile < 1000; j_tile += 64) {
    const int64_t j_end = j_tile + 64 < 1000 ? j_tile + 64 : 1000;
    /* v1: max of v0 over i */
    _Alignas(64) float acc1[64];
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      acc1[j - j_tile] = (-FD_INF_F32);
    }
    for (int64_t i_tile = 0; i_tile < n_i; i_tile += 256) {
      const int64_t i_end = i_tile + 256 < n_i ? i_tile + 256 : n_i;
      for (int64_t i = i_tile; i < i_end; ++i) {
        #pragma omp simd
        for (int64_t j = j_tile; j < j_end; ++j) {
          const float v0 = x[i * 1000 + j];
          acc1[j - j_tile] = v0 > acc1[j - j_tile] || v0 != v0 ? v0 : acc1[j - j_tile];
        }
      }
    }
    /* v4: sum of v3 over i */
    _Alignas(64) double sum4[64];
    _Alignas(64) float acc4[64];
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      sum4[j - j_tile] = 0.0;
    }
    for (int64_t i_tile = 0; i_tile < n_i; i_tile += 256) {
      const int64_t i_end = i_tile + 256 < n_i ? i_tile + 256 : n_i;
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        acc4[j - j_tile] = 0.0f;
      }
      for (int64_t i = i_tile; i < i_end; ++i) {
        #pragma omp simd
        for (int64_t j = j_tile; j < j_end; ++j) {
          const float v0 = x[i * 1000 + j];
          const float v2 = v0 - acc1[j - j_tile];
          const float v3 = fd_exp_f32(v2);
          acc4[j - j_tile] += v3;
        }
      }
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        sum4[j - j_tile] += acc4[j - j_tile];
      }
    }
    for (int64_t i_tile = 0; i_tile < n_i; i_tile += 256) {
      const int64_t i_end = i_tile + 256 < n_i ? i_tile + 256 : n_i;
      for (int64_t i = i_tile; i < i_end; ++i) {
        #pragma omp simd
        for (int64_t j = j_tile; j < j_end; ++j) {
          const float v0 = x[i * 1000 + j];
          const float v2 = v0 - acc1[j - j_tile];
          const float v3 = fd_exp_f32(v2);
          const float v5 = v3 / (float)sum4[j - j_tile];
          out0[i * 1000 + j] = v5;
        }
      }
    }
  }
}
