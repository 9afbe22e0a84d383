"""Which data set of the papers a corpus is, and whether it is synthetic."""

from reference_models.data import synthetic
from reference_models.data.corpus import SPLITS, Corpus

NAMES = {
    "mosi": "CMU-MOSI",
    "mosei": "CMU-MOSEI",
    "sims": "CH-SIMS",
    "iemocap": "IEMOCAP",
    "ur_funny": "UR-FUNNY",
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
