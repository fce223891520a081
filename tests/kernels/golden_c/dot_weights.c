/* kernel dot_weights(x: f32[131072] in, y: f32[131072] in, out0: f32[262144] out)
 *   axes m:512 n:512 k:256
 *   schedule m:parallel(128) n:parallel(256) k:tile(256) n:vector
 *   any n_k */
static void dot_weights(const float *restrict x, const float *restrict y, float *restrict out0,
                        const int64_t n_k) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t m_tile = 0; m_tile < 512; m_tile += 128) {
    for (int64_t n_tile = 0; n_tile < 512; n_tile += 256) {
      const fd_ahead tile_arrays[] = {
        {&out0[m_tile * 512 + n_tile], 512 * sizeof(float), sizeof(float)},
      };
      fd_gemm_ahead_f32(128, 256, n_k, &x[m_tile], 1, 512, &y[n_tile], 512, FD_NR_F32,
                        &out0[m_tile * 512 + n_tile], 512, 0, 1, tile_arrays);
    }
  }
}
