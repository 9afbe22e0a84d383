"""Tables and pages as Markdown and HTML."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

HTML_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d2733; --soft: #5b6775; --line: #dde3ea;
  --tint: #f5f7fa; --note: #fff8e8; --link: #0b5cad; --c0: #0072b2; --c1: #d55e00; --c2: #009e73;
  --c3: #cc79a7; --c4: #e69f00; --c5: #56b4e9; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e4e9ef;
  --soft: #9aa7b5; --line: #343d48; --tint: #1e242b; --note: #2c2616; --link: #7ab8f5;
  --c0: #5aaee6; --c1: #f5894a; --c2: #3fc79c; --c3: #e3a0c6; --c4: #f0b93a; --c5: #9ad4f7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--page);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
a { color: var(--link); }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 0 0 .4rem; font-weight: 600; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
p, li, dd { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem;
  margin: .4rem 0 .9rem; }
dt { font-weight: 600; }
dd { margin: 0; }
.soft { color: var(--soft); font-size: .92rem; }
.note { border-left: 4px solid #e69f00; background: var(--note); padding: .6rem .9rem;
  max-width: 46rem; }
.scroll { overflow-x: auto; }
.scroll.wide { width: max-content; max-width: calc(50vw + 50% - 2rem); }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid var(--ink); }
table.words :is(th, td) { text-align: left; white-space: normal; vertical-align: top;
  overflow-wrap: anywhere; }
table.words :is(th, td):first-child { white-space: nowrap; }
table.words td:not(:first-child) { min-width: 11rem; }
.grid { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: .8rem;
  break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text { fill: var(--ink); }
code, pre { font: .9rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--tint); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; }
@media (max-width: 30rem) { table.words td:not(:first-child) { min-width: 7rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  .grid { grid-template-columns: 1fr 1fr; } h2 { break-after: avoid; } }
"""

MARK = "--ink: #1d2733"
"""In the style of every page that a release has written."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool) -> str:
    """A Markdown table; all columns but the first are right-aligned, unless they hold ``words``."""
    rule = ["---", *(["---" if words else "---:"] * (len(head) - 1))]
    clean = [[markdown_text(cell) for cell in row] for row in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in clean)


def markdown_text(text: str) -> str:
    """A text on one line, in which nothing is a cell's end or a tag."""
    return re.sub(r"[|<]", r"\\\g<0>", " ".join(text.splitlines()))


def html_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str | Mapping[str, str]]],
    *,
    words: bool = False,
) -> str:
    """The same table as HTML, in a box that scrolls where the page is too narrow for it.

    One of numbers may reach into the margin. A cell may be links: their texts -> relative
    addresses.
    """
    top = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell_html(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    box, kind = ("scroll", " class=words") if words else ('"scroll wide"', "")
    return (
        f"<div class={box} tabindex=0><table{kind}><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell_html(cell: str | Mapping[str, str]) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return " ".join(f'<a href="{quote(to)}">{escape(text)}</a>' for text, to in cell.items())


def grid(drawings: Sequence[str]) -> str:
    """Figures side by side, as many as there is room for."""
    return f"<div class=grid>{''.join(drawings)}</div>"


def check_page(page: Path) -> None:
    """Refuse to overwrite a file that this package did not write.

    Raises:
        ValueError: names the place.
    """
    if page.exists() and not _is_ours(page):
        raise ValueError(
            f"--out: expected a new file or an older page at {page}, got something else; name"
            " another place"
        )


def _is_ours(page: Path) -> bool:
    if not page.is_file():
        return False
    with page.open("rb") as file:
        return MARK.encode() in file.read(5000)


def check_place(out: Path) -> None:
    """Refuse a run folder, and a folder whose ``index.html`` this package did not write.

    Raises:
        ValueError: names the place.
    """
    if (out / "config.json").exists():
        raise ValueError(f"--out {out}: expected a folder for results, got that of a run")
    check_page(out / "index.html")


def html_page(title: str, parts: Sequence[str]) -> str:
    """A self-contained page, which loads nothing else, from pieces of HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{HTML_STYLE}</style></head>\n<body>"
        + "\n".join([f"<h1>{escape(title)}</h1>", *parts])
        + "</body></html>\n"
    )
