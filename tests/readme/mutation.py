"""The sample of mutants that was tried last."""

import json

from tests.mutants import results
from tests.readme.tables import folded

PARTS = ("reference_models/", "mmcontrast/testing/", "mmcontrast/interop/", "mmcontrast/")
"""A file is of the first that its path begins with."""


def mutants_by_file() -> str:
    stored = json.loads(results.STORED.read_text())
    rows = stored["rows"]
    summed = results.total(rows)
    tried = sum(summed.values())
    paths = ", ".join(f"`{path}`" for path in stored["paths"])
    return (
        f"Tried: {tried} of the {stored['of']} mutants of {paths}, drawn by seed"
        f" {stored['seed']}. Of those that a test could notice, {results.share(summed)} were"
        f" noticed; {summed['equivalent']} are equivalent to what they replace.\n\n"
        f"{results.text(by_part(rows))}\n\n{folded('By file', results.text(rows))}"
    )


def by_part(rows: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The rows of files, summed."""
    files: dict[str, dict[str, dict[str, int]]] = {part: {} for part in reversed(PARTS)}
    for path, row in rows.items():
        files[next(part for part in PARTS if path.startswith(part))][path] = row
    return {part: results.total(found) for part, found in files.items() if found}
