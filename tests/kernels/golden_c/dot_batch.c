/* kernel dot_batch(x: f32[262144] in, y: f32[262144] in, out0: f32[524288] out)
 *   axes b:128 m:64 n:64 k:32
 *   schedule b:parallel m:tile(96) n:tile(384) k:tile(32) n:vector */
static void dot_batch(const float *restrict x, const float *restrict y, float *restrict out0) {
  enum { rhs_columns = (64 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  enum { tile_rows = (64 + FD_MR_F32 - 1) / FD_MR_F32 * FD_MR_F32 };
  enum { tile_columns = (64 + FD_NR_F32 - 1) / FD_NR_F32 * FD_NR_F32 };
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t b = 0; b < 128; ++b) {
    _Alignas(64) float rhs_panels[32 * rhs_columns];
    /* panels of v1 */
    fd_pack_b_f32(rhs_panels, &y[b * 2048], 1, 32, 32, 64);
    /* tiles of v2, and what follows from them */
    _Alignas(64) float lhs_panels[tile_rows * 32];
    _Alignas(64) float product[tile_rows * tile_columns];
    fd_pack_a_f32(lhs_panels, &x[b * 2048], 32, 1, 64, 32);
    fd_gemm_tile_f32(64, 64, 32, lhs_panels, rhs_panels, product, tile_columns, 0);
    for (int64_t m = 0; m < 64; ++m) {
      #pragma omp simd
      for (int64_t n = 0; n < 64; ++n) {
        const float v2 = product[m * tile_columns + n];
        out0[b * 4096 + m * 64 + n] = v2;
      }
    }
  }
}
