"""What became of the mutants, counted by file."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.mutants.operators import Mutant
from tests.mutants.project import Project
from tests.readme.tables import table

STORED = Path(__file__).parent / "stored.json"
"""The samples that the site shows."""
KINDS = ("killed", "timeout", "survived", "not run", "equivalent")


def stored_in(project: Project) -> Path:
    return project.store / "results.jsonl"


def lines(path: Path) -> list[str]:
    """Those that were written whole: a run may have been cut within its last."""
    if not path.is_file():
        return []
    text = path.read_text()
    if text and not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1])
    return [line for line in path.read_text().splitlines() if line]


def results(project: Project) -> dict[str, dict[str, Any]]:
    """The last of each mutant, by its key."""
    found = map(json.loads, lines(stored_in(project)))
    return {result["key"]: result for result in found}


def keep(sample: dict[str, Any]) -> None:
    """Store a sample in the place of the one of the same paths."""
    stored = json.loads(STORED.read_text())
    others = [other for other in stored if other["paths"] != sample["paths"]]
    found = sorted([*others, sample], key=lambda each: each["paths"])
    STORED.write_text(json.dumps(found, indent=1) + "\n")


def counts(project: Project, sample: Iterable[Mutant]) -> dict[str, dict[str, int]]:
    """Of each file of a sample; what was not tried yet is not counted."""
    known = results(project)
    rows: dict[str, Counter[str]] = {}
    for mutant in sample:
        key = mutant.key(project.source(mutant.path))
        if project.is_equivalent(mutant):
            kind = "equivalent"
        elif key in known:
            kind = known[key]["result"]
        else:
            continue
        rows.setdefault(mutant.path, Counter())[kind] += 1
    return {path: {kind: row[kind] for kind in KINDS} for path, row in rows.items()}


def total(rows: dict[str, dict[str, int]]) -> dict[str, int]:
    return {kind: sum(row[kind] for row in rows.values()) for kind in KINDS}


def share(row: dict[str, int]) -> str:
    """Of the mutants that a test could notice, those that one did."""
    noticed = row["killed"] + row["timeout"]
    of = noticed + row["survived"] + row["not run"]
    return f"{100 * noticed / of:.0f} %" if of else "-"


def text(rows: dict[str, dict[str, int]]) -> str:
    """The table in Markdown, the sum last."""
    body = [[path, *(str(row[k]) for k in KINDS), share(row)] for path, row in rows.items()]
    summed = total(rows)
    body.append(["all", *(str(summed[k]) for k in KINDS), share(summed)])
    return table(["file", *KINDS, "noticed"], body)


def forget_survivors(project: Project) -> None:
    """So that the next run tries them again."""
    path = stored_in(project)
    kept = [x for x in lines(path) if json.loads(x)["result"] in ("killed", "timeout")]
    path.write_text("".join(f"{line}\n" for line in kept))
