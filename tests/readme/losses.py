"""Which functions are losses, their formulas, and the table of what is wrong on purpose."""

import inspect

import mmcontrast
from mmcontrast.testing import CHECKS
from mmcontrast.testing.broken import MISTAKES, Mistake
from tests.readme.tables import code, table

LOSSES = [
    name
    for name in mmcontrast.__all__
    if inspect.isfunction(getattr(mmcontrast, name))
    and "reduction" in inspect.signature(getattr(mmcontrast, name)).parameters
]
MODULES = {name.lower(): name for name in mmcontrast.__all__ if name[0].isupper()}


def formula(name: str) -> str:
    """The first formula of a function's docstring."""
    lines = inspect.getdoc(getattr(mmcontrast, name)).split(".. math::", 1)[1].split("\n")
    found = [lines[0]]
    for line in lines[1:]:
        if line and not line.startswith(" "):
            break
        if not line.strip() and any(part.strip() for part in found):
            break
        found.append(line)
    return " ".join(" ".join(found).split())


def broken() -> str:
    """By law, what it catches, and what is wrong with that."""
    by_law: dict[str, list[Mistake]] = {name: [] for name in CHECKS}
    for mistake in MISTAKES.values():
        by_law[mistake.law].append(mistake)
    rows = [[code(law), code(m.name), m.wrong] for law, found in by_law.items() for m in found]
    count = sum(map(bool, by_law.values()))
    said = f"{len(MISTAKES)} that are wrong, and the {count} laws that catch them:"
    return f"{said}\n\n{table(['law', 'catches', 'which has'], rows)}"
