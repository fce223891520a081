/* A call of a compiled program: the table of addresses, the call itself, and its results.

   `funcdl.compiler.cpu.executable.CpuExecutable` and `funcdl.transforms.jit` are the twins, and say
   what is donated when. */

#include "program.h"

#include <math.h>

/* Room for a scalar argument of a dtype that the twin would convert it to in the same way. */
static bool accepts_scalar(Input const *input, enum LeafKind kind) {
  switch (kind) {
    case LEAF_BOOL:
      return input->type_num == NPY_BOOL;
    case LEAF_FLOAT:
      return input->type_num == NPY_FLOAT || input->type_num == NPY_DOUBLE;
    default:
      return PyTypeNum_ISSIGNED(input->type_num) && PyTypeNum_ISINTEGER(input->type_num) &&
             (input->nbytes == 4 || input->nbytes == 8);
  }
}

bool program_accepts(PyObject *self, Arguments const *a) {
  Program *p = (Program *)self;
  if (a->num_leaves != p->num_inputs) return false;
  for (Py_ssize_t i = 0; i < p->num_inputs; ++i) {
    PyObject *value = a->leaves[2 * i + 1];
    enum LeafKind kind = leaf_kind(a->leaves[2 * i]);
    if (kind == LEAF_ARRAY || kind == LEAF_NUMPY) {
      /* NumPy arrays of other types are converted by the twin. */
      PyArrayObject *array = (PyArrayObject *)value;
      if (!PyArray_EquivTypenums(PyArray_DESCR(array)->type_num, p->inputs[i].type_num) ||
          (size_t)PyArray_NBYTES(array) != p->inputs[i].nbytes)
        return false;
    } else if (!accepts_scalar(&p->inputs[i], kind)) {
      return false;
    }
  }
  /* A result that is an argument must be an array's: others are the caller's to change. */
  for (Py_ssize_t i = 0; i < p->num_results; ++i) {
    Py_ssize_t slot = p->results[i].slot;
    if (slot >= 0 && slot < p->num_inputs && leaf_kind(a->leaves[2 * slot]) != LEAF_ARRAY)
      return false;
  }
  return true;
}

/* False, without an exception, for values that the twin warns of or refuses. */
static bool write_scalar(Input const *input, PyObject *x, enum LeafKind kind, void *memory) {
  if (kind == LEAF_BOOL) {
    *(npy_bool *)memory = x == Py_True;
    return true;
  }
  if (kind == LEAF_FLOAT) {
    double value = PyFloat_AS_DOUBLE(x);
    if (input->nbytes == sizeof(double)) {
      *(double *)memory = value;
      return true;
    }
    float rounded = (float)value;
    *(float *)memory = rounded;
    return !isinf(rounded) || isinf(value);
  }
  int overflow;
  long long value = PyLong_AsLongLongAndOverflow(x, &overflow);
  if (overflow != 0) return false;
  if (input->nbytes == sizeof(int64_t)) {
    *(int64_t *)memory = value;
    return true;
  }
  *(int32_t *)memory = (int32_t)value;
  return value == (int32_t)value;
}

/* Whether an array is passed twice, which may be read after the program has written to it.
   `marks` is zeroed memory for a hash table of their addresses. */
static bool has_duplicates(Program const *p, Arguments const *a, void **marks) {
  size_t mask = p->num_marks - 1;
  for (Py_ssize_t i = 0; i < p->num_inputs; ++i) {
    void *value = a->leaves[2 * i + 1];
    if (leaf_kind(a->leaves[2 * i]) != LEAF_ARRAY) continue;
    size_t place = (uintptr_t)value / 64 & mask;
    for (; marks[place] != NULL; place = (place + 1) & mask)
      if (marks[place] == value) return true;
    marks[place] = value;
  }
  return false;
}

static PyObject *make_output(Program const *p, Output const *output, Arguments const *a,
                             bool donates) {
  if (donates && output->donor >= 0) {
    PyObject *value = a->leaves[2 * output->donor + 1];
    if (leaf_kind(a->leaves[2 * output->donor]) == LEAF_ARRAY &&
        PyArray_ISWRITEABLE((PyArrayObject *)value))
      return Py_NewRef(value);
  }
  return empty_array(p->pool, output->ndim, output->dims, output->descr, output->nbytes);
}

/* A new reference to what stands in a slot. */
static PyObject *slot_value(Program const *p, Arguments const *a, PyObject *const *outs,
                            Py_ssize_t slot) {
  if (slot < p->num_inputs) return Py_NewRef(a->leaves[2 * slot + 1]);
  slot -= p->num_inputs;
  if (slot < p->num_consts) return Py_NewRef(PyTuple_GET_ITEM(p->consts, slot));
  return Py_NewRef(outs[slot - p->num_consts]);
}

static PyObject *wrap_result(Program const *p, Arguments const *a, PyObject *const *outs,
                             Py_ssize_t number) {
  Result const *result = &p->results[number];
  PyObject *value = result->literal != NULL ? Py_NewRef(result->literal)
                                            : slot_value(p, a, outs, result->slot);
  /* Results that are inputs, constants or each other share memory: never to be donated. */
  if (!p->in_order) PyArray_CLEARFLAGS((PyArrayObject *)value, NPY_ARRAY_WRITEABLE);
  return array_wrap(value, result->weak_type, result->aval);
}

/* The memory of one call, cut from one piece. */
typedef struct {
  void **slots;       /* the table of addresses: inputs, constants, outputs, arena */
  uint64_t *scalars;  /* the scalars among the inputs */
  PyObject **outs;    /* one for each output */
  PyObject **results; /* one for each result */
  void **marks;
} Frame;

static size_t frame_words(Program const *p) {
  return (size_t)(2 * p->num_inputs + p->num_consts + 2 * p->num_outputs + 1 + p->num_results) +
         (p->donates ? p->num_marks : 0);
}

static Frame cut_frame(Program const *p, void *memory) {
  Frame frame;
  frame.slots = memory;
  frame.scalars = (uint64_t *)(frame.slots + p->num_inputs + p->num_consts + p->num_outputs + 1);
  frame.outs = (PyObject **)(frame.scalars + p->num_inputs);
  frame.results = frame.outs + p->num_outputs;
  frame.marks = (void **)(frame.results + p->num_results);
  return frame;
}

/* Fill the slots of inputs and constants. False, without an exception, if the twin must serve. */
static bool fill_inputs(Program const *p, Arguments const *a, Frame *frame) {
  for (Py_ssize_t i = 0; i < p->num_inputs; ++i) {
    PyObject *value = a->leaves[2 * i + 1];
    if (PyArray_CheckExact(value)) {
      frame->slots[i] = PyArray_DATA((PyArrayObject *)value);
      continue;
    }
    enum LeafKind kind = leaf_kind(a->leaves[2 * i]);
    if (!write_scalar(&p->inputs[i], value, kind, &frame->scalars[i])) return false;
    frame->slots[i] = &frame->scalars[i];
  }
  for (Py_ssize_t i = 0; i < p->num_consts; ++i)
    frame->slots[p->num_inputs + i] =
        PyArray_DATA((PyArrayObject *)PyTuple_GET_ITEM(p->consts, i));
  return true;
}

static void delete_donated(Program const *p, Arguments const *a) {
  for (Py_ssize_t i = 0; i < p->num_inputs; ++i)
    if (p->inputs[i].donated && Py_TYPE(a->leaves[2 * i]) == array_type)
      array_delete(a->leaves[2 * i], p->inputs[i].aval);
}

static bool run(Program const *p, Arguments const *a, Frame *frame) {
  if (p->function == NULL) return true;
  _Alignas(64) char small[SMALL_BYTES];
  PyObject *arena = NULL;
  Py_ssize_t last = p->num_inputs + p->num_consts + p->num_outputs;
  frame->slots[last] = small;
  if (p->arena_bytes >= SMALL_BYTES) {
    npy_intp size = (npy_intp)p->arena_bytes;
    PyArray_Descr *bytes = PyArray_DescrFromType(NPY_UINT8);
    arena = empty_array(p->pool, 1, &size, bytes, p->arena_bytes);
    Py_DECREF(bytes);
    if (arena == NULL) return false;
    frame->slots[last] = PyArray_DATA((PyArrayObject *)arena);
  }
  /* All arrays are owned by the arguments or the frame, so that other threads may drop theirs. */
  int64_t const *failure;
  Py_BEGIN_ALLOW_THREADS
  failure = p->function(frame->slots, PyArray_DATA((PyArrayObject *)p->words));
  Py_END_ALLOW_THREADS
  Py_XDECREF(arena);
  if (failure == NULL) return true;
  long long nbytes = failure[0], label = failure[1];
  delete_donated(p, a); /* they may have been overwritten */
  Py_XDECREF(PyObject_CallFunction(p->fail, "LL", nbytes, label));
  if (!PyErr_Occurred()) PyErr_NoMemory();
  return false;
}

/* Outputs, the call, results, donated arguments: an exception where false is returned. */
static bool compute(Program const *p, Arguments const *a, Frame *frame) {
  bool donates = p->donates && !has_duplicates(p, a, frame->marks);
  for (Py_ssize_t i = 0; i < p->num_outputs; ++i) {
    PyObject *out = make_output(p, &p->outputs[i], a, donates);
    if (out == NULL) return false;
    frame->outs[i] = out;
    frame->slots[p->num_inputs + p->num_consts + i] = PyArray_DATA((PyArrayObject *)out);
  }
  if (!run(p, a, frame)) return false;
  for (Py_ssize_t i = 0; i < p->num_results; ++i)
    if ((frame->results[i] = wrap_result(p, a, frame->outs, i)) == NULL) return false;
  delete_donated(p, a);
  return true;
}

PyObject *program_call(PyObject *self, Arguments *a) {
  Program *p = (Program *)self;
  void *small[256], *memory = small;
  size_t words = frame_words(p);
  if (words > Py_ARRAY_LENGTH(small)) {
    memory = PyMem_Malloc(words * sizeof(void *));
    if (memory == NULL) return PyErr_NoMemory();
  }
  memset(memory, 0, words * sizeof(void *)); /* what is not made yet is NULL */
  Frame frame = cut_frame(p, memory);
  PyObject *tree = NULL;
  if (!fill_inputs(p, a, &frame))
    tree = Py_NewRef(Py_NotImplemented);
  else if (compute(p, a, &frame))
    tree = rebuild_output(p, frame.results);
  for (Py_ssize_t i = 0; i < p->num_outputs; ++i) Py_XDECREF(frame.outs[i]);
  for (Py_ssize_t i = 0; i < p->num_results; ++i) Py_XDECREF(frame.results[i]);
  if (memory != small) PyMem_Free(memory);
  return tree;
}
