/* Compiled programs: all that a call needs, read once and checked.

   `funcdl.compiler.cpu.executable.CpuExecutable` is the twin. */

#include "program.h"

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
    if (unflatten != Py_None || is_output_template(template, p->num_results)) return (PyObject *)p;
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
