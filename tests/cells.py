"""``python -m tests.cells NOTEBOOK FOLDER``: the code of a notebook, from first cell to last.

As a kernel would run it, pictures included and in that folder, in a process that need not start
one. An error, or a word on stderr, ends it.
"""

import io
import os
import sys
import traceback
from contextlib import redirect_stderr

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class Shell(InteractiveShell):
    def enable_gui(self, gui: str | None = None) -> None:
        """Pictures go into the output: no window is opened."""

    def showtraceback(self, *given: object, **named: object) -> None:
        """Also of what fails after a cell's code: its pictures are drawn then."""
        sys.stderr.write(traceback.format_exc())


def main(path: str, folder: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    os.chdir(folder)
    shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.enable_matplotlib("inline")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            said = io.StringIO()
            with redirect_stderr(said):
                shell.run_cell(cell.source).raise_error()
            if said.getvalue():
                raise RuntimeError(f"expected nothing on stderr, got {said.getvalue()!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
