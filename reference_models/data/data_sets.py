"""Recognise the papers' data sets by the sizes of their splits, and synthetic corpora."""

from reference_models.data import synthetic
from reference_models.data.corpus import SPLITS, Corpus

NAMES = {
    "mosi": "CMU-MOSI",
    "mosei": "CMU-MOSEI",
    "sims": "CH-SIMS",
    "iemocap": "IEMOCAP",
    "ur_funny": "UR-FUNNY",
}
# Samples of train, valid and test in the papers. HyCon splits MOSEI differently.
SIZES = {
    (1284, 229, 686): "mosi",
    (16326, 1871, 4659): "mosei",
    (16265, 1869, 4643): "mosei",
    (1368, 456, 457): "sims",
    (2717, 798, 938): "iemocap",
    (7614, 980, 994): "ur_funny",
}
# All words of generated sentences.
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


def data_set_of(corpus: Corpus) -> str | None:
    """The papers' data set with the split sizes of a corpus; None: there is none."""
    sizes = tuple(len(corpus.splits[name]) for name in SPLITS)
    return None if is_synthetic(corpus) else SIZES.get(sizes)


def is_synthetic(corpus: Corpus) -> bool:
    """Whether a corpus is generated: by the names of its samples, or by its vocabulary."""
    if any(name.startswith("synthetic") for part in corpus.splits.values() for name in part.ids):
        return True
    sentences = corpus.splits["train"].raw_text or ()
    words = {word for sentence in sentences for word in sentence.lower().split()}
    return bool(words) and words <= SYNTHETIC_WORDS
