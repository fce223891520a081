"""Primitives by name: ``lax.add_p`` is the primitive that equations of a jaxpr call ``add``.

`funcdl.lax` looks names that end in ``_p`` up here. They are for programs that read jaxprs, as in
``eqn.primitive is lax.add_p``. The table is the registry of `funcdl.ops`, the collectives and the
control flow primitives, so there is one for every primitive, by the name that is printed, which is
JAX's for most. JAX's names without a primitive here are an AttributeError.
"""

from __future__ import annotations

import importlib

from funcdl.absent import absent_name
from funcdl.control.cond import cond_primitive
from funcdl.control.scan_primitive import scan_loop
from funcdl.control.while_loop import while_primitive
from funcdl.core.primitive import Primitive
from funcdl.ops import collectives, registry

SUFFIX = "_p"


def primitive_table() -> dict[str, Primitive]:
    """Every primitive, by its printed name with ``_p`` after it."""
    # Imported by `funcdl.lax.linalg`, when somebody asks for that.
    importlib.import_module("funcdl.ops.linalg")
    control = {p.name: p for p in (cond_primitive, scan_loop, while_primitive)}
    found = registry.primitives() | control | collectives.PRIMITIVES
    return {f"{name}{SUFFIX}": p for name, p in found.items()}


def find_primitive(name: str) -> Primitive:
    """The primitive that ``funcdl.lax.<name>`` means.

    Raises:
      AttributeError: there is none of that name.
    """
    table = primitive_table()
    if name not in table:
        raise absent_name("funcdl.lax", name)
    return table[name]
