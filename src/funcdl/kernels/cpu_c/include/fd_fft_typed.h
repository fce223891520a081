/* Included by fd_fft_tasks.h for each FD_T. */

/* What a task works on, and with: buffers for panels, and for long rows. */
typedef struct {
  const fd_fft_sizes *sizes;
  const fd_fft_core *core;
  const FD_T *table, *in;
  FD_T *out;
  FD_T *panel, *spare;
  FD_T *matrix, *row, *whole;
} FD_NAME(fd_fft_job);
#define FD_JOB FD_NAME(fd_fft_job)

/* A panel, or a long row. */
FD_SHARED void FD_NAME(fd_fft_task)(const FD_JOB *job, int64_t task);

#if FD_DEFINED
#include "fd_fft_panel.h"
#include "fd_fft_rows.h"
#endif
#undef FD_JOB
