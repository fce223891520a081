/* A libcuda.so.1 for tests: NVIDIA's bindings find every function of the driver through
   cuGetProcAddress, which here asks the test for it (see bound_driver.py). */

#include <stddef.h>
#include <stdint.h>

typedef void *(*lookup_type)(const char *name);

static lookup_type lookup;

void stub_set_lookup(lookup_type given) { lookup = given; }

int cuGetProcAddress_v2(
    const char *name, void **function, int version, uint64_t flags, int *status) {
    (void)version, (void)flags;
    *function = lookup == NULL ? NULL : lookup(name);
    if (status != NULL) *status = *function == NULL; /* CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND */
    return *function == NULL ? 500 : 0;              /* CUDA_ERROR_NOT_FOUND */
}
