/* A compiled program, as the parts that make, call and rebuild for it see it. */

#ifndef FUNCDL_PROGRAM_H
#define FUNCDL_PROGRAM_H

#include "native.h"

typedef int64_t const *(*EntryPoint)(void **slots, const int64_t *words);

typedef struct {
  int type_num;
  size_t nbytes;
  bool donated; /* deleted by the call */
  PyObject *aval;
} Input;

typedef struct {
  PyArray_Descr *descr;
  npy_intp *dims;
  int ndim;
  size_t nbytes;
  Py_ssize_t donor; /* the input whose memory it may take, or -1 */
} Output;

typedef struct {
  Py_ssize_t slot;   /* of an input, constant or output; -1 for a literal */
  PyObject *literal; /* an ndarray, or NULL */
  bool weak_type;
  PyObject *aval;
} Result;

typedef struct {
  PyObject_HEAD
  EntryPoint function; /* NULL where there is nothing to compute */
  PyObject *words;     /* an int64 ndarray, the function's second argument */
  PyObject *fail;      /* raises what two numbers mean that the function returned */
  Py_ssize_t num_inputs, num_consts, num_outputs, num_results;
  Input *inputs;
  Output *outputs;
  Result *results;
  bool in_order; /* the results are the outputs */
  bool donates;
  size_t arena_bytes;
  size_t num_marks; /* size of the table that finds arrays passed twice */
  PyObject *consts; /* a tuple of ndarrays */
  PyObject *pool;
  PyObject *template;  /* the output's tree, with the number of each result at its place */
  PyObject *unflatten; /* rebuilds trees that have other nodes; else None */
} Program;

/* output_tree.c: the tree that a call returns. */

/* Whether every leaf of an output's template is the number of one of its results. */
bool is_output_template(PyObject *template, Py_ssize_t num_results);
/* A new reference to the program's output, with `results` at the places of their numbers. */
PyObject *rebuild_output(Program const *p, PyObject *const *results);

#endif
