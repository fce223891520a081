/* Memory for outputs, reused: the twin of `funcdl.runtime.cpu_memory.Pool`, which says why.

   The interpreter lock guards a pool; no method runs Python code between reading and writing it.
   A free block's first bytes point to the next free one of its size. */

#include "native.h"

#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>
#include <sys/mman.h>

enum {
  ALIGNMENT = 64,
  HUGE_PAGE_BYTES = 2 << 20,
  MIN_BITS = 12,
  MAX_BITS = 46,
  NUM_CLASSES = 1 + 8 * (MAX_BITS - MIN_BITS)
};

typedef struct {
  char *free;
  size_t size;
  uint64_t last_used;
} SizeClass;

typedef struct {
  PyObject_HEAD
  Py_ssize_t max_cached_bytes;
  size_t cached_bytes;
  size_t used_bytes, peak_used_bytes, largest_bytes;
  uint64_t hits, misses, clock;
  SizeClass classes[NUM_CLASSES];
} Pool;

/* The base of an array that was handed out; its end returns the memory to the pool. */
typedef struct {
  PyObject_HEAD
  Pool *pool;
  char *memory;
  int size_class;
} Block;

/* One of eight sizes an octave, so that at most an eighth is wasted; -1 if there is none. */
static int size_class(size_t nbytes, size_t *size) {
  int bits = 64 - __builtin_clzll(nbytes - 1);
  if (bits > MAX_BITS) return -1;
  if (bits <= MIN_BITS) {
    *size = (size_t)1 << MIN_BITS;
    return 0;
  }
  size_t step = (size_t)1 << (bits - 4);
  size_t steps = (nbytes + step - 1) / step;
  *size = steps * step;
  return 1 + 8 * (bits - MIN_BITS - 1) + (int)(steps - 9);
}

static char *map_huge_pages(size_t size) {
  size_t length = size + HUGE_PAGE_BYTES;
  char *mapping = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return NULL;
  size_t before = -(uintptr_t)mapping % HUGE_PAGE_BYTES;
  char *memory = mapping + before;
  if (before > 0) munmap(mapping, before);
  munmap(memory + size, HUGE_PAGE_BYTES - before);
#ifdef MADV_HUGEPAGE
  madvise(memory, size, MADV_HUGEPAGE); /* it is advice: without effect, pages are small */
#endif
  return memory;
}

static char *allocate(size_t size) {
  if (size >= HUGE_PAGE_BYTES) return map_huge_pages(size);
  void *memory;
  return posix_memalign(&memory, ALIGNMENT, size) == 0 ? memory : NULL;
}

static void release(char *memory, size_t size) {
  if (size >= HUGE_PAGE_BYTES)
    munmap(memory, size);
  else
    free(memory);
}

static void pop_and_release(Pool *pool, SizeClass *of) {
  char *memory = of->free;
  memcpy(&of->free, memory, sizeof of->free);
  pool->cached_bytes -= of->size;
  release(memory, of->size);
}

/* Give memory back to the system, of the sizes unused for longest first. */
static void shrink(Pool *pool, size_t max_cached_bytes) {
  while (pool->cached_bytes > max_cached_bytes) {
    SizeClass *oldest = NULL;
    for (int i = 0; i < NUM_CLASSES; ++i) {
      SizeClass *of = &pool->classes[i];
      if (of->free != NULL && (oldest == NULL || of->last_used < oldest->last_used)) oldest = of;
    }
    if (oldest == NULL) return;
    pop_and_release(pool, oldest);
  }
}

static void block_dealloc(PyObject *self) {
  Block *block = (Block *)self;
  Pool *pool = block->pool;
  SizeClass *of = &pool->classes[block->size_class];
  memcpy(block->memory, &of->free, sizeof of->free);
  of->free = block->memory;
  of->last_used = ++pool->clock;
  pool->cached_bytes += of->size;
  pool->used_bytes -= of->size;
  if (pool->cached_bytes > (size_t)pool->max_cached_bytes)
    shrink(pool, (size_t)pool->max_cached_bytes);
  PyObject_Free(self);
  Py_DECREF(pool);
}

static PyTypeObject block_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcdl.core._native.Block",
    .tp_doc = "Memory of a pool; it returns there when the last array that uses it is gone.",
    .tp_basicsize = sizeof(Block),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = block_dealloc,
};

/* Interned: the interpreter's cache of methods keeps every string that a lookup names. */
static PyObject *empty_array_name;

bool pool_setup(void) {
  if (empty_array_name == NULL) empty_array_name = PyUnicode_InternFromString("empty_array");
  return empty_array_name != NULL && PyType_Ready(&block_type) == 0;
}

static Block *out_of_memory(size_t nbytes) {
  PyErr_Format(PyExc_MemoryError, "the system has no %zu bytes for a result or for temporaries",
               nbytes);
  return NULL;
}

static Block *take(Pool *pool, size_t nbytes) {
  size_t size;
  int index = size_class(nbytes, &size);
  if (index < 0) return out_of_memory(nbytes);
  SizeClass *of = &pool->classes[index];
  of->size = size;
  char *memory = of->free;
  if (memory != NULL) {
    memcpy(&of->free, memory, sizeof of->free);
    pool->cached_bytes -= size;
    ++pool->hits;
  } else {
    ++pool->misses;
    memory = allocate(size);
    if (memory == NULL) {
      shrink(pool, 0);
      memory = allocate(size);
    }
    if (memory == NULL) return out_of_memory(nbytes);
  }
  Block *block = PyObject_New(Block, &block_type);
  if (block == NULL) {
    release(memory, size);
    return NULL;
  }
  block->pool = (Pool *)Py_NewRef(pool);
  block->memory = memory;
  block->size_class = index;
  pool->used_bytes += size;
  if (pool->used_bytes > pool->peak_used_bytes) pool->peak_used_bytes = pool->used_bytes;
  if (size > pool->largest_bytes) pool->largest_bytes = size;
  return block;
}

static PyObject *pool_array(Pool *pool, int ndim, npy_intp const *dims, PyArray_Descr *descr,
                            size_t nbytes) {
  Block *block = NULL;
  if (nbytes >= SMALL_BYTES) {
    block = take(pool, nbytes);
    if (block == NULL) return NULL;
  }
  Py_INCREF(descr); /* which the next call takes over */
  PyObject *array =
      PyArray_NewFromDescr(&PyArray_Type, descr, ndim, dims, NULL,
                           block == NULL ? NULL : block->memory,
                           block == NULL ? 0 : NPY_ARRAY_CARRAY, NULL);
  if (block == NULL) return array;
  if (array == NULL) {
    Py_DECREF(block);
    return NULL;
  }
  if (PyArray_SetBaseObject((PyArrayObject *)array, (PyObject *)block) < 0) {
    Py_DECREF(array);
    return NULL;
  }
  return array;
}

PyObject *empty_array(PyObject *pool, int ndim, npy_intp const *dims, PyArray_Descr *descr,
                      size_t nbytes) {
  /* Small arrays come from NumPy in either case. */
  if (Py_TYPE(pool) == &pool_type || nbytes < SMALL_BYTES)
    return pool_array((Pool *)pool, ndim, dims, descr, nbytes);
  PyObject *shape = PyArray_IntTupleFromIntp(ndim, dims);
  if (shape == NULL) return NULL;
  PyObject *array = PyObject_CallMethodObjArgs(pool, empty_array_name, shape, descr, NULL);
  Py_DECREF(shape);
  if (array != NULL && !PyArray_CheckExact(array)) {
    PyErr_Format(PyExc_TypeError, "empty_array returned %.200s", Py_TYPE(array)->tp_name);
    Py_CLEAR(array);
  }
  return array;
}

static PyObject *pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"max_cached_bytes", NULL};
  Py_ssize_t max_cached_bytes;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:Pool", names, &max_cached_bytes)) return NULL;
  if (max_cached_bytes < 0) {
    PyErr_SetString(PyExc_ValueError, "max_cached_bytes must not be negative");
    return NULL;
  }
  Pool *pool = (Pool *)type->tp_alloc(type, 0); /* zeroed */
  if (pool != NULL) pool->max_cached_bytes = max_cached_bytes;
  return (PyObject *)pool;
}

static void pool_dealloc(PyObject *self) {
  shrink((Pool *)self, 0); /* blocks that are in use hold a reference, so there are none */
  Py_TYPE(self)->tp_free(self);
}

static PyObject *pool_empty_array(PyObject *self, PyObject *args) {
  PyArray_Dims shape = {NULL, 0};
  PyArray_Descr *descr = NULL;
  PyObject *array = NULL;
  if (!PyArg_ParseTuple(args, "O&O&:empty_array", PyArray_IntpConverter, &shape,
                        PyArray_DescrConverter, &descr))
    goto done;
  size_t nbytes = (size_t)PyDataType_ELSIZE(descr);
  for (int i = 0; i < shape.len; ++i) {
    if (shape.ptr[i] < 0) {
      PyErr_SetString(PyExc_ValueError, "negative dimensions are not allowed");
      goto done;
    }
    if (__builtin_mul_overflow(nbytes, (size_t)shape.ptr[i], &nbytes)) {
      out_of_memory(SIZE_MAX);
      goto done;
    }
  }
  array = pool_array((Pool *)self, shape.len, shape.ptr, descr, nbytes);
done:
  PyDimMem_FREE(shape.ptr);
  Py_XDECREF(descr);
  return array;
}

static PyObject *pool_empty(PyObject *self, PyObject *nbytes) {
  npy_intp size = PyLong_AsSsize_t(nbytes);
  if (size == -1 && PyErr_Occurred()) return NULL;
  if (size < 0) {
    PyErr_SetString(PyExc_ValueError, "negative dimensions are not allowed");
    return NULL;
  }
  PyArray_Descr *descr = PyArray_DescrFromType(NPY_UINT8);
  PyObject *array = pool_array((Pool *)self, 1, &size, descr, (size_t)size);
  Py_DECREF(descr);
  return array;
}

static PyObject *pool_clear(PyObject *self, PyObject *Py_UNUSED(unused)) {
  shrink((Pool *)self, 0);
  Py_RETURN_NONE;
}

static PyObject *pool_counters(PyObject *self, PyObject *Py_UNUSED(unused)) {
  Pool *pool = (Pool *)self;
  return Py_BuildValue("nKKnnn", (Py_ssize_t)pool->cached_bytes, (unsigned long long)pool->hits,
                       (unsigned long long)pool->misses, (Py_ssize_t)pool->used_bytes,
                       (Py_ssize_t)pool->peak_used_bytes, (Py_ssize_t)pool->largest_bytes);
}

static PyObject *pool_reset_peak(PyObject *self, PyObject *Py_UNUSED(unused)) {
  Pool *pool = (Pool *)self;
  pool->peak_used_bytes = pool->used_bytes;
  Py_RETURN_NONE;
}

static PyMethodDef pool_methods[] = {
    {"empty", pool_empty, METH_O, "An array u8[nbytes] with undefined content."},
    {"empty_array", pool_empty_array, METH_VARARGS,
     "A C-contiguous array of a shape and dtype with undefined content."},
    {"clear", pool_clear, METH_NOARGS, "Give all cached blocks back to the system."},
    {"counters", pool_counters, METH_NOARGS,
     "Cached bytes, hits, misses, used bytes, their peak, and bytes of the largest block."},
    {"reset_peak", pool_reset_peak, METH_NOARGS, "Let the peak be what is in use now."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pool_members[] = {
    {"max_cached_bytes", T_PYSSIZET, offsetof(Pool, max_cached_bytes), READONLY,
     "Blocks are given back to the system above this size."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject pool_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcdl.core._native.Pool",
    .tp_doc = "Blocks of memory by size class; see funcdl.runtime.cpu_memory.",
    .tp_basicsize = sizeof(Pool),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = pool_new,
    .tp_dealloc = pool_dealloc,
    .tp_methods = pool_methods,
    .tp_members = pool_members,
};
