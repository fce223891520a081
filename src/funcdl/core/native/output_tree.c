/* The tree that a call returns: tuples, lists and dicts are built here, others by Python. */

#include "program.h"

static bool is_subtree(PyObject *x, Py_ssize_t num_results, int depth) {
  if (x == Py_None) return true;
  if (PyLong_CheckExact(x)) {
    Py_ssize_t number = PyLong_AsSsize_t(x);
    PyErr_Clear();
    return number >= 0 && number < num_results;
  }
  if (depth >= MAX_DEPTH) return false;
  if (PyTuple_Check(x) || PyList_CheckExact(x)) {
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(x); ++i)
      if (!is_subtree(PySequence_Fast_GET_ITEM(x, i), num_results, depth + 1)) return false;
    return true;
  }
  if (!PyDict_CheckExact(x)) return false;
  PyObject *item;
  Py_ssize_t place = 0;
  while (PyDict_Next(x, &place, NULL, &item))
    if (!is_subtree(item, num_results, depth + 1)) return false;
  return true;
}

bool is_output_template(PyObject *template, Py_ssize_t num_results) {
  return is_subtree(template, num_results, 0);
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

PyObject *rebuild_output(Program const *p, PyObject *const *results) {
  if (p->unflatten == Py_None) return rebuild(p->template, results);
  PyObject *list = PyList_New(p->num_results);
  if (list == NULL) return NULL;
  for (Py_ssize_t i = 0; i < p->num_results; ++i)
    PyList_SET_ITEM(list, i, Py_NewRef(results[i]));
  PyObject *tree = PyObject_CallOneArg(p->unflatten, list);
  Py_DECREF(list);
  return tree;
}
