/* kernel softmax_rows(x: f32[512000] in, out0: f32[512000] out)
 *   axes i:512 j:1000
 *   schedule i:parallel j:vector
 *   any n_i */
static void softmax_rows(const float *restrict x, float *restrict out0, const int64_t n_i) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t i = 0; i < n_i; ++i) {
    /* v1: max of v0 over j */
    float acc1 = (-FD_INF_F32);
    int nan1 = 0;
    #pragma omp simd reduction(max:acc1) reduction(|:nan1)
    for (int64_t j = 0; j < 1000; ++j) {
      const float v0 = x[i * 1000 + j];
      acc1 = v0 > acc1 ? v0 : acc1;
      nan1 |= v0 != v0;
    }
    const float v1 = nan1 ? FD_NAN_F32 : acc1;
    /* v4: sum of v3 over j */
    float acc4 = 0.0f;
    float keep3[1000];
    #pragma omp simd reduction(+:acc4)
    for (int64_t j = 0; j < 1000; ++j) {
      const float v0 = x[i * 1000 + j];
      const float v2 = v0 - v1;
      const float v3 = fd_exp_f32(v2);
      keep3[j] = v3;
      acc4 += v3;
    }
    const fd_inverse_f32 inverse4 = fd_invert_f32(acc4);
    #pragma omp simd
    for (int64_t j = 0; j < 1000; ++j) {
      const float v5 = fd_divide_f32(keep3[j], inverse4);
      out0[i * 1000 + j] = v5;
    }
  }
}
