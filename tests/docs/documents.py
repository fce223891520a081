"""The documents as programs: their Python blocks are run, and what they show is compared.

In a document every ``python`` block runs, in order, in one namespace. A block of any language that
follows one of these lines shows something instead, and is compared with it:

* ``<!-- output -->``: what the last Python block printed;
* ``<!-- output: parts with "..." -->``: only the parts of it (separated by empty lines) in which
  the regular expression is found;
* ``<!-- quoted: path "..." -->``: lines of a source file, from the one that starts with the text to
  the next empty line.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

from tests.golden import UPDATE

from funcdl.config import config
from funcdl.errors import CompilerWarning

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"

BLOCK = re.compile(
    r"^(?P<marker><!-- (?P<kind>output|quoted)"
    r"(?:: (?P<what>[^\"\n]*)\"(?P<text>[^\n]*)\")? -->\n\n?)?"
    r"^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def parts_with(output: str, pattern: str) -> str:
    """The parts of an output, separated by empty lines, in which a pattern is found."""
    found = [part.strip("\n") for part in output.split("\n\n") if re.search(pattern, part)]
    assert found, f"no part of the output matches {pattern!r}:\n{output}"
    return "\n\n".join(found) + "\n"


def quote(path: Path, start: str) -> str:
    """The lines of a file from the one that starts with this text to the next empty one."""
    found = re.search(rf"^{re.escape(start)}.*?\n(?=\n|\Z)", path.read_text(), re.M | re.S)
    assert found is not None, f"no line of {path} starts with {start!r}"
    return found[0]


def execute(source: str, path: Path, namespace: dict[str, Any]) -> str:
    """Run a block; returns what it printed, without space at the ends of lines and of the text."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        exec(compile(source, str(path), "exec"), namespace)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines()) + "\n"


def renewed(path: Path) -> str:
    """The text of a document, with what its programs print now and its sources say now.

    Flags are set to what the documents take for granted, whatever the machine's settings are.
    """
    namespace: dict[str, Any] = {"__name__": path.stem}
    printed = ""

    def renew(block: re.Match[str]) -> str:
        nonlocal printed
        if block["kind"] is None:
            if block["language"] == "python":
                printed = execute(block["body"], path, namespace)
            return block[0]
        if block["kind"] == "quoted":
            shown = quote(ROOT / block["what"].strip(), block["text"])
        else:
            shown = parts_with(printed, block["text"]) if block["text"] else printed
        return f"{block['marker']}```{block['language']}\n{shown}```"

    with config.override(x64="explicit", backend="cpu", dump=""), warnings.catch_warnings():
        # Without a C compiler the reference back end prints the same.
        warnings.simplefilter("ignore", CompilerWarning)
        return BLOCK.sub(renew, path.read_text())


def check(path: Path) -> None:
    """Compare a document with what it shows, or bring it up to date."""
    text = renewed(path)
    if UPDATE:
        path.write_text(text)
    assert path.read_text() == text, (
        f"{path} shows what its programs no longer print, or its sources no longer say. "
        "FUNCDL_UPDATE_GOLDEN=1 writes it anew: read the difference before committing it"
    )
