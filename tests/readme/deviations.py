"""Where the reference models leave what their papers print, and the setting that goes back.

``test_readme.py`` holds that each setting exists and is not the default. No setting: what is
printed cannot be run, or there is a word on it in the reason.
"""

from dataclasses import dataclass

from tests.readme.tables import code, table


@dataclass(frozen=True)
class Deviation:
    model: str
    where: str
    printed: str
    here: str
    reason: str
    setting: str | None = None
    """A key and value of ``--set`` that does what is printed."""


DEVIATIONS = [
    Deviation(
        "tecafn",
        "eq 6, 15",
        "the denominator sums over the other samples' matched pairs",
        "over all keys: InfoNCE",
        "As printed all samples share it, and no unmatched pair is ever compared; the authors' code"
        " computes InfoNCE.",
        "denominator=paper_literal",
    ),
    Deviation(
        "tecafn",
        "eq 6, 15",
        "raw dot products",
        "cosines",
        "Eq 7, Algorithm 1 and the code normalise.",
        "normalize=false",
    ),
    Deviation(
        "tecafn",
        "eq 2, 3, 11, 12",
        "a layer adds to its input after the norm",
        "to its input",
        "The code's, and what a pre-norm transformer is.",
        "residual=normed",
    ),
    Deviation(
        "tecafn",
        "eq 4",
        "an LSTM after each encoder",
        "none",
        "In the code it feeds other losses, which the paper does not have, and not the fusion.",
        "lstm=true",
    ),
    Deviation(
        "tecafn",
        "Algorithm 1",
        "ranks all columns, a sample's own partner among them",
        "the partner leaves first",
        "The text wants negatives; the code drops it after the ranking"
        " (`exclude_positive=after`). As printed: `hard_negatives(exclude_positive=False)`.",
    ),
    Deviation(
        "tecafn",
        "eq 17",
        "tanh on the score",
        "none",
        "It confines predictions of labels up to 3 to 1; the code has none.",
        "output=tanh",
    ),
    Deviation(
        "cormult",
        "output",
        "softmax over classes, argmax",
        "one score, squared error",
        "MAE and correlation are reported, which classes do not have; the code's.",
        "head=classes7",
    ),
    Deviation(
        "cormult",
        "eq 8",
        "every triplet of an altered sample",
        "those whose negative was altered",
        "Where it was not, positive and negative are the same and the term stays at its margin.",
        "skip_unaltered=false",
    ),
    Deviation(
        "cormult",
        "3.3.2",
        "joins streams whose queries are other modalities",
        "those whose query is the modality",
        "The printed ones have different lengths and cannot be joined; MulT's order, the code's.",
    ),
    Deviation(
        "mfon",
        "eq 6",
        "KL(student, teacher)",
        "KL(teacher, student)",
        "The code's, and what distillation is elsewhere.",
        "distill_direction=student_teacher",
    ),
    Deviation(
        "mfon",
        "eq 1-3",
        "an MLP",
        "one linear layer",
        "The code's.",
        "mlp_layers=2",
    ),
    Deviation(
        "mcl-mcf",
        "eq 4, 10, 11, 17",
        "one direction",
        "both",
        "Algorithm 1 of the same paper, and the code.",
        "symmetric=false",
    ),
    Deviation(
        "mcl-mcf",
        "eq 4",
        "j is not i, in the text",
        "the positive stands in the denominator",
        "The sum printed above that text has it.",
    ),
    Deviation(
        "mcl-mcf",
        "below eq 12",
        "the pair text-audio against text",
        "against vision, which it lacks",
        "Eq 12's own superscripts, and the code.",
    ),
    Deviation(
        "mcl-mcf",
        "table 7, A",
        "negatives of the same sentiment alone",
        "all other samples",
        "Its row has the main model's numbers, whose negatives are all others.",
    ),
    Deviation(
        "mcl-mcf",
        "3.3.3",
        "images of side 512",
        "64",
        "512 takes 196.6 million weights for the third level alone.",
        "tcf_size=512",
    ),
    Deviation(
        "hycon",
        "eq 16",
        "a sum over samples and modalities",
        "the mean",
        'A sum\'s weight grows with the batch. `reduction="sum"` in `hybrid_contrast`.',
    ),
    Deviation(
        "hycon",
        "eq 7, 10",
        "every anchor",
        "those with a positive and a negative",
        "Without negatives the ratio is 1 whatever the features are.",
    ),
]


def deviations(model: str | None = None) -> str:
    """All; or those of one model, in a table without the column of models."""
    head = ["model", "where", "as printed", "here", "why", "as printed again"]
    rows = []
    for d in DEVIATIONS:
        setting = code(f"--set {d.setting}") if d.setting else ""
        rows.append([code(d.model), d.where, d.printed, d.here, d.reason, setting])
    if model is None:
        return table(head, rows)
    return table(head[1:], [row[1:] for row in rows if row[0] == code(model)])
