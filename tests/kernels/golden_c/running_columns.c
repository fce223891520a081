/* kernel running_columns(x: f32[920] in, out0: f32[920] out, out1: f32[920] out)
 *   axes i:23 j:40
 *   schedule j:tile(1024) i:loop j:vector */
static void running_columns(const float *restrict x, float *restrict out0, float *restrict out1) {
  /* v1: running logsumexp of v0 along i */
  _Alignas(64) float acc1[40];
  /* v5: running min of v4 along i */
  _Alignas(64) float acc5[40];
  for (int64_t j = 0; j < 40; ++j) {
    acc1[j] = (-FD_INF_F32);
    acc5[j] = FD_INF_F32;
  }
  for (int64_t i = 0; i < 23; ++i) {
    #pragma omp simd
    for (int64_t j = 0; j < 40; ++j) {
      const float v0 = x[i * 40 + j];
      const float v1 = acc1[j] = fd_running_pair_f32(acc1[j], v0);
      const float v4 = v0 + 1.0f;
      const float v5 = acc5[j] = fd_min_f32(acc5[j], v4);
      out0[i * 40 + j] = v1;
      out1[i * 40 + j] = v5;
    }
  }
}
