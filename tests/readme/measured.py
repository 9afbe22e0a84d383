"""What the models reach on CMU-MOSI with MiniLM; how it was measured is beside the table."""

import csv
from pathlib import Path

from tests.readme.tables import SPACE, table

FILE = Path(__file__).with_suffix(".csv")
TITLES = {
    "HyCon": "hycon",
    "TeCaFN": "tecafn",
    "MCL-MCF": "mcl-mcf",
    "MFON": "mfon",
    "CorMulT": "cormult",
}
"""How a model's first row begins; a row without a model's name belongs to the one above it."""


def measured(model: str | None = None) -> str:
    """The whole table; or that of text alone and the rows of one model."""
    head, *rows = csv.reader(FILE.read_text().splitlines())
    shown, current = [], None
    for row in rows:
        begun = [name for title, name in TITLES.items() if row[0].startswith(title)]
        current = begun[0] if begun else current
        if current is None or model in (None, current):
            shown.append([cell.replace(" ± ", f"{SPACE}±{SPACE}") for cell in row])
    return table(head, shown)
