"""The sample of mutants that was tried last."""

import json

from tests.mutants import results
from tests.readme.tables import folded

PARTS = ("reference_models/", "mmcontrast/testing/", "mmcontrast/interop/", "mmcontrast/")
"""A file is of the first that its path begins with."""


def mutants_by_file() -> str:
    stored = json.loads(results.STORED.read_text())
    rows = {path: row for sample in stored for path, row in sample["rows"].items()}
    said = "\n".join(map(_sentence, stored))
    return f"{said}\n\n{results.text(by_part(rows))}\n\n{folded('By file', results.text(rows))}"


def _sentence(sample: dict) -> str:
    summed = results.total(sample["rows"])
    paths = ", ".join(f"`{path}`" for path in sample["paths"])
    return (
        f"* Tried: {sum(summed.values())} of the {sample['of']} mutants of {paths}, drawn by seed"
        f" {sample['seed']}. Of those that a test could notice, {results.share(summed)} were"
        f" noticed; {summed['equivalent']} are equivalent to what they replace."
    )


def by_part(rows: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The rows of files, summed."""
    files: dict[str, dict[str, dict[str, int]]] = {part: {} for part in reversed(PARTS)}
    for path, row in rows.items():
        files[next(part for part in PARTS if path.startswith(part))][path] = row
    return {part: results.total(found) for part, found in files.items() if found}
