/* kernel conv_gradient_image(ct: f32[192] in, w: f32[972] in, out0: f32[2304] out)
 *   axes n:2 i:8 j:8 co:18 p:4 q:4 k:3 l:3 ci:6
 *   schedule n:parallel i:parallel(2) co:tile(18) co:vector */
static void conv_gradient_image(const float *restrict ct, const float *restrict w,
                                float *restrict out0) {
  enum { rhs_depth = 54 };
  enum { rhs_columns = FD_CONV_ROUNDED_F32(18) };
  static const fd_class lhs_rows[] = {{0, 4, 1, 0, 1}, {1, 4, 0, 0, 2}};
  static const fd_class lhs_columns[] = {{0, 4, 1, 0, 1}, {1, 4, 0, 0, 2}};
  _Alignas(64) float rhs_panels[rhs_depth * rhs_columns];
  /* panels of v1 */
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t l = 0; l < 3; ++l) {
      fd_conv_pack_f32(rhs_panels, &w[-k * 324 - l * 108 + 864], 1, 6, 6, 18, rhs_depth,
                       (k * 3 + l) * 6);
    }
  }
  /* blocks of v2, and what follows from them */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t n_tile = 0; n_tile < 2; ++n_tile) {
    for (int64_t i_tile = 0; i_tile < 8; i_tile += 2) {
      _Alignas(64) float lhs_band[60];
      /* v0 with its padding */
      fd_conv_band_f32(lhs_band, &ct[n_tile * 96], 1, 96, (fd_span){2, i_tile / 2, 4, 24},
                       (fd_span){5, 0, 4, 6}, 6, 1);
      int64_t lhs_from[4 + FD_CONV_SLACK], tile_to[4 + FD_CONV_SLACK];
      int64_t lhs_taps[9], rhs_places[9];
      fd_block tile_block = {0, 0, 0, lhs_from, tile_to, lhs_taps, rhs_places};
      for (int64_t tile_row = 0; tile_row < 2; ++tile_row) {
        for (int64_t tile_column = 0; tile_column < 2; ++tile_column) {
          fd_conv_list(&tile_block, lhs_rows[tile_row],
                       (fd_motion){i_tile, i_tile + 2, 2, 1, 2, 1, 30, 144, 18},
                       lhs_columns[tile_column], (fd_motion){0, 8, 2, 1, 2, 1, 6, 18, 6}, 1, 60,
                       1152, 6, 1);
          fd_conv_sums_f32(&tile_block, lhs_band - (i_tile / 2) * 30, rhs_panels, rhs_depth,
                           &out0[i_tile * 144 + n_tile * 1152], 18);
        }
      }
    }
  }
}
