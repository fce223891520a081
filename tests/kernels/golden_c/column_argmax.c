/* kernel column_argmax(x: f32[100000] in, out0: i32[1000] out)
 *   axes i:100 j:1000
 *   schedule j:parallel(64) i:loop j:vector
 *   any n_i */
static void column_argmax(const float *restrict x, int32_t *restrict out0, const int64_t n_i) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t j_tile = 0; j_tile < 1000; j_tile += 64) {
    const int64_t j_end = j_tile + 64 < 1000 ? j_tile + 64 : 1000;
    /* v1: argmax of v0 over i */
    _Alignas(64) float acc1[64];
    _Alignas(64) int32_t at1[64];
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      acc1[j - j_tile] = (-FD_INF_F32);
      at1[j - j_tile] = 0;
    }
    for (int64_t i = 0; i < n_i; ++i) {
      #pragma omp simd
      for (int64_t j = j_tile; j < j_end; ++j) {
        const float v0 = x[i * 1000 + j];
        const int take1 = !(v0 <= acc1[j - j_tile]) & (acc1[j - j_tile] == acc1[j - j_tile]);
        acc1[j - j_tile] = take1 ? v0 : acc1[j - j_tile];
        at1[j - j_tile] = take1 ? (int32_t)i : at1[j - j_tile];
      }
    }
    #pragma omp simd
    for (int64_t j = j_tile; j < j_end; ++j) {
      out0[j] = at1[j - j_tile];
    }
  }
}
