"""Tables run again: the small corpus, how they are run, and what the tests read back."""

import csv
import json
import pickle
from dataclasses import replace

from reference_models import registry
from reference_models.data.synthetic import generate
from reference_models.tables import missing_pages, paired_rows, panels, report
from reference_models.tables.experiments import reproduce

SMALL = (
    *("hidden_size=10", "heads=2", "layers=1", "batch_size=16", "epochs=1"),
    *("learning_rate=1e-3", "max_text_length=12"),
)


SIZES = (24, 8, 10)
ROWS = ("0.5", "0.9")
SEEDS = (1111, 1112)


def corpus_file(path, *, real=False, drop=()):
    """The synthetic corpus; ``real``: with names and a word as a collected corpus has them."""
    content = generate(sizes=SIZES, seed=4)
    for columns in content.values():
        if real:
            columns["id"] = [f"video$_${row}" for row in range(len(columns["id"]))]
            columns["raw_text"] = [f"hello {sentence}" for sentence in columns["raw_text"]]
        for name in drop:
            del columns[name]
    path.write_bytes(pickle.dumps(content))
    return path


def run(file, out, *, table="alpha", rows=ROWS, seeds=SEEDS, settings=SMALL, **options):
    options = {"data": file, "out": out, "rows": rows, "seeds": seeds, **options}
    return reproduce("hycon", table, settings=settings, **options)


def leave_blank(patch):
    """Pages with an empty picture for each figure, which take most of a page's time."""
    for module in (missing_pages, paired_rows, panels, report):
        patch.setattr(module, "render", lambda *arguments, **options: b'<svg id="blank"></svg>')


def tables_of(out):
    return {name: (out / name).read_bytes() for name in TABLES}


TABLES = ("table.md", "table.csv", "table.json", "index.html")


def csv_rows(out):
    with (out / "table.csv").open(newline="") as lines:
        return {(row["row"], row["metric"]): row for row in csv.DictReader(lines)}


def markdown_rows(out):
    """The cells of the table itself: measured and published numbers."""
    return markdown_cells(out / "table.md", "| Row |  |")


def markdown_cells(file, start):
    """The cells of the table in a Markdown file whose head starts with these."""
    parts = file.read_text(encoding="utf-8").split("\n\n")
    (lines,) = [part.splitlines() for part in parts if part.startswith(start)]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def set_entry(monkeypatch, **changes):
    monkeypatch.setitem(registry.MODELS, "hycon", replace(registry.find("hycon"), **changes))


def read_rows(out):
    return json.loads((out / "table.json").read_text())["rows"]
