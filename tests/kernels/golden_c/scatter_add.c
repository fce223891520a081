/* kernel scatter_add(updates: f32[60] in, positions: i32[12] in, out0: f32[40] inout)
 *   axes i:12 j:5
 *   schedule i:loop j:vector
 *   any n_i */
static void scatter_add(const float *restrict updates, const int32_t *restrict positions,
                        float *restrict out0, const int64_t n_i) {
  for (int64_t i = 0; i < n_i; ++i) {
    const int32_t v0 = positions[i];
    const uint8_t v2 = v0 >= 0;
    const uint8_t v4 = v0 <= 7;
    const uint8_t v5 = v2 & v4;
    #pragma omp simd
    for (int64_t j = 0; j < 5; ++j) {
      const float v6 = updates[i * 5 + j];
      if (v5) out0[j + (int64_t)v0 * 5] = out0[j + (int64_t)v0 * 5] + v6;
    }
  }
}
