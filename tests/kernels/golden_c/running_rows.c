/* kernel running_rows(x: f32[185] in, out0: f32[185] out, out1: f32[185] out)
 *   axes i:5 j:37
 *   schedule i:loop j:tile(1024) j:vector */
static void running_rows(const float *restrict x, float *restrict out0, float *restrict out1) {
  for (int64_t i = 0; i < 5; ++i) {
    /* v2: running sum of v1 along j */
    float total2 = (-0.0f);
    /* v4: running max of v3 along j */
    float total4 = (-FD_INF_F32);
    _Alignas(64) float keep1[37];
    _Alignas(64) float run2[37];
    _Alignas(64) float run4[37];
    #pragma omp simd
    for (int64_t j = 0; j < 37; ++j) {
      const float v0 = x[i * 37 + j];
      const float v1 = fd_exp_f32(v0);
      keep1[j] = v1;
      run2[j] = v1;
    }
    total2 = fd_running_sum_f32(run2, 37, total2);
    #pragma omp simd
    for (int64_t j = 0; j < 37; ++j) {
      const float v0 = x[i * 37 + j];
      const float v3 = run2[j] * v0;
      run4[j] = v3;
      out1[i * 37 + j] = run2[j];
    }
    total4 = fd_running_max_f32(run4, 37, total4);
    #pragma omp simd
    for (int64_t j = 0; j < 37; ++j) {
      const float v5 = keep1[j] * run4[j];
      out0[i * 37 + j] = v5;
    }
  }
}
