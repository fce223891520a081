/* kernel layer_norm(x: f32[80] in, scale: f32[16] in, bias: f32[16] in, out0: f32[80] out, out1: f32[5] out)
 *   axes i:5 j:16
 *   schedule i:loop j:vector
 *   any n_i */
static void layer_norm(const float *restrict x, const float *restrict scale,
                       const float *restrict bias, float *restrict out0, float *restrict out1,
                       const int64_t n_i, const float const0, const float const8) {
  for (int64_t i = 0; i < n_i; ++i) {
    /* v2: sum of v1 over j */
    float acc2 = 0.0f;
    #pragma omp simd reduction(+:acc2)
    for (int64_t j = 0; j < 16; ++j) {
      const float v1 = x[i * 16 + j];
      acc2 += v1;
    }
    const float v3 = acc2 * const0;
    /* v6: sum of v5 over j */
    float acc6 = 0.0f;
    #pragma omp simd reduction(+:acc6)
    for (int64_t j = 0; j < 16; ++j) {
      const float v1 = x[i * 16 + j];
      const float v4 = v1 - v3;
      const float v5 = v4 * v4;
      acc6 += v5;
    }
    const float v7 = acc6 * const0;
    const float v9 = v7 + const8;
    const float v10 = fd_rsqrt_f32(v9);
    #pragma omp simd
    for (int64_t j = 0; j < 16; ++j) {
      const float v1 = x[i * 16 + j];
      const float v4 = v1 - v3;
      const float v11 = v4 * v10;
      const float v12 = scale[j];
      const float v13 = v11 * v12;
      const float v14 = bias[j];
      const float v15 = v13 + v14;
      out0[i * 16 + j] = v15;
    }
    out1[i] = v3;
  }
}
