/* Arguments, flattened: what a cached call looks its program up by.

   The signature is finer than the twin's cache key (it tells a NumPy array from an Array, and a
   dtype from an equal one): several signatures may lead to one program, never the reverse. */

#include "native.h"

/* The lowest byte of a word that begins a node or a leaf; kinds of leaves share the numbering. */
enum Tag { TAG_TUPLE = 16, TAG_LIST, TAG_DICT, TAG_NONE, TAG_NAMED_TUPLE, TAG_CUSTOM, TAG_STATIC };

/* type -> True for a named tuple, a flatten function for a custom node. `classify` says which, and
   None for all else. */
static PyObject *nodes;
static PyObject *classify;

static bool flatten(Arguments *a, PyObject *x, int depth);

bool signature_setup(PyObject *function) {
  if (nodes == NULL && (nodes = PyDict_New()) == NULL) return false;
  Py_XSETREF(classify, Py_NewRef(function));
  return true;
}

PyObject *forget_nodes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
  if (nodes != NULL) PyDict_Clear(nodes);
  Py_RETURN_NONE;
}

void arguments_init(Arguments *a, PyObject *mode) {
  a->num_words = a->num_leaves = 0;
  a->num_objects = 1;
  a->words = a->inline_words;
  a->objects = a->inline_objects;
  a->leaves = a->inline_leaves;
  a->max_words = INLINE_WORDS;
  a->max_objects = INLINE_OBJECTS;
  a->max_leaves = INLINE_LEAVES;
  a->objects[0] = Py_NewRef(mode); /* not hashed, since it hardly ever differs */
}

void arguments_clear(Arguments *a) {
  for (Py_ssize_t i = 0; i < a->num_objects; ++i) Py_DECREF(a->objects[i]);
  for (Py_ssize_t i = 0; i < 2 * a->num_leaves; ++i) Py_DECREF(a->leaves[i]);
  if (a->words != a->inline_words) PyMem_Free(a->words);
  if (a->objects != a->inline_objects) PyMem_Free(a->objects);
  if (a->leaves != a->inline_leaves) PyMem_Free(a->leaves);
}

/* Twice the room: the new memory, or NULL without an exception. `used` is what it holds. */
static void *grown(void *memory, void const *first, size_t used) {
  if (memory != first) return PyMem_Realloc(memory, 2 * used);
  void *larger = PyMem_Malloc(2 * used);
  if (larger != NULL) memcpy(larger, memory, used);
  return larger;
}

static bool add_word(Arguments *a, uint64_t word) {
  if (a->num_words == a->max_words) {
    void *larger = grown(a->words, a->inline_words, (size_t)a->num_words * sizeof *a->words);
    if (larger == NULL) return false;
    a->words = larger;
    a->max_words *= 2;
  }
  a->words[a->num_words++] = word;
  return true;
}

/* Its hash goes into the words, so that equal words mean that comparing objects is worth it. */
static bool add_object(Arguments *a, PyObject *x) {
  Py_hash_t hash = PyObject_Hash(x);
  if (hash == -1) {
    PyErr_Clear(); /* the twin says what is wrong with a static argument */
    return false;
  }
  if (a->num_objects == a->max_objects) {
    void *larger = grown(a->objects, a->inline_objects, (size_t)a->num_objects * sizeof *a->objects);
    if (larger == NULL) return false;
    a->objects = larger;
    a->max_objects *= 2;
  }
  a->objects[a->num_objects++] = Py_NewRef(x);
  return add_word(a, (uint64_t)hash);
}

static bool add_leaf(Arguments *a, PyObject *leaf, PyObject *value) {
  if (a->num_leaves == a->max_leaves) {
    void *larger = grown(a->leaves, a->inline_leaves, 2 * (size_t)a->num_leaves * sizeof *a->leaves);
    if (larger == NULL) return false;
    a->leaves = larger;
    a->max_leaves *= 2;
  }
  a->leaves[2 * a->num_leaves] = Py_NewRef(leaf);
  a->leaves[2 * a->num_leaves++ + 1] = Py_NewRef(value);
  return true;
}

/* Element types that are told by their number alone: NumPy's numbers and bools, and what others
   registered (bfloat16), in native byte order. */
static bool is_plain(PyArray_Descr const *descr) {
  int number = descr->type_num;
  return (PyTypeNum_ISNUMBER(number) || PyTypeNum_ISBOOL(number) || PyTypeNum_ISUSERDEF(number)) &&
         PyArray_ISNBO(descr->byteorder);
}

static bool add_array(Arguments *a, PyObject *leaf, PyArrayObject *value, enum LeafKind kind,
                      int weak_type) {
  PyArray_Descr *descr = PyArray_DESCR(value);
  if (!PyArray_IS_C_CONTIGUOUS(value) || !is_plain(descr)) return false;
  int ndim = PyArray_NDIM(value);
  uint64_t word = (uint64_t)kind | (uint64_t)weak_type << 8 | (uint64_t)ndim << 16 |
                  (uint64_t)(uint32_t)descr->type_num << 32;
  if (!add_word(a, word)) return false;
  for (int i = 0; i < ndim; ++i)
    if (!add_word(a, (uint64_t)PyArray_DIM(value, i))) return false;
  return add_leaf(a, leaf, (PyObject *)value);
}

/* A NumPy scalar, as the array that the twin makes of it. */
static bool add_scalar(Arguments *a, PyObject *x) {
  PyObject *value = PyArray_FromScalar(x, NULL);
  bool done = value != NULL && PyArray_CheckExact(value) &&
              add_array(a, value, (PyArrayObject *)value, LEAF_NUMPY, 0);
  PyErr_Clear();
  Py_XDECREF(value);
  return done;
}

static bool flatten_items(Arguments *a, PyObject *items, int depth) {
  /* The length is asked for each time: flatten functions of custom nodes are Python code, which
     might shorten a list meanwhile. */
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items); ++i) {
    PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(items, i));
    bool done = flatten(a, item, depth);
    Py_DECREF(item);
    if (!done) return false;
  }
  return true;
}

static bool flatten_sequence(Arguments *a, PyObject *x, enum Tag tag, int depth) {
  return add_word(a, (uint64_t)tag | (uint64_t)PySequence_Fast_GET_SIZE(x) << 8) &&
         flatten_items(a, x, depth);
}

/* A list of the keys in ascending order, as leaves are ordered; NULL, without an exception, where
   they are neither all strings nor all integers, of which the twin knows the order. */
static PyObject *sorted_keys(PyObject *dict) {
  PyObject *keys = PyDict_Keys(dict);
  if (keys == NULL) goto failed;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); ++i) {
    PyTypeObject *type = Py_TYPE(PyList_GET_ITEM(keys, i));
    if ((type != &PyUnicode_Type && type != &PyLong_Type) ||
        type != Py_TYPE(PyList_GET_ITEM(keys, 0)))
      goto failed;
  }
  if (PyList_Sort(keys) == 0) return keys;
failed:
  PyErr_Clear();
  Py_XDECREF(keys);
  return NULL;
}

/* Whether the keys are strings that stand in ascending order already, as is usual. */
static bool has_ordered_keys(PyObject *dict) {
  PyObject *key, *previous = NULL;
  Py_ssize_t place = 0;
  while (PyDict_Next(dict, &place, &key, NULL)) {
    if (!PyUnicode_CheckExact(key)) return false;
    if (previous != NULL && PyUnicode_Compare(previous, key) >= 0) {
      PyErr_Clear();
      return false;
    }
    previous = key;
  }
  return true;
}

static bool flatten_item(Arguments *a, PyObject *key, PyObject *x, PyObject *statics, int depth) {
  if (!add_object(a, key)) return false;
  if (statics != NULL) {
    int is_static = PySet_Contains(statics, key);
    if (is_static < 0) PyErr_Clear();
    if (is_static != 0)
      return is_static > 0 && add_word(a, TAG_STATIC) && add_object(a, x);
  }
  return flatten(a, x, depth);
}

/* A dict, or keyword arguments, some of which may be static. */
static bool flatten_dict(Arguments *a, PyObject *dict, PyObject *statics, int depth) {
  if (!add_word(a, (uint64_t)TAG_DICT | (uint64_t)PyDict_GET_SIZE(dict) << 8)) return false;
  PyObject *key, *x;
  Py_ssize_t place = 0;
  if (has_ordered_keys(dict)) {
    bool done = true;
    while (done && PyDict_Next(dict, &place, &key, &x)) {
      Py_INCREF(key);
      Py_INCREF(x);
      done = flatten_item(a, key, x, statics, depth);
      Py_DECREF(key);
      Py_DECREF(x);
    }
    return done;
  }
  PyObject *keys = sorted_keys(dict);
  if (keys == NULL) return false;
  bool done = true;
  for (Py_ssize_t i = 0; done && i < PyList_GET_SIZE(keys); ++i) {
    key = PyList_GET_ITEM(keys, i);
    x = PyDict_GetItemWithError(dict, key);
    if (x == NULL) {
      PyErr_Clear();
      done = false;
      break;
    }
    Py_INCREF(x);
    done = flatten_item(a, key, x, statics, depth);
    Py_DECREF(x);
  }
  Py_DECREF(keys);
  return done;
}

static bool flatten_custom(Arguments *a, PyObject *x, PyObject *function, int depth) {
  PyObject *parts = PyObject_CallOneArg(function, x);
  PyObject *children = NULL;
  bool done = false;
  if (parts == NULL || !PyTuple_Check(parts) || PyTuple_GET_SIZE(parts) < 2) goto finally;
  children = PySequence_Fast(PyTuple_GET_ITEM(parts, 0), "children must be iterable");
  if (children == NULL) goto finally;
  done = add_word(a, TAG_CUSTOM | (uint64_t)PySequence_Fast_GET_SIZE(children) << 8) &&
         add_object(a, (PyObject *)Py_TYPE(x)) && add_object(a, PyTuple_GET_ITEM(parts, 1)) &&
         flatten_items(a, children, depth);
finally:
  PyErr_Clear(); /* the twin meets the same error, and raises it */
  Py_XDECREF(children);
  Py_XDECREF(parts);
  return done;
}

/* What `classify` says of a type, borrowed; NULL without an exception if it fails. */
static PyObject *kind_of_node(PyTypeObject *type) {
  PyObject *kind = PyDict_GetItemWithError(nodes, (PyObject *)type);
  if (kind != NULL || PyErr_Occurred()) {
    PyErr_Clear();
    return kind;
  }
  kind = PyObject_CallOneArg(classify, (PyObject *)type);
  /* Leaves and what optree knows are not kept: classes that are must not live for ever. */
  int status = kind == NULL || kind == Py_None ? -1 : PyDict_SetItem(nodes, (PyObject *)type, kind);
  Py_XDECREF(kind); /* the dict has it */
  PyErr_Clear();
  return status == 0 ? kind : NULL;
}

static bool flatten(Arguments *a, PyObject *x, int depth) {
  PyTypeObject *type = Py_TYPE(x);
  if (type == array_type) {
    PyArrayObject *value = array_value(x);
    int weak_type = array_weak_type(x);
    return value != NULL && weak_type >= 0 && add_array(a, x, value, LEAF_ARRAY, weak_type);
  }
  if (type == &PyFloat_Type) return add_word(a, LEAF_FLOAT) && add_leaf(a, x, x);
  if (type == &PyLong_Type) return add_word(a, LEAF_INT) && add_leaf(a, x, x);
  if (type == &PyBool_Type) return add_word(a, LEAF_BOOL) && add_leaf(a, x, x);
  if (type == &PyArray_Type) return add_array(a, x, (PyArrayObject *)x, LEAF_NUMPY, 0);
  if (x == Py_None) return add_word(a, TAG_NONE);
  if (depth >= MAX_DEPTH) return false;
  ++depth;
  if (type == &PyTuple_Type) return flatten_sequence(a, x, TAG_TUPLE, depth);
  if (type == &PyList_Type) return flatten_sequence(a, x, TAG_LIST, depth);
  if (type == &PyDict_Type) return flatten_dict(a, x, NULL, depth);
  if (PyArray_IsScalar(x, Generic)) return add_scalar(a, x);
  PyObject *kind = kind_of_node(type);
  if (kind == NULL) return false;
  if (kind == Py_True)
    return add_object(a, (PyObject *)type) && flatten_sequence(a, x, TAG_NAMED_TUPLE, depth);
  Py_INCREF(kind); /* Python code that runs may drop it from the table */
  bool done = flatten_custom(a, x, kind, depth);
  Py_DECREF(kind);
  return done;
}

bool arguments_flatten(Arguments *a, PyObject *args, PyObject *kwargs, Statics const *statics) {
  Py_ssize_t count = PyTuple_GET_SIZE(args);
  if (!add_word(a, (uint64_t)count)) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *x = PyTuple_GET_ITEM(args, i);
    bool done = i < 64 && statics->positions >> i & 1
                    ? add_word(a, TAG_STATIC) && add_object(a, x)
                    : flatten(a, x, 0);
    if (!done) return false;
  }
  return PyDict_GET_SIZE(kwargs) == 0 || flatten_dict(a, kwargs, statics->names, 0);
}

uint64_t arguments_hash(Arguments const *a) {
  uint64_t hash = (uint64_t)a->num_words;
  for (Py_ssize_t i = 0; i < a->num_words; ++i) {
    hash = (hash ^ a->words[i]) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return hash;
}

enum LeafKind leaf_kind(PyObject *leaf) {
  PyTypeObject *type = Py_TYPE(leaf);
  return type == array_type      ? LEAF_ARRAY
         : type == &PyArray_Type ? LEAF_NUMPY
         : type == &PyFloat_Type ? LEAF_FLOAT
         : type == &PyBool_Type  ? LEAF_BOOL
                                 : LEAF_INT;
}
