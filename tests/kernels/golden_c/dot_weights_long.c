/* kernel dot_weights_long(x: f32[1048576] in, y: f32[1048576] in, out0: f32[262144] out)
 *   axes m:512 n:512 k:2048
 *   schedule m:parallel(128) n:parallel(256) k:tile(2048) n:vector
 *   any n_k */
static void dot_weights_long(const float *restrict x, const float *restrict y, float *restrict out0,
                             const int64_t n_k) {
  enum { tile_columns = (256 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t m_tile = 0; m_tile < 512; m_tile += 128) {
    for (int64_t n_tile = 0; n_tile < 512; n_tile += 256) {
      _Alignas(64) float product[128 * tile_columns];
      const fd_ahead tile_arrays[] = {
        {&out0[m_tile * 512 + n_tile], 512 * sizeof(float), sizeof(float)},
      };
      fd_gemm_ahead_f32(128, 256, n_k, &x[m_tile], 1, 512, &y[n_tile], 512, FD_NR_F32, product,
                        tile_columns, 0, 1, tile_arrays);
      for (int64_t m = m_tile; m < m_tile + 128; ++m) {
        #pragma omp simd
        for (int64_t n = n_tile; n < n_tile + 256; ++n) {
          const float v2 = product[(m - m_tile) * tile_columns + n - n_tile];
          out0[m * 512 + n] = v2;
        }
      }
    }
  }
}
