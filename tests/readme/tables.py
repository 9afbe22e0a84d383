"""Markdown."""

from collections.abc import Iterable, Sequence

SPACE = "\u00a0"
"""Between a number and its unit, which a narrow page must not part."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Code in a cell."""
    return f"`{text}`"


def folded(summary: str, text: str) -> str:
    """What a page shows on a click."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
