/* kernel order_rows(n: i32[540] in, y: f32[540] in, out0: i32[540] out, out1: f32[540] out)
 *   axes i:6 j:90
 *   schedule i:parallel j:vector */
static void order_rows(const int32_t *restrict n, const float *restrict y, int32_t *restrict out0,
                       float *restrict out1) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t i = 0; i < 6; ++i) {
    /* v1: positions along j in order of v0 */
    _Alignas(64) int32_t run1[90];
    _Alignas(64) uint64_t space1[180];
    _Alignas(64) uint32_t key1_0[90];
    #pragma omp simd
    for (int64_t j = 0; j < 90; ++j) {
      const int32_t v0 = n[i * 90 + j];
      key1_0[j] = fd_sort_key_i32(v0);
    }
    fd_sort_start(run1, 90);
    fd_sort_by_u32(key1_0, run1, space1, 90);
    #pragma omp simd
    for (int64_t j = 0; j < 90; ++j) {
      const int32_t v2 = n[(int32_t)i * 90 + (run1[j] + fd_zero)];
      const float v4 = y[(int32_t)i * 90 + (run1[j] + fd_zero)];
      const float v5 = fd_exp_f32(v4);
      out0[i * 90 + j] = v2;
      out1[i * 90 + j] = v5;
    }
  }
}
