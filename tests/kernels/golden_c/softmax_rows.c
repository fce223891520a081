/* kernel softmax_rows(x: f32[512000] in, out0: f32[512000] out)
 *   axes i:512 j:1000
 *   schedule i:parallel j:vector
 *   any n_i */
static void softmax_rows(const float *restrict x, float *restrict out0, const int64_t n_i) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t i = 0; i < n_i; ++i) {
    /* v1: max of v0 over j */
    _Alignas(64) float part1[32];
    _Alignas(64) uint32_t size1[32];
    for (int lane = 0; lane < 32; ++lane) part1[lane] = (-FD_INF_F32), size1[lane] = 0;
    #pragma omp simd
    for (int64_t lane = 0; lane < 32; ++lane) {
      const int64_t j = 968 + lane;
      const float v0 = x[i * 1000 + j];
      part1[lane] = v0 > part1[lane] ? v0 : part1[lane];
      const uint32_t here1 = fd_size_f32(v0);
      size1[lane] = here1 > size1[lane] ? here1 : size1[lane];
    }
    for (int64_t j_group = 0; j_group < 992; j_group += 32) {
      #pragma GCC unroll 8
      #pragma GCC ivdep
      for (int64_t lane = 0; lane < 32; ++lane) {
        const int64_t j = j_group + lane;
        const float v0 = x[i * 1000 + j];
        part1[lane] = v0 > part1[lane] ? v0 : part1[lane];
        const uint32_t here1 = fd_size_f32(v0);
        size1[lane] = here1 > size1[lane] ? here1 : size1[lane];
      }
    }
    const float acc1 = fd_max_lanes_f32(part1, 32);
    const int nan1 = fd_nan_in_lanes_f32(size1, 32);
    const float v1 = nan1 ? FD_NAN_F32 : acc1;
    /* v4: sum of v3 over j */
    _Alignas(64) float part4[32];
    for (int lane = 0; lane < 32; ++lane) part4[lane] = 0.0f;
    _Alignas(64) float keep3[1000];
    #pragma omp simd
    for (int64_t lane = 0; lane < 32; ++lane) {
      const int64_t j = 968 + lane;
      const float v0 = x[i * 1000 + j];
      const float v2 = v0 - v1;
      const float v3 = fd_exp_f32(v2);
      keep3[j] = v3;
      part4[lane] += fd_from_f32(lane, 24, v3, 0.0f);
    }
    for (int64_t j_group = 0; j_group < 992; j_group += 32) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 32; ++lane) {
        const int64_t j = j_group + lane;
        const float v0 = x[i * 1000 + j];
        const float v2 = v0 - v1;
        const float v3 = fd_exp_f32(v2);
        keep3[j] = v3;
        part4[lane] += v3;
      }
    }
    const float acc4 = fd_sum_lanes_f32(part4, 32);
    const fd_inverse_f32 inverse4 = fd_invert_f32(acc4);
    #pragma omp simd
    for (int64_t j = 0; j < 1000; ++j) {
      const float v5 = fd_divide_f32(keep3[j], inverse4);
      out0[i * 1000 + j] = v5;
    }
  }
}
