/* kernel dot_update(x: f32[100352] in, y: f32[65536] in, scale: f32[401408] in, p: f32[401408] in alias, out0: f32[401408] out alias)
 *   axes m:784 n:512 k:128
 *   schedule m:parallel(112) n:parallel(256) k:tile(128) n:vector
 *   any n_k */
static void dot_update(const float *restrict x, const float *restrict y,
                       const float *restrict scale, const float *p, float *out0,
                       const int64_t n_k) {
  enum { tile_columns = (256 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t m_tile = 0; m_tile < 784; m_tile += 112) {
    for (int64_t n_tile = 0; n_tile < 512; n_tile += 256) {
      _Alignas(64) float product[112 * tile_columns];
      const fd_ahead tile_arrays[] = {
        {&out0[m_tile * 512 + n_tile], 512 * sizeof(float), sizeof(float)},
        {&scale[m_tile * 512 + n_tile], 512 * sizeof(float), sizeof(float)},
      };
      fd_gemm_ahead_f32(112, 256, n_k, &x[m_tile], 1, 784, &y[n_tile], 512, FD_NR_F32, product,
                        tile_columns, 0, 2, tile_arrays);
      for (int64_t m = m_tile; m < m_tile + 112; ++m) {
        #pragma omp simd
        for (int64_t n = n_tile; n < n_tile + 256; ++n) {
          const float v2 = product[(m - m_tile) * tile_columns + n - n_tile];
          const float v3 = scale[m * 512 + n];
          const float v4 = v3 * v2;
          const float v5 = p[m * 512 + n];
          const float v6 = v5 - v4;
          out0[m * 512 + n] = v6;
        }
      }
    }
  }
}
