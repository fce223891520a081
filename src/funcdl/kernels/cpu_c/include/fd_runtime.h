/* What the runtime tells a loaded unit: how many threads its parallel regions may use. */
#ifndef FD_RUNTIME_H
#define FD_RUNTIME_H

static int fd_num_threads = 1;

/* The only symbol besides the entry points. Called by the loader, and with 1 in a forked child,
 * where a region with more threads would wait for workers that were not copied by the fork. */
__attribute__((visibility("default"))) void fd_set_num_threads(int count);
void fd_set_num_threads(int count) { fd_num_threads = count; }

#endif
