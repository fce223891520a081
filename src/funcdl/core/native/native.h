/* What the parts of the extension `funcdl.core._native` share.

   Its types are static and hold process-wide pointers to Python objects: the extension serves the
   main interpreter only, as NumPy does, and relies on the interpreter lock, which Python 3.13t
   turns on for it. Nothing here starts threads or holds locks, so that a fork needs no care. */

#ifndef FUNCDL_NATIVE_H
#define FUNCDL_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

/* Built with NumPy 2's headers, running with 1.26 and later. */
#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL funcdl_native_array_api
#ifndef FUNCDL_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

/* array.c: funcdl.core.array.Array, whose slots are read and written in place. */

extern PyTypeObject *array_type;

bool array_setup(PyObject *type);
/* Where a slot of a class lies in its instances; -1 with an exception if there is none. */
Py_ssize_t slot_offset(PyObject *type, char const *name);
/* The ndarray of a live array, borrowed; NULL, without an exception, where there is none. */
PyArrayObject *array_value(PyObject *array);
/* 0 or 1; -1, without an exception, where the slot holds something else. */
int array_weak_type(PyObject *array);
/* A new array; takes over `value`, also on failure. `aval` may be NULL. */
PyObject *array_wrap(PyObject *value, bool weak_type, PyObject *aval);
/* Mark as deleted; `aval` is what errors will say that the array was. */
void array_delete(PyObject *array, PyObject *aval);

/* pool.c: memory of outputs. */

extern PyTypeObject pool_type;

bool pool_setup(void);

#define SMALL_BYTES 4096 /* below, malloc reuses memory by itself */

/* A C-contiguous ndarray with undefined content. `pool` is a Pool, or a Python object with the
   method `empty_array(shape, dtype)`. `descr` is borrowed. */
PyObject *empty_array(PyObject *pool, int ndim, npy_intp const *dims, PyArray_Descr *descr,
                      size_t nbytes);

/* signature.c: arguments, flattened. */

enum { INLINE_WORDS = 192, INLINE_OBJECTS = 32, INLINE_LEAVES = 64, MAX_DEPTH = 64 };

/* The leaves of a call's arguments, and all else that a compiled program depends on: `words` has
   structure and types, `objects` has dict keys, static values and the like. Owns what it points
   to, since other threads may change containers while the program runs. */
typedef struct {
  uint64_t *words;
  PyObject **objects;
  PyObject **leaves; /* pairs: the leaf itself, and its ndarray or Python scalar */
  Py_ssize_t num_words, num_objects, num_leaves;
  Py_ssize_t max_words, max_objects, max_leaves;
  uint64_t inline_words[INLINE_WORDS];
  PyObject *inline_objects[INLINE_OBJECTS];
  PyObject *inline_leaves[2 * INLINE_LEAVES];
} Arguments;

/* Which parameters are static. */
typedef struct {
  uint64_t positions; /* a bit for each of the first 64 */
  PyObject *names;    /* a frozenset, or NULL where there are none */
} Statics;

enum LeafKind { LEAF_ARRAY = 1, LEAF_NUMPY, LEAF_BOOL, LEAF_INT, LEAF_FLOAT };

/* `mode`: the flags that programs depend on, which takes part in the signature. */
void arguments_init(Arguments *arguments, PyObject *mode);
void arguments_clear(Arguments *arguments);
/* False, without an exception, where something is for the twin to serve or to refuse. */
bool arguments_flatten(Arguments *arguments, PyObject *args, PyObject *kwargs,
                       Statics const *statics);
uint64_t arguments_hash(Arguments const *arguments);
enum LeafKind leaf_kind(PyObject *leaf);

bool signature_setup(PyObject *classify);
PyObject *forget_nodes(PyObject *module, PyObject *unused);

/* program.c and program_call.c: compiled programs, and calls of them. */

extern PyTypeObject program_type;

/* Whether the program can be called with leaves of these kinds. */
bool program_accepts(PyObject *program, Arguments const *arguments);
/* The rebuilt output, or NotImplemented where the twin must serve. */
PyObject *program_call(PyObject *program, Arguments *arguments);

/* table.c: programs by signature. */

extern PyTypeObject table_type;

bool table_setup(PyObject *context, PyObject *eval_trace);
/* Whether operators may compute: the current trace is the evaluating one, of this very class. */
bool serves_eager_calls(PyTypeObject const *plain);
PyObject *set_mode(PyObject *module, PyObject *mode);

/* operators.c: eager arithmetic. */

extern PyTypeObject operator_type;

/* The evaluating trace's class; NumPy's state, a context variable or None, and its value in which
   floating-point errors are ignored. */
bool operators_setup(PyObject *trace_type, PyObject *variable, PyObject *ignoring);
/* Whether what is called is computed at once, by NumPy and without a look for NaNs. */
bool evaluates_eagerly(void);
/* NumPy's own types that it computes as they are, as half precision is not. */
bool is_computed_as_is(PyArray_Descr const *descr);
/* A ufunc's value with floating-point errors ignored, where operations are evaluated eagerly. The
   arguments are those of a vectorcall. */
PyObject *call_ignoring_errors(PyObject *ufunc, PyObject *const *operands, size_t count);

/* primitives.c: eager applications of primitives. */

extern PyTypeObject binder_type;

/* The class Primitive, and two of its rules for weak types: of all operands, and never. */
bool primitives_setup(PyObject *type, PyObject *all, PyObject *never);

#endif
