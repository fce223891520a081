/* kernel dot_along(x: f32[100352] in, y: f32[7840] in, bias: f32[10] in, out1: bool[1280] out, out2: f32[10] out, out0: f32[1280] out)
 *   axes m:128 n:10 k:784
 *   schedule m:parallel(16) n:parallel(32) k:tile(784) k:vector
 *   any n_m */
static void dot_along(const float *restrict x, const float *restrict y, const float *restrict bias,
                      uint8_t *restrict out1, float *restrict out2, float *restrict out0,
                      const int64_t chunk_m, const int64_t n_m) {
  enum { tile_columns = (10 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  enum { rhs_columns = 10 };
  _Alignas(64) float rhs_panels[784 * rhs_columns];
  /* panels of v1 */
  fd_turn_4(rhs_panels, 784, &y[0], 10, 784, 10);
  /* tiles of v2, and what follows from them */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t m_tile = 0; m_tile < n_m; m_tile += chunk_m) {
    const int64_t m_end = m_tile + chunk_m < n_m ? m_tile + chunk_m : n_m;
    _Alignas(64) float product[128 * tile_columns];
    fd_dots_f32(m_end - m_tile, 10, 784, &x[m_tile * 784], 784, rhs_panels, 784, product,
                tile_columns);
    for (int64_t m = m_tile; m < m_end; ++m) {
      #pragma omp simd
      for (int64_t n = 0; n < 10; ++n) {
        const float v2 = product[(m - m_tile) * tile_columns + n];
        const float v3 = bias[n];
        const float v4 = v2 + v3;
        const float v5 = fd_tanh_f32(v4);
        const float v7 = v5 * v5;
        const uint8_t v8 = v7 >= 0.5f;
        const uint8_t v9 = v5 > 0.5f;
        const float v11 = fd_exp_f32(v3);
        if (v8) out1[m * 10 + n] = v9;
        if (m_tile == 0 && m == 0) {
          out2[n] = v11;
        }
        out0[m * 10 + n] = v5;
      }
    }
  }
}
