"""What the law suite found in other libraries, as it was stored."""

import json
from typing import Any

from tests.mmcontrast.testing.peers_table import STORED
from tests.readme.tables import folded, table

NOT_PROMISED = {
    "autocast_is_close",
    "compiles_into_one_graph",
    "empty_batch",
    "functional_gradient",
    "vectorizes",
}


def libraries() -> str:
    """Which versions and when, then a table of each library."""
    rows = json.loads(STORED.read_text())
    by_library: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        by_library.setdefault(library(name), {})[name] = row
    dates = sorted({row["date"] for row in rows.values()})
    (examples,) = {row["examples"] for row in rows.values()}
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    head = ["library", "version", "tried", "laws that hold", "no number fails in"]
    summary = table(head, [in_short(*item) for item in by_library.items()])
    tables = [folded(f"{name}, one by one", details(found)) for name, found in by_library.items()]
    text = f"Run on {when}, with {examples} examples of each law."
    return "\n\n".join((text, summary, *tables))


def library(name: str) -> str:
    """SupContrast's and memeff's are formulas."""
    return name.split()[0].removesuffix("'s")


def in_short(name: str, rows: dict[str, Any]) -> list[str]:
    version = {row["version"] or "formula" for row in rows.values()}
    held, of = (sum(row[key] for row in rows.values()) for key in ("held", "of"))
    whole = sum(not numbers(row["failed"]) for row in rows.values())
    return [
        name,
        ", ".join(sorted(version)),
        str(len(rows)),
        f"{held} of {of}",
        f"{whole} of {len(rows)}",
    ]


def details(rows: dict[str, Any]) -> str:
    lines = []
    for name, row in rows.items():
        failed = row["failed"]
        wrong = numbers(failed)
        apart = [law for law in failed if law not in wrong]
        first = [f"`{law}`: {text(failed[law])}" for law in wrong[:1]]
        cells = [some([*first, *named(wrong[1:])]), some(named(apart))]
        lines.append([name.split(maxsplit=1)[1], f"{row['held']} of {row['of']}", *cells])
    return table(["", "laws that hold", "numbers that fail", "not promised, and fails"], lines)


def numbers(failed: dict[str, str]) -> list[str]:
    """The laws that fail for another reason than that nobody promised them."""
    return [law for law, said in failed.items() if not is_not_promised(law, said)]


def is_not_promised(law: str, message: str) -> bool:
    return law in NOT_PROMISED or "torch.float16" in message


def some(parts: list[str], most: int = 4) -> str:
    """Some of them, and how many there are besides."""
    more = [f"and {len(parts) - most} more"] if len(parts) > most else []
    return "; ".join([*parts[:most], *more]) or "none"


def named(laws: list[str]) -> list[str]:
    return [f"`{law}`" for law in laws]


def text(message: str) -> str:
    """A message in prose, where a bracket or a star is none of Markdown's."""
    for mark in "*_<>[]`":
        message = message.replace(mark, f"\\{mark}")
    return message
