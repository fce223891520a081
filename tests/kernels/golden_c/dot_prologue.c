/* kernel dot_prologue(x: f32[262144] in, y: f32[51200] in, row: f32[512] in, out0: f32[51200] out)
 *   axes m:512 n:100 k:512
 *   schedule m:parallel(64) n:parallel(128) k:tile(256) n:vector
 *   any n_k */
static void dot_prologue(const float *restrict x, const float *restrict y,
                         const float *restrict row, float *restrict out0, const int64_t chunk_k,
                         const int64_t n_k, fd_missing *missing) {
  enum { tile_columns = (100 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  enum { rhs_columns = (100 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  const int64_t rhs_bytes = (int64_t)sizeof(float) * n_k * rhs_columns;
  enum { rhs_limit = 262144 };
  _Alignas(64) float rhs_near[rhs_bytes > rhs_limit ? 1 : n_k * rhs_columns];
  float *rhs_panels = rhs_near;
  if (rhs_bytes > rhs_limit) rhs_panels = fd_take(rhs_bytes, missing);
  if (rhs_panels != NULL) {
    /* panels of v7 */
    #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
    for (int64_t k_tile = 0; k_tile < n_k; k_tile += chunk_k) {
      for (int64_t n_tile = 0; n_tile < 100; n_tile += 96) {
        const int64_t k_end = k_tile + chunk_k < n_k ? k_tile + chunk_k : n_k;
        const int64_t n_end = n_tile + 96 < 100 ? n_tile + 96 : 100;
        _Alignas(64) float rhs_values[256 * 96];
        for (int64_t k = k_tile; k < k_end; ++k) {
          const int32_t v4 = (int32_t)k % 2;
          const uint8_t v6 = v4 == 0;
          #pragma omp simd
          for (int64_t n = n_tile; n < n_end; ++n) {
            const float v7 = v6 ? y[k * 100 + n] : 0.5f;
            rhs_values[(k - k_tile) * 96 + n - n_tile] = v7;
          }
        }
        fd_pack_f32(rhs_panels + k_tile * rhs_columns + n_tile * (k_end - k_tile), rhs_values, 96,
                    1, k_end - k_tile, n_end - n_tile);
      }
    }
    /* tiles of v8, and what follows from them */
    #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
    for (int64_t m_tile = 0; m_tile < 512; m_tile += 64) {
      _Alignas(64) float product[64 * tile_columns];
      for (int64_t k_tile = 0; k_tile < n_k; k_tile += chunk_k) {
        const int64_t k_end = k_tile + chunk_k < n_k ? k_tile + chunk_k : n_k;
        _Alignas(64) float lhs_values[256 * 64];
        for (int64_t k = k_tile; k < k_end; ++k) {
          #pragma omp simd
          for (int64_t m = m_tile; m < m_tile + 64; ++m) {
            const float v0 = x[k * 512 + m];
            const float v1 = row[m];
            const float v2 = v0 * v1;
            const float v3 = fd_exp_f32(v2);
            lhs_values[(k - k_tile) * 64 + m - m_tile] = v3;
          }
        }
        const fd_ahead tile_arrays[] = {
          {&out0[m_tile * 100], 100 * sizeof(float), sizeof(float)},
        };
        fd_gemm_ahead_f32(64, (100 + FD_LANES_F32 - 1) / FD_LANES_F32 * FD_LANES_F32,
                          k_end - k_tile, lhs_values, 1, 64, rhs_panels + k_tile * rhs_columns,
                          FD_NR_F32, FD_NR_F32 * (k_end - k_tile), product, tile_columns,
                          k_tile > 0, 1, tile_arrays);
      }
      for (int64_t m = m_tile; m < m_tile + 64; ++m) {
        #pragma omp simd
        for (int64_t n = 0; n < 100; ++n) {
          const float v8 = product[(m - m_tile) * tile_columns + n];
          out0[m * 100 + n] = v8;
        }
      }
    }
    if (rhs_bytes > rhs_limit) free(rhs_panels);
  }
}
