/* Included by fd_lapack_types.h: eigenvalues and singular values, and the reductions before them.
 */

/* Whether one triangle of a matrix is finite. */
FD_LAPACK_UNUSED int FD_NAME(fd_lapack_finite_triangle)(const FD_T *a, int64_t n, int lower) {
  for (int64_t i = 0; i < n; i++) {
    const int64_t first = lower ? 0 : i, count = lower ? i + 1 : n - i;
    if (!FD_NAME(fd_lapack_finite)(a + i * n + first, count)) return 0;
  }
  return 1;
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_eigh_one)(const fd_lapack_job *job, char *memory,
                                                  int64_t at) {
  const FD_NAME(fd_lapack_routines) *const lapack = FD_NAME(fd_lapack_of)(job);
  const int64_t n = job->n;
  const FD_T *const a = (const FD_T *)job->in[0] + at * n * n;
  FD_T *const vectors = (FD_T *)job->out[0] + at * n * n;
  FD_R *const values = (FD_R *)job->out[1] + at * n;
  FD_T *const turned = fd_lapack_cut(&memory, n * n * (int64_t)sizeof(FD_T));
  FD_T *const work = fd_lapack_cut(&memory, job->work * (int64_t)sizeof(FD_T));
  int *const int_work = fd_lapack_cut(&memory, job->int_work * (int64_t)sizeof(int));
  const char *const triangle = job->lower ? "L" : "U";
  int info = 1;
  if (FD_NAME(fd_lapack_finite_triangle)(a, n, job->lower)) {
    FD_TURN(turned, a, n, n);
#if FD_COMPLEX
    lapack->heevd("V", triangle, &job->n, turned, &job->n, values, work, &job->work, (FD_R *)memory,
                  &job->real_work, int_work, &job->int_work, &info);
#else
    lapack->syevd("V", triangle, &job->n, turned, &job->n, values, work, &job->work, int_work,
                  &job->int_work, &info);
#endif
    FD_TURN(vectors, turned, n, n);
  }
  if (info == 0) return;
  FD_NAME(fd_lapack_fail)(vectors, n * n);
  for (int64_t i = 0; i < n; i++) values[i] = (FD_R)NAN;
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_eigh)(int64_t count, int64_t n, int64_t lower,
                                              const FD_T *a, FD_T *vectors, FD_R *values,
                                              fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .lower = lower != 0, .in = {a}};
  const FD_NAME(fd_lapack_routines) *const lapack = FD_NAME(fd_lapack_of)(&job);
  const int ask = -1;
  FD_T answer = 0, unread = 0;
  FD_R real_answer = 0, unread_real = 0;
  int info = 0;
#if FD_COMPLEX
  lapack->heevd("V", "L", &job.n, &unread, &job.n, &unread_real, &answer, &ask, &real_answer, &ask,
                &job.int_work, &ask, &info);
#else
  lapack->syevd("V", "L", &job.n, &unread, &job.n, &unread_real, &answer, &ask, &job.int_work, &ask,
                &info);
#endif
  job.work = fd_lapack_size((double)__real__ answer);
  job.real_work = fd_lapack_size((double)real_answer);
  job.out[0] = vectors, job.out[1] = values;
  const int64_t bytes = FD_NAME(fd_lapack_items)(n * n) + FD_NAME(fd_lapack_items)(job.work) +
                        fd_lapack_room(job.int_work * (int64_t)sizeof(int)) +
                        fd_lapack_room(job.real_work * (int64_t)sizeof(FD_R));
  fd_lapack_each(FD_NAME(fd_lapack_eigh_one), &job, count, 9 * (double)n * (double)n * (double)n,
                 bytes, missing);
}

/* Singular values, and k left and `others` right vectors, or none where k is 0. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_svd_one)(const fd_lapack_job *job, char *memory,
                                                 int64_t at) {
  const int64_t m = job->m, n = job->n, k = job->k, others = job->others, few = m < n ? m : n;
  const char *const which = k == 0 ? "N" : k == m && others == n ? "A" : "S";
  const FD_T *const a = (const FD_T *)job->in[0] + at * m * n;
  FD_R *const values = (FD_R *)job->out[0] + at * few;
  FD_T *const turned = fd_lapack_cut(&memory, m * n * (int64_t)sizeof(FD_T));
  FD_T *const left = fd_lapack_cut(&memory, m * k * (int64_t)sizeof(FD_T));
  FD_T *const right = fd_lapack_cut(&memory, others * n * (int64_t)sizeof(FD_T));
  FD_T *const work = fd_lapack_cut(&memory, job->work * (int64_t)sizeof(FD_T));
  int *const int_work = fd_lapack_cut(&memory, 8 * few * (int64_t)sizeof(int));
  const int left_rows = job->m, right_rows = others == 0 ? 1 : job->others;
  int info = 1;
  if (FD_NAME(fd_lapack_finite)(a, m * n)) {
    FD_TURN(turned, a, m, n);
#if FD_COMPLEX
    FD_NAME(fd_lapack_of)
    (job)->gesdd(which, &job->m, &job->n, turned, &job->m, values, left, &left_rows, right,
                 &right_rows, work, &job->work, (FD_R *)memory, int_work, &info);
#else
    FD_NAME(fd_lapack_of)
    (job)->gesdd(which, &job->m, &job->n, turned, &job->m, values, left, &left_rows, right,
                 &right_rows, work, &job->work, int_work, &info);
#endif
  }
  if (info != 0) {
    FD_NAME(fd_lapack_fail)(left, m * k);
    FD_NAME(fd_lapack_fail)(right, others * n);
    for (int64_t i = 0; i < few; i++) values[i] = (FD_R)NAN;
  }
  if (k == 0) return;
  FD_TURN((FD_T *)job->out[1] + at * m * k, left, k, m);
  FD_TURN((FD_T *)job->out[2] + at * others * n, right, n, others);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_svd)(int64_t count, int64_t m, int64_t n, int64_t k,
                                             int64_t others, const FD_T *a, FD_R *values,
                                             FD_T *left, FD_T *right, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .m = (int)m, .n = (int)n, .k = (int)k, .in = {a}};
  const char *const which = k == 0 ? "N" : k == m && others == n ? "A" : "S";
  const int64_t few = m < n ? m : n, most = m < n ? n : m;
  const int left_rows = job.m, right_rows = others == 0 ? 1 : (int)others, ask = -1;
  FD_T answer = 0, unread = 0;
  FD_R unread_real = 0;
  int info = 0, unread_int = 0;
#if FD_COMPLEX
  FD_NAME(fd_lapack_of)
  (&job)->gesdd(which, &job.m, &job.n, &unread, &job.m, &unread_real, &unread, &left_rows, &unread,
                &right_rows, &answer, &ask, &unread_real, &unread_int, &info);
  /* As LAPACK's documentation has it; it does not answer for this one. */
  const int64_t with_vectors = few * (5 * few + 5), wide = few * (2 * most + 2 * few + 1);
  const int64_t real_work = k == 0 ? 7 * few : with_vectors > wide ? with_vectors : wide;
#else
  FD_NAME(fd_lapack_of)
  (&job)->gesdd(which, &job.m, &job.n, &unread, &job.m, &unread_real, &unread, &left_rows, &unread,
                &right_rows, &answer, &ask, &unread_int, &info);
  const int64_t real_work = 0;
  (void)most;
#endif
  job.others = (int)others;
  job.work = fd_lapack_size((double)__real__ answer);
  job.out[0] = values, job.out[1] = left, job.out[2] = right;
  const int64_t bytes = FD_NAME(fd_lapack_items)(m * n) + FD_NAME(fd_lapack_items)(m * k) +
                        FD_NAME(fd_lapack_items)(others * n) + FD_NAME(fd_lapack_items)(job.work) +
                        fd_lapack_room(8 * few * (int64_t)sizeof(int)) +
                        fd_lapack_room(real_work * (int64_t)sizeof(FD_R));
  const double operations = 14 * (double)m * (double)n * (double)few;
  fd_lapack_each(FD_NAME(fd_lapack_svd_one), &job, count, operations, bytes, missing);
}

/* Columns of complex vectors by rows. The real form has the real part of one vector of a conjugate
 * pair in its first column, and the imaginary part in the second. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_pair)(FD_C *out, const FD_T *vectors, const FD_R *imaginary,
                                              int64_t n) {
#if FD_COMPLEX
  (void)imaginary;
  FD_TURN(out, vectors, n, n);
#else
  FD_R *const parts = (FD_R *)out;
  for (int64_t j = 0; j < n; j++) {
    const int first = imaginary[j] > 0, second = j > 0 && imaginary[j - 1] > 0;
    for (int64_t i = 0; i < n; i++) {
      FD_R *const part = parts + 2 * (i * n + j);
      part[0] = vectors[(second ? j - 1 : j) * n + i];
      part[1] = first ? vectors[(j + 1) * n + i] : second ? -vectors[j * n + i] : 0;
    }
  }
#endif
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_eig_one)(const fd_lapack_job *job, char *memory,
                                                 int64_t at) {
  const int64_t n = job->n, bytes = n * n * (int64_t)sizeof(FD_T);
  const FD_T *const a = (const FD_T *)job->in[0] + at * n * n;
  FD_C *const values = (FD_C *)job->out[0] + at * n;
  FD_T *const turned = fd_lapack_cut(&memory, bytes), *const left = fd_lapack_cut(&memory, bytes);
  FD_T *const right = fd_lapack_cut(&memory, bytes);
  FD_T *const work = fd_lapack_cut(&memory, job->work * (int64_t)sizeof(FD_T));
  FD_R *const numbers = (FD_R *)memory, *const imaginary = numbers + n;
  const char *const of_left = job->left ? "V" : "N", *const of_right = job->right ? "V" : "N";
  int info = 1;
  if (FD_NAME(fd_lapack_finite)(a, n * n)) {
    FD_TURN(turned, a, n, n);
#if FD_COMPLEX
    FD_NAME(fd_lapack_of)
    (job)->geev(of_left, of_right, &job->n, turned, &job->n, values, left, &job->n, right, &job->n,
                work, &job->work, numbers, &info);
#else
    FD_NAME(fd_lapack_of)
    (job)->geev(of_left, of_right, &job->n, turned, &job->n, numbers, imaginary, left, &job->n,
                right, &job->n, work, &job->work, &info);
    for (int64_t i = 0; i < n; i++) {
      ((FD_R *)values)[2 * i] = numbers[i];
      ((FD_R *)values)[2 * i + 1] = imaginary[i];
    }
#endif
  }
  FD_C *const outs[2] = {job->out[1], job->out[2]};
  const int wanted[2] = {job->left, job->right};
  for (int side = 0; side < 2; side++) {
    if (!wanted[side]) continue;
    FD_C *const out = outs[side] + at * n * n;
    if (info == 0) {
      FD_NAME(fd_lapack_pair)(out, side == 0 ? left : right, imaginary, n);
    } else {
      for (int64_t i = 0; i < n * n; i++) out[i] = (FD_C)NAN;
    }
  }
  for (int64_t i = 0; info != 0 && i < n; i++) values[i] = (FD_C)NAN;
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_eig)(int64_t count, int64_t n, int64_t of_left,
                                             int64_t of_right, const FD_T *a, FD_C *values,
                                             FD_C *left, FD_C *right, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .in = {a}};
  const int ask = -1;
  FD_T answer = 0, unread = 0;
  FD_R unread_real = 0;
  int info = 0;
  job.left = of_left != 0, job.right = of_right != 0;
#if FD_COMPLEX
  FD_NAME(fd_lapack_of)
  (&job)->geev(of_left ? "V" : "N", of_right ? "V" : "N", &job.n, &unread, &job.n, &unread, &unread,
               &job.n, &unread, &job.n, &answer, &ask, &unread_real, &info);
#else
  FD_NAME(fd_lapack_of)
  (&job)->geev(of_left ? "V" : "N", of_right ? "V" : "N", &job.n, &unread, &job.n, &unread,
               &unread_real, &unread, &job.n, &unread, &job.n, &answer, &ask, &info);
#endif
  job.work = fd_lapack_size((double)__real__ answer);
  job.out[0] = values, job.out[1] = left, job.out[2] = right;
  const int64_t bytes = 3 * FD_NAME(fd_lapack_items)(n * n) + FD_NAME(fd_lapack_items)(job.work) +
                        FD_NAME(fd_lapack_items)(2 * n);
  fd_lapack_each(FD_NAME(fd_lapack_eig_one), &job, count, 25 * (double)n * (double)n * (double)n,
                 bytes, missing);
}

/* The Schur form, and its vectors where job->right. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_schur_one)(const fd_lapack_job *job, char *memory,
                                                   int64_t at) {
  const int64_t n = job->n, bytes = n * n * (int64_t)sizeof(FD_T);
  const FD_T *const a = (const FD_T *)job->in[0] + at * n * n;
  FD_T *const form = (FD_T *)job->out[0] + at * n * n;
  FD_T *const turned = fd_lapack_cut(&memory, bytes), *const right = fd_lapack_cut(&memory, bytes);
  FD_T *const work = fd_lapack_cut(&memory, job->work * (int64_t)sizeof(FD_T));
  FD_T *const values = fd_lapack_cut(&memory, 2 * n * (int64_t)sizeof(FD_T));
  const char *const vectors = job->right ? "V" : "N";
  int info = 1, sorted = 0, unread = 0;
  if (FD_NAME(fd_lapack_finite)(a, n * n)) {
    FD_TURN(turned, a, n, n);
#if FD_COMPLEX
    FD_NAME(fd_lapack_of)
    (job)->gees(vectors, "N", NULL, &job->n, turned, &job->n, &sorted, values, right, &job->n, work,
                &job->work, (FD_R *)memory, &unread, &info);
#else
    FD_NAME(fd_lapack_of)
    (job)->gees(vectors, "N", NULL, &job->n, turned, &job->n, &sorted, values, values + n, right,
                &job->n, work, &job->work, &unread, &info);
#endif
  }
  if (info == 0) {
    FD_TURN(form, turned, n, n);
    for (int64_t i = 2; i < n; i++)
      for (int64_t j = 0; j < i - 1; j++) form[i * n + j] = 0;
  } else {
    FD_NAME(fd_lapack_fail)(form, n * n);
    FD_NAME(fd_lapack_fail)(right, n * n);
  }
  if (job->right) FD_TURN((FD_T *)job->out[1] + at * n * n, right, n, n);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_schur)(int64_t count, int64_t n, int64_t with_vectors,
                                               const FD_T *a, FD_T *form, FD_T *vectors,
                                               fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .right = with_vectors != 0, .in = {a}};
  const char *const of_right = with_vectors ? "V" : "N";
  const int ask = -1;
  FD_T answer = 0, unread = 0;
  FD_R unread_real = 0;
  int info = 0, sorted = 0, unread_int = 0;
#if FD_COMPLEX
  FD_NAME(fd_lapack_of)
  (&job)->gees(of_right, "N", NULL, &job.n, &unread, &job.n, &sorted, &unread, &unread, &job.n,
               &answer, &ask, &unread_real, &unread_int, &info);
#else
  FD_NAME(fd_lapack_of)
  (&job)->gees(of_right, "N", NULL, &job.n, &unread, &job.n, &sorted, &unread, &unread_real,
               &unread, &job.n, &answer, &ask, &unread_int, &info);
#endif
  job.work = fd_lapack_size((double)__real__ answer);
  job.out[0] = form, job.out[1] = vectors;
  const int64_t bytes = 2 * FD_NAME(fd_lapack_items)(n * n) + FD_NAME(fd_lapack_items)(job.work) +
                        2 * FD_NAME(fd_lapack_items)(2 * n);
  fd_lapack_each(FD_NAME(fd_lapack_schur_one), &job, count, 25 * (double)n * (double)n * (double)n,
                 bytes, missing);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_hessenberg_one)(const fd_lapack_job *job, char *memory,
                                                        int64_t at) {
  const int64_t n = job->n;
  const FD_T *const a = (const FD_T *)job->in[0] + at * n * n;
  FD_T *const packed = (FD_T *)job->out[0] + at * n * n;
  FD_T *const taus = (FD_T *)job->out[1] + at * (n - 1);
  FD_T *const turned = fd_lapack_cut(&memory, n * n * (int64_t)sizeof(FD_T));
  const int first = 1;
  int info = 1;
  if (FD_NAME(fd_lapack_finite)(a, n * n)) {
    FD_TURN(turned, a, n, n);
    FD_NAME(fd_lapack_of)
    (job)->gehrd(&job->n, &first, &job->n, turned, &job->n, taus, (FD_T *)memory, &job->work,
                 &info);
    FD_TURN(packed, turned, n, n);
  }
  if (info == 0) return;
  FD_NAME(fd_lapack_fail)(packed, n * n);
  FD_NAME(fd_lapack_fail)(taus, n - 1);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_hessenberg)(int64_t count, int64_t n, const FD_T *a,
                                                    FD_T *packed, FD_T *taus, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .in = {a}};
  const int ask = -1, first = 1;
  FD_T answer = 0, unread = 0;
  int info = 0;
  FD_NAME(fd_lapack_of)
  (&job)->gehrd(&job.n, &first, &job.n, &unread, &job.n, &unread, &answer, &ask, &info);
  job.work = fd_lapack_size((double)__real__ answer);
  job.out[0] = packed, job.out[1] = taus;
  fd_lapack_each(FD_NAME(fd_lapack_hessenberg_one), &job, count,
                 10.0 / 3 * (double)n * (double)n * (double)n,
                 FD_NAME(fd_lapack_items)(n * n) + FD_NAME(fd_lapack_items)(job.work), missing);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_tridiagonal_one)(const fd_lapack_job *job, char *memory,
                                                         int64_t at) {
  const int64_t n = job->n;
  const FD_T *const a = (const FD_T *)job->in[0] + at * n * n;
  FD_T *const packed = (FD_T *)job->out[0] + at * n * n;
  FD_R *const main = (FD_R *)job->out[1] + at * n, *const beside =
                                                       (FD_R *)job->out[2] + at * (n - 1);
  FD_T *const taus = (FD_T *)job->out[3] + at * (n - 1);
  FD_T *const turned = fd_lapack_cut(&memory, n * n * (int64_t)sizeof(FD_T));
  int info = 1;
  if (FD_NAME(fd_lapack_finite_triangle)(a, n, job->lower)) {
    FD_TURN(turned, a, n, n);
    FD_NAME(fd_lapack_of)
    (job)->sytrd(job->lower ? "L" : "U", &job->n, turned, &job->n, main, beside, taus,
                 (FD_T *)memory, &job->work, &info);
    FD_TURN(packed, turned, n, n);
  }
  if (info == 0) return;
  FD_NAME(fd_lapack_fail)(packed, n * n);
  FD_NAME(fd_lapack_fail)(taus, n - 1);
  for (int64_t i = 0; i < n; i++) main[i] = (FD_R)NAN;
  for (int64_t i = 0; i < n - 1; i++) beside[i] = (FD_R)NAN;
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_tridiagonal)(int64_t count, int64_t n, int64_t lower,
                                                     const FD_T *a, FD_T *packed, FD_R *main,
                                                     FD_R *beside, FD_T *taus,
                                                     fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .lower = lower != 0, .in = {a}};
  const int ask = -1;
  FD_T answer = 0, unread = 0;
  FD_R unread_real = 0;
  int info = 0;
  FD_NAME(fd_lapack_of)
  (&job)->sytrd(lower ? "L" : "U", &job.n, &unread, &job.n, &unread_real, &unread_real, &unread,
                &answer, &ask, &info);
  job.work = fd_lapack_size((double)__real__ answer);
  job.out[0] = packed, job.out[1] = main, job.out[2] = beside, job.out[3] = taus;
  fd_lapack_each(FD_NAME(fd_lapack_tridiagonal_one), &job, count,
                 4.0 / 3 * (double)n * (double)n * (double)n,
                 FD_NAME(fd_lapack_items)(n * n) + FD_NAME(fd_lapack_items)(job.work), missing);
}
