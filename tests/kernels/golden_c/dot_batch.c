/* kernel dot_batch(x: f32[262144] in, y: f32[262144] in, out0: f32[524288] out)
 *   axes b:128 m:64 n:64 k:32
 *   schedule b:parallel m:tile(64) n:tile(32) k:tile(32) n:vector
 *   any n_b */
static void dot_batch(const float *restrict x, const float *restrict y, float *restrict out0,
                      const int64_t n_b) {
  enum { rhs_columns = (64 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t b = 0; b < n_b; ++b) {
    _Alignas(64) float rhs_panels[32 * rhs_columns];
    /* panels of v1 */
    for (int64_t n_tile = 0; n_tile < 64; n_tile += 32) {
      fd_pack_f32(rhs_panels + n_tile * 32, &y[b * 2048 + n_tile * 32], 1, 32, 32, 32);
    }
    /* tiles of v2, and what follows from them */
    for (int64_t n_tile = 0; n_tile < 64; n_tile += 32) {
      fd_gemm_f32(64, (32 + FD_LANES_F32 - 1) / FD_LANES_F32 * FD_LANES_F32, 32, &x[b * 2048], 32,
                  1, rhs_panels + n_tile * 32, FD_NR_F32, FD_NR_F32 * (32),
                  &out0[b * 4096 + n_tile], 64, 0);
    }
  }
}
