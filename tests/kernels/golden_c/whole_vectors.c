/* kernel rows(x: f32[205] in, bias: f32[41] in, out: f32[205] out, flags: bool[205] out)
 *   axes i:5 j:41
 *   schedule i:loop j:vector
 *   any n_i */
static void rows(const float *restrict x, const float *restrict bias, float *restrict out,
                 uint8_t *restrict flags, const int64_t n_i) {
  for (int64_t i = 0; i < n_i; ++i) {
    for (int64_t j_block = 0; j_block < 41; j_block += 32) {
      const int64_t j_begin = j_block < 9 ? j_block : 9;
      #pragma omp simd
      for (int64_t j = j_begin; j < j_begin + 32; ++j) {
        const float v0 = x[i * 41 + j];
        const float v1 = bias[j];
        const float v2 = v0 + v1;
        const float v3 = fd_tanh_f32(v2);
        const uint8_t v6 = v3 > 0.0f;
        out[i * 41 + j] = v3;
        flags[i * 41 + j] = v6;
      }
    }
  }
}
