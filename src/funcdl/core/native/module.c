/* The extension `funcdl.core._native`: cached calls of jitted functions, without Python code.

   `funcdl.core.dispatch` imports and sets it up, and says what it does; the interface is in
   `_native.pyi`. */

#define FUNCDL_IMPORTS_NUMPY
#include "native.h"

static PyObject *setup(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs) {
  static char *names[] = {"array_type", "context", "eval_trace", "trace_type",
                          "classify", "errors_variable", "ignoring_errors", "primitive_type",
                          "all_weak", "never_weak", NULL};
  PyObject *type, *context, *eval_trace, *trace_type, *classify, *variable, *ignoring;
  PyObject *primitive, *all, *never;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOOOOO:setup", names, &type, &context,
                                   &eval_trace, &trace_type, &classify, &variable, &ignoring,
                                   &primitive, &all, &never) ||
      !array_setup(type) || !table_setup(context, eval_trace) || !signature_setup(classify) ||
      !operators_setup(trace_type, variable, ignoring) || !primitives_setup(primitive, all, never))
    return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"setup", (PyCFunction)(void (*)(void))setup, METH_VARARGS | METH_KEYWORDS,
     "Name the objects of the library that calls deal with; before anything else."},
    {"set_mode", set_mode, METH_O,
     "The flags that programs depend on, as one object; None while the twin is to serve."},
    {"forget_nodes", forget_nodes, METH_NOARGS, "Classify types of containers anew."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module) {
  import_array1(-1);
  PyTypeObject *types[] = {&binder_type, &operator_type, &pool_type, &program_type, &table_type};
  for (size_t i = 0; i < Py_ARRAY_LENGTH(types); ++i)
    if (PyModule_AddType(module, types[i]) < 0) return -1;
  if (PyModule_AddIntConstant(module, "INTERFACE", 7) < 0) return -1; /* see dispatch.py */
  return pool_setup() ? 0 : -1;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "funcdl.core._native",
    .m_doc = "Cached calls of jitted functions; see funcdl.core.dispatch.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void);
PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
