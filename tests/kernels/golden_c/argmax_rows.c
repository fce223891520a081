/* kernel argmax_rows(x: f32[77] in, out0: i32[7] out)
 *   axes i:7 j:11
 *   schedule i:loop j:vector
 *   any n_i */
static void argmax_rows(const float *restrict x, int32_t *restrict out0, const int64_t n_i) {
  for (int64_t i = 0; i < n_i; ++i) {
    /* v2: argmax of v1 over j */
    float acc2 = (-FD_INF_F32);
    int nan2 = 0;
    #pragma omp simd reduction(max:acc2) reduction(|:nan2)
    for (int64_t j = 0; j < 11; ++j) {
      const float v0 = x[i * 11 + j];
      const float v1 = fd_round_even_f32(v0);
      acc2 = v1 > acc2 ? v1 : acc2;
      nan2 |= v1 != v1;
    }
    int32_t at2 = 11;
    #pragma omp simd reduction(min:at2)
    for (int64_t j = 0; j < 11; ++j) {
      const float v0 = x[i * 11 + j];
      const float v1 = fd_round_even_f32(v0);
      const int32_t here2 = (nan2 ? v1 != v1 : v1 == acc2) ? (int32_t)j : 11;
      at2 = here2 < at2 ? here2 : at2;
    }
    out0[i] = at2;
  }
}
