/* kernel conv_bias_relu(x: f32[630] in, w: f32[540] in, bias: f32[20] in, out0: f32[4200] out)
 *   axes n:5 i:6 j:7 co:20 p:6 q:7 k:3 l:3 ci:3
 *   schedule n:parallel i:parallel(3) co:tile(20) co:vector */
static void conv_bias_relu(const float *restrict x, const float *restrict w,
                           const float *restrict bias, float *restrict out0) {
  enum { rhs_depth = 27 };
  enum { rhs_columns = FD_CONV_ROUNDED_F32(20) };
  enum { tile_columns = FD_CONV_ROUNDED_F32(20) };
  static const fd_class lhs_rows[] = {{0, 6, 0, -1, 3}};
  static const fd_class lhs_columns[] = {{0, 7, 0, -1, 3}};
  _Alignas(64) float rhs_panels[rhs_depth * rhs_columns];
  /* panels of v1 */
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t l = 0; l < 3; ++l) {
      fd_conv_pack_f32(rhs_panels, &w[k * 180 + l * 60], 20, 1, 3, 20, rhs_depth, (k * 3 + l) * 3);
    }
  }
  /* blocks of v2, and what follows from them */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t n_tile = 0; n_tile < 5; ++n_tile) {
    for (int64_t i_tile = 0; i_tile < 6; i_tile += 3) {
      _Alignas(64) float lhs_band[135];
      /* v0 with its padding */
      fd_conv_band_f32(lhs_band, &x[n_tile * 126], 1, 126, (fd_span){5, i_tile - 1, 6, 21},
                       (fd_span){9, -1, 7, 3}, 3, 1);
      int64_t lhs_from[21 + FD_CONV_SLACK], tile_to[21 + FD_CONV_SLACK];
      int64_t lhs_taps[9], rhs_places[9];
      fd_block tile_block = {0, 0, 0, lhs_from, tile_to, lhs_taps, rhs_places};
      _Alignas(64) float product[21 * tile_columns];
      fd_conv_list(&tile_block, lhs_rows[0],
                   (fd_motion){i_tile, i_tile + 3, 1, 1, 1, 1, 27, 7 * tile_columns, 9},
                   lhs_columns[0], (fd_motion){0, 7, 1, 1, 1, 1, 3, 1 * tile_columns, 3}, 1, 135,
                   21 * tile_columns, 3, 1);
      fd_conv_sums_f32(&tile_block, lhs_band - (i_tile - 1) * 27 - (-3), rhs_panels, rhs_depth,
                       product, FD_CONV_ROUNDED_F32(20));
      for (int64_t n = n_tile; n < n_tile + 1; ++n) {
        for (int64_t i = i_tile; i < i_tile + 3; ++i) {
          for (int64_t j = 0; j < 7; ++j) {
            #pragma omp simd
            for (int64_t co = 0; co < 20; ++co) {
              const float v2 = product[(((n - n_tile) * 3 + i - i_tile) * 7 + j) * tile_columns + co];
              const float v3 = bias[co];
              const float v4 = v2 + v3;
              const float v6 = fd_max_f32(v4, 0.0f);
              out0[co + i * 140 + j * 20 + n * 840] = v6;
            }
          }
        }
      }
    }
  }
}
