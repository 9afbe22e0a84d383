"""Links of a reproduced table's page: to its runs, and to the pages of what is missing."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from reference_models.tables.finished import Run
from reference_models.tables.pages import html_table

FILES = ("config.json", "metrics.json", "history.csv", "predictions.csv")


def links_to_runs(out: Path, finished: Mapping[str, Sequence[Run]]) -> list[str]:
    """A table of finished runs below ``out``, with links to what they have written."""
    rows = [
        [
            name,
            str(each.config["seed"]),
            str(each.metrics["best_epoch"]),
            {file: each.folder.relative_to(out).joinpath(file).as_posix() for file in FILES},
        ]
        for name, runs in finished.items()
        for each in runs
    ]
    head = ["Row", "Seed", "Epoch kept", "Files"]
    return [f"<h2>Runs</h2>{html_table(head, rows)}"] if rows else []


def links_to_missing(folder: Path) -> list[str]:
    """A paragraph with links to the pages of what is missing, if there are any."""
    pages = sorted(folder.glob("*.html"))
    to = (f'<a href="{folder.name}/{escape(page.name)}">{escape(page.stem)}</a>' for page in pages)
    return [f"<h2>Where something is missing</h2><p>{', '.join(to)}</p>"] if pages else []
