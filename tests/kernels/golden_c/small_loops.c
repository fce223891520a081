static void scan2(int32_t *final0, const int32_t *init0, const int32_t *xs0, const int32_t *xs1,
                  const int32_t *const0, const int64_t n_steps) {
  _Alignas(64) int32_t even0[8];
  _Alignas(64) int32_t odd0[8];
  const int32_t *carry0 = init0;
  for (int64_t step0 = 0; step0 < n_steps; ++step0) {
    int32_t *const next0 = step0 == n_steps - 1 ? final0 : carry0 == even0 ? odd0 : even0;
    const int32_t x0 = xs0[step0];
    const int32_t x1 = xs1[step0];
    int32_t temp0, temp1[7], temp2[7], temp3, temp4[7];
    scan2_body0_k0_add(&x0, &temp0);
    scan2_body0_k1_slice(carry0, temp1, 7);
    scan2_body0_k2_slice(carry0, temp2, 7);
    int32_t carry1 = temp0;
    for (int64_t step1 = 0; step1 < 7; ++step1) {
      const int32_t x2 = temp2[step1];
      const int32_t x3 = temp1[step1];
      const int32_t x4 = const0[step1];
      int32_t next1, y0;
      scan2_body0_scan3_body0_k0_min(&carry1, &x2, &x3, &x1, &x4, &next1);
      scan2_body0_scan3_body0_k0_min(&carry1, &x2, &x3, &x1, &x4, &y0);
      carry1 = next1;
      temp4[step1] = y0;
    }
    temp3 = carry1;
    scan2_body0_k4_concatenate(&x0, temp4, next0, 8);
    carry0 = next0;
  }
}

static void while0(int32_t *final0, const int32_t *init0, int32_t *final1, const int32_t *init1) {
  int32_t carry0 = *init0;
  int32_t carry1 = *init1;
  for (;;) {
    uint8_t flag0;
    while0_body0_k0_gt(&carry0, &flag0);
    if (!flag0) break;
    int32_t next0, next1, temp0;
    while0_body1_k0_convert_element_type(&carry0, &temp0);
    if (temp0 == 0) {
      while0_body1_cond1_body0_k0_add(&carry0, &next0);
    } else {
      while0_body1_cond1_body1_k0_select_n(&carry0, &next0);
    }
    while0_body1_k2_add(&carry1, &next1);
    carry0 = next0;
    carry1 = next1;
  }
  *final0 = carry0;
  *final1 = carry1;
}

static void scan0(int32_t *final0, const int32_t *init0, const int32_t *init1, int32_t *final1,
                  const int32_t *const0, const int64_t n_steps) {
  int32_t carry0 = *init0;
  if (final1 != init1) memmove(final1, init1, 28);
  for (int64_t step0 = 0; step0 < n_steps; ++step0) {
    int32_t next0;
    scan0_body0_k0_add(&carry0, &next0);
    scan0_body0_k1_scatter_add(&carry0, const0, final1);
    carry0 = next0;
  }
  *final0 = carry0;
}
