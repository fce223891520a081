/* kernel conv_tiles_gradient(x: f32[524288] in, ct: f32[1048576] in, out0: f32[73728] out)
 *   axes n:64 i:3 j:3 co:128 p:16 q:16 k:16 l:16 ci:32
 *   schedule ci:parallel(8) n:parallel(64) co:parallel(64) ci:tile k:tile(16) l:tile(2) co:vector */
static void conv_tiles_gradient(const float *restrict x, const float *restrict ct,
                                float *restrict out0, fd_missing *missing) {
  enum { tile_columns = 64 };
  enum { tile_size = 1024 * tile_columns };
  float *const tile_sums = fd_take((int64_t)sizeof(float) * 8 * tile_size, missing);
  if (tile_sums != NULL) {
    /* v2: a sum for each chunk of ci */
    #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
    for (int64_t tile_chunk = 0; tile_chunk < 4; ++tile_chunk) {
      for (int64_t co_tile = 0; co_tile < 128; co_tile += 64) {
        float *const tile_sum = tile_sums + ((co_tile / 64) * 4 + tile_chunk) * tile_size;
        const int64_t tile_last = tile_chunk * 8 + 8 < 32 ? tile_chunk * 8 + 8 : 32;
        for (int alone = 0; alone < 2; ++alone) {
          memset(tile_sum, 0, tile_size * sizeof(float));
          for (int64_t ci_tile = tile_chunk * 8; ci_tile < tile_last; ++ci_tile) {
            const int64_t ci_end = ci_tile + 1 < tile_last ? ci_tile + 1 : tile_last;
            const float *const rhs_band = &ct[ci_tile * 32768 + co_tile];
            const float *const lhs_band = &x[ci_tile * 16384];
            fd_stream tile_ahead[FD_CONV_STREAMS] = {fd_conv_stream(lhs_band + 16384, 256, 256, 256, 171),
                                                     fd_conv_stream(&ct[ci_tile * 32768 + co_tile] + 32768, 256, 256, 512, 171)};
            const fd_tiles lhs_tiles_at = {ci_end - ci_tile, 16384, {8, -1, 16, 1024},
                                           {8, -1, 16, 64}};
            const fd_tiles rhs_tiles_at = {ci_end - ci_tile, 32768, {8, 0, 16, 2048},
                                           {8, 0, 16, 128}};
            if (alone) {
              fd_winograd_gradient_alone_f32(tile_sum, lhs_band, &lhs_tiles_at, 64, rhs_band,
                                             &rhs_tiles_at, 64, 64, tile_columns);
            }
            else {
              const int64_t tile_count = (ci_end - ci_tile) * 8 * 8;
              const int64_t lhs_step = tile_count * 64 + FD_WINOGRAD_GAP;
              const int64_t rhs_step = tile_count * tile_columns + FD_WINOGRAD_GAP;
              float *const lhs_tiles = fd_take((int64_t)sizeof(float) * FD_WINOGRAD_POSITIONS * (64 * 64 + FD_WINOGRAD_GAP), missing);
              if (lhs_tiles != NULL) {
                float *const rhs_tiles = fd_take((int64_t)sizeof(float) * FD_WINOGRAD_POSITIONS * (64 * tile_columns + FD_WINOGRAD_GAP), missing);
                if (rhs_tiles != NULL) {
                  fd_winograd_image_f32(lhs_tiles, lhs_step, lhs_band, &lhs_tiles_at, 64);
                  fd_winograd_cotangents_f32(rhs_tiles, rhs_step, rhs_band, &rhs_tiles_at, 64,
                                             tile_columns);
                  for (int64_t position = 0; position < FD_WINOGRAD_POSITIONS; ++position) {
                    const fd_outer tile_outer = {.images = 1, .rows = 1, .columns = tile_count, .column_from = 64};
                    fd_conv_outer_f32(tile_outer, 64, NULL, lhs_tiles + position * lhs_step,
                                      rhs_tiles + position * rhs_step, 0, tile_columns,
                                      tile_sum + position * 64 * tile_columns, tile_columns,
                                      tile_ahead, 64);
                  }
                  free(rhs_tiles);
                }
                free(lhs_tiles);
              }
            }
          }
          if (alone || fd_winograd_gradient_f32(tile_sum, 64 * tile_columns)) break;
        }
      }
    }
    /* their total, and what follows from it */
    #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(4)
    for (int64_t co_tile = 0; co_tile < 128; co_tile += 64) {
      for (int64_t i = 0; i < 3; ++i) {
        for (int64_t j = 0; j < 3; ++j) {
          for (int64_t n = 0; n < 64; ++n) {
            #pragma omp simd
            for (int64_t co = co_tile; co < co_tile + 64; ++co) {
              const float v2 = (tile_sums + ((co_tile / 64) * 4 + 0) * tile_size)[((i * 3 + j) * 64 + n) * tile_columns + co - co_tile] + (tile_sums + ((co_tile / 64) * 4 + 1) * tile_size)[((i * 3 + j) * 64 + n) * tile_columns + co - co_tile] + (tile_sums + ((co_tile / 64) * 4 + 2) * tile_size)[((i * 3 + j) * 64 + n) * tile_columns + co - co_tile] + (tile_sums + ((co_tile / 64) * 4 + 3) * tile_size)[((i * 3 + j) * 64 + n) * tile_columns + co - co_tile];
              out0[co + i * 24576 + j * 8192 + n * 128] = v2;
            }
          }
        }
      }
    }
    free(tile_sums);
  }
}
