"""The sample of mutants that was tried last."""

import json

from tests.mutants import results
from tests.readme.tables import folded


def mutants_by_file() -> str:
    stored = json.loads(results.STORED.read_text())
    rows = stored["rows"]
    summed = results.total(rows)
    tried = sum(summed.values())
    paths = [f"`{path}`" for path in stored["paths"]]
    of = f"the {stored['of']} mutants of {', '.join(paths) if paths else 'mmcontrast'}"
    return (
        f"Tried: {tried} of {of}, drawn by seed {stored['seed']}. Of those that a test could"
        f" notice, {results.share(summed)} were noticed; {summed['equivalent']} are equivalent"
        " to what they replace.\n\n"
        f"{folded('By file', results.text(rows))}"
    )
