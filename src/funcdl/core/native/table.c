/* The programs of one jitted function, by the signature of its arguments.

   It stands before the twin's cache: what is not found here is asked there, and learned. */

#include "native.h"

static PyObject *context, *eval_trace, *trace_name;
/* The flags that programs depend on, as one object; NULL while the twin is to serve all calls. */
static PyObject *current_mode;

typedef struct {
  uint64_t hash;
  uint64_t *words;
  PyObject **objects;
  Py_ssize_t num_words, num_objects;
  PyObject *program;
} Entry;

typedef struct {
  PyObject_HEAD
  Statics statics;
  Entry **slots; /* open addressing; a power of two of them, at most half in use */
  Py_ssize_t num_slots, count;
  uint64_t version; /* counts changes, which Python code run by a comparison may make */
  unsigned long long hits;
} Table;

bool table_setup(PyObject *new_context, PyObject *new_eval_trace) {
  if (trace_name == NULL && (trace_name = PyUnicode_InternFromString("trace")) == NULL)
    return false;
  Py_XSETREF(context, Py_NewRef(new_context));
  Py_XSETREF(eval_trace, Py_NewRef(new_eval_trace));
  return true;
}

PyObject *set_mode(PyObject *Py_UNUSED(module), PyObject *mode) {
  Py_XSETREF(current_mode, mode == Py_None ? NULL : Py_NewRef(mode));
  Py_RETURN_NONE;
}

/* Whether the current trace is the evaluating one. */
static bool at_top_level(void) {
  PyObject *trace = PyObject_GetAttr(context, trace_name); /* of this thread */
  if (trace == NULL) {
    PyErr_Clear();
    return false;
  }
  Py_DECREF(trace); /* only its identity counts */
  return trace == eval_trace;
}

bool serves_eager_calls(PyTypeObject const *plain) {
  return current_mode != NULL && Py_TYPE(eval_trace) == plain && at_top_level();
}

static void entry_free(Entry *entry) {
  for (Py_ssize_t i = 0; i < entry->num_objects; ++i) Py_DECREF(entry->objects[i]);
  Py_DECREF(entry->program);
  PyMem_Free(entry);
}

/* A copy of the arguments' signature, in one piece of memory. */
static Entry *entry_new(Arguments const *a, uint64_t hash, PyObject *program) {
  size_t words = (size_t)a->num_words * sizeof *a->words;
  size_t objects = (size_t)a->num_objects * sizeof *a->objects;
  Entry *entry = PyMem_Malloc(sizeof *entry + words + objects);
  if (entry == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  entry->hash = hash;
  entry->num_words = a->num_words;
  entry->num_objects = a->num_objects;
  entry->words = memcpy(entry + 1, a->words, words);
  entry->objects = memcpy(entry->words + a->num_words, a->objects, objects);
  for (Py_ssize_t i = 0; i < a->num_objects; ++i) Py_INCREF(entry->objects[i]);
  entry->program = Py_NewRef(program);
  return entry;
}

/* Whether the objects of an entry are those of a call. Comparing may run Python code, which may
   clear the table: false then as well, and the entry is gone. */
static bool has_objects(Table const *table, Entry const *entry, Arguments const *a) {
  uint64_t version = table->version;
  for (Py_ssize_t i = 0; i < a->num_objects; ++i) {
    PyObject *ours = entry->objects[i], *theirs = a->objects[i];
    if (ours == theirs) continue;
    /* Types take part, since 1, 1.0 and True are equal and hash alike. */
    if (Py_TYPE(ours) != Py_TYPE(theirs)) return false;
    Py_INCREF(ours);
    int equal = PyObject_RichCompareBool(ours, theirs, Py_EQ);
    Py_DECREF(ours);
    if (equal < 0) PyErr_Clear();
    if (equal <= 0 || table->version != version) return false;
  }
  return true;
}

/* The program of a signature, a new reference; NULL, without an exception, if there is none. */
static PyObject *find(Table *table, Arguments const *a, uint64_t hash) {
  if (table->count == 0) return NULL;
  uint64_t mask = (uint64_t)table->num_slots - 1, version = table->version;
  for (uint64_t i = hash & mask; table->slots[i] != NULL; i = (i + 1) & mask) {
    Entry *entry = table->slots[i];
    if (entry->hash != hash || entry->num_words != a->num_words ||
        entry->num_objects != a->num_objects ||
        memcmp(entry->words, a->words, (size_t)a->num_words * sizeof *a->words) != 0)
      continue;
    if (has_objects(table, entry, a)) return Py_NewRef(entry->program);
    if (table->version != version) return NULL;
  }
  return NULL;
}

static bool grow(Table *table) {
  Py_ssize_t num_slots = table->num_slots == 0 ? 8 : 2 * table->num_slots;
  Entry **slots = PyMem_Calloc((size_t)num_slots, sizeof *slots);
  if (slots == NULL) {
    PyErr_NoMemory();
    return false;
  }
  uint64_t mask = (uint64_t)num_slots - 1;
  for (Py_ssize_t i = 0; i < table->num_slots; ++i) {
    Entry *entry = table->slots[i];
    if (entry == NULL) continue;
    uint64_t place = entry->hash & mask;
    while (slots[place] != NULL) place = (place + 1) & mask;
    slots[place] = entry;
  }
  PyMem_Free(table->slots);
  table->slots = slots;
  table->num_slots = num_slots;
  return true;
}

static bool insert(Table *table, Entry *entry) {
  if (2 * (table->count + 1) > table->num_slots && !grow(table)) return false;
  uint64_t mask = (uint64_t)table->num_slots - 1;
  uint64_t place = entry->hash & mask;
  while (table->slots[place] != NULL) place = (place + 1) & mask;
  table->slots[place] = entry;
  ++table->count;
  ++table->version;
  return true;
}

static int table_clear(PyObject *self) {
  Table *table = (Table *)self;
  /* Emptied first: what the entries' ends run must not find them. */
  Entry **slots = table->slots;
  Py_ssize_t num_slots = table->num_slots;
  table->slots = NULL;
  table->num_slots = table->count = 0;
  ++table->version;
  for (Py_ssize_t i = 0; i < num_slots; ++i)
    if (slots[i] != NULL) entry_free(slots[i]);
  PyMem_Free(slots);
  return 0;
}

static int table_traverse(PyObject *self, visitproc visit, void *arg) {
  Table *table = (Table *)self;
  for (Py_ssize_t i = 0; i < table->num_slots; ++i) {
    Entry *entry = table->slots[i];
    if (entry == NULL) continue;
    for (Py_ssize_t k = 0; k < entry->num_objects; ++k) Py_VISIT(entry->objects[k]);
    Py_VISIT(entry->program);
  }
  return 0;
}

static void table_dealloc(PyObject *self) {
  PyObject_GC_UnTrack(self);
  table_clear(self);
  Py_CLEAR(((Table *)self)->statics.names);
  Py_TYPE(self)->tp_free(self);
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"positions", "names", NULL};
  PyObject *positions, *names;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!:Table", keywords, &PyFrozenSet_Type,
                                   &positions, &PyFrozenSet_Type, &names))
    return NULL;
  Statics statics = {0, NULL};
  PyObject *iterator = PyObject_GetIter(positions), *item;
  if (iterator == NULL) return NULL;
  while ((item = PyIter_Next(iterator)) != NULL) {
    Py_ssize_t position = PyLong_AsSsize_t(item);
    Py_DECREF(item);
    if (position < 0 || position >= 64) {
      if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "positions must be in 0..63, got %zd", position);
      break;
    }
    statics.positions |= (uint64_t)1 << position;
  }
  Py_DECREF(iterator);
  if (PyErr_Occurred()) return NULL;
  Table *table = (Table *)type->tp_alloc(type, 0);
  if (table == NULL) return NULL;
  if (PySet_GET_SIZE(names) > 0) statics.names = Py_NewRef(names);
  table->statics = statics;
  return (PyObject *)table;
}

static bool are_arguments(PyObject *const *args, Py_ssize_t count, Py_ssize_t wanted) {
  if (count == wanted && PyTuple_CheckExact(args[0]) && PyDict_CheckExact(args[1])) return true;
  PyErr_Format(PyExc_TypeError, "expected a tuple, a dict%s", wanted > 2 ? " and a program" : "");
  return false;
}

static PyObject *table_call(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  if (!are_arguments(args, count, 2)) return NULL;
  Table *table = (Table *)self;
  if (current_mode == NULL || table->count == 0 || !at_top_level()) Py_RETURN_NOTIMPLEMENTED;
  Arguments arguments;
  arguments_init(&arguments, current_mode);
  PyObject *result = NULL;
  if (arguments_flatten(&arguments, args[0], args[1], &table->statics)) {
    PyObject *program = find(table, &arguments, arguments_hash(&arguments));
    if (program != NULL) {
      result = program_call(program, &arguments);
      Py_DECREF(program);
      if (result == NULL) goto done;
      table->hits += result != Py_NotImplemented;
    }
  }
  if (result == NULL) result = Py_NewRef(Py_NotImplemented);
done:
  arguments_clear(&arguments);
  return result;
}

static PyObject *table_learn(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  if (!are_arguments(args, count, 3)) return NULL;
  if (Py_TYPE(args[2]) != &program_type)
    return PyErr_Format(PyExc_TypeError, "expected a program, got %.200s",
                        Py_TYPE(args[2])->tp_name);
  Table *table = (Table *)self;
  if (current_mode == NULL) Py_RETURN_FALSE;
  Arguments arguments;
  arguments_init(&arguments, current_mode);
  PyObject *result = NULL;
  bool known = false;
  if (arguments_flatten(&arguments, args[0], args[1], &table->statics) &&
      program_accepts(args[2], &arguments)) {
    uint64_t hash = arguments_hash(&arguments);
    PyObject *found = find(table, &arguments, hash);
    known = found != NULL;
    Py_XDECREF(found);
    if (!known) {
      Entry *entry = entry_new(&arguments, hash, args[2]);
      if (entry == NULL) goto done;
      if (!insert(table, entry)) {
        entry_free(entry);
        goto done;
      }
      known = true;
    }
  }
  result = PyBool_FromLong(known);
done:
  arguments_clear(&arguments);
  return result;
}

static PyObject *table_forget(PyObject *self, PyObject *Py_UNUSED(unused)) {
  table_clear(self);
  Py_RETURN_NONE;
}

static Py_ssize_t table_length(PyObject *self) { return ((Table *)self)->count; }

static PyObject *table_hits(PyObject *self, void *Py_UNUSED(unused)) {
  return PyLong_FromUnsignedLongLong(((Table *)self)->hits);
}

static PyMethodDef table_methods[] = {
    {"call", (PyCFunction)(void (*)(void))table_call, METH_FASTCALL,
     "call(args, kwargs): the result, or NotImplemented where the twin must serve."},
    {"learn", (PyCFunction)(void (*)(void))table_learn, METH_FASTCALL,
     "learn(args, kwargs, program): whether such calls are served from now on."},
    {"clear", table_forget, METH_NOARGS, "Forget all programs."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef table_properties[] = {
    {"hits", table_hits, NULL, "How many calls were served.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PySequenceMethods table_as_sequence = {.sq_length = table_length};

PyTypeObject table_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "funcdl.core._native.Table",
    .tp_doc = "The programs of a jitted function, by the signature of its arguments.",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = table_new,
    .tp_dealloc = table_dealloc,
    .tp_traverse = table_traverse,
    .tp_clear = table_clear,
    .tp_as_sequence = &table_as_sequence,
    .tp_methods = table_methods,
    .tp_getset = table_properties,
};
