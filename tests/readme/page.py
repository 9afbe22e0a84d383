"""README.md and the site's pages: what stands between ``<!-- begin: NAME -->`` and an end."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.readme import (
    citing,
    deviations,
    drawing,
    families,
    gallery,
    idea,
    libraries,
    losses,
    measured,
    missing,
    models,
    mutation,
    paper_pages,
    papers,
    speed,
    support,
)

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SITE = ROOT / "notebooks" / "site"
PAGES = [README, *(p for p in sorted(SITE.rglob("*.md")) if p.parent.name != "gallery")]
MARKED = re.compile(r"(<!-- begin: ([\w-]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
PARTS: dict[str, Callable[[], str]] = {
    "broken": losses.broken,
    "papers": papers.papers,
    "deviations": deviations.deviations,
    "machine": speed.machine,
    "numbers": speed.four_numbers,
    "compiled": speed.compiled_table,
    "targets": speed.verdict_table,
    "window": support.window,
    "peers": libraries.libraries,
    "mutants": mutation.mutants_by_file,
    "citing": citing.bibtex,
    "notebooks": gallery.notebooks,
    "measured": measured.measured,
    "missing": missing.worth,
    "missing-subsets": missing.by_subset,
    **families.parts(),
    **paper_pages.parts(),
}


@dataclass(frozen=True)
class Picture:
    folder: Path
    draw: drawing.Draw
    word: Callable[[], str]
    """Of what it is drawn from."""


PICTURES = {
    "idea": Picture(Path(__file__).parent, idea.picture, lambda: drawing.mark(idea)),
    "speed": Picture(
        speed.STORED, speed.picture, lambda: drawing.mark(speed, speed.FILE.read_text())
    ),
    **{
        name: Picture(SITE / "papers", partial(models.picture, name), lambda: drawing.mark(models))
        for name in models.MODELS
    },
}


def render(text: str) -> str:
    """The page with its generated parts as they should be.

    Raises:
        KeyError: a part that nobody makes.
    """

    def part(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        return f"{begin}{PARTS[name]()}\n{end}"

    return MARKED.sub(part, text)


def outside_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
