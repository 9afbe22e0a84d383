"""Runs the notebooks, each in a kernel of its own, and stores what they show.

``python -m tests.notebooks`` runs all of them, ``python -m tests.notebooks 01 05`` some.
"""

import argparse
import base64
import hashlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT = 1800  # seconds a cell may take; training on real data is one
COLOURS = 255  # of a stored picture


def execute(path: Path, shorter: Mapping[str, str] | None = None) -> NotebookNode:
    """The notebook with the outputs of a run from its first cell to its last, in an empty folder.

    Args:
        path: of the notebook.
        shorter: pieces of code, each of which is there once, and what runs in their place.

    Raises:
        CellExecutionError: a cell that raises; it shows the cell and the error.
        ValueError: a piece that is not there once.
    """
    notebook = nbformat.read(path, as_version=4)
    for piece, instead in (shorter or {}).items():
        replace(notebook, piece, instead)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
            config=Config({"KernelManager": kernel_files(folder)}),
        )
        # This checkout's packages, nothing from a hub, and no settings of whoever runs it. A kernel
        # makes tqdm ask for widgets, which nothing here draws.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        data = os.environ.get("MMCONTRAST_DATA")  # from here, where the kernel is not
        client.execute(
            env={
                **os.environ,
                **({"MMCONTRAST_DATA": str(Path(data).resolve())} if data else {}),
                "PYTHONPATH": os.pathsep.join(paths),
                "HF_HUB_OFFLINE": "1",
                "PYTHONWARNINGS": "ignore:IProgress not found",
                "IPYTHONDIR": folder,
                "MPLCONFIGDIR": folder,
            }
        )
    return tidy(notebook)


def replace(notebook: NotebookNode, piece: str, instead: str) -> None:
    """Other code in the place of a piece of it."""
    found = [cell for cell in notebook.cells if cell.cell_type == "code" and piece in cell.source]
    if sum(cell.source.count(piece) for cell in found) != 1:
        raise ValueError(f"expected one {piece!r} in the notebook, got {len(found)} cells with it")
    found[0].source = found[0].source.replace(piece, instead)


def kernel_files(folder: str) -> dict[str, str]:
    """Settings of a kernel that is reached through files in a folder, and not through ports."""
    if sys.platform == "win32":
        return {}
    return {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from one machine to another."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
            if "image/png" in output.get("data", {}):
                output.data = NotebookNode({"image/png": smaller(output.data["image/png"])})
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        sources=sources(notebook),
    )
    return notebook


def smaller(picture: str) -> str:
    """A PNG (base64) in few enough colours for a byte a pixel: a third of the room."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """What a cell printed in one piece, however many pieces it came in."""
    out: list[NotebookNode] = []
    for output in outputs:
        same = [old for old in out if output.output_type == "stream" == old.output_type]
        same = [old for old in same if old.name == output.name]
        if same:
            same[0].text += output.text
        else:
            out.append(output)
    return out


def sources(notebook: NotebookNode) -> str:
    """SHA-256 of the code, by which stored outputs are known to be this code's."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="how the names begin; all where none is given")
    names = tuple(parser.parse_args().names) or ("",)
    for path in NOTEBOOKS:
        if path.name.startswith(names):
            start = time.perf_counter()
            nbformat.write(execute(path), path)
            seconds, size = time.perf_counter() - start, path.stat().st_size / 1024
            sys.stdout.write(f"{path.name}: {seconds:.0f} s, {size:.0f} KB\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
