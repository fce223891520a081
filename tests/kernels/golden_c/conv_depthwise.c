/* kernel conv_depthwise(x: f32[1140] in, w: f32[171] in, out0: f32[1140] out)
 *   axes b:19 n:2 i:6 j:5 co:1 p:6 q:5 k:3 l:3 ci:1
 *   schedule n:tile i:tile b:tile(19) b:vector */
static void conv_depthwise(const float *restrict x, const float *restrict w, float *restrict out0) {
  enum { rhs_depth = 171 };
  enum { rhs_columns = FD_CONV_ROUNDED_F32(19) };
  static const fd_class lhs_rows[] = {{0, 1, 1, 0, 2}, {1, 4, 0, 0, 3}, {5, 1, 0, 4, 2}};
  static const fd_class lhs_columns[] = {{0, 1, 1, 0, 2}, {1, 3, 0, 0, 3}, {4, 1, 0, 3, 2}};
  _Alignas(64) float rhs_panels[rhs_depth * rhs_columns];
  /* v1, one row for each tap */
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t l = 0; l < 3; ++l) {
      #pragma omp simd
      for (int64_t b = 0; b < 19; ++b) {
        const float v1 = w[b + k * 57 + l * 19];
        rhs_panels[((k * 3 + l)) * 19 + b] = v1;
      }
    }
  }
  /* blocks of v2, and what follows from them */
  for (int64_t n_tile = 0; n_tile < 2; ++n_tile) {
    for (int64_t i_tile = 0; i_tile < 6; ++i_tile) {
      const float *const lhs_band = &x[n_tile * 570];
      int64_t lhs_from[3 + FD_CONV_SLACK], tile_to[3 + FD_CONV_SLACK];
      int64_t lhs_taps[9], rhs_places[9];
      fd_block tile_block = {0, 0, 0, lhs_from, tile_to, lhs_taps, rhs_places};
      for (int64_t tile_row = 0; tile_row < 3; ++tile_row) {
        for (int64_t tile_column = 0; tile_column < 3; ++tile_column) {
          fd_conv_list(&tile_block, lhs_rows[tile_row],
                       (fd_motion){i_tile, i_tile + 1, 1, 1, 1, 1, 95, 95, 57},
                       lhs_columns[tile_column], (fd_motion){0, 5, 1, 1, 1, 1, 19, 19, 19}, 1, 570,
                       570, 0, 1);
          fd_conv_depthwise_f32(&tile_block, lhs_band, rhs_panels, rhs_depth,
                                &out0[i_tile * 95 + n_tile * 570], 19);
        }
      }
    }
  }
}
