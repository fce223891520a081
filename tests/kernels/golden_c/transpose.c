/* kernel transpose(x: f32[524288] in, out0: f32[524288] out)
 *   axes j:512 h:2 i:512
 *   schedule j:parallel(16) i:parallel(128) h:loop j:loop i:vector */
static void transpose(const float *restrict x, float *restrict out0) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static) collapse(2)
  for (int64_t j_tile = 0; j_tile < 512; j_tile += 16) {
    for (int64_t i_tile = 0; i_tile < 512; i_tile += 128) {
      for (int64_t h = 0; h < 2; ++h) {
        _Alignas(64) float turned0[16 * 128];
        fd_turn_4(turned0, 128, &x[h * 262144 + i_tile * 512 + j_tile], 512, 128, 16);
        for (int64_t j = j_tile; j < j_tile + 16; ++j) {
          #pragma omp simd
          for (int64_t i = i_tile; i < i_tile + 128; ++i) {
            const float v0 = turned0[(j - j_tile) * 128 + i - i_tile];
            out0[h * 512 + i + j * 1024] = v0;
          }
        }
      }
    }
  }
}
