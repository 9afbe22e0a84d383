"""What the papers print, out of ``published.json``, and which data set of theirs a corpus is."""

import json
from importlib import resources
from typing import Any

from reference_models.data import synthetic
from reference_models.data.corpus import SPLITS, Corpus

_FILE = resources.files("reference_models") / "published.json"
PAPERS: dict[str, Any] = {
    model: paper
    for model, paper in json.loads(_FILE.read_text(encoding="utf-8")).items()
    if not model.startswith("_")
}
"""By model: paper, source, setting, and tables: table -> data set -> columns and rows.

Accuracies and F1 are in percent. ``measured_as`` says, by data set, which of our metrics a column
is where the names differ.
"""
NAMES = {
    "mosi": "CMU-MOSI",
    "mosei": "CMU-MOSEI",
    "sims": "CH-SIMS",
    "iemocap": "IEMOCAP",
    "ur_funny": "UR-FUNNY",
}
# Our table "contrast" is of two rows that papers print elsewhere.
CONTRAST = {
    "hycon": {"full": ("ablation", "HyCon"), "wo_contrast": ("ablation", "wo_contrastive")},
    "tecafn": {"full": ("headline", "TeCaFN")},
    "mcl-mcf": {"full": ("headline", "MCL-MCF"), "wo_contrast": ("ablation", "wo_MCL")},
    "mfon": {"full": ("headline", "MFON"), "wo_contrast": ("ablation", "wo_L_ICL")},
    "cormult": {"full": ("headline", "CorMulT")},
}
# By the papers' numbers of samples: train, valid, test. HyCon's MOSEI is another cut of it.
SIZES = {
    (1284, 229, 686): "mosi",
    (16326, 1871, 4659): "mosei",
    (16265, 1869, 4643): "mosei",
    (1368, 456, 457): "sims",
    (2717, 798, 938): "iemocap",
    (7614, 980, 994): "ur_funny",
}
# All that a generated sentence can hold.
SYNTHETIC_WORDS = {
    word
    for phrases in (
        ["not"],
        *synthetic.TOPICS.values(),
        synthetic.ADJECTIVES,
        synthetic.DEGREES,
        synthetic.OPENINGS,
        synthetic.LINKS,
        (clause.format(noun="", phrase="") for clause in synthetic.CLAUSES),
    )
    for phrase in phrases
    for word in phrase.split()
}


def published_row(
    model: str, table: str, data_set: str | None, row: str, *, text_encoder: str | None = None
) -> dict[str, float | None]:
    """By our metric, what the paper prints in a row; empty where it prints nothing.

    Args:
        model, table, row: as the command line names them.
        data_set: a key of ``NAMES``, or None.
        text_encoder: tells XLNet's rows from BERT's, where a paper has both.
    """
    paper = PAPERS[model]
    if table == "contrast":
        table, row = CONTRAST[model].get(row, (table, row))
    found = paper["tables"].get(table, {}).get(data_set)
    if found is None:
        return {}
    encoder = "XLNet" if "xlnet" in (text_encoder or "").lower() else "BERT"
    for name in (row, f"{row}-{encoder}"):
        if name in found["rows"]:
            ours = paper["measured_as"].get(data_set, {})
            columns = (ours.get(column, column) for column in found["columns"])
            return dict(zip(columns, found["rows"][name], strict=True))
    return {}


def data_set_of(corpus: Corpus) -> str | None:
    """The data set of the papers that a corpus is, by the samples in its splits; None: none."""
    sizes = tuple(len(corpus.splits[name]) for name in SPLITS)
    return None if is_synthetic(corpus) else SIZES.get(sizes)


def is_synthetic(corpus: Corpus) -> bool:
    """Whether a corpus is generated: by the names of its samples, or by its words alone."""
    if any(name.startswith("synthetic") for part in corpus.splits.values() for name in part.ids):
        return True
    sentences = corpus.splits["train"].raw_text or ()
    words = {word for sentence in sentences for word in sentence.lower().split()}
    return bool(words) and words <= SYNTHETIC_WORDS
