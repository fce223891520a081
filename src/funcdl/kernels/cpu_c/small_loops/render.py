"""A loop over small kernels as one C function.

A kernel called from the table of calls (call_table.c) costs 20 ns, as much as some dozens of
additions. Where all that a loop calls is small, it is a function of its own into which the kernels
are inlined. Single elements that a step passes on, or takes from a stack, are variables of it, so
that a C compiler keeps them in registers, and computes once what two kernels both compute.

Results have the same bits as by the table: kernels have the same text, and one whose sums a
compiler may reorder is called as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.function import Function
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kernels.cpu_c.small_loops.carried import Carried, carried
from funcdl.kernels.cpu_c.small_loops.choice import MOST_INSTRUCTIONS, is_small
from funcdl.kernels.cpu_c.small_loops.places import (
    LOCAL_BYTES,
    Names,
    Outer,
    Parameters,
    Place,
    Scope,
)
from funcdl.kernels.cpu_c.small_loops.uses import (
    FLAG,
    INDEX,
    Array,
    IrregularError,
    Use,
    carried_array,
    slot_uses,
    while_condition,
)
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.copies import copied_in_place
from funcdl.kir.program import (
    Address,
    Body,
    BranchCall,
    Call,
    LibraryCall,
    ScanCall,
    WhileCall,
)

_LENGTH = "n_steps"


class Renderer:
    """Writes the function of one loop.

    `parameters` are the pointers that it takes, `called` the kernels that it calls, by their names.

    Args:
        functions: those of all kernels, by their names.
    """

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self.called: dict[str, Function] = {}
        self._names = Names()
        self.parameters = Parameters(self._names)
        self._functions = functions
        self._instructions = 0

    def render(self, call: ScanCall | WhileCall) -> tuple[str, tuple[Number, ...]]:
        """The part of the function in braces, and the numbers that it takes.

        Raises:
            IrregularError: not all that the loop calls is small, or its memory is not regular.
        """
        writer = Writer()
        with writer.block(None):
            if isinstance(call, WhileCall):
                self._while(call, self.parameters, writer)
            else:
                self._scan(call, self.parameters, writer, _LENGTH)
        if isinstance(call, WhileCall):
            return writer.text(), ()
        return writer.text(), (Number(np.dtype(np.int64), _LENGTH, call.length),)

    def _calls(self, scope: Scope, writer: Writer, end: Sequence[str] = ()) -> None:
        """The variables of a step, the calls of a body, and what stands after them."""
        inner = writer.beside()
        for call in scope.program.calls:
            match call:
                case Call():
                    self._kernel(call, scope, inner)
                case ScanCall():
                    self._scan(call, scope, inner, str(call.length))
                case WhileCall():
                    self._while(call, scope, inner)
                case BranchCall():
                    self._branches(call, scope, inner)
                case LibraryCall():
                    raise IrregularError
        writer.lines(scope.declarations())
        writer.add(inner)
        writer.lines(end)

    def _kernel(self, call: Call, scope: Scope, writer: Writer) -> None:
        kernel, schedule = scope.program.kernels[call.kernel]
        places = {
            buffer.name: scope.place(address, Array(buffer.dtype, buffer.size))
            for buffer, address in zip(kernel.buffers, call.args, strict=True)
        }
        if copied := copied_in_place(kernel):
            target, source = copied
            if places[target] == places[source]:
                return
        function = self._functions[kernel.name]
        self._instructions += len(kernel.body)
        if self._instructions > MOST_INSTRUCTIONS or not is_small(function, schedule):
            raise IrregularError
        self.called[kernel.name] = function
        arguments = [place.pointer for place in places.values()]
        writer.call(kernel.name, [*arguments, *(n.literal for n in function.numbers)])

    def _scan(self, call: ScanCall, outer: Outer, writer: Writer, length: str) -> None:
        if call.length == 0:
            raise IrregularError
        body, uses = call.body, slot_uses(call.body.program)
        pairs = carried(body.slots, reverse=call.reverse)
        loop = _Loop(body, outer, self._names)
        (step,) = self._names.new("step")
        end = f"{length} - 1" if length == _LENGTH else str(call.length - 1)
        first, last = (end, "0") if call.reverse else ("0", end)
        for pair in pairs:
            array, target = carried_array(pair, uses), body.slots[pair.write].last
            if target is None:
                loop.keep(pair, array)
                continue
            final, is_last = outer.place(target, array, "final", written=True), f"{step} == {last}"
            if pair.kind == "buffers":
                loop.alternate(pair, array, final, is_last)
                continue
            whole = Array(array.dtype, array.size * call.length)
            stack = outer.place(body.slots[pair.read].base, whole, "stack", written=True)
            if array.size == 1:
                loop.pass_on(pair, array, stack.at(first), final)
                loop.begin.append(f"{stack.at(step)} = {loop.scope.slots[pair.read].value};")
            else:
                following = f"({step} {'-' if call.reverse else '+'} 1)"
                loop.pass_along(pair, array, stack, final, (step, following, is_last))
        loop.operands(pairs, uses, (step, call.length))
        writer.lines(loop.before)
        head = f"int64_t {step} = 0; {step} < {length}; ++{step}"
        if call.reverse:
            head = f"int64_t {step} = {end}; {step} >= 0; --{step}"
        with writer.block(f"for ({head})"):
            writer.lines(loop.begin)
            self._calls(loop.scope, writer, loop.end)
        writer.lines(loop.after)

    def _while(self, call: WhileCall, outer: Outer, writer: Writer) -> None:
        uses, tested = slot_uses(call.body.program), slot_uses(call.condition.program)
        same, flag = while_condition(call)
        read_there = {same[at]: use for at, use in tested.items() if at in same}
        finals = {copy.source: copy.target for copy in call.results[1]}
        loop, test = (_Loop(body, outer, self._names) for body in (call.body, call.condition))
        pairs = carried(call.body.slots)
        for pair in pairs:
            array = carried_array(pair, uses, read_there)
            if pair.kind == "place":
                loop.keep(pair, array)
                continue
            final, target = None, finals.get(call.body.slots[pair.write].base)
            if target is not None:
                final = outer.place(target, array, "final", written=True)
            loop.alternate(pair, array, final)
        loop.operands(pairs, uses)
        test.operands([], {s: use for s, use in tested.items() if s not in same and s != flag})
        test.scope.slots |= {at: loop.scope.slots[same[at]] for at in tested if at in same}
        (name,) = self._names.new("flag")
        test.scope.slots[flag] = test.scope.variable(name, Array(FLAG, 1))
        writer.lines([*loop.before, *test.before])
        with writer.block("for (;;)"):
            self._calls(test.scope, writer)
            writer.line(f"if (!{name}) break;")
            writer.lines(loop.begin)
            self._calls(loop.scope, writer, loop.end)
        writer.lines(loop.after)

    def _branches(self, call: BranchCall, scope: Scope, writer: Writer) -> None:
        index = scope.place(call.index, Array(INDEX, 1))
        for number, body in enumerate(call.branches):
            inner = Scope(scope, body, self._names)
            for slot, use in slot_uses(body.program).items():
                inner.slots[slot] = scope.place(
                    body.slots[slot].base, use.array, written=use.written
                )
            # The last one takes all other numbers.
            head = "{" if number == len(call.branches) - 1 else f"if ({index.value} == {number}) {{"
            writer.line(f"}} else {head}" if number else head)
            with writer.block(None, end=None):
                self._calls(inner, writer)
        writer.line("}")


class _Loop:
    """What the slots of a loop's body are, and the lines that make them so: before the loop, at the
    beginning and at the end of each step, and after the loop."""

    def __init__(self, body: Body, outer: Outer, names: Names) -> None:
        self.before: list[str] = []
        self.begin: list[str] = []
        self.end: list[str] = []
        self.after: list[str] = []
        self.scope = Scope(outer, body, names)
        self._body = body
        self._outer = outer
        self._names = names

    def keep(self, pair: Carried, array: Array) -> None:
        """A value that steps update in its place, where it is first copied to."""
        first = self._body.slots[pair.read].first
        assert first is not None
        init = self._outer.place(first, array, "init")
        base = self._body.slots[pair.write].base
        place = self._outer.place(base, array, "final", written=True)
        if init != place:
            copy = f"memmove({place.pointer}, {init.pointer}, {array.nbytes});"
            # They are one array if the caller has given it up.
            self.before.append(f"if ({place.pointer} != {init.pointer}) {copy}")
        self._bind(pair, place, place)

    def alternate(
        self, pair: Carried, array: Array, final: Place | None, is_last: str = ""
    ) -> None:
        """A value in two buffers in turn. `is_last`: in the last step, which writes the final."""
        read, write = self._body.slots[pair.read], self._body.slots[pair.write]
        assert read.first is not None and write.alternate is not None
        init = self._outer.place(read.first, array, "init")
        if array.size == 1:
            self.pass_on(pair, array, init.value, final)
            return
        kind = text.type_name(array.dtype)
        names = self._names.new("carry", "next", "even", "odd")
        carry, following, even, odd = map(Place, names)
        if array.nbytes <= LOCAL_BYTES:
            self.before += [stack_array(kind, x.name, array.size) for x in (even, odd)]
        else:
            even, odd = (
                self._outer.place(at, array, "buffer", written=True) for at in write.alternate
            )
        self.before.append(f"const {kind} *{carry.name} = {init.pointer};")
        other = f"{carry.name} == {even.pointer} ? {odd.pointer} : {even.pointer}"
        if final is not None and is_last:
            other = f"{is_last} ? {final.pointer} : {other}"
        elif final is not None:
            self.after.append(f"memmove({final.pointer}, {carry.name}, {array.nbytes});")
        self.begin.append(f"{kind} *const {following.name} = {other};")
        self.end.append(f"{carry.name} = {following.name};")
        self._bind(pair, carry, following)

    def pass_on(self, pair: Carried, array: Array, init: str, final: Place | None) -> None:
        """A single element, in two variables."""
        name, following_name = self._names.new("carry", "next")
        carry, following = Place(name, True), self.scope.variable(following_name, array)
        self.before.append(f"{text.type_name(array.dtype)} {carry.name} = {init};")
        self.end.append(f"{carry.name} = {following.name};")
        if final is not None:
            self.after.append(f"{final.value} = {carry.name};")
        self._bind(pair, carry, following)

    def pass_along(
        self, pair: Carried, array: Array, stack: Place, final: Place, at: tuple[str, str, str]
    ) -> None:
        """A value that moves along its stack. `at`: the step, the one after it, is it the last."""
        kind, size = text.type_name(array.dtype), array.size
        step, after, is_last = at
        carry, following = map(Place, self._names.new("carry", "next"))
        there = f"{is_last} ? {final.pointer} : {stack.pointer} + {after} * {size}"
        self.begin += [
            f"const {kind} *const {carry.name} = {stack.pointer} + {step} * {size};",
            f"{kind} *const {following.name} = {there};",
        ]
        self._bind(pair, carry, following)

    def operands(
        self,
        pairs: Sequence[Carried],
        uses: Mapping[int, Use],
        position: tuple[str, int] = ("", 0),
    ) -> None:
        """What a body reads and writes beside what it carries; `position`: step and length."""
        known = {slot for pair in pairs for slot in (pair.read, pair.write)}
        for slot, use in uses.items():
            binding, array = self._body.slots[slot], use.array
            if slot in known:
                continue
            if binding.stride:
                self.scope.slots[slot] = self._slice(binding.base, use, *position)
                continue
            place = self._outer.place(binding.base, array, "const", written=use.written)
            if array.size == 1 and not use.written and not place.single:
                (name,) = self._names.new("element")
                self.before.append(f"const {text.type_name(array.dtype)} {name} = {place.value};")
                place = Place(name, True)
            self.scope.slots[slot] = place

    def _slice(self, base: Address, use: Use, step: str, length: int) -> Place:
        """What a step reads or writes of a stack."""
        array, stem = use.array, "y" if use.written else "x"
        kind = ("" if use.written else "const ") + text.type_name(array.dtype)
        whole = Array(array.dtype, array.size * length)
        stack = self._outer.place(base, whole, f"{stem}s", written=use.written)
        (name,) = self._names.new(stem)
        if array.size > 1:
            pointer = f"{stack.pointer} + {step} * {array.size}"
            self.begin.append(f"{kind} *const {name} = {pointer};")
            return Place(name)
        if use.written:
            self.end.append(f"{stack.at(step)} = {name};")
            return self.scope.variable(name, array)
        self.begin.append(f"{kind} {name} = {stack.at(step)};")
        return Place(name, True)

    def _bind(self, pair: Carried, read: Place, write: Place) -> None:
        self.scope.slots[pair.read], self.scope.slots[pair.write] = read, write
