/* Included by fd_lapack_types.h: factors, systems, and reflections; what they share with spectra.
 */

FD_INLINE const FD_NAME(fd_lapack_routines) * FD_NAME(fd_lapack_of)(const fd_lapack_job *job) {
  return &job->table->FD_NAME(of);
}

FD_INLINE int64_t FD_NAME(fd_lapack_items)(int64_t count) {
  return fd_lapack_room(count * (int64_t)sizeof(FD_T));
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_fail)(FD_T *array, int64_t count) {
  for (int64_t i = 0; i < count; i++) array[i] = (FD_T)NAN;
}

/* Whether there is neither NaN nor an infinity. */
FD_LAPACK_UNUSED int FD_NAME(fd_lapack_finite)(const FD_T *array, int64_t count) {
  const FD_R *const numbers = (const FD_R *)array;
  FD_R zero = 0;
  count *= (int64_t)(sizeof(FD_T) / sizeof(FD_R));
  _Pragma("omp simd reduction(+ : zero)") for (int64_t i = 0; i < count; i++) {
    zero += numbers[i] * 0;
  }
  return zero == 0;
}

/* The lower factor; NaN, but zeros above the diagonal, where there is none. By columns the matrix
 * is the conjugate, whose upper factor by columns is this one by rows. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_cholesky_one)(const fd_lapack_job *job, char *memory,
                                                      int64_t at) {
  const int64_t n = job->n;
  FD_T *const l = (FD_T *)job->out[0] + at * n * n;
  int info = 0;
  (void)memory;
  memcpy(l, (const FD_T *)job->in[0] + at * n * n, (size_t)(n * n) * sizeof(FD_T));
  FD_NAME(fd_lapack_of)(job)->potrf("U", &job->n, l, &job->n, &info);
  /* NaN may count as a positive pivot; all that follow are NaN, then. */
  const int failed = info != 0 || l[n * n - 1] != l[n * n - 1];
  for (int64_t i = 0; i < n; i++) {
    if (failed) FD_NAME(fd_lapack_fail)(l + i * n, i + 1);
    for (int64_t j = i + 1; j < n; j++) l[i * n + j] = 0;
  }
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_cholesky)(int64_t count, int64_t n, const FD_T *a, FD_T *l,
                                                  fd_missing *missing) {
  const fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .in = {a}, .out = {l}};
  const double operations = (double)n * (double)n * (double)n / 3;
  fd_lapack_each(FD_NAME(fd_lapack_cholesky_one), &job, count, operations, 64, missing);
}

/* L \ U, the row that each was exchanged with, and the order that this leaves them in. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_lu_one)(const fd_lapack_job *job, char *memory,
                                                int64_t at) {
  const int64_t m = job->m, n = job->n, steps = m < n ? m : n;
  FD_T *const turned = (FD_T *)memory;
  int32_t *const pivots = (int32_t *)job->out[1] + at * steps;
  int32_t *const order = (int32_t *)job->out[2] + at * m;
  int info = 0;
  FD_TURN(turned, (const FD_T *)job->in[0] + at * m * n, m, n);
  FD_NAME(fd_lapack_of)(job)->getrf(&job->m, &job->n, turned, &job->m, pivots, &info);
  FD_TURN((FD_T *)job->out[0] + at * m * n, turned, n, m);
  for (int64_t i = 0; i < m; i++) order[i] = (int32_t)i;
  for (int64_t i = 0; i < steps; i++) {
    const int32_t other = --pivots[i], kept = order[i];
    order[i] = order[other];
    order[other] = kept;
  }
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_lu)(int64_t count, int64_t m, int64_t n, const FD_T *a,
                                            FD_T *factors, int32_t *pivots, int32_t *order,
                                            fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .m = (int)m, .n = (int)n, .in = {a}};
  const double steps = (double)(m < n ? m : n), most = (double)(m < n ? n : m);
  job.out[0] = factors, job.out[1] = pivots, job.out[2] = order;
  fd_lapack_each(FD_NAME(fd_lapack_lu_one), &job, count, steps * steps * (most - steps / 3),
                 FD_NAME(fd_lapack_items)(m * n), missing);
}

/* By columns, X op(A) = B is op(A)^T X = B, where op(A)^T is the same of what A is by columns. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_triangular_solve_one)(const fd_lapack_job *job,
                                                              char *memory, int64_t at) {
  const int64_t n = job->n, size = n * job->others;
  const FD_T *a = (const FD_T *)job->in[0] + at * n * n;
  FD_T *const x = (FD_T *)job->out[0] + at * size;
  const FD_T one = 1;
  memcpy(x, (const FD_T *)job->in[1] + at * size, (size_t)size * sizeof(FD_T));
#if FD_COMPLEX
  if (job->conjugate && !job->transpose) {
    const FD_R *const from = (const FD_R *)a;
    FD_R *const to = (FD_R *)memory;
    for (int64_t i = 0; i < n * n; i++) to[2 * i] = from[2 * i], to[2 * i + 1] = -from[2 * i + 1];
    a = (const FD_T *)memory;
  }
#endif
  (void)memory;
  const char *const transpose = !job->transpose ? "N" : job->conjugate ? "C" : "T";
  const int *const rows = job->left ? &job->others : &job->n;
  const int *const columns = job->left ? &job->n : &job->others;
  FD_NAME(fd_lapack_of)(job)->trsm(job->left ? "R" : "L", job->lower ? "U" : "L", transpose,
                                   job->unit ? "U" : "N", rows, columns, &one, a, &job->n, x, rows);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_triangular_solve)(
    int64_t count, int64_t n, int64_t others, int64_t left, int64_t lower, int64_t transpose,
    int64_t conjugate, int64_t unit, const FD_T *a, const FD_T *b, FD_T *x, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .others = (int)others, .in = {a, b}};
  job.left = left != 0, job.lower = lower != 0, job.unit = unit != 0;
  job.transpose = transpose != 0, job.conjugate = conjugate != 0;
  job.out[0] = x;
  const int copies = FD_COMPLEX && conjugate && !transpose;
  fd_lapack_each(FD_NAME(fd_lapack_triangular_solve_one), &job, count,
                 (double)n * (double)n * (double)others,
                 FD_NAME(fd_lapack_items)(copies ? n * n : 1), missing);
}

/* Q and R, with columns exchanged for the longest where asked for. */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_qr_one)(const fd_lapack_job *job, char *memory,
                                                int64_t at) {
  const FD_NAME(fd_lapack_routines) *const lapack = FD_NAME(fd_lapack_of)(job);
  const int64_t m = job->m, n = job->n, k = job->k;
  const int steps = m < n ? job->m : job->n;
  FD_T *const turned = fd_lapack_cut(&memory, m * (n < k ? k : n) * (int64_t)sizeof(FD_T));
  FD_T *const tau = fd_lapack_cut(&memory, steps * (int64_t)sizeof(FD_T));
  FD_T *const work = fd_lapack_cut(&memory, job->work * (int64_t)sizeof(FD_T));
  FD_T *const r = (FD_T *)job->out[1] + at * k * n;
  int info = 0;
  FD_TURN(turned, (const FD_T *)job->in[0] + at * m * n, m, n);
  if (job->pivoting) {
    int *const order = (int *)job->out[2] + at * n;
    for (int64_t j = 0; j < n; j++) order[j] = 0;
#if FD_COMPLEX
    FD_R *const real_work = (FD_R *)memory;
    lapack->geqp3(&job->m, &job->n, turned, &job->m, order, tau, work, &job->work, real_work,
                  &info);
#else
    lapack->geqp3(&job->m, &job->n, turned, &job->m, order, tau, work, &job->work, &info);
#endif
    for (int64_t j = 0; j < n; j++) order[j]--;
  } else {
    lapack->geqrf(&job->m, &job->n, turned, &job->m, tau, work, &job->work, &info);
  }
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = 0; j < n; j++) r[i * n + j] = j < i ? 0 : turned[j * m + i];
  lapack->orgqr(&job->m, &job->k, &steps, turned, &job->m, tau, work, &job->work, &info);
  FD_TURN((FD_T *)job->out[0] + at * m * k, turned, k, m);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_qr)(int64_t count, int64_t m, int64_t n, int64_t k,
                                            int64_t pivoting, const FD_T *a, FD_T *q, FD_T *r,
                                            int32_t *order, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .m = (int)m, .n = (int)n, .k = (int)k, .in = {a}};
  const FD_NAME(fd_lapack_routines) *const lapack = FD_NAME(fd_lapack_of)(&job);
  const int64_t steps = m < n ? m : n;
  const int few = (int)steps, ask = -1;
  FD_T first = 0, second = 0;
  FD_R unread = 0;
  int info = 0, places = 0;
  (void)unread;
  if (pivoting) {
#if FD_COMPLEX
    lapack->geqp3(&job.m, &job.n, &second, &job.m, &places, &second, &first, &ask, &unread, &info);
#else
    lapack->geqp3(&job.m, &job.n, &second, &job.m, &places, &second, &first, &ask, &info);
#endif
  } else {
    lapack->geqrf(&job.m, &job.n, &second, &job.m, &second, &first, &ask, &info);
  }
  lapack->orgqr(&job.m, &job.k, &few, &second, &job.m, &second, &second, &ask, &info);
  const double one = (double)__real__ first, other = (double)__real__ second;
  job.work = fd_lapack_size(one > other ? one : other);
  job.pivoting = pivoting != 0;
  job.out[0] = q, job.out[1] = r, job.out[2] = order;
  const int64_t bytes = FD_NAME(fd_lapack_items)(m * (n < k ? k : n)) +
                        FD_NAME(fd_lapack_items)(steps) + FD_NAME(fd_lapack_items)(job.work) +
                        FD_NAME(fd_lapack_items)(2 * n);
  const double operations = 4 * (double)m * (double)steps * (double)(n < k ? k : n);
  fd_lapack_each(FD_NAME(fd_lapack_qr_one), &job, count, operations, bytes, missing);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_geqrf_one)(const fd_lapack_job *job, char *memory,
                                                   int64_t at) {
  const int64_t m = job->m, n = job->n, steps = m < n ? m : n;
  FD_T *const turned = fd_lapack_cut(&memory, m * n * (int64_t)sizeof(FD_T));
  FD_T *const work = (FD_T *)memory;
  int info = 0;
  FD_TURN(turned, (const FD_T *)job->in[0] + at * m * n, m, n);
  FD_NAME(fd_lapack_of)(job)->geqrf(&job->m, &job->n, turned, &job->m,
                                    (FD_T *)job->out[1] + at * steps, work, &job->work, &info);
  FD_TURN((FD_T *)job->out[0] + at * m * n, turned, n, m);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_geqrf)(int64_t count, int64_t m, int64_t n, const FD_T *a,
                                               FD_T *packed, FD_T *taus, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .m = (int)m, .n = (int)n, .in = {a}};
  const double steps = (double)(m < n ? m : n);
  const int ask = -1;
  FD_T answer = 0, unread = 0;
  int info = 0;
  FD_NAME(fd_lapack_of)
  (&job)->geqrf(&job.m, &job.n, &unread, &job.m, &unread, &answer, &ask, &info);
  job.work = fd_lapack_size((double)__real__ answer);
  job.out[0] = packed, job.out[1] = taus;
  fd_lapack_each(FD_NAME(fd_lapack_geqrf_one), &job, count, 2 * (double)m * (double)n * steps,
                 FD_NAME(fd_lapack_items)(m * n) + FD_NAME(fd_lapack_items)(job.work), missing);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_householder_product_one)(const fd_lapack_job *job,
                                                                 char *memory, int64_t at) {
  const int64_t m = job->m, n = job->n;
  FD_T *const turned = fd_lapack_cut(&memory, m * n * (int64_t)sizeof(FD_T));
  FD_T *const work = (FD_T *)memory;
  int info = 0;
  FD_TURN(turned, (const FD_T *)job->in[0] + at * m * n, m, n);
  FD_NAME(fd_lapack_of)(job)->orgqr(&job->m, &job->n, &job->k, turned, &job->m,
                                    (const FD_T *)job->in[1] + at * job->k, work, &job->work,
                                    &info);
  FD_TURN((FD_T *)job->out[0] + at * m * n, turned, n, m);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_householder_product)(int64_t count, int64_t m, int64_t n,
                                                             int64_t k, const FD_T *a,
                                                             const FD_T *taus, FD_T *product,
                                                             fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .m = (int)m, .n = (int)n, .k = (int)k};
  const int ask = -1;
  FD_T answer = 0, unread = 0;
  int info = 0;
  FD_NAME(fd_lapack_of)
  (&job)->orgqr(&job.m, &job.n, &job.k, &unread, &job.m, &unread, &answer, &ask, &info);
  job.work = fd_lapack_size((double)__real__ answer);
  job.in[0] = a, job.in[1] = taus, job.out[0] = product;
  fd_lapack_each(FD_NAME(fd_lapack_householder_product_one), &job, count,
                 4 * (double)m * (double)n * (double)k,
                 FD_NAME(fd_lapack_items)(m * n) + FD_NAME(fd_lapack_items)(job.work), missing);
}

/* Diagonals are as long as columns: the first below and the last above the main one are not read.
 */
FD_LAPACK_UNUSED void FD_NAME(fd_lapack_tridiagonal_solve_one)(const fd_lapack_job *job,
                                                               char *memory, int64_t at) {
  const int64_t n = job->n, size = n * job->others, bytes = n * (int64_t)sizeof(FD_T);
  FD_T *const below = fd_lapack_cut(&memory, bytes), *const main = fd_lapack_cut(&memory, bytes);
  FD_T *const above = fd_lapack_cut(&memory, bytes), *const turned = (FD_T *)memory;
  FD_T *const x = (FD_T *)job->out[0] + at * size;
  int info = 0;
  memcpy(below, (const FD_T *)job->in[0] + at * n + 1, (size_t)(n - 1) * sizeof(FD_T));
  memcpy(main, (const FD_T *)job->in[1] + at * n, (size_t)n * sizeof(FD_T));
  memcpy(above, (const FD_T *)job->in[2] + at * n, (size_t)(n - 1) * sizeof(FD_T));
  FD_TURN(turned, (const FD_T *)job->in[3] + at * size, n, job->others);
  FD_NAME(fd_lapack_of)(job)->gtsv(&job->n, &job->others, below, main, above, turned, &job->n,
                                   &info);
  FD_TURN(x, turned, job->others, n);
  if (info != 0) FD_NAME(fd_lapack_fail)(x, size);
}

FD_LAPACK_UNUSED void FD_NAME(fd_lapack_tridiagonal_solve)(int64_t count, int64_t n, int64_t others,
                                                           const FD_T *below, const FD_T *main,
                                                           const FD_T *above, const FD_T *b,
                                                           FD_T *x, fd_missing *missing) {
  fd_lapack_job job = {.table = fd_lapack, .n = (int)n, .others = (int)others};
  job.in[0] = below, job.in[1] = main, job.in[2] = above, job.in[3] = b, job.out[0] = x;
  fd_lapack_each(FD_NAME(fd_lapack_tridiagonal_solve_one), &job, count,
                 8 * (double)n * (double)(others + 1),
                 3 * FD_NAME(fd_lapack_items)(n) + FD_NAME(fd_lapack_items)(n * others), missing);
}
