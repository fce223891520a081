"""Functions as ONNX models, for runtimes of other makers.

`export` traces a function and writes each primitive of its jaxpr as nodes of an ONNX graph; the
package `onnx` makes the file. Users call `export`; the modules beside it are the table of rules.
"""

from funcdl.absent import getter
from funcdl.onnx.model import export

__getattr__ = getter(__name__)

__all__ = ["export"]
