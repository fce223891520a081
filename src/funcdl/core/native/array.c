#include "native.h"

#include <structmember.h>

PyTypeObject *array_type;

static Py_ssize_t value_offset, weak_type_offset, aval_offset;

Py_ssize_t slot_offset(PyObject *type, char const *name) {
  PyObject *descriptor = PyObject_GetAttrString(type, name);
  if (descriptor == NULL) return -1;
  Py_ssize_t offset = -1;
  if (Py_TYPE(descriptor) == &PyMemberDescr_Type)
    offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
  else
    PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, name);
  Py_DECREF(descriptor);
  return offset;
}

bool array_setup(PyObject *type) {
  if (!PyType_Check(type)) {
    PyErr_SetString(PyExc_TypeError, "expected the class Array");
    return false;
  }
  value_offset = slot_offset(type, "_value");
  weak_type_offset = slot_offset(type, "weak_type");
  aval_offset = slot_offset(type, "_aval");
  if (value_offset < 0 || weak_type_offset < 0 || aval_offset < 0) return false;
  Py_INCREF(type);
  Py_XSETREF(array_type, (PyTypeObject *)type);
  return true;
}

static PyObject **slot(PyObject *array, Py_ssize_t offset) {
  return (PyObject **)((char *)array + offset);
}

PyArrayObject *array_value(PyObject *array) {
  PyObject **place = slot(array, value_offset);
  PyObject *value = *place;
  if (value == NULL) return NULL;
  if (PyArray_CheckExact(value)) return (PyArrayObject *)value;
  /* Reductions and 0-d arithmetic of NumPy yield scalars rather than arrays. */
  if (!PyArray_IsScalar(value, Generic)) return NULL;
  PyObject *converted = PyArray_FromScalar(value, NULL);
  if (converted == NULL) {
    PyErr_Clear();
    return NULL;
  }
  Py_SETREF(*place, converted);
  return (PyArrayObject *)converted;
}

int array_weak_type(PyObject *array) {
  PyObject *weak_type = *slot(array, weak_type_offset);
  return weak_type == Py_True ? 1 : weak_type == Py_False ? 0 : -1;
}

PyObject *array_wrap(PyObject *value, bool weak_type, PyObject *aval) {
  /* As ``Array(value, weak_type)``, without running ``__init__``. */
  PyObject *array = array_type->tp_alloc(array_type, 0);
  if (array == NULL) {
    Py_DECREF(value);
    return NULL;
  }
  *slot(array, value_offset) = value;
  *slot(array, weak_type_offset) = Py_NewRef(weak_type ? Py_True : Py_False);
  *slot(array, aval_offset) = Py_NewRef(aval == NULL ? Py_None : aval);
  return array;
}

void array_delete(PyObject *array, PyObject *aval) {
  PyObject **known = slot(array, aval_offset);
  if (*known == NULL || *known == Py_None) {
    PyObject *unknown = *known;
    *known = Py_NewRef(aval);
    Py_XDECREF(unknown);
  }
  PyObject **place = slot(array, value_offset);
  PyObject *value = *place;
  *place = Py_NewRef(Py_None);
  Py_XDECREF(value);
}
