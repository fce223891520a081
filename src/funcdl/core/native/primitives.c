/* Applications of primitives to arrays outside of all transforms: what functions of several
   primitives mostly consist of.

   `Binder` stands for the method ``Primitive.bind`` and calls that, its twin, for all that it does
   not do: traces, operands that are no live arrays in this process's memory, primitives with several
   results, with effects or with an evaluation of their own, and errors, whose tracebacks lead through
   the twin then. */

#include "native.h"

#include <stddef.h>
#include <structmember.h>

enum { MAX_OPERANDS = 8, MAX_PARAMS = 16 };

static PyTypeObject *primitive_type;
static Py_ssize_t impl_offset, ufuncs_offset, eval_offset, effect_offset, weak_offset,
    multiple_offset;
static PyObject *all_weak, *never_weak; /* the usual rules of weak types */
static PyObject *weak_type_name;

typedef struct {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject *method;
} Binder;

/* One application. */
typedef struct {
  PyObject *primitive;
  PyObject *arguments[1 + MAX_OPERANDS + MAX_PARAMS]; /* ndarrays, then borrowed parameters; the
                                                         first place is free for calls */
  bool weak[MAX_OPERANDS];
  Py_ssize_t count;
  PyObject *names; /* of the parameters; may be NULL */
} Application;

bool primitives_setup(PyObject *type, PyObject *all, PyObject *never) {
  if (!PyType_Check(type)) {
    PyErr_SetString(PyExc_TypeError, "expected the class Primitive");
    return false;
  }
  if ((impl_offset = slot_offset(type, "impl")) < 0 ||
      (ufuncs_offset = slot_offset(type, "ufuncs")) < 0 ||
      (eval_offset = slot_offset(type, "eval")) < 0 ||
      (effect_offset = slot_offset(type, "effect")) < 0 ||
      (weak_offset = slot_offset(type, "weak")) < 0 ||
      (multiple_offset = slot_offset(type, "multiple_results")) < 0)
    return false;
  if (weak_type_name == NULL) weak_type_name = PyUnicode_InternFromString("weak_type");
  if (weak_type_name == NULL) return false;
  Py_XSETREF(primitive_type, (PyTypeObject *)Py_NewRef(type));
  Py_XSETREF(all_weak, Py_NewRef(all));
  Py_XSETREF(never_weak, Py_NewRef(never));
  return true;
}

static PyObject *rule(PyObject *primitive, Py_ssize_t offset) {
  return *(PyObject **)((char *)primitive + offset);
}

static void release(Application *a) {
  for (Py_ssize_t i = 1; i <= a->count; ++i) Py_DECREF(a->arguments[i]);
}

/* False, without an exception, where the twin must serve. */
static bool gather(Application *a, PyObject *const *args, Py_ssize_t count, PyObject *names) {
  PyObject *primitive = args[0];
  Py_ssize_t num_params = names == NULL ? 0 : PyTuple_GET_SIZE(names);
  if (count > MAX_OPERANDS || num_params > MAX_PARAMS ||
      !PyObject_TypeCheck(primitive, primitive_type) || rule(primitive, eval_offset) != Py_None ||
      rule(primitive, effect_offset) != Py_None ||
      rule(primitive, multiple_offset) != Py_False || rule(primitive, weak_offset) == NULL)
    return false;
  PyObject *impl = rule(primitive, impl_offset);
  if (impl == NULL || impl == Py_None) return false;
  a->primitive = primitive;
  a->names = num_params > 0 ? names : NULL;
  a->arguments[0] = NULL;
  for (a->count = 0; a->count < count; ++a->count) {
    PyObject *x = args[1 + a->count];
    PyArrayObject *value = Py_TYPE(x) == array_type ? array_value(x) : NULL;
    int weak = value == NULL ? -1 : array_weak_type(x);
    if (weak < 0) {
      release(a);
      return false;
    }
    a->weak[a->count] = weak;
    a->arguments[1 + a->count] = Py_NewRef(value);
  }
  for (Py_ssize_t i = 0; i < num_params; ++i) a->arguments[1 + count + i] = args[1 + count + i];
  return true;
}

/* The function of NumPy's that does what the primitive does to these operands, borrowed, or NULL:
   their shapes and dtypes need no look by the primitive then. */
static PyObject *known_ufunc(Application const *a) {
  PyObject *ufuncs = rule(a->primitive, ufuncs_offset);
  if (a->count == 0 || a->names != NULL || ufuncs == NULL || !PyDict_CheckExact(ufuncs))
    return NULL;
  PyArrayObject *first = (PyArrayObject *)a->arguments[1];
  PyArray_Descr *descr = PyArray_DESCR(first);
  if (!is_computed_as_is(descr)) return NULL;
  for (Py_ssize_t i = 2; i <= a->count; ++i) {
    PyArrayObject *x = (PyArrayObject *)a->arguments[i];
    if (PyArray_DESCR(x) != descr || !PyArray_SAMESHAPE(x, first)) return NULL;
  }
  PyObject *kind = PyUnicode_FromOrdinal(descr->kind); /* one that Python keeps */
  if (kind == NULL) {
    PyErr_Clear();
    return NULL;
  }
  PyObject *ufunc = PyDict_GetItemWithError(ufuncs, kind);
  if (ufunc == NULL) PyErr_Clear();
  Py_DECREF(kind);
  return ufunc;
}

/* NULL with an exception, if the primitive refuses the operands. */
static PyObject *apply(Application *a) {
  size_t count = (size_t)a->count | PY_VECTORCALL_ARGUMENTS_OFFSET;
  PyObject *ufunc = known_ufunc(a);
  PyObject *function = Py_NewRef(ufunc == NULL ? rule(a->primitive, impl_offset) : ufunc);
  PyObject *out = ufunc == NULL
                      ? PyObject_Vectorcall(function, a->arguments + 1, count, a->names)
                      : call_ignoring_errors(function, a->arguments + 1, count);
  Py_DECREF(function);
  return out;
}

static bool has_weak_type(Application const *a) {
  for (Py_ssize_t i = 0; a->names != NULL && i < PyTuple_GET_SIZE(a->names); ++i)
    if (PyUnicode_Compare(PyTuple_GET_ITEM(a->names, i), weak_type_name) == 0) return true;
  return false;
}

/* Whether the result is weakly typed; -1 with an exception. */
static int is_weak(Application *a) {
  bool any = a->count == 0, all = true;
  for (Py_ssize_t i = 0; i < a->count; ++i) {
    any |= a->weak[i];
    all &= a->weak[i];
  }
  if (!any && !has_weak_type(a)) return 0;
  PyObject *weak = rule(a->primitive, weak_offset);
  if (weak == all_weak) return all;
  if (weak == never_weak) return 0;
  PyObject *flags = PyList_New(a->count);
  if (flags == NULL) return -1;
  for (Py_ssize_t i = 0; i < a->count; ++i)
    PyList_SET_ITEM(flags, i, Py_NewRef(a->weak[i] ? Py_True : Py_False));
  /* The flags take the place of the last operand; without one, the free place is theirs. */
  PyObject **place = a->arguments + a->count, *last = *place;
  *place = flags;
  PyObject *answer = PyObject_Vectorcall(weak, place, 1, a->names);
  *place = last;
  Py_DECREF(flags);
  int found = answer == NULL ? -1 : PyObject_IsTrue(answer);
  Py_XDECREF(answer);
  return found;
}

/* Of a view, memory has several owners, so none of them may donate it. */
static void protect(Application const *a, PyArrayObject *out) {
  if (PyArray_BASE(out) == NULL) return;
  PyArray_CLEARFLAGS(out, NPY_ARRAY_WRITEABLE);
  for (Py_ssize_t i = 1; i <= a->count; ++i)
    PyArray_CLEARFLAGS((PyArrayObject *)a->arguments[i], NPY_ARRAY_WRITEABLE);
}

/* NULL, without an exception, where the twin must serve. */
static PyObject *evaluate(PyObject *const *args, Py_ssize_t count, PyObject *names) {
  Application application;
  if (!gather(&application, args, count, names)) return NULL;
  PyObject *out = apply(&application), *result = NULL;
  bool is_array = out != NULL && PyArray_Check(out);
  if (is_array || (out != NULL && PyArray_IsScalar(out, Generic))) {
    int weak = is_weak(&application);
    if (is_array) protect(&application, (PyArrayObject *)out);
    if (weak >= 0) result = array_wrap(Py_NewRef(out), weak, NULL);
  }
  Py_XDECREF(out);
  release(&application);
  if (result == NULL && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception)) PyErr_Clear();
  return result;
}

static PyObject *binder_call(PyObject *self, PyObject *const *args, size_t flags,
                             PyObject *names) {
  Py_ssize_t count = PyVectorcall_NARGS(flags) - 1;
  if (count >= 0 && evaluates_eagerly()) {
    PyObject *result = evaluate(args, count, names);
    if (result != NULL || PyErr_Occurred()) return result;
  }
  return PyObject_Vectorcall(((Binder *)self)->method, args, flags, names);
}

static PyObject *binder_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(type)) {
  if (instance == NULL || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

static PyObject *binder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"method", NULL};
  PyObject *method;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Binder", names, &method)) return NULL;
  Binder *binder = (Binder *)type->tp_alloc(type, 0);
  if (binder == NULL) return NULL;
  binder->vectorcall = binder_call;
  binder->method = Py_NewRef(method);
  return (PyObject *)binder;
}

static int binder_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(((Binder *)self)->method);
  return 0;
}

static int binder_clear(PyObject *self) {
  Py_CLEAR(((Binder *)self)->method);
  return 0;
}

static void binder_dealloc(PyObject *self) {
  PyObject_GC_UnTrack(self);
  binder_clear(self);
  Py_TYPE(self)->tp_free(self);
}

static PyMemberDef binder_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(Binder, method), READONLY, "The method in Python."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject binder_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcdl.core._native.Binder",
    .tp_doc = "The application of primitives.",
    .tp_basicsize = sizeof(Binder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_vectorcall_offset = offsetof(Binder, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = binder_get,
    .tp_new = binder_new,
    .tp_dealloc = binder_dealloc,
    .tp_traverse = binder_traverse,
    .tp_clear = binder_clear,
    .tp_members = binder_members,
};
