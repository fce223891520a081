"""The project holds together: metadata, package contents, imports, layering, README."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import funcdl

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "funcdl"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAX_LINES = 600

# What a user may lack: every extra's packages and the frameworks funcdl stands beside.
OPTIONAL = ["cuda", "jax", "matplotlib", "rich", "sklearn", "tensorflow", "torch", "triton"]


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in paths if path.suffix in suffixes)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_python(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_version_is_the_one_in_pyproject() -> None:
    assert funcdl.__version__ == PYPROJECT["project"]["version"]


def test_type_information_is_shipped() -> None:
    assert (files("funcdl") / "py.typed").is_file()


def test_run_time_dependencies_stay_light() -> None:
    names = {re.split(r"[<>=!~; \[]", text)[0] for text in PYPROJECT["project"]["dependencies"]}
    assert names == {"cffi", "ml_dtypes", "numpy", "opt_einsum", "optree", "scipy"}


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in sources("src/funcdl")}
    missing = [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    assert missing == []


@pytest.mark.parametrize("path", sources("src/funcdl"), ids=relative)
def test_every_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_file_is_too_long() -> None:
    paths = sources("src", "tests", "examples", suffixes=(".py", ".c", ".h"))
    lengths = {relative(path): path.read_text().count("\n") for path in paths}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


IMPORT_ALL = """
import importlib, sys, traceback
optional, modules = (argument.split(",") for argument in sys.argv[1:])
for name in optional:
    sys.modules[name] = None  # an import of it now raises
failed = 0
for name in modules:
    try:
        importlib.import_module(name)
    except Exception:
        failed += 1
        print(name, traceback.format_exc(limit=-2))
sys.exit(failed)
"""


def test_every_module_imports_with_the_run_time_dependencies_alone() -> None:
    modules = [module_name(path) for path in sources("src/funcdl") if path.stem != "__main__"]
    assert "funcdl" in modules
    result = run_python(IMPORT_ALL, ",".join(OPTIONAL), ",".join(modules))
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_funcdl_loads_no_optional_package() -> None:
    code = "import sys, funcdl; print(*sys.modules)"
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "funcdl" in loaded
    assert loaded.isdisjoint(OPTIONAL), sorted(loaded.intersection(OPTIONAL))


def test_importing_funcdl_loads_nothing_slow_that_is_seldom_needed() -> None:
    code = (
        "import sys, ml_dtypes, numpy, optree; before = set(sys.modules); import funcdl; "
        "print(*sys.modules.keys() - before)"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    slow = {"funcdl.compiler", "funcdl.kernels", "funcdl.kir.builder", "funcdl.kir.ir"}
    slow |= {"funcdl.runtime", "cffi", "fractions", "json", "logging", "numpy.random"}
    slow |= {"funcdl.debug", "funcdl.profiling", "opt_einsum", "scipy"}
    assert slow.isdisjoint(result.stdout.split())


LINT_IMPORTS = """
import sys
from importlinter.cli import lint_imports_command
sys.path.insert(0, "src")
lint_imports_command(["--no-logo", "--no-cache"])
"""


def lint_imports(cwd: Path) -> tuple[bool, str]:
    """Check the contract of the project at cwd; return whether it is kept, and the report."""
    result = run_python(LINT_IMPORTS, cwd=cwd)
    assert "contracts:" in result.stdout.lower(), result.stdout + result.stderr
    return result.returncode == 0, result.stdout


def write_package(root: Path, imports: list[tuple[str, str]]) -> None:
    """Make a package of modules with these imports, under this project's contract."""
    shutil.copy(ROOT / "pyproject.toml", root)
    for importer, imported in imports:
        for name in (importer, imported):
            folder = root / "src"
            for part in name.split(".") if name.startswith("funcdl") else ():
                folder /= part
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "__init__.py").touch()
        path = root.joinpath("src", *importer.split("."), "__init__.py")
        with path.open("a") as module:
            module.write(f"import {imported}\n")


def test_imports_only_run_downwards() -> None:
    kept, report = lint_imports(ROOT)
    assert kept, report


ALLOWED = [
    ("funcdl", "funcdl.compiler.cpu.target"),
    ("funcdl.compiler.cpu.target", "funcdl.compiler.fusion.fuse"),
    ("funcdl.compiler.cpu.target", "funcdl.kernels.cpu_c.render"),
    ("funcdl.compiler.cpu.target", "funcdl.runtime.toolchain"),
    ("funcdl.compiler.fusion.fuse", "funcdl.kir.ir"),
    ("funcdl.kernels.cpu_c.render", "funcdl.kir.ir"),
    ("funcdl.kernels.cpu_c.render", "funcdl.runtime.toolchain"),
    ("funcdl.runtime.toolchain", "funcdl.core.array"),
    ("funcdl.core.array", "funcdl.core.jaxpr"),
    ("funcdl.nn.linear", "funcdl.numpy.creation"),
    ("funcdl.random", "funcdl.lax.slicing"),
]


def test_contract_allows_the_intended_imports(tmp_path: Path) -> None:
    write_package(tmp_path, ALLOWED)
    kept, report = lint_imports(tmp_path)
    assert kept, report


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("funcdl.errors", "funcdl.core.array"),
        ("funcdl.core.array", "funcdl.ops.elementwise"),
        ("funcdl.kir.ir", "funcdl.ops.elementwise"),
        ("funcdl.transforms.jit", "funcdl.compiler.program"),
        ("funcdl.compiler.fusion.fuse", "funcdl.kernels.cpu_c.render"),
        ("funcdl.compiler.fusion.fuse", "funcdl.compiler.cpu.target"),
        ("funcdl.compiler.rewrite.simplify", "funcdl.compiler.fusion.fuse"),
        ("funcdl.kernels.cpu_c.render", "funcdl.compiler.fusion.fuse"),
        ("funcdl.runtime.toolchain", "funcdl.kir.ir"),
        ("funcdl.runtime.toolchain", "funcdl.core.jaxpr"),
        ("funcdl.lax.slicing", "funcdl.nn.linear"),
        ("funcdl.core.array", "funcdl"),
        ("funcdl.kernels.triton.render", "torch"),
    ],
)
def test_contract_refuses(tmp_path: Path, importer: str, imported: str) -> None:
    write_package(tmp_path, [*ALLOWED, (importer, imported)])
    kept, report = lint_imports(tmp_path)
    assert not kept, report
    assert importer in report


README = (ROOT / "README.md").read_text()


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_readme_has_two_commands_and_ci_runs_the_second() -> None:
    set_up, test = (block.strip() for block in fenced("sh"))
    assert set_up.endswith("examples/digits.py")
    assert f"\n{test} " in (ROOT / ".ci" / "run").read_text()


def test_readme_example_runs_and_learns() -> None:
    (example,) = fenced("python")
    result = run_python(example)
    assert result.returncode == 0, result.stderr
    losses = re.match(r"(\S+) -> (\S+)\n", result.stdout)
    assert losses is not None, result.stdout[:200]
    assert float(losses[2]) < 0.1 * float(losses[1])
