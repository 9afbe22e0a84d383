"""Other libraries under the suite: which laws fail for each, as Markdown.

``PYTHONPATH=.venv/peers python -m tests.mmcontrast.testing.peers_table`` prints the table, and
``--store`` keeps what it finds for the site. The examples are the same every time. float16, empty
batches and compilers are claimed for all of them, to see who keeps what nobody promised.
"""

import argparse
import datetime
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from mmcontrast.testing import CheckReport
from tests.mmcontrast.testing.peers_metric_learning import METRIC_LEARNING
from tests.mmcontrast.testing.peers_others import OTHERS
from tests.mmcontrast.testing.peers_sentences import SENTENCES

PEERS = {**METRIC_LEARNING, **SENTENCES, **OTHERS}
STORED = Path(__file__).with_name("peers.json")
EXAMPLES = 25
PACKAGES = {"open_clip": "open_clip_torch", "SupContrast's": None, "memeff's": None}
"""Where the first word of a name is not the package's, or there is none to install."""


def found(report: CheckReport) -> dict[str, Any]:
    """What is kept of a report."""
    return {
        "held": len(report.named("passed")),
        "of": sum(r.status != "skipped" for r in report.results),
        "failed": {r.name: short(r.message) for r in report.results if r.status == "failed"},
    }


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    failed = [f"`{law}` ({message})" for law, message in row["failed"].items()]
    return f"| {name} | {row['held']} of {row['of']} | {'; '.join(failed) or 'none'} |"


def short(message: str, most: int = 90) -> str:
    """A message that fits into a cell."""
    message = " ".join(message.replace("|", "\\|").split())
    return message if len(message) <= most else message[: most - 3] + "..."


def version(name: str) -> str | None:
    """Of the library whose loss it is, if it is installed."""
    library = name.split()[0]
    package = PACKAGES.get(library, library)
    try:
        return package and metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def store(name: str, row: dict[str, Any], examples: int) -> None:
    """Into the file at once: a run that is cut keeps what it had."""
    rows = json.loads(STORED.read_text()) if STORED.is_file() else {}
    rows[name] = {
        **row,
        "version": version(name),
        "examples": examples,
        "date": datetime.date.today().isoformat(),
    }
    ordered = {name: rows[name] for name in PEERS if name in rows}
    STORED.write_text(json.dumps(ordered, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--store", action="store_true", help="keep the result for the site")
    parser.add_argument("names", nargs="*", help="parts of the names of some losses")
    options = parser.parse_args()
    sys.stdout.write("| loss | laws that hold | laws that fail |\n|---|---|---|\n")
    for name, peer in PEERS.items():
        if options.names and not any(part in name for part in options.names):
            continue
        try:
            row = found(peer.report(name, max_examples=options.examples))
        except ModuleNotFoundError as error:
            sys.stdout.write(f"| {name} | | not installed: {error.name} |\n")
            continue
        sys.stdout.write(f"{line(name, row)}\n")
        sys.stdout.flush()
        if options.store:
            store(name, row, options.examples)


if __name__ == "__main__":
    main()
