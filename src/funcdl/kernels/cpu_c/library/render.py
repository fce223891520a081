"""A program as C for other programs: one function, its public header, an example that calls it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from funcdl.kernels.cpu_c.library.interface import Leaf, Library
from funcdl.kernels.cpu_c.program.calls import (
    Callees,
    callees_of,
    library_headers,
    render_bodies,
    render_entry,
)
from funcdl.kernels.cpu_c.render import includes, render_function
from funcdl.kernels.cpu_c.small_loops.loop import kernel_texts
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.program import all_kernels

# What the memory of a run is aligned to; its blocks are, relative to its beginning.
_ALIGNMENT = 64

_HEADER_TOP = """\
/* {name}, written by funcdl.
 *
 * `make` builds lib{name}.so, lib{name}.a and {name}_main, an example. Whoever links the static
 * library adds -lm -pthread, and -fopenmp where clang has built it.
 *
 * Arrays are dense, the last axis varies fastest, and begin at a multiple of their element's size.
 * Results overlap neither arguments nor each other, but where a comment below says so. An argument
 * without elements may be NULL. */
"""
_HEADER_FUNCTION = """\
/* Runs the function.
 *
 * workspace: {NAME}_WORKSPACE_BYTES bytes at a multiple of {alignment}. For NULL they are taken
 * from the system, and given back at the end. Nothing in it is kept from one run to the next.
 *
 * Returns 0; -1 where a pointer is NULL that should not be, before anything is written; or how many
 * bytes of memory the system refused, and then the results are undefined.
 *
 * Threads may make runs at the same time, each with results and a workspace of its own. */
"""
_HEADER_THREADS = """
/* How many threads share the work of a run, the caller's among them: 1 until this is called. The
 * others belong to the library, and sleep between runs. Not to be called during a run. */
void {name}_set_num_threads(int threads);
"""
_THREADS = """\
/* How many threads {name}.c uses. A file of its own, since names of the pool differ there. */
#include "{name}.h"

void fd_set_num_threads(int count);

#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__)
/* gcc: {name}.c hands its regions to the pool of thread_pool.c, which counts all but the caller. */
typedef void fd_member_function(void *context, int member, int members);
typedef void fd_pool_function(fd_member_function *function, void *context, int members,
                              const void *site);

fd_pool_function fd_pool_run;
void fd_pool_resize(int threads);
void fd_set_pool(fd_pool_function *run);

static void prepare(int threads) {{
  fd_pool_resize(threads - 1);
  fd_set_pool(fd_pool_run);
}}
#else
static void prepare(int threads) {{ (void)threads; }}
#endif

void {name}_set_num_threads(int threads) {{
  if (threads < 1) threads = 1;
  prepare(threads);
  fd_set_num_threads(threads);
}}
"""
_EXAMPLE_TOP = """\
/* Calls {name}_run once:
 *
 *   ./{name}_main [threads] < arguments > results
 *
 * Arguments and results are arrays as they are in memory, one after the other in the order of
 * {name}.h. */
#include "{name}.h"

#include <stdio.h>
#include <stdlib.h>

static void *take(size_t bytes) {{
  void *const memory = aligned_alloc({alignment}, (bytes / {alignment} + 1) * {alignment});
  if (memory == NULL) {{
    fprintf(stderr, "no memory for %zu bytes\\n", bytes);
    exit(1);
  }}
  return memory;
}}

static inline void *read_array(size_t bytes, const char *name) {{
  void *const array = take(bytes);
  if (fread(array, 1, bytes, stdin) != bytes) {{
    fprintf(stderr, "the input ends before the %zu bytes of %s do\\n", bytes, name);
    exit(1);
  }}
  return array;
}}

"""


def render_header(library: Library) -> str:
    """The public header."""
    name = library.name
    guard = f"FUNCDL_{name.upper()}_H"
    writer = Writer()
    for line in _HEADER_TOP.format(name=name, NAME=name.upper()).splitlines():
        writer.line(line)
    writer.line(f"#ifndef {guard}")
    writer.line(f"#define {guard}\n")
    writer.line("#include <stdint.h>\n")
    writer.line('#ifdef __cplusplus\nextern "C" {\n#endif\n')
    writer.comment(f"Of the working memory of a run, which is aligned to {_ALIGNMENT} bytes.")
    writer.line(f"#define {name.upper()}_WORKSPACE_BYTES {library.arena}\n")
    writer.comment("The arguments: the leaves of their pytree, in its order.")
    _structure(writer, f"{name}_inputs", library.inputs, library.input_names, "const ")
    writer.comment("Where the results go: the leaves of their pytree, in its order.")
    notes = _donations(library)
    _structure(writer, f"{name}_outputs", library.outputs, library.output_names, "", notes)
    writer.line(_HEADER_FUNCTION.format(NAME=name.upper(), alignment=_ALIGNMENT).rstrip())
    _render_signature(library, writer, ";")
    writer.line(_HEADER_THREADS.format(name=name))
    writer.line(f"#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {guard} */")
    return writer.text()


def render_source(library: Library) -> str:
    """The kernels, their calls, and the public function."""
    name, program = library.name, library.program
    calls = f"{name}_calls"
    kernels = [] if program is None else all_kernels(program)
    functions = [render_function(*entry) for entry in kernels]
    callees = Callees({}, {}) if program is None else callees_of(program, functions)
    # Kernels are compiled apart from their calls, as they are when Python calls them: a compiler
    # that knew the numbers they are called with might add in another order.
    texts = kernel_texts(functions, callees.loops, "FD_APART\nstatic")
    writer = Writer()
    if program is not None:
        for call in program.calls:
            render_bodies(call, callees, writer)
        writer.comment("All calls; returns how many bytes a kernel asked for in vain, else 0.")
        render_entry(program, calls, callees, writer, static=True)
        writer.line()
    for symbol in library.data:
        # Hidden, so that the address is known when the library is linked.
        writer.line(f'extern __attribute__((visibility("hidden"))) const char {symbol}[];')
    writer.line()
    _render_run(library, calls, writer)
    headers = [] if program is None else library_headers(program)
    top = f"/* {name}: kernels, their calls in order, and the function that runs them. */\n"
    own = f'{includes(texts, headers)}\n#include "{name}.h"\n'
    return "\n".join([top + own, *texts, writer.text()])


def render_threads(library: Library) -> str:
    """The function that sets the number of threads."""
    return _THREADS.format(name=library.name)


def render_example(library: Library) -> str:
    """A program that reads arguments, calls the library and writes results."""
    name = library.name
    outputs = [f"out.{field}" for field in library.output_names]
    writer = Writer()
    with writer.block("int main(int argc, char **argv)"):
        writer.line(f"struct {name}_inputs in = {{0}};")
        writer.line(f"struct {name}_outputs out = {{0}};")
        writer.line(f"if (argc > 1) {name}_set_num_threads(atoi(argv[1]));")
        for field, leaf in zip(library.input_names, library.inputs, strict=True):
            writer.line(f'in.{field} = read_array({leaf.nbytes}, "{_in_string(leaf.label)}");')
        for field, leaf in zip(outputs, library.outputs, strict=True):
            writer.line(f"{field} = take({leaf.nbytes});")
        writer.line(f"void *const workspace = take({name.upper()}_WORKSPACE_BYTES);")
        writer.line(f"const int64_t status = {name}_run(&in, &out, workspace);")
        with writer.block("if (status != 0)"):
            writer.line(f'fprintf(stderr, "{name}_run returned %lld\\n", (long long)status);')
            writer.line("return 1;")
        for field, leaf in zip(outputs, library.outputs, strict=True):
            writer.line(f"fwrite({field}, 1, {leaf.nbytes}, stdout);")
        for pointer in [*(f"in.{x}" for x in library.input_names), *outputs, "workspace"]:
            writer.line(f"free((void *){pointer});")
        writer.line("return fflush(stdout) == 0 ? 0 : 1;")
    return _EXAMPLE_TOP.format(name=name, alignment=_ALIGNMENT) + writer.text()


def _render_run(library: Library, calls: str, writer: Writer) -> None:
    arena = library.arena
    first_out = len(library.inputs) + len(library.constants)
    slots = [
        _pointer(f"in->{field}", leaf, "(void *)")
        for field, leaf in zip(library.input_names, library.inputs, strict=True)
    ]
    slots += [f"(void *){library.constant(at)}" for at in range(len(library.constants))]
    copies_before: list[tuple[str, str]] = []
    copies_after: list[tuple[str, str]] = []
    fields = [f"out->{name}" for name in library.output_names]
    outputs = zip(library.results, library.outputs, fields, strict=True)
    for at, (result, leaf, field) in enumerate(outputs):
        target = _pointer(field, leaf, "")
        if isinstance(result, int) and result == len(slots) >= first_out:
            slots.append(target)
            continue
        # A result that is an argument is saved before its memory may take another one.
        early = isinstance(result, np.ndarray) or result < first_out
        source = f"slots[{result}]" if isinstance(result, int) else library.constant_result(at)
        if leaf.nbytes:
            copies = copies_before if early else copies_after
            copies.append((field, f"memmove({field}, {source}, {leaf.nbytes});"))
    _render_signature(library, writer, " {")
    with writer.block(None):
        writer.line("/* Of arrays without elements. */")
        writer.line("static char none[1];")
        writer.line("(void)none;")
        writer.line("(void)in;")
        writer.line("(void)out;")
        with writer.block("void *slots[] =", end="};"):
            for slot in slots:
                writer.line(f"{slot},")
            writer.line("workspace,")
        with writer.block(f"for (int i = 0; i < {len(slots)}; ++i)"):
            writer.line("if (slots[i] == NULL) return -1;")
        for field, _ in (*copies_before, *copies_after):
            writer.line(f"if ({field} == NULL) return -1;")
        for _, copy in copies_before:
            writer.line(copy)
        if arena:
            writer.line("void *taken = NULL;")
            with writer.block("if (workspace == NULL)"):
                size = -(-arena // _ALIGNMENT) * _ALIGNMENT
                writer.line(f"taken = aligned_alloc({_ALIGNMENT}, {size});")
                writer.line(f"if (taken == NULL) return {arena};")
                writer.line(f"slots[{len(slots)}] = taken;")
        writer.line(
            "const int64_t missing = 0;"
            if library.program is None
            else f"const int64_t missing = {calls}(slots);"
        )
        for _, copy in copies_after:
            writer.line(copy)
        if arena:
            writer.line("free(taken);")
        writer.line("return missing;")


def _render_signature(library: Library, writer: Writer, end: str) -> None:
    name = library.name
    parameters = [f"const struct {name}_inputs *in", f"const struct {name}_outputs *out"]
    writer.call(f"int64_t {name}_run", [*parameters, "void *workspace"], end=end)


def _pointer(field: str, leaf: Leaf, cast: str) -> str:
    return f"{cast}{field}" if leaf.nbytes else f"none /* {field} */"


def _structure(
    writer: Writer,
    name: str,
    leaves: Sequence[Leaf],
    fields: Sequence[str],
    const: str,
    note: Callable[[int], str] = lambda at: "",
) -> None:
    with writer.block(f"struct {name}", end="};"):
        if not leaves:
            writer.line("const void *none; /* there are none; C wants a member */")
        for at, (field, leaf) in enumerate(zip(fields, leaves, strict=True)):
            writer.line(f"{const}{leaf.c_type} *{field}; /* {_in_comment(f'{leaf}{note(at)}')} */")
    writer.line()


def _donations(library: Library) -> Callable[[int], str]:
    """What the header says about a result that may take an argument's memory."""
    names = library.input_names
    seen: set[int] = set()

    def note(at: int) -> str:
        result = library.results[at]
        if not isinstance(result, int) or result in seen or result not in library.donors:
            return ""
        seen.add(result)
        return f"; may be the memory of {names[library.donors[result]]}"

    return note


def _in_comment(text: str) -> str:
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ").replace("\\", "/")


def _in_string(text: str) -> str:
    return re.sub(r'[\\"\n?%]', "_", text)
