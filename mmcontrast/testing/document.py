"""The report of a suite as one HTML page, without scripts or files beside it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmcontrast.testing.report import CheckReport, CheckResult

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
section { border-left: 4px solid #b24c14; padding-left: 1rem; }
pre { overflow-x: auto; padding: .8rem; background: rgba(128, 128, 128, .12); font-size: .85rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
td, th { text-align: left; vertical-align: top; padding: .25rem .7rem .25rem 0; }
tr.failed td:first-child::before, tr.unexpected_pass td:first-child::before { content: "✗ "; }
tr.passed td:first-child::before { content: "✓ "; }
"""


def document(report: CheckReport) -> str:
    """The page: what failed first, each with its example as a picture and as code."""
    title = html.escape(f"{report.loss}: {'all laws hold' if report.ok else 'laws are broken'}")
    parts = [f"<h1>{title}</h1>", _paragraph(report.headline())]
    if report.proposal:
        parts.append(f"<pre>{html.escape(report.proposal)}</pre>")
    parts += [_failure(list(failure.results), failure.title) for failure in report.failures()]
    rows = "".join(_row(result) for result in report.in_order())
    table = f"<tr><th>law</th><th></th><th>result</th></tr>{rows}"
    parts.append(f'<h2>All laws</h2><div class="wide"><table>{table}</table></div>')
    if report.not_claimed:
        needs = (f"{_mono(name)} needs {html.escape(x)}" for name, x in report.not_claimed.items())
        items = "".join(f"<li>{need}</li>" for need in needs)
        parts.append(f"<details><summary>Not claimed</summary><ul>{items}</ul></details>")
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _failure(results: list[CheckResult], title: str) -> str:
    """A cause: its laws, what went wrong, and the example of the first of them."""
    first = results[0]
    parts = [f"<h2>{html.escape(title if len(results) > 1 else first.title)}</h2>"]
    parts += [_paragraph(f"{r.title}: {r.law}" if len(results) > 1 else r.law) for r in results]
    parts += [_paragraph(first.message), _paragraph(f"Usually: {first.hint}")]
    if first.similarities is not None:
        parts.append(_paragraph("Cosines in the smallest example found:"))
        parts.append(first.similarities.to_svg())
    parts.append(f"<pre>{html.escape(first.code)}</pre>")
    return f"<section>{''.join(parts)}</section>"


def _row(result: CheckResult) -> str:
    detail = result.reason or result.message
    outcome = result.status.replace("_", " ") + (f": {detail}" if detail else "")
    cells = (_mono(result.name), html.escape(result.law), html.escape(outcome))
    return f'<tr class="{result.status}">' + "".join(f"<td>{x}</td>" for x in cells) + "</tr>"


def _mono(name: str) -> str:
    return f"<code>{html.escape(name)}</code>"


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
