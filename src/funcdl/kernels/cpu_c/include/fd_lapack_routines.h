/* Included by fd_lapack_types.h: the functions for one element type, with Fortran's arguments, all
 * of them pointers. runtime/lapack.py fills the table in this order. */
typedef struct {
#if FD_COMPLEX
  void (*geev)(const char *left, const char *right, const int *n, FD_T *a, const int *lda,
               FD_T *values, FD_T *vl, const int *ldvl, FD_T *vr, const int *ldvr, FD_T *work,
               const int *lwork, FD_R *rwork, int *info);
  void (*gees)(const char *vectors, const char *sort, void *select, const int *n, FD_T *a,
               const int *lda, int *sorted, FD_T *values, FD_T *vs, const int *ldvs, FD_T *work,
               const int *lwork, FD_R *rwork, int *bwork, int *info);
  void (*gesdd)(const char *job, const int *m, const int *n, FD_T *a, const int *lda, FD_R *s,
                FD_T *u, const int *ldu, FD_T *vt, const int *ldvt, FD_T *work, const int *lwork,
                FD_R *rwork, int *iwork, int *info);
  void (*geqp3)(const int *m, const int *n, FD_T *a, const int *lda, int *order, FD_T *tau,
                FD_T *work, const int *lwork, FD_R *rwork, int *info);
  void (*heevd)(const char *job, const char *triangle, const int *n, FD_T *a, const int *lda,
                FD_R *values, FD_T *work, const int *lwork, FD_R *rwork, const int *lrwork,
                int *iwork, const int *liwork, int *info);
#else
  void (*geev)(const char *left, const char *right, const int *n, FD_T *a, const int *lda,
               FD_T *real, FD_T *imaginary, FD_T *vl, const int *ldvl, FD_T *vr, const int *ldvr,
               FD_T *work, const int *lwork, int *info);
  void (*gees)(const char *vectors, const char *sort, void *select, const int *n, FD_T *a,
               const int *lda, int *sorted, FD_T *real, FD_T *imaginary, FD_T *vs, const int *ldvs,
               FD_T *work, const int *lwork, int *bwork, int *info);
  void (*gesdd)(const char *job, const int *m, const int *n, FD_T *a, const int *lda, FD_T *s,
                FD_T *u, const int *ldu, FD_T *vt, const int *ldvt, FD_T *work, const int *lwork,
                int *iwork, int *info);
  void (*geqp3)(const int *m, const int *n, FD_T *a, const int *lda, int *order, FD_T *tau,
                FD_T *work, const int *lwork, int *info);
  void (*syevd)(const char *job, const char *triangle, const int *n, FD_T *a, const int *lda,
                FD_T *values, FD_T *work, const int *lwork, int *iwork, const int *liwork,
                int *info);
#endif
  void (*gehrd)(const int *n, const int *low, const int *high, FD_T *a, const int *lda, FD_T *tau,
                FD_T *work, const int *lwork, int *info);
  void (*geqrf)(const int *m, const int *n, FD_T *a, const int *lda, FD_T *tau, FD_T *work,
                const int *lwork, int *info);
  void (*getrf)(const int *m, const int *n, FD_T *a, const int *lda, int *pivots, int *info);
  void (*gtsv)(const int *n, const int *columns, FD_T *dl, FD_T *d, FD_T *du, FD_T *b,
               const int *ldb, int *info);
  /* For complex matrices: hetrd, ungqr. */
  void (*sytrd)(const char *triangle, const int *n, FD_T *a, const int *lda, FD_R *d, FD_R *e,
                FD_T *tau, FD_T *work, const int *lwork, int *info);
  void (*orgqr)(const int *m, const int *n, const int *k, FD_T *a, const int *lda, const FD_T *tau,
                FD_T *work, const int *lwork, int *info);
  void (*potrf)(const char *triangle, const int *n, FD_T *a, const int *lda, int *info);
  void (*trsm)(const char *side, const char *triangle, const char *transpose, const char *diagonal,
               const int *m, const int *n, const FD_T *alpha, const FD_T *a, const int *lda,
               FD_T *b, const int *ldb);
} FD_NAME(fd_lapack_routines);
