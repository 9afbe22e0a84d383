"""The table of papers: what of mmcontrast each model is made of, and the command that runs it."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import mmcontrast
import reference_models
from reference_models.registry import MODELS
from tests.readme.tables import code, table

FOLDER = Path(reference_models.__file__).parent
NOT_SHOWN = {"LossTerms", "Negatives", "Pairs", "gather"}  # results, and what ranks need
# Row maps and distances, parts of parts.
SMALL = ("mmcontrast.rows", "mmcontrast.distances", "mmcontrast.mahalanobis")


def imported(module: str) -> set[str]:
    """Files of reference_models that one of them imports, by their names."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    own = {name.split(".")[1] for name in names if name.startswith("reference_models.")}
    return {name for name in own if (FOLDER / f"{name}.py").is_file()}


def own_files(module: str) -> list[str]:
    """A model's file, and those that it imports and no other model does."""
    models = {file_of(name) for name in MODELS} - {module}
    shared = set().union(*(imported(other) for other in models)) | models
    return [module, *sorted(imported(module) - shared)]


def file_of(model: str) -> str:
    return inspect.getmodule(MODELS[model].build).__name__.split(".")[1]


def used(module: str) -> Iterator[str]:
    """Public names of mmcontrast that a file uses."""
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "mmcontrast":
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "mm":
            yield node.attr


def primitives(model: str) -> list[str]:
    found = {name for file in own_files(file_of(model)) for name in used(file)} - NOT_SHOWN
    known = [name for name in mmcontrast.__all__ if name in found]
    return [name for name in known if getattr(mmcontrast, name).__module__ not in SMALL]


def papers() -> str:
    by_paper: dict[str, list[str]] = {}
    for model, entry in MODELS.items():
        by_paper.setdefault(entry.paper, []).append(model)
    rows = []
    for paper, models in by_paper.items():
        first = models[0]
        parts = ", ".join(map(code, primitives(first))) or "nothing"
        tables = MODELS[first].tables
        chosen = "contrast" if "contrast" in tables else next(iter(tables))
        command = code(f"reproduce {first} --table {chosen} --data FILE --seeds 5")
        names = ", ".join(map(code, models))
        rows.append([paper, names, parts, ", ".join(map(code, tables)), command])
    head = ["paper", "model", "made of", "its tables", "`python -m reference_models ...`"]
    return table(head, rows)
