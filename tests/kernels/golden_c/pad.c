/* kernel pad(x: f32[20] in, out0: f32[49] out)
 *   axes i:7 j:7
 *   schedule i:loop j:vector
 *   any n_i */
static void pad(const float *restrict x, float *restrict out0, const int64_t n_i) {
  for (int64_t i = 0; i < n_i; ++i) {
    const int32_t v2 = (int32_t)i - 1;
    const uint8_t v4 = v2 >= 0;
    const uint8_t v5 = v2 < 4;
    const uint8_t v6 = v4 & v5;
    #pragma omp simd
    for (int64_t j = 0; j < 7; ++j) {
      const int32_t v3 = (int32_t)j - 2;
      const uint8_t v7 = v3 >= 0;
      const uint8_t v8 = v6 & v7;
      const float v9 = v8 ? x[i * 5 + j - 7] : (-1.0f);
      out0[i * 7 + j] = v9;
    }
  }
}
