/* Compiled programs: the table of addresses, the call, and its results as a tree of arrays.

   `funcdl.compiler.cpu.executable.CpuExecutable` and `funcdl.transforms.jit` are the twins, and say
   what is donated when. */

#include "native.h"

#include <math.h>

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

/* Making a program. */

static bool read_inputs(Program *p, PyObject *avals, PyObject *donated) {
  p->num_inputs = PyTuple_GET_SIZE(avals);
  if (PyTuple_GET_SIZE(donated) != p->num_inputs) {
    PyErr_SetString(PyExc_ValueError, "donated needs a flag for each input");
    return false;
  }
  p->inputs = PyMem_Calloc((size_t)p->num_inputs + 1, sizeof *p->inputs);
  if (p->inputs == NULL) {
    PyErr_NoMemory();
    return false;
  }
  for (Py_ssize_t i = 0; i < p->num_inputs; ++i) {
    Input *input = &p->inputs[i];
    input->aval = Py_NewRef(PyTuple_GET_ITEM(avals, i));
    input->donated = PyTuple_GET_ITEM(donated, i) == Py_True;
    PyObject *dtype = PyObject_GetAttrString(input->aval, "dtype");
    PyObject *nbytes = PyObject_GetAttrString(input->aval, "nbytes");
    bool valid = dtype != NULL && nbytes != NULL && PyArray_DescrCheck(dtype);
    if (valid) {
      input->type_num = ((PyArray_Descr *)dtype)->type_num;
      input->nbytes = PyLong_AsSize_t(nbytes);
    } else if (!PyErr_Occurred()) {
      PyErr_SetString(PyExc_TypeError, "an aval's dtype must be a NumPy dtype");
    }
    Py_XDECREF(dtype);
    Py_XDECREF(nbytes);
    if (PyErr_Occurred()) return false;
  }
  return true;
}

static bool read_output(Program const *p, Output *output, PyObject *spec) {
  PyArray_Dims shape = {NULL, 0};
  bool done = false;
  if (!PyArg_ParseTuple(spec, "O&O&n", PyArray_IntpConverter, &shape, PyArray_DescrConverter,
                        &output->descr, &output->donor))
    goto finally;
  output->ndim = shape.len;
  output->dims = PyMem_Malloc(((size_t)shape.len + 1) * sizeof *output->dims);
  if (output->dims == NULL) {
    PyErr_NoMemory();
    goto finally;
  }
  output->nbytes = (size_t)PyDataType_ELSIZE(output->descr);
  for (int i = 0; i < shape.len; ++i) {
    output->dims[i] = shape.ptr[i];
    output->nbytes *= (size_t)shape.ptr[i];
  }
  if (output->donor < -1 || output->donor >= p->num_inputs ||
      (output->donor >= 0 && p->inputs[output->donor].nbytes != output->nbytes))
    PyErr_Format(PyExc_ValueError, "input %zd cannot be an output's donor", output->donor);
  else
    done = true;
finally:
  PyDimMem_FREE(shape.ptr);
  return done;
}

static bool read_outputs(Program *p, PyObject *specs) {
  p->num_outputs = PyTuple_GET_SIZE(specs);
  p->outputs = PyMem_Calloc((size_t)p->num_outputs + 1, sizeof *p->outputs);
  if (p->outputs == NULL) {
    PyErr_NoMemory();
    return false;
  }
  for (Py_ssize_t i = 0; i < p->num_outputs; ++i) {
    if (!read_output(p, &p->outputs[i], PyTuple_GET_ITEM(specs, i))) return false;
    p->donates |= p->outputs[i].donor >= 0;
  }
  p->num_marks = 4;
  while (p->num_marks < 2 * (size_t)p->num_inputs) p->num_marks *= 2;
  return true;
}

static bool read_result(Program const *p, Result *result, PyObject *place, PyObject *aval) {
  result->aval = Py_NewRef(aval);
  PyObject *weak_type = PyObject_GetAttrString(aval, "weak_type");
  if (weak_type == NULL) return false;
  result->weak_type = weak_type == Py_True;
  Py_DECREF(weak_type);
  result->slot = -1;
  if (PyArray_CheckExact(place)) {
    result->literal = Py_NewRef(place);
    return true;
  }
  result->slot = PyLong_AsSsize_t(place);
  if (PyErr_Occurred()) return false;
  if (result->slot >= 0 && result->slot < p->num_inputs + p->num_consts + p->num_outputs)
    return true;
  PyErr_Format(PyExc_ValueError, "there is no slot %zd", result->slot);
  return false;
}

static bool read_results(Program *p, PyObject *places, PyObject *avals) {
  p->num_results = PyTuple_GET_SIZE(avals);
  if (PyTuple_GET_SIZE(places) != p->num_results) {
    PyErr_SetString(PyExc_ValueError, "results needs a place for each output aval");
    return false;
  }
  p->results = PyMem_Calloc((size_t)p->num_results + 1, sizeof *p->results);
  if (p->results == NULL) {
    PyErr_NoMemory();
    return false;
  }
  p->in_order = p->num_results == p->num_outputs;
  for (Py_ssize_t i = 0; i < p->num_results; ++i) {
    Result *result = &p->results[i];
    if (!read_result(p, result, PyTuple_GET_ITEM(places, i), PyTuple_GET_ITEM(avals, i)))
      return false;
    p->in_order &= result->slot == p->num_inputs + p->num_consts + i;
  }
  return true;
}

static bool read_consts(Program *p, PyObject *consts) {
  p->num_consts = PyTuple_GET_SIZE(consts);
  p->consts = Py_NewRef(consts);
  for (Py_ssize_t i = 0; i < p->num_consts; ++i) {
    PyObject *value = PyTuple_GET_ITEM(consts, i);
    if (!PyArray_CheckExact(value) || !PyArray_IS_C_CONTIGUOUS((PyArrayObject *)value)) {
      PyErr_SetString(PyExc_TypeError, "constants must be C-contiguous ndarrays");
      return false;
    }
  }
  return true;
}

/* Whether every leaf of the output's template is the number of a result. */
static bool is_template(PyObject *x, Py_ssize_t num_results, int depth) {
  if (x == Py_None) return true;
  if (PyLong_CheckExact(x)) {
    Py_ssize_t number = PyLong_AsSsize_t(x);
    PyErr_Clear();
    return number >= 0 && number < num_results;
  }
  if (depth >= MAX_DEPTH) return false;
  if (PyTuple_Check(x) || PyList_CheckExact(x)) {
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(x); ++i)
      if (!is_template(PySequence_Fast_GET_ITEM(x, i), num_results, depth + 1)) return false;
    return true;
  }
  if (!PyDict_CheckExact(x)) return false;
  PyObject *item;
  Py_ssize_t place = 0;
  while (PyDict_Next(x, &place, NULL, &item))
    if (!is_template(item, num_results, depth + 1)) return false;
  return true;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"function", "in_avals", "donated",     "consts", "outputs",  "results",
                          "out_avals", "pool",    "arena_bytes", "template", "unflatten",
                          "words",     "fail",    NULL};
  PyObject *in_avals, *donated, *consts, *outputs, *results, *out_avals, *pool, *template,
      *unflatten, *words, *fail;
  Py_ssize_t function, arena_bytes;
  PyTypeObject *tuple = &PyTuple_Type;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nO!O!O!O!O!O!OnOOO!O:Program", names, &function,
                                   tuple, &in_avals, tuple, &donated, tuple, &consts, tuple,
                                   &outputs, tuple, &results, tuple, &out_avals, &pool,
                                   &arena_bytes, &template, &unflatten, &PyArray_Type, &words,
                                   &fail))
    return NULL;
  if (arena_bytes < 0) {
    PyErr_SetString(PyExc_ValueError, "arena_bytes must not be negative");
    return NULL;
  }
  if (PyArray_TYPE((PyArrayObject *)words) != NPY_INT64 ||
      !PyArray_ISCARRAY_RO((PyArrayObject *)words)) {
    PyErr_SetString(PyExc_ValueError, "words must be a contiguous array of int64");
    return NULL;
  }
  Program *p = (Program *)type->tp_alloc(type, 0);
  if (p == NULL) return NULL;
  p->function = (EntryPoint)(uintptr_t)function;
  p->arena_bytes = (size_t)arena_bytes;
  p->words = Py_NewRef(words);
  p->fail = Py_NewRef(fail);
  p->pool = Py_NewRef(pool);
  p->template = Py_NewRef(template);
  p->unflatten = Py_NewRef(unflatten);
  if (read_inputs(p, in_avals, donated) && read_consts(p, consts) && read_outputs(p, outputs) &&
      read_results(p, results, out_avals)) {
    if (unflatten != Py_None || is_template(template, p->num_results, 0)) return (PyObject *)p;
    PyErr_SetString(PyExc_ValueError, "a leaf of the template is not the number of a result");
  }
  Py_DECREF(p);
  return NULL;
}

static int program_traverse(PyObject *self, visitproc visit, void *arg) {
  Program *p = (Program *)self;
  Py_VISIT(p->template); /* the only parts that can lead back here */
  Py_VISIT(p->unflatten);
  return 0;
}

static int program_clear(PyObject *self) {
  Program *p = (Program *)self;
  Py_CLEAR(p->template);
  Py_CLEAR(p->unflatten);
  return 0;
}

static void program_dealloc(PyObject *self) {
  Program *p = (Program *)self;
  PyObject_GC_UnTrack(self);
  program_clear(self);
  for (Py_ssize_t i = 0; p->inputs != NULL && i < p->num_inputs; ++i)
    Py_XDECREF(p->inputs[i].aval);
  for (Py_ssize_t i = 0; p->outputs != NULL && i < p->num_outputs; ++i) {
    Py_XDECREF(p->outputs[i].descr);
    PyMem_Free(p->outputs[i].dims);
  }
  for (Py_ssize_t i = 0; p->results != NULL && i < p->num_results; ++i) {
    Py_XDECREF(p->results[i].literal);
    Py_XDECREF(p->results[i].aval);
  }
  PyMem_Free(p->inputs);
  PyMem_Free(p->outputs);
  PyMem_Free(p->results);
  Py_XDECREF(p->consts);
  Py_XDECREF(p->words);
  Py_XDECREF(p->fail);
  Py_XDECREF(p->pool);
  Py_TYPE(self)->tp_free(self);
}

/* Calling a program. */

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

/* The template with the results in the places of their numbers. */
static PyObject *rebuild(PyObject *x, PyObject *const *results) {
  if (PyLong_CheckExact(x)) return Py_NewRef(results[PyLong_AsSsize_t(x)]);
  if (PyTuple_Check(x) || PyList_CheckExact(x)) {
    Py_ssize_t size = PySequence_Fast_GET_SIZE(x);
    PyObject *items = PyList_CheckExact(x) ? PyList_New(size) : PyTuple_New(size);
    if (items == NULL) return NULL;
    for (Py_ssize_t i = 0; i < size; ++i) {
      PyObject *item = rebuild(PySequence_Fast_GET_ITEM(x, i), results);
      if (item == NULL) {
        Py_DECREF(items);
        return NULL;
      }
      if (PyList_CheckExact(x))
        PyList_SET_ITEM(items, i, item);
      else
        PyTuple_SET_ITEM(items, i, item);
    }
    if (PyTuple_CheckExact(x) || PyList_CheckExact(x)) return items;
    PyObject *named = PyObject_Call((PyObject *)Py_TYPE(x), items, NULL);
    Py_DECREF(items);
    return named;
  }
  if (!PyDict_CheckExact(x)) return Py_NewRef(x); /* None */
  PyObject *dict = PyDict_New(), *key, *item;
  Py_ssize_t place = 0;
  while (dict != NULL && PyDict_Next(x, &place, &key, &item)) {
    PyObject *value = rebuild(item, results);
    if (value == NULL || PyDict_SetItem(dict, key, value) < 0) Py_CLEAR(dict);
    Py_XDECREF(value);
  }
  return dict;
}

static PyObject *rebuild_output(Program const *p, PyObject *const *results) {
  if (p->unflatten == Py_None) return rebuild(p->template, results);
  PyObject *list = PyList_New(p->num_results);
  if (list == NULL) return NULL;
  for (Py_ssize_t i = 0; i < p->num_results; ++i)
    PyList_SET_ITEM(list, i, Py_NewRef(results[i]));
  PyObject *tree = PyObject_CallOneArg(p->unflatten, list);
  Py_DECREF(list);
  return tree;
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

PyTypeObject program_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcdl.core._native.Program",
    .tp_doc = "A compiled program with all that a call of it needs.",
    .tp_basicsize = sizeof(Program),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = program_new,
    .tp_dealloc = program_dealloc,
    .tp_traverse = program_traverse,
    .tp_clear = program_clear,
};
