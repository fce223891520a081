/* kernel dot_epilogue(x: f32[100352] in, y: f32[401408] in, bias: f32[512] in, out1: bool[65536] out, out2: f32[512] out, out0: f32[65536] out)
 *   axes m:128 n:512 k:784
 *   schedule m:parallel(48) n:parallel(192) k:tile(272) n:vector */
static void dot_epilogue(const float *restrict x, const float *restrict y,
                         const float *restrict bias, uint8_t *restrict out1, float *restrict out2,
                         float *restrict out0) {
  enum { rhs_columns = (512 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  enum { tile_rows = (48 + FD_MR_F32 - 1) / FD_MR_F32 * FD_MR_F32 };
  enum { tile_columns = (192 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  const size_t rhs_bytes = ((size_t)784 * rhs_columns * sizeof(float) + 63) / 64 * 64;
  float *const rhs_panels = aligned_alloc(64, rhs_bytes);
  if (rhs_panels == NULL) abort();
  /* panels of v1 */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t k_tile = 0; k_tile < 784; k_tile += 272) {
    for (int64_t n_tile = 0; n_tile < 512; n_tile += 96) {
      const int64_t k_end = k_tile + 272 < 784 ? k_tile + 272 : 784;
      const int64_t n_end = n_tile + 96 < 512 ? n_tile + 96 : 512;
      fd_pack_b_f32(rhs_panels + k_tile * rhs_columns + n_tile * (k_end - k_tile),
                    &y[k_tile * 512 + n_tile], 512, 1, k_end - k_tile, n_end - n_tile);
    }
  }
  /* tiles of v2, and what follows from them */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t m_tile = 0; m_tile < 128; m_tile += 48) {
    for (int64_t n_tile = 0; n_tile < 512; n_tile += 192) {
      const int64_t m_end = m_tile + 48 < 128 ? m_tile + 48 : 128;
      const int64_t n_end = n_tile + 192 < 512 ? n_tile + 192 : 512;
      _Alignas(64) float lhs_panels[tile_rows * 272];
      _Alignas(64) float product[tile_rows * tile_columns];
      for (int64_t k_tile = 0; k_tile < 784; k_tile += 272) {
        const int64_t k_end = k_tile + 272 < 784 ? k_tile + 272 : 784;
        fd_pack_a_f32(lhs_panels, &x[k_tile + m_tile * 784], 784, 1, m_end - m_tile,
                      k_end - k_tile);
        fd_gemm_tile_f32(m_end - m_tile, n_end - n_tile, k_end - k_tile, lhs_panels,
                         rhs_panels + k_tile * rhs_columns + n_tile * (k_end - k_tile), product,
                         tile_columns, k_tile > 0);
      }
      for (int64_t m = m_tile; m < m_end; ++m) {
        #pragma omp simd
        for (int64_t n = n_tile; n < n_end; ++n) {
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
  free(rhs_panels);
}
