/* kernel dot_epilogue(x: f32[100352] in, y: f32[401408] in, bias: f32[512] in, out1: bool[65536] out, out2: f32[512] out, out0: f32[65536] out)
 *   axes m:128 n:512 k:784
 *   schedule m:parallel(128) n:parallel(64) k:tile(784) n:vector
 *   any n_m */
static void dot_epilogue(const float *restrict x, const float *restrict y,
                         const float *restrict bias, uint8_t *restrict out1, float *restrict out2,
                         float *restrict out0, const int64_t chunk_m, const int64_t n_m) {
  enum { tile_columns = (64 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t m_tile = 0; m_tile < n_m; m_tile += chunk_m) {
    for (int64_t n_tile = 0; n_tile < 512; n_tile += 64) {
      const int64_t m_end = m_tile + chunk_m < n_m ? m_tile + chunk_m : n_m;
      _Alignas(64) float product[128 * tile_columns];
      const fd_ahead tile_arrays[] = {
        {&out0[m_tile * 512 + n_tile], 512 * sizeof(float), sizeof(float)},
      };
      fd_gemm_ahead_f32(m_end - m_tile, 64, 784, &x[m_tile * 784], 784, 1, &y[n_tile], 512,
                        FD_NR_F32, product, tile_columns, 0, 1, tile_arrays);
      for (int64_t m = m_tile; m < m_end; ++m) {
        #pragma omp simd
        for (int64_t n = n_tile; n < n_tile + 64; ++n) {
          const float v2 = product[(m - m_tile) * tile_columns + n - n_tile];
          const float v3 = bias[n];
          const float v4 = v2 + v3;
          const float v5 = fd_tanh_f32(v4);
          const float v7 = v5 * v5;
          const uint8_t v8 = v7 >= 0.5f;
          const uint8_t v9 = v5 > 0.5f;
          const float v11 = fd_exp_f32(v3);
          if (v8) out1[m * 512 + n] = v9;
          if (m_tile == 0 && m == 0) {
            out2[n] = v11;
          }
          out0[m * 512 + n] = v5;
        }
      }
    }
  }
}
