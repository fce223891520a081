/* kernel conv_tiles(x: f32[1048576] in, w: f32[18432] in, bias: f32[64] in, out0: f32[2097152] out)
 *   axes n:32 i:32 j:32 co:64 p:32 q:32 k:3 l:3 ci:32
 *   schedule n:parallel i:parallel(4) co:tile(64) j:tile(2) co:vector */
static void conv_tiles(const float *restrict x, const float *restrict w, const float *restrict bias,
                       float *restrict out0) {
  enum { rhs_depth = 288 };
  enum { rhs_columns = FD_CONV_ROUNDED_F32(64) };
  enum { tile_columns = FD_CONV_ROUNDED_F32(64) };
  enum { rhs_step = rhs_depth / 9 * rhs_columns + FD_WINOGRAD_GAP };
  _Alignas(64) float rhs_panels[rhs_depth * rhs_columns];
  /* panels of v1 */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t l = 0; l < 3; ++l) {
      fd_conv_pack_f32(rhs_panels, &w[k * 6144 + l * 2048], 64, 1, 32, 64, rhs_depth,
                       (k * 3 + l) * 32);
    }
  }
  _Alignas(64) float rhs_tiles[16 * rhs_step];
  /* the transform of v1 */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t part = 0; part < 16; ++part) {
    fd_winograd_kernel_f32(rhs_tiles, rhs_panels, 32, 64, rhs_step, part, 16);
  }
  /* blocks of v2, and what follows from them */
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t n_tile = 0; n_tile < 32; ++n_tile) {
    for (int64_t i_tile = 0; i_tile < 32; i_tile += 4) {
      const float *const lhs_band = &x[n_tile * 32768];
      const fd_tiles lhs_tiles_at = {1, 32768, {2, i_tile - 1, 32, 1024}, {16, -1, 32, 32}};
      const int64_t tile_count = 1 * 2 * 16;
      const int64_t lhs_step = tile_count * 32 + FD_WINOGRAD_GAP;
      _Alignas(64) float lhs_tiles[FD_WINOGRAD_POSITIONS * (1024 + FD_WINOGRAD_GAP)];
      fd_winograd_image_f32(lhs_tiles, lhs_step, lhs_band, &lhs_tiles_at, 32);
      int64_t lhs_from[32 + FD_CONV_SLACK], tile_to[32 + FD_CONV_SLACK];
      int64_t lhs_taps[1], rhs_places[1];
      fd_block tile_block = {0, 0, 0, lhs_from, tile_to, lhs_taps, rhs_places};
      fd_winograd_list(&tile_block, tile_count, 32, 1, tile_columns);
      _Alignas(64) float product[128 * tile_columns];
      const int64_t tile_step = tile_count * tile_columns + FD_WINOGRAD_GAP;
      _Alignas(64) float tile_sums[FD_WINOGRAD_POSITIONS * (32 * tile_columns + FD_WINOGRAD_GAP)];
      for (int64_t position = 0; position < FD_WINOGRAD_POSITIONS; ++position) {
        fd_conv_sums_f32(&tile_block, lhs_tiles + position * lhs_step,
                         rhs_tiles + position * rhs_step, 32, tile_sums + position * tile_step,
                         FD_CONV_ROUNDED_F32(64));
      }
      fd_winograd_windows_f32(product, tile_sums, tile_step, lhs_band, rhs_panels, &lhs_tiles_at,
                              (fd_results){4, 32, 128 * tile_columns, 32 * tile_columns, 1 * tile_columns},
                              32, tile_columns, 64);
      for (int64_t n = n_tile; n < n_tile + 1; ++n) {
        for (int64_t i = i_tile; i < i_tile + 4; ++i) {
          for (int64_t j = 0; j < 32; ++j) {
            #pragma omp simd
            for (int64_t co = 0; co < 64; ++co) {
              const float v2 = product[(((n - n_tile) * 4 + i - i_tile) * 32 + j) * tile_columns + co];
              const float v3 = bias[co];
              const float v4 = v2 + v3;
              const float v6 = fd_max_f32(v4, 0.0f);
              out0[co + i * 2048 + j * 64 + n * 65536] = v6;
            }
          }
        }
      }
    }
  }
}
