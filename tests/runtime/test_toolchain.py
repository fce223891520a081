"""The compiler driver: finding, building by content, sharing between processes, failing well."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from funcdl.config import config
from funcdl.runtime import toolchain
from funcdl.runtime.disk_cache import default_cache
from funcdl.runtime.toolchain import Compiler, CompilerError, Unit, find_compiler, folder_digest

FOUND = find_compiler()
pytestmark = pytest.mark.skipif(FOUND is None, reason="no C compiler")
SOURCE = "int answer(void) { return 42; }\n"


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path / "cache"), cc=""):
        yield


@pytest.fixture
def compiler() -> Compiler:
    found = find_compiler()
    assert found is not None
    return found


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return path


def counting(tmp_path: Path, compiler: Compiler, before: str = "") -> tuple[Compiler, Path]:
    """The compiler, with a log that gets a line for each run."""
    log = tmp_path / "runs"
    log.touch()
    wrapper = script(
        tmp_path / "wrapper",
        f"""
        echo run >> {log}
        {before}
        exec {shlex.join(compiler.command)} "$@"
        """,
    )
    return Compiler((str(wrapper),), compiler.version), log


def answer(path: Path, symbol: str = "answer") -> int:
    function = ctypes.CDLL(str(path))[symbol]
    return int(function())


def versions_asked(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    """How often a new process that looks for this compiler asks for its version."""
    asked: list[Any] = []
    capture = toolchain._capture

    def counted(*arguments: Any) -> Any:
        asked.append(arguments)
        return capture(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(toolchain, "_capture", counted)
        toolchain._find.cache_clear()
        with config.override(cc=command):
            assert find_compiler() is not None
    toolchain._find.cache_clear()
    return len(asked)


@pytest.mark.skipif(sys.platform != "linux", reason="programs have another format")
def test_a_compilers_version_is_asked_once_while_it_stays_the_same(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which(compiler.command[0])
    assert real is not None
    source = tmp_path / "source.c"
    source.write_text('#include <stdio.h>\nint main(void) { return puts("some gcc 1.0") < 0; }\n')
    copy = str(tmp_path / "some-gcc-1")
    subprocess.run([*compiler.command, str(source), "-o", copy], check=True)
    assert [versions_asked(monkeypatch, copy) for _ in range(2)] == [1, 0]
    os.utime(copy, ns=(1, 1))
    assert [versions_asked(monkeypatch, copy) for _ in range(2)] == [1, 0]
    wrapper = script(tmp_path / "gcc", f'exec {shlex.quote(real)} "$@"\n')
    assert [versions_asked(monkeypatch, str(wrapper)) for _ in range(2)] == [1, 1]
    other = shutil.copy(copy, tmp_path / "ccache")
    assert [versions_asked(monkeypatch, str(other)) for _ in range(2)] == [1, 1]


def test_builds_a_loadable_object_and_compiles_it_once(tmp_path: Path, compiler: Compiler) -> None:
    counted, log = counting(tmp_path, compiler)
    path = counted.build(SOURCE)
    assert answer(path) == 42
    assert counted.build(SOURCE) == path
    assert log.read_text() == "run\n"


def test_the_key_covers_all_that_changes_the_result(tmp_path: Path, compiler: Compiler) -> None:
    include = tmp_path / "include"
    include.mkdir()
    (include / "a.h").write_text("#define A 1\n")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "a.h").write_text("#define A 1\n")
    path = compiler.build(SOURCE, include_dirs=[include])
    assert compiler.build(SOURCE, include_dirs=[moved]).name == path.name
    (moved / "a.h").write_text("#define A 2\n")
    folder_digest.cache_clear()
    different = [
        path,
        compiler.build(SOURCE, include_dirs=[moved]),
        compiler.build(SOURCE + "\n"),
        compiler.build(SOURCE, flags=["-O1"]),
        compiler.build(SOURCE, flags=["-O1", "-g0"]),
        compiler.build(SOURCE, extra_key="x"),
        Compiler(compiler.command, "another version").build(SOURCE),
    ]
    assert len({path.name for path in different}) == len(different)


def test_a_damaged_object_is_built_again(compiler: Compiler) -> None:
    path = compiler.build(SOURCE)
    path.write_bytes(path.read_bytes()[:100])
    assert answer(compiler.build(SOURCE)) == 42


def test_libraries_are_linked_whatever_their_place_in_the_flags(compiler: Compiler) -> None:
    source = "double cbrt(double);\ndouble f(double x) { return cbrt(x); }\n"
    path = compiler.build(source, flags=["-lm", "-Wl,--as-needed", "-Wl,-z,defs"])
    function = ctypes.CDLL(str(path)).f
    function.argtypes, function.restype = (ctypes.c_double,), ctypes.c_double
    assert function(27.0) == pytest.approx(3.0)


def test_build_all_keeps_the_order_and_fails_with_the_first_error(compiler: Compiler) -> None:
    units = [Unit(f"int answer(void) {{ return {i}; }}\n") for i in range(5)]
    assert [answer(path) for path in compiler.build_all(units)] == list(range(5))
    with pytest.raises(CompilerError, match="refused 'bad'"):
        compiler.build_all([*units, Unit("nonsense\n", name="bad")])


HELPER = Unit("int helper(void) { return 40; }\n", ("-O1",), "helper")


def with_helper(number: int, helper: Unit = HELPER) -> Unit:
    text = f"int helper(void); int answer(void) {{ return helper() + {number}; }}\n"
    return Unit(text, ("-lm", "-Wl,--as-needed"), "caller", objects=(helper,))


def test_an_object_is_compiled_once_and_linked_into_all(tmp_path: Path, compiler: Compiler) -> None:
    counted, log = counting(tmp_path, compiler)
    paths = counted.build_all([with_helper(2), with_helper(3)])
    assert [answer(path) for path in paths] == [42, 43]
    assert log.read_text() == "run\n" * 5  # the object; two to compile and two to link
    (path,) = counted.build_all([with_helper(4)])
    assert answer(path) == 44
    assert log.read_text() == "run\n" * 7
    assert counted.build_all([with_helper(4), with_helper(3)]) == [path, paths[1]]
    assert log.read_text() == "run\n" * 7


def test_another_object_makes_another_unit(compiler: Compiler) -> None:
    other = replace(HELPER, source="int helper(void) { return 50; }\n")
    units = [with_helper(2), with_helper(2, other), with_helper(2, replace(HELPER, flags=("-O2",)))]
    assert [answer(path) for path in compiler.build_all(units)] == [42, 52, 42]
    assert len({compiler.key(unit) for unit in units}) == 3


def test_a_damaged_or_deleted_object_is_built_again(compiler: Compiler) -> None:
    for number in range(3):
        (path,) = compiler.build_all([with_helper(number)])
        assert answer(path) == 40 + number
        (built,) = default_cache().root.glob("??/*.o")
        if number == 0:
            built.write_bytes(built.read_bytes()[:100])
        else:
            built.unlink()


def test_an_object_that_is_refused_is_named(compiler: Compiler) -> None:
    with pytest.raises(CompilerError, match="refused 'helper'") as caught:
        compiler.build_all([with_helper(2, replace(HELPER, source="nonsense\n"))])
    assert caught.value.source is not None
    assert caught.value.source.read_text() == "nonsense\n"
    with pytest.raises(CompilerError, match="refused 'caller'"):
        compiler.build_all([replace(with_helper(2), source="nonsense\n")])


def test_a_compiler_that_is_killed_leaves_nothing_behind(
    tmp_path: Path, compiler: Compiler
) -> None:
    alive = tmp_path / "alive"
    counted, _ = counting(tmp_path, compiler, f"[ -e {alive} ] || kill -9 $$")
    with pytest.raises(CompilerError, match=r"refused .* \(exit status -9\)"):
        counted.build_all([with_helper(2)])
    alive.touch()
    (path,) = counted.build_all([with_helper(2)])
    assert answer(path) == 42


def test_a_compiler_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, compiler: Compiler
) -> None:
    lines = f"echo begun; sleep 1000 & echo $! > {tmp_path}/pid; wait\n"
    hanging = Compiler((str(script(tmp_path / "hanging", lines)),), compiler.version)
    with config.override(compile_seconds=0.5), pytest.raises(CompilerError) as caught:
        hanging.build(SOURCE, name="step")
    message = str(caught.value)
    assert message.startswith("the C compiler was ended: 'step' took it longer than 0.5 s. Set ")
    assert str(tmp_path / "hanging") in message and "begun" in message
    assert caught.value.source is not None and caught.value.source.read_text() == SOURCE
    status = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    assert not status.exists() or ") Z " in status.read_text()
    with config.override(compile_seconds=0.2):
        assert not hanging.accepts(["-O1"])
    script(tmp_path / "hanging", f'exec {shlex.join(compiler.command)} "$@"\n')
    assert hanging.accepts(["-O1"]), "what took too long is asked for again"
    assert answer(hanging.build(SOURCE)) == 42


def test_a_compiler_is_sought_no_longer_where_its_version_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "_VERSION_SECONDS", 0.5)
    hanging = script(tmp_path / "hanging", "sleep 1000\n")
    with (
        config.override(cc=str(hanging)),
        pytest.raises(CompilerError, match=r"hanging --version` took longer than 0\.5 s"),
    ):
        find_compiler()


def test_threads_that_want_the_same_wait_for_one_of_them(
    tmp_path: Path, compiler: Compiler
) -> None:
    counted, log = counting(tmp_path, compiler, "sleep 0.1")
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: counted.build(SOURCE), range(4)))
        answers = list(pool.map(lambda _: counted.accepts(["-O1"]), range(4)))
    assert len(paths) == 1
    assert all(answers)
    assert log.read_text() == "run\nrun\n"


FORK = """
import os, signal, sys
from funcdl.runtime import toolchain
from funcdl.runtime.disk_cache import default_cache
command, version, source = sys.argv[1:]
compiler = toolchain.Compiler((command,), version)
# As if another thread were compiling it.
toolchain._lock(default_cache(), compiler.key(toolchain.Unit(source)), ".so").acquire()
child = os.fork()
if child == 0:
    signal.alarm(20)
    print(compiler.build(source))
else:
    sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_wait_for_threads_it_does_not_have(compiler: Compiler) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORK, *compiler.command, compiler.version, SOURCE],
        env={**os.environ, "FUNCDL_CACHE_DIR": config.cache_dir},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert answer(Path(result.stdout.strip())) == 42


def test_a_failure_shows_command_message_and_source(compiler: Compiler) -> None:
    source = SOURCE + "int broken(void) { return missing; }\n"
    with pytest.raises(CompilerError) as caught:
        compiler.build(source, flags=["-O1"], name="step")
    error = caught.value
    message = str(error)
    assert message.startswith("the C compiler refused 'step' (exit status 1)\n")
    command = re.search(r"^  command: (.*)$", message, re.MULTILINE)
    kept = re.search(r"^  source:  (.*)$", message, re.MULTILINE)
    assert command is not None
    assert kept is not None
    assert error.source == Path(kept[1])
    assert Path(kept[1]).read_text() == source
    assert "step.c:2:" in message
    assert "missing" in message
    again = subprocess.run(shlex.split(command[1]), capture_output=True, text=True)
    assert again.returncode == 1
    assert "missing" in again.stderr


@pytest.mark.parametrize("writes", ['while [ "$1" != -o ]; do shift; done; : > "$2"', ":"])
def test_an_empty_or_missing_object_is_a_failure(
    writes: str, tmp_path: Path, compiler: Compiler
) -> None:
    empty = script(tmp_path / "empty", f"{writes}\n")
    with pytest.raises(CompilerError, match=r"refused 'unit' \(exit status 0\)"):
        Compiler((str(empty),), compiler.version).build(SOURCE)


def test_a_long_failure_is_shortened(compiler: Compiler) -> None:
    source = "".join(f"int f{i}(void) {{ return missing{i}; }}\n" for i in range(50))
    with pytest.raises(CompilerError, match=r"… \d+ more lines$") as caught:
        compiler.build(source)
    assert "missing0" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 20
    assert "missing49" in caught.value.output


def test_keep_source_stores_the_text_beside_the_object(compiler: Compiler) -> None:
    with config.override(keep_source=True):
        path = compiler.build(SOURCE)
    key = path.name.split(".")[0]
    assert default_cache().get_text(key, ".c") == SOURCE


def test_accepts_tells_known_flags_from_unknown_ones_and_remembers(
    tmp_path: Path, compiler: Compiler
) -> None:
    counted, log = counting(tmp_path, compiler)
    for _ in range(2):
        assert counted.accepts(["-O1"])
        assert not counted.accepts(["-fno-such-flag-exists", "-Werror"])
        assert not counted.accepts(["-lno_such_library"])
    # Once for a yes; for a no once more without the flags, which shows that they are to blame.
    assert log.read_text() == "run\n" * 5


def test_nothing_temporary_is_left(compiler: Compiler) -> None:
    compiler.build(SOURCE)
    with pytest.raises(CompilerError):
        compiler.build("nonsense\n")
    assert not [path for path in default_cache().root.iterdir() if path.name.startswith(".tmp")]


BUILD = """
import sys
from funcdl.runtime.toolchain import Compiler
command, version, source = sys.argv[1:]
print(Compiler((command,), version).build(source))
"""


def test_two_processes_may_build_the_same_unit_at_once(tmp_path: Path, compiler: Compiler) -> None:
    # Each compiler waits until both have started, so that neither finds the other's result.
    both = f'i=0; while [ "$(wc -l < {tmp_path}/runs)" -lt 2 ] && [ $i -lt 100 ]; do '
    counted, log = counting(tmp_path, compiler, both + "i=$((i+1)); sleep 0.05; done")
    arguments = [*counted.command, counted.version, SOURCE]
    environment = {**os.environ, "FUNCDL_CACHE_DIR": config.cache_dir}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    paths = [Path(process.communicate(timeout=60)[0].strip()) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert log.read_text() == "run\nrun\n"
    assert [answer(path) for path in paths] == [42, 42]
    assert counted.build(SOURCE) in paths
    assert log.read_text() == "run\nrun\n"


def test_find_compiler_asks_once_and_prefers_the_flag(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        script(tmp_path / name, f"echo run >> {tmp_path / name}.log; echo {name} 1.2; echo more")
        for name in ("first", "second")
    )
    monkeypatch.setenv("CC", str(second))
    assert find_compiler() == Compiler((str(second),), "second 1.2")
    with config.override(cc=f"{first} -m64"):
        for _ in range(3):
            assert find_compiler() == Compiler((str(first), "-m64"), "first 1.2")
    assert (tmp_path / "first.log").read_text() == "run\n"
    monkeypatch.setenv("CC", str(tmp_path / "missing"))
    assert find_compiler() == compiler


def test_find_compiler_returns_none_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "gcc", "exit 1")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "not found on PATH"), ("echo no licence >&2; exit 3", "no licence")],
)
def test_a_configured_compiler_that_does_not_run_is_an_error(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    name = str(tmp_path / "mycc")
    if text is not None:
        script(Path(name), text)
    with config.override(cc=name), pytest.raises(CompilerError, match=reason) as caught:
        find_compiler()
    assert "FUNCDL_CC" in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("text", [" ", '"gcc', "no such compiler", "/"])
def test_a_command_that_is_none_is_an_error_or_passed_over(
    text: str, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    with config.override(cc=text), pytest.raises(CompilerError, match="not found on PATH"):
        find_compiler()
    monkeypatch.setenv("CC", text)
    assert find_compiler() == compiler


@pytest.mark.parametrize("quoted", [False, True])
def test_a_compilers_path_may_have_spaces(
    quoted: bool, tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    path = script(folder / "my cc", f'exec {shlex.join(compiler.command)} "$@"\n')
    text = shlex.quote(str(path)) if quoted else str(path)
    monkeypatch.setenv("CC", text)
    found = find_compiler()
    assert found is not None and found.command == (str(path),)
    assert answer(found.build(SOURCE)) == 42
    monkeypatch.setenv("CC", f"env {shlex.quote(str(path))}")
    found = find_compiler()
    assert found is not None and found.command == ("env", str(path))
    assert answer(found.build(SOURCE)) == 42


def test_folder_digest_covers_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a.h", "1"), ("b.h", "1"), ("a.h", "2")):
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / name).write_text(text)
        digests.add(folder_digest(folder))
    assert len(digests) == 3


def test_the_cache_folder_is_private(compiler: Compiler) -> None:
    path = compiler.build(SOURCE)
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_messages_are_in_english(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    result = toolchain._capture(["sh", "-c", "echo $LC_ALL"], None)
    assert result.stdout == "C\n"
