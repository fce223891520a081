/* kernel weighted_mean(x: f32[630] in, w: f32[30] in, offset: f32[21] in, out0: f32[21] out, out1: f32[630] out, out2: f32[1] out)
 *   axes i:30 j:21
 *   schedule j:tile(1024) i:loop j:vector */
static void weighted_mean(const float *restrict x, const float *restrict w,
                          const float *restrict offset, float *restrict out0, float *restrict out1,
                          float *restrict out2) {
  _Alignas(64) float keep4[21];
  #pragma omp simd
  for (int64_t j = 0; j < 21; ++j) {
    const float v3 = offset[j];
    const float v4 = fd_tanh_f32(v3);
    keep4[j] = v4;
  }
  /* v5: sum of v2 over i */
  float acc5 = 0.0f;
  /* v7: sum of v6 over i */
  _Alignas(64) float acc7[21];
  #pragma omp simd
  for (int64_t j = 0; j < 21; ++j) {
    acc7[j] = 0.0f;
  }
  for (int64_t i = 0; i < 30; ++i) {
    const float v1 = w[i];
    const float v2 = fd_exp_f32(v1);
    acc5 += v2;
    #pragma omp simd
    for (int64_t j = 0; j < 21; ++j) {
      const float v0 = x[i * 21 + j];
      const float v6 = v0 * v2;
      acc7[j] += v6;
    }
  }
  _Alignas(64) float keep10[21];
  #pragma omp simd
  for (int64_t j = 0; j < 21; ++j) {
    const float v8 = acc7[j] / acc5;
    const float v10 = fd_exp_f32(v8);
    keep10[j] = v10;
  }
  /* v13: max of v12 over i */
  _Alignas(64) float acc13[21];
  #pragma omp simd
  for (int64_t j = 0; j < 21; ++j) {
    acc13[j] = (-FD_INF_F32);
  }
  _Alignas(64) float keep11[630];
  for (int64_t i = 0; i < 30; ++i) {
    #pragma omp simd
    for (int64_t j = 0; j < 21; ++j) {
      const float v0 = x[i * 21 + j];
      const float v9 = v0 + keep4[j];
      const float v11 = v9 - keep10[j];
      keep11[i * 21 + j] = v11;
      const float v12 = v11 * v11;
      acc13[j] = v12 > acc13[j] || v12 != v12 ? v12 : acc13[j];
    }
  }
  for (int64_t i = 0; i < 30; ++i) {
    #pragma omp simd
    for (int64_t j = 0; j < 21; ++j) {
      const float v16 = keep11[i * 21 + j] / acc13[j];
      out1[i * 21 + j] = v16;
    }
  }
  out2[0] = acc5;
  #pragma omp simd
  for (int64_t j = 0; j < 21; ++j) {
    const float v14 = acc13[j] + keep4[j];
    out0[j] = v14;
  }
}
