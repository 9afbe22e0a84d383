"""The support window, and what ran with it."""

import re

from tests import versions
from tests.readme.tables import table

GATE = re.compile(r"^torch==(\S+)$", flags=re.MULTILINE)


def window() -> str:
    torch, python = versions.TORCH, versions.PYTHON
    rows = versions.stored()
    (gate,) = GATE.findall((versions.ROOT / "constraints.txt").read_text())
    ran = {versions.minor(row["torch"]) for row in rows} | {versions.minor(gate)}
    pythons = {versions.minor(row["python"]) for row in rows}
    never = [f"torch {v}" for v in torch if v not in ran]
    never += [f"Python {v}" for v in python if v not in pythons]
    head = ["torch", "Python", "tests", "passed", "skipped", "failed", "on"]
    keys = ["torch", "python", "tests", "passed", "skipped", "failed", "date"]
    text = (
        f"Supported: torch {torch[0]} to {torch[-1]}, its last {len(torch)} minor versions, and"
        f" Python {python[0]} to {python[-1]}. `make test` runs with torch {gate};"
        " `make test-versions` runs the oldest and the newest, in environments of its own and"
        " without the tests that compare with other libraries:"
        "\n\n"
        f"{table(head, [[str(row[key]) for key in keys] for row in rows])}"
    )
    more = [f"\n* torch {row['torch']} cannot {what}." for row in rows for what in row["cannot"]]
    if more:
        text += (
            "\n\nTests of these are skipped by what they need, and not by a version:\n"
            + "".join(more)
        )
    return f"{text}\n\nNot run so far: {', '.join(never)}." if never else text
