/* kernel matrix_vector(x: f32[1000000] in, y: f32[1000] in, out0: f32[1000] out)
 *   axes m:1000 n:1 k:1000
 *   schedule m:parallel(128) n:parallel(32) k:tile(1000) k:vector
 *   any n_m */
static void matrix_vector(const float *restrict x, const float *restrict y, float *restrict out0,
                          const int64_t chunk_m, const int64_t n_m) {
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t m_tile = 0; m_tile < n_m; m_tile += chunk_m) {
    const int64_t m_end = m_tile + chunk_m < n_m ? m_tile + chunk_m : n_m;
    fd_dots_f32(m_end - m_tile, 1, 1000, &x[m_tile * 1000], 1000, &y[0], 0, &out0[m_tile], 1);
  }
}
