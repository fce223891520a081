# make [ISA=...] [THREADS=no] [CC=...] [EXTRA=...]: lib@name@.so, lib@name@.a and an example.
#
# Needs gcc or clang, GNU make and binutils. With other options than before, call make clean first.
#
# ISA: the instructions to use, one of avx512, avx2, x86-64 (any of that kind), native-generic (what
# the compiler takes by itself, on other processors) or native (all that this machine has). Results
# of two of them may differ in the last bits.
ISA = @isa@
@flags@
FLAGS_native = -march=native
# THREADS=no: a library that starts none.
THREADS = yes
# EXTRA: more flags, such as -g or -fsanitize=address,undefined.
EXTRA =

ifeq ($(origin CC),default)
CC = gcc
endif
# Those of the machine that CC compiles for.
OBJCOPY = $(shell $(CC) -print-prog-name=objcopy)
AR = $(shell $(CC) -print-prog-name=ar)
ifeq ($(filter FLAGS_$(ISA),$(.VARIABLES)),)
$(error ISA=$(ISA) is none of those that are listed in the Makefile)
endif

# No contraction and no -ffast-math: results are those of the program, not of the flags.
FLAGS = @common@ $(FLAGS_$(ISA)) $(EXTRA)
# gcc only: of the kernels' selects it would make branches, which are not vectorised; and it would
# compile functions anew for the numbers they are called with.
FLAGS += $(shell $(CC) -fno-tree-pre -fno-ipa-cp -Werror -E -x c /dev/null > /dev/null 2>&1 \
           && echo -fno-tree-pre -fno-ipa-cp)
OBJECTS = @name@.o @name@_threads.o@constants@
PUBLIC = @name@_run @name@_set_num_threads
ifeq ($(THREADS),yes)
OPENMP = -fopenmp
OBJECTS += thread_pool.o
else
OPENMP = -fopenmp-simd
endif

all: lib@name@.so lib@name@.a @name@_main

@name@.o: @name@.c @name@.h $(wildcard include/*.h)
	$(CC) $(FLAGS) $(OPENMP) -fPIC -Iinclude -c $< -o $@

@name@_threads.o: @name@_threads.c @name@.h
	$(CC) $(FLAGS) $(OPENMP) -fPIC -c $< -o $@

thread_pool.o: thread_pool.c
	$(CC) -O2 -std=gnu11 $(EXTRA) -pthread -fPIC -c $< -o $@

@name@_constants.o: @name@_constants.S $(wildcard constants/*.npy)
	$(CC) -c $< -o $@

# Both libraries show the functions of @name@.h only: another library, or a program with OpenMP, may
# have functions of the names that are used inside. The shared one stays loaded, for its threads.
lib@name@.so: $(OBJECTS)
	printf '{ global: $(addsuffix ;,$(PUBLIC)) local: *; };\n' > $@.exports
	$(CC) -shared $(EXTRA) -Wl,--version-script=$@.exports -Wl,-z,nodelete -Wl,--as-needed \
	  $(OPENMP) $(OBJECTS) -lm -pthread -o $@

lib@name@.a: $(OBJECTS)
	$(CC) -nostdlib -r $(OBJECTS) -o @name@_all.o
	$(OBJCOPY) $(addprefix --keep-global-symbol=,$(PUBLIC)) @name@_all.o
	rm -f $@
	$(AR) rcs $@ @name@_all.o

@name@_main: @name@_main.c @name@.h lib@name@.a
	$(CC) -std=gnu11 -O2 $(EXTRA) $< lib@name@.a -Wl,--as-needed $(OPENMP) -lm -pthread -o $@

clean:
	rm -f $(OBJECTS) @name@_all.o lib@name@.so lib@name@.so.exports lib@name@.a @name@_main

.PHONY: all clean
