"""What an import brings: the adapters only when asked for, their libraries only when needed."""

from tests.processes import python

PROGRAM = """
import importlib, sys
import mmcontrast
assert not [name for name in sys.modules if name.startswith("mmcontrast.interop")]
for name in ("open_clip", "sentence_transformers", "hf", "lightning"):
    importlib.import_module(f"mmcontrast.interop.{name}")
brought = {"open_clip", "sentence_transformers", "transformers", "lightning", "pytorch_lightning"}
assert not brought & set(sys.modules), brought & set(sys.modules)
importlib.import_module("mmcontrast.interop.pml")
"""


def test_imports_bring_no_library():
    done = python("-c", PROGRAM)
    assert done.returncode == 0, done.stderr
