/* kernel dot_direct(x: f32[4096] in, y: f32[4096] in, out0: f32[4096] out)
 *   axes m:64 n:64 k:64
 *   schedule m:parallel(16) n:parallel(32) k:tile(64) n:vector
 *   any n_m */
static void dot_direct(const float *restrict x, const float *restrict y, float *restrict out0,
                       const int64_t chunk_m, const int64_t n_m) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t m_tile = 0; m_tile < n_m; m_tile += chunk_m) {
    for (int64_t n_tile = 0; n_tile < 64; n_tile += 32) {
      const int64_t m_end = m_tile + chunk_m < n_m ? m_tile + chunk_m : n_m;
      fd_gemm_f32(m_end - m_tile, 32, 64, &x[m_tile * 64], 64, 1, &y[n_tile], 64, FD_NR_F32,
                  &out0[m_tile * 64 + n_tile], 64, 0);
    }
  }
}
