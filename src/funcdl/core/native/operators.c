/* Eager operators on small arrays, where Python code costs more than the arithmetic.

   An operator stands for a method such as ``__add__``, and calls that method, its twin, for all
   that it does not do: other operands than two arrays of one shape and type, or a float array and a
   number, and results of another type than expected. */

#include "native.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <structmember.h>

static PyObject *errors_variable; /* NumPy's state, and its value that ignores all errors */
static PyObject *ignoring_errors;
static PyArray_Descr *bool_descr;
static PyTypeObject *plain_trace_type; /* of an evaluating trace that only evaluates */

typedef struct {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject *ufunc;
  PyObject *method;
  bool compares; /* its results are bools, and never weakly typed */
} Operator;

bool operators_setup(PyObject *trace_type, PyObject *variable, PyObject *ignoring) {
  if (!PyType_Check(trace_type) || (variable != Py_None && !PyContextVar_CheckExact(variable))) {
    PyErr_SetString(PyExc_TypeError, "expected a class, and a context variable or None");
    return false;
  }
  if (bool_descr == NULL) bool_descr = PyArray_DescrFromType(NPY_BOOL);
  Py_XSETREF(plain_trace_type, (PyTypeObject *)Py_NewRef(trace_type));
  Py_XSETREF(errors_variable, variable == Py_None ? NULL : Py_NewRef(variable));
  Py_XSETREF(ignoring_errors, Py_NewRef(ignoring));
  return true;
}

/* Numbers that are computed in their own type, as half precision is not, and by NumPy's rules, as
   the order of complex numbers is not. */
static bool is_served(PyArray_Descr const *descr, bool compares) {
  int number = descr->type_num;
  return PyTypeNum_ISNUMBER(number) && !PyTypeNum_ISBOOL(number) && number != NPY_HALF &&
         !(compares && PyTypeNum_ISCOMPLEX(number)) && PyArray_ISNBO(descr->byteorder);
}

/* Whether a Python number surely takes a float array's type, without a word of its rounding. */
static bool is_served_beside(PyObject *number, PyArray_Descr const *descr) {
  bool is_single = descr->type_num == NPY_FLOAT;
  if (!is_single && descr->type_num != NPY_DOUBLE) return false;
  if (PyFloat_CheckExact(number)) {
    double value = PyFloat_AS_DOUBLE(number);
    return !is_single || fabs(value) <= FLT_MAX || !isfinite(value);
  }
  if (!PyLong_CheckExact(number)) return false;
  int overflow;
  long value = PyLong_AsLongAndOverflow(number, &overflow);
  return overflow == 0 && -(1 << 24) <= value && value <= 1 << 24;
}

/* What the ufunc gets as its second operand, borrowed; NULL where the twin must serve. */
static PyObject *second_operand(PyArrayObject *x, PyObject *right) {
  if (Py_TYPE(right) != array_type)
    return is_served_beside(right, PyArray_DESCR(x)) ? right : NULL;
  PyArrayObject *y = array_value(right);
  if (y == NULL || PyArray_DESCR(x) != PyArray_DESCR(y) || !PyArray_SAMESHAPE(x, y)) return NULL;
  return (PyObject *)y;
}

/* The ufunc's value with floating-point errors ignored. */
static PyObject *apply(PyObject *ufunc, PyObject *x, PyObject *y) {
  PyObject *token = PyContextVar_Set(errors_variable, ignoring_errors);
  if (token == NULL) return NULL;
  PyObject *operands[] = {NULL, x, y};
  PyObject *out = PyObject_Vectorcall(ufunc, operands + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  if (PyContextVar_Reset(errors_variable, token) < 0) Py_CLEAR(out);
  Py_DECREF(token);
  return out;
}

/* Whether a result has the type that the twin's has: an array's, or a scalar's for no dimensions. */
static bool is_expected(PyObject *out, PyArray_Descr const *descr) {
  if (PyArray_CheckExact(out)) return PyArray_DESCR((PyArrayObject *)out)->type_num == descr->type_num;
  return (PyObject *)Py_TYPE(out) == (PyObject *)descr->typeobj;
}

/* NULL, without an exception, where the twin must serve. */
static PyObject *compute(Operator *operator, PyObject *left, PyObject *right) {
  if (Py_TYPE(left) != array_type || errors_variable == NULL ||
      !serves_eager_calls(plain_trace_type))
    return NULL;
  PyArrayObject *x = array_value(left);
  if (x == NULL || !is_served(PyArray_DESCR(x), operator->compares)) return NULL;
  PyObject *y = second_operand(x, right);
  if (y == NULL) return NULL;
  bool weak_type = !operator->compares && array_weak_type(left) == 1 &&
                   (y == right || array_weak_type(right) == 1);
  PyArray_Descr *wanted = operator->compares ? bool_descr : PyArray_DESCR(x);
  Py_INCREF(x); /* the arrays may be deleted meanwhile */
  Py_INCREF(y);
  PyObject *out = apply(operator->ufunc, (PyObject *)x, y);
  bool expected = out != NULL && is_expected(out, wanted);
  Py_DECREF(x);
  Py_DECREF(y);
  if (expected) return array_wrap(out, weak_type, NULL);
  Py_XDECREF(out);
  PyErr_Clear();
  return NULL;
}

static PyObject *operator_call(PyObject *self, PyObject *const *args, size_t flags,
                               PyObject *names) {
  Operator *operator = (Operator *)self;
  if (PyVectorcall_NARGS(flags) == 2 && names == NULL) {
    PyObject *result = compute(operator, args[0], args[1]);
    if (result != NULL || PyErr_Occurred()) return result;
  }
  return PyObject_Vectorcall(operator->method, args, flags, names);
}

static PyObject *operator_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(type)) {
  if (instance == NULL || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

static PyObject *operator_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"ufunc", "method", "compares", NULL};
  PyObject *ufunc, *method;
  int compares;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOp:Operator", names, &ufunc, &method, &compares))
    return NULL;
  Operator *operator = (Operator *)type->tp_alloc(type, 0);
  if (operator == NULL) return NULL;
  operator->vectorcall = operator_call;
  operator->ufunc = Py_NewRef(ufunc);
  operator->method = Py_NewRef(method);
  operator->compares = compares;
  return (PyObject *)operator;
}

static int operator_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(((Operator *)self)->ufunc);
  Py_VISIT(((Operator *)self)->method);
  return 0;
}

static int operator_clear(PyObject *self) {
  Py_CLEAR(((Operator *)self)->ufunc);
  Py_CLEAR(((Operator *)self)->method);
  return 0;
}

static void operator_dealloc(PyObject *self) {
  PyObject_GC_UnTrack(self);
  operator_clear(self);
  Py_TYPE(self)->tp_free(self);
}

static PyMemberDef operator_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(Operator, method), READONLY, "The method in Python."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject operator_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcdl.core._native.Operator",
    .tp_doc = "An operator of arrays.",
    .tp_basicsize = sizeof(Operator),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_vectorcall_offset = offsetof(Operator, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = operator_get,
    .tp_new = operator_new,
    .tp_dealloc = operator_dealloc,
    .tp_traverse = operator_traverse,
    .tp_clear = operator_clear,
    .tp_members = operator_members,
};
