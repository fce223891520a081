/* kernel conv_gradient_kernel(x: f32[1836] in, ct: f32[2160] in, out0: f32[3060] out)
 *   axes n:17 i:3 j:3 co:20 p:6 q:6 k:6 l:6 ci:3
 *   schedule ci:parallel n:parallel(17) co:parallel(20) ci:tile k:tile(6) co:vector */
static void conv_gradient_kernel(const float *restrict x, const float *restrict ct,
                                 float *restrict out0) {
  enum { tile_columns = 64 };
  enum { tile_size = 153 * tile_columns };
  enum { rhs_depth = 36 };
  _Alignas(64) float tile_sums[3 * tile_size];
  /* v2: a sum for each chunk of ci */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t tile_chunk = 0; tile_chunk < 3; ++tile_chunk) {
    float *const tile_sum = tile_sums + tile_chunk * tile_size;
    const int64_t tile_last = tile_chunk * 1 + 1 < 3 ? tile_chunk * 1 + 1 : 3;
    memset(tile_sum, 0, tile_size * sizeof(float));
    for (int64_t ci_tile = tile_chunk * 1; ci_tile < tile_last; ++ci_tile) {
      const int64_t ci_end = ci_tile + 1 < tile_last ? ci_tile + 1 : tile_last;
      _Alignas(64) float rhs_panels[rhs_depth * FD_CONV_ROUNDED_F32(20)];
      /* panels of v1 */
      for (int64_t ci = ci_tile; ci < ci_end; ++ci) {
        for (int64_t k = 0; k < 6; ++k) {
          fd_conv_pack_f32(rhs_panels, &ct[ci * 720 + k * 120], 20, 1, 6, 20, rhs_depth,
                           ((ci - ci_tile) * 6 + k) * 6);
        }
      }
      const float *const lhs_band = &x[ci_tile * 612];
      fd_stream tile_ahead[FD_CONV_STREAMS] = {fd_conv_stream(lhs_band + 612, 36, 68, 68, 26),
                                               fd_conv_stream(&ct[ci_tile * 720] + 720, 36, 80, 80, 26)};
      for (int64_t i = 0; i < 3; ++i) {
        for (int64_t j = 0; j < 3; ++j) {
          fd_outer tile_outer = fd_conv_contributors((fd_meeting){0, 6, i - (1), 1, 6, 102},
                                                     (fd_meeting){0, 6, j - (1), 1, 6, 17},
                                                     ci_end - ci_tile, 612, 36, 6);
          fd_conv_outer_f32(tile_outer, 17, NULL, lhs_band, rhs_panels, rhs_depth, 0,
                            tile_sum + (i * 3 + j) * 17 * tile_columns, tile_columns, tile_ahead,
                            20);
        }
      }
    }
  }
  /* their total, and what follows from it */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(3)
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      for (int64_t n = 0; n < 17; ++n) {
        #pragma omp simd
        for (int64_t co = 0; co < 20; ++co) {
          const float v2 = (tile_sums + 0 * tile_size)[((i * 3 + j) * 17 + n) * tile_columns + co] + (tile_sums + 1 * tile_size)[((i * 3 + j) * 17 + n) * tile_columns + co] + (tile_sums + 2 * tile_size)[((i * 3 + j) * 17 + n) * tile_columns + co];
          out0[co + i * 1020 + j * 340 + n * 20] = v2;
        }
      }
    }
  }
}
