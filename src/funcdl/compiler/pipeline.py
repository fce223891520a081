"""The sequence of passes, each run when its result is first asked for, timed and dumped."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from funcdl.compiler.fusion.fuse import Grouping, fuse
from funcdl.compiler.fusion.groups import format_groups
from funcdl.compiler.loops import LoopStep
from funcdl.compiler.memory import format_memory
from funcdl.compiler.naming import program_name
from funcdl.compiler.program import (
    Divide,
    FindLibrary,
    Join,
    Program,
    Scheduler,
    Splitter,
    build_program,
    lower_groups,
)
from funcdl.compiler.rewrite.simplify import Compose, simplify
from funcdl.compiler.rewrite.split_reductions import split_reductions
from funcdl.compiler.steps import HostStep, Step, kernels_of
from funcdl.config import config
from funcdl.core.checker import check_jaxpr
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.printer import format_eqn
from funcdl.core.properties import computed_once
from funcdl.errors import ArgumentError
from funcdl.kir.check.checker import check
from funcdl.kir.printer import format_kernel, format_program, format_schedule
from funcdl.kir.program import KernelProgram, all_kernels

T = TypeVar("T")

_dump_numbers = itertools.count()


class Pipeline:
    """One program on its way from jaxpr to rendered kernels.

    Stages, in order: ``jaxpr``, ``simplified``, ``groups``, ``kernels``, ``schedule``, ``memory``,
    then the renderer's. `as_text` shows any of them; with ``config.dump`` set to a folder each is
    written there as it is made.
    """

    def __init__(
        self,
        closed: ClosedJaxpr,
        *,
        name: str,
        donated: Sequence[bool],
        scheduler: Scheduler,
        renderer: tuple[str, Callable[[KernelProgram], str]],
        composed: Compose = lambda _: None,
        splitter: Splitter | None = None,
        library: FindLibrary | None = None,
        divide: Divide = split_reductions,
        join: Join | None = None,
    ) -> None:
        self.closed = closed
        self.name = program_name(name)
        self._donated = tuple(donated)
        self._scheduler = scheduler
        self._composed = composed
        self._splitter = splitter
        self._library = library
        self._divide = divide
        self._join = join
        self._render_stage, self._render = renderer
        self._dump_prefix: str | None = None
        self._dumped = 0

    @computed_once
    def simplified(self) -> ClosedJaxpr:
        """The program after `simplify` and the back end's division of long rows."""
        self._dump("jaxpr", 0.0, str(self.closed))
        if config.check:
            check_jaxpr(self.closed.jaxpr, "the traced program")
        return self._run(
            "simplified",
            lambda: self._divide(simplify(self.closed, self._composed)),
            str,
            _check_simplified,
        )

    @computed_once
    def grouping(self) -> Grouping:
        """The fusion groups."""
        return self._run(
            "groups",
            lambda: fuse(
                self.simplified.jaxpr,
                [*itertools.compress(self.simplified.jaxpr.invars, self._donated)],
            ),
            lambda grouping: format_groups(grouping.groups, grouping.names),
        )

    @computed_once
    def steps(self) -> list[Step]:
        """The kernels of each group."""
        return self._run(
            "kernels",
            lambda: lower_groups(
                self.grouping,
                self._scheduler,
                splitter=self._splitter,
                library=self._library,
                divide=self._divide,
                join=self._join,
            ),
            self._format_steps,
            _check_steps,
        )

    @computed_once
    def program(self) -> Program:
        """Kernels with schedules and addresses."""
        return self._run(
            "schedule",
            lambda: build_program(
                self.simplified,
                self.grouping,
                self.steps,
                self._donated,
                self._scheduler,
                self.name,
            ),
            _format_schedules,
            _check_program,
        )

    @computed_once
    def sources(self) -> list[str]:
        """The rendered text of each native segment."""
        if config.dump:
            self._dump("memory", 0.0, self._format_memory())
        return self._run(
            self._render_stage,
            lambda: [
                self._render(s) for s in self.program.segments if isinstance(s, KernelProgram)
            ],
            "\n".join,
        )

    def as_text(self, stage: str) -> str:
        """The program as a stage left it."""
        makers: dict[str, Callable[[], str]] = {
            "jaxpr": lambda: str(self.closed),
            "simplified": lambda: str(self.simplified),
            "groups": lambda: format_groups(self.grouping.groups, self.grouping.names),
            "kernels": lambda: self._format_steps(self.steps),
            "schedule": lambda: _format_schedules(self.program),
            "memory": self._format_memory,
            self._render_stage: lambda: "\n".join(self.sources),
        }
        if stage not in makers:
            known = ", ".join(map(repr, makers))
            raise ArgumentError(f"there is no stage {stage!r}; the stages are {known}")
        return makers[stage]()

    def _run(
        self,
        stage: str,
        work: Callable[[], T],
        show: Callable[[T], str],
        verify: Callable[[T], None] | None = None,
    ) -> T:
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        if config.dump:
            self._dump(stage, seconds, show(result))
        if verify is not None and config.check:
            verify(result)
        return result

    def _dump(self, stage: str, seconds: float, text: str) -> None:
        if not config.dump:
            return
        folder = Path(config.dump)
        folder.mkdir(parents=True, exist_ok=True)
        if self._dump_prefix is None:
            self._dump_prefix = f"{next(_dump_numbers):03d}_{self.name}"
        path = folder / f"{self._dump_prefix}.{self._dumped}_{stage}.txt"
        self._dumped += 1
        path.write_text(f"pass {stage}  {seconds * 1e3:.2f} ms\n\n{text}\n")

    def _format_steps(self, steps: list[Step]) -> str:
        parts = []
        for step in steps:
            parts += [format_kernel(lowered.kernel) for lowered in kernels_of(step)]
            if isinstance(step, HostStep):
                parts.append(f"host {format_eqn(step.eqn, self.grouping.names)}\n")
            elif isinstance(step, LoopStep):
                parts.append(f"loop {step.eqn.primitive.name}\n")
                parts += [format_program(body.program) for body in step.bodies]
        return "\n".join(parts)

    def _format_memory(self) -> str:
        program = self.program
        return format_memory(
            program.arena, program.addresses, self.grouping.buffer_names, program.slot_labels
        )


def native_segments(program: Program) -> list[KernelProgram]:
    """The parts of a program that run natively."""
    return [segment for segment in program.segments if isinstance(segment, KernelProgram)]


def _check_simplified(closed: ClosedJaxpr) -> None:
    check_jaxpr(closed.jaxpr, "the simplified program")


def _check_steps(steps: list[Step]) -> None:
    for step in steps:
        for lowered in kernels_of(step):
            check(lowered.kernel)
        for body in step.bodies if isinstance(step, LoopStep) else ():
            for kernel, _ in all_kernels(body.program):
                check(kernel)


def _check_program(program: Program) -> None:
    # Again, since kernels now say which of their buffers may share memory.
    for segment in native_segments(program):
        for kernel, _ in segment.kernels:
            check(kernel)


def _format_schedules(program: Program) -> str:
    lines = []
    for segment in native_segments(program):
        lines += [f"{kernel.name}: {format_schedule(s)}" for kernel, s in all_kernels(segment)]
    return "\n".join(lines) + "\n"
