/* Eager operators on small arrays, where Python code costs more than the arithmetic.

   An operator stands for a method such as ``__add__`` or a function of one array or two, and calls
   that, its twin, for all that it does not do: other operands than one array, two arrays of one type,
   or an array and a number, and results of another type than expected. */

#include "native.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <structmember.h>

static PyObject *errors_variable; /* NumPy's state, and its value that ignores all errors */
static PyObject *ignoring_errors;
static PyArray_Descr *bool_descr;
static PyTypeObject *plain_trace_type; /* of an evaluating trace that only evaluates */

enum { MAX_OPERANDS = 2, MAX_KINDS = 5 };

typedef struct {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject *ufunc;
  PyObject *method;
  int num_operands;
  char kinds[MAX_KINDS + 1]; /* of NumPy's dtypes, for which the ufunc does what the method does */
  bool yields_bools;         /* which are never weakly typed */
  bool is_reflected;         /* the method gets the ufunc's second operand first */
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

bool evaluates_eagerly(void) {
  return errors_variable != NULL && serves_eager_calls(plain_trace_type);
}

bool is_computed_as_is(PyArray_Descr const *descr) {
  int number = descr->type_num;
  return (PyTypeNum_ISNUMBER(number) || PyTypeNum_ISBOOL(number)) && number != NPY_HALF &&
         PyArray_ISNBO(descr->byteorder);
}

static bool is_served(PyArray_Descr const *descr, char const *kinds) {
  return is_computed_as_is(descr) && strchr(kinds, descr->kind) != NULL;
}

/* Whether a Python number surely takes an array's type, without a word of its rounding. */
static bool is_served_beside(PyObject *number, PyArray_Descr const *descr) {
  int type = descr->type_num;
  bool is_float = type == NPY_FLOAT || type == NPY_DOUBLE;
  if (PyFloat_CheckExact(number)) {
    double value = PyFloat_AS_DOUBLE(number);
    return is_float && (type == NPY_DOUBLE || fabs(value) <= FLT_MAX || !isfinite(value));
  }
  if (!PyLong_CheckExact(number)) return false;
  int overflow;
  long value = PyLong_AsLongAndOverflow(number, &overflow);
  if (overflow != 0) return false;
  return (is_float && -(1 << 24) <= value && value <= 1 << 24) ||
         (PyTypeNum_ISSIGNED(type) && NPY_MIN_INT8 <= value && value <= NPY_MAX_INT8);
}

/* What the ufunc gets beside an array, borrowed; NULL where the twin must serve. */
static PyObject *other_operand(PyArrayObject *x, PyObject *other) {
  if (Py_TYPE(other) != array_type)
    return is_served_beside(other, PyArray_DESCR(x)) ? other : NULL;
  PyArrayObject *y = array_value(other);
  if (y == NULL || PyArray_DESCR(x) != PyArray_DESCR(y)) return NULL;
  /* Broadcast, other orders of elements may lead to another order than the twin's. */
  if (!PyArray_SAMESHAPE(x, y) && !(PyArray_IS_C_CONTIGUOUS(x) && PyArray_IS_C_CONTIGUOUS(y)))
    return NULL;
  return (PyObject *)y;
}

PyObject *call_ignoring_errors(PyObject *ufunc, PyObject *const *operands, size_t count) {
  PyObject *token = PyContextVar_Set(errors_variable, ignoring_errors);
  if (token == NULL) return NULL;
  PyObject *out = PyObject_Vectorcall(ufunc, operands, count, NULL);
  if (PyContextVar_Reset(errors_variable, token) < 0) Py_CLEAR(out);
  Py_DECREF(token);
  return out;
}

static PyObject *apply(Operator const *operator, PyObject *x, PyObject *y) {
  PyObject *operands[1 + MAX_OPERANDS] = {NULL, x, y};
  size_t count = (size_t)operator->num_operands | PY_VECTORCALL_ARGUMENTS_OFFSET;
  return call_ignoring_errors(operator->ufunc, operands + 1, count);
}

/* Whether a result has the type that the twin's has: an array's, or a scalar's for no dimensions. */
static bool is_expected(PyObject *out, PyArray_Descr const *descr) {
  if (PyArray_CheckExact(out)) return PyArray_DESCR((PyArrayObject *)out)->type_num == descr->type_num;
  return (PyObject *)Py_TYPE(out) == (PyObject *)descr->typeobj;
}

/* NULL, without an exception, where the twin must serve. */
static PyObject *compute(Operator const *operator, PyObject *const *args) {
  PyObject *left = args[0], *right = NULL;
  if (operator->num_operands > 1) {
    left = args[operator->is_reflected];
    right = args[!operator->is_reflected];
  }
  /* The first that is an array gives the type; a number can stand on either side of it. */
  bool is_first = right == NULL || Py_TYPE(left) == array_type;
  PyObject *array = is_first ? left : right, *other = is_first ? right : left;
  if (Py_TYPE(array) != array_type || !evaluates_eagerly()) return NULL;
  PyArrayObject *x = array_value(array);
  if (x == NULL || !is_served(PyArray_DESCR(x), operator->kinds)) return NULL;
  PyObject *y = NULL;
  if (other != NULL && (y = other_operand(x, other)) == NULL) return NULL;
  bool weak_type = !operator->yields_bools && array_weak_type(array) == 1 &&
                   (y == other || array_weak_type(other) == 1);
  PyArray_Descr *wanted = operator->yields_bools ? bool_descr : PyArray_DESCR(x);
  Py_INCREF(x); /* the arrays may be deleted meanwhile */
  Py_XINCREF(y);
  PyObject *out = is_first ? apply(operator, (PyObject *)x, y) : apply(operator, y, (PyObject *)x);
  bool expected = out != NULL && is_expected(out, wanted);
  Py_DECREF(x);
  Py_XDECREF(y);
  if (expected) return array_wrap(out, weak_type, NULL);
  Py_XDECREF(out);
  PyErr_Clear();
  return NULL;
}

static PyObject *operator_call(PyObject *self, PyObject *const *args, size_t flags,
                               PyObject *names) {
  Operator *operator = (Operator *)self;
  if (PyVectorcall_NARGS(flags) == operator->num_operands && names == NULL) {
    PyObject *result = compute(operator, args);
    if (result != NULL || PyErr_Occurred()) return result;
  }
  return PyObject_Vectorcall(operator->method, args, flags, names);
}

static PyObject *operator_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(type)) {
  if (instance == NULL || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

static PyObject *operator_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"ufunc", "method", "num_operands", "kinds", "yields_bools",
                          "is_reflected", NULL};
  PyObject *ufunc, *method;
  int num_operands, yields_bools, is_reflected = 0;
  char const *kinds;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOisp|p:Operator", names, &ufunc, &method,
                                   &num_operands, &kinds, &yields_bools, &is_reflected))
    return NULL;
  if (num_operands < 1 || num_operands > MAX_OPERANDS || strlen(kinds) > MAX_KINDS)
    return PyErr_Format(PyExc_ValueError, "expected 1 to %d operands and up to %d kinds of dtypes",
                        MAX_OPERANDS, MAX_KINDS);
  Operator *operator = (Operator *)type->tp_alloc(type, 0);
  if (operator == NULL) return NULL;
  operator->vectorcall = operator_call;
  operator->ufunc = Py_NewRef(ufunc);
  operator->method = Py_NewRef(method);
  operator->num_operands = num_operands;
  strcpy(operator->kinds, kinds);
  operator->yields_bools = yields_bools;
  operator->is_reflected = is_reflected;
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
