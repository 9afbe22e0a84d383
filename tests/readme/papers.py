"""The table of papers: what of mmcontrast each model is made of, and the command that runs it."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import mmcontrast
from reference_models.registry import MODELS
from tests.readme.tables import code, table

NOT_SHOWN = {"LossTerms", "Negatives", "Pairs", "gather"}  # results, and what ranks need
# Row maps and distances, parts of parts.
SMALL = ("mmcontrast.rows", "mmcontrast.distances", "mmcontrast.mahalanobis")


def used(file: Path) -> Iterator[str]:
    """Public names of mmcontrast that a file uses."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "mmcontrast":
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "mm":
            yield node.attr


def primitives(model: str) -> list[str]:
    """What the files of a model's folder use of mmcontrast."""
    folder = Path(inspect.getfile(MODELS[model].build)).parent
    found = {name for file in folder.glob("*.py") for name in used(file)} - NOT_SHOWN
    known = [name for name in mmcontrast.__all__ if name in found]
    return [name for name in known if getattr(mmcontrast, name).__module__ not in SMALL]


def papers() -> str:
    by_paper: dict[str, list[str]] = {}
    for model, entry in MODELS.items():
        by_paper.setdefault(entry.citation, []).append(model)
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
