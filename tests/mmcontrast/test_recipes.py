"""What docstrings, pages and notebooks tell users to write, on samples without a score.

A sample whose score or label is NaN or -100, or whose modality is missing, takes no part: the loss
is that of the batch without it, and its row, which may hold anything, gets a gradient of zero.
A sample that is there twice attracts its copy and is never repelled by it.
"""

import math
import re
from pathlib import Path

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import close, gradients, normal

ROOT = Path(__file__).parents[2]
NONE = 3  # the sample without a score; samples 0 and 1 are the same one
SCORES = torch.tensor([1.2, 1.2, -0.4, 0.7, 0.0, -2.6], dtype=torch.float64)
N = len(SCORES)
REST = torch.arange(N) != NONE


def rows(key):
    x = normal(key, N, 4)
    x[1] = x[0]
    return x


def pairs(known):
    return known[:, None] & known


def soft(scores):
    return {
        "positives": mm.score_kernel(scores, bandwidth=1),
        "negatives": mm.score_distance(scores, bandwidth=1),
    }


def hard(scores):
    return {
        "positives": mm.close_scores(scores, tolerance=0.8),
        "negatives": mm.far_scores(scores, tolerance=0.8),
    }


def signs(scores):
    return {
        "positives": mm.same_sign(scores),
        "negatives": mm.different_label(mm.sentiment_classes(scores, neutral="own")),
    }


def features(x, y):
    return {"text": x, "audio": y}


def batch_hard(x, y, s):
    a, p, n = mm.hard_triplets(x, mm.sentiment_classes(s))
    return mm.triplet(x[a], x[p], x[n], keep=p != a, reduction="sum", margin=3.0)


def ratio(x, y, s):
    labels = mm.sentiment_classes(s)
    similarity = x.softmax(1) @ x.softmax(1).T
    positives = mm.same_label(labels) & mm.off_diagonal(len(labels))
    kept = mm.select_pairs(
        similarity, positives, mm.different_label(labels), selection=mm.PairSelection(0.3)
    )
    return mm.ratio_contrast(similarity, *kept)


LOSSES = {
    "soft SupCon": lambda x, y, s: mm.sup_con(
        x, None, positives=mm.score_kernel(s, bandwidth=1), keep=pairs(mm.labelled(s))
    ),
    "SupCon of close scores": lambda x, y, s: mm.sup_con(
        x, None, positives=mm.close_scores(s, tolerance=0.8), keep=pairs(mm.labelled(s))
    ),
    "soft InfoNCE": lambda x, y, s: mm.info_nce(
        x, y, positives=mm.score_kernel(s, bandwidth=1), keep=pairs(mm.labelled(s))
    ),
    "Rank-N-Contrast": lambda x, y, s: mm.rank_n_contrast(x, s),
    "Rank-N-Contrast across": lambda x, y, s: mm.rank_n_contrast(x, s, y, s),
    "SupCon by classes": lambda x, y, s: mm.sup_con(x, mm.sentiment_classes(s)),
    "HyCon by classes": lambda x, y, s: (
        mm.hybrid_contrast(features(x, y), mm.sentiment_classes(s)).total
    ),
    "HyCon, soft": lambda x, y, s: mm.hybrid_contrast(features(x, y), None, **soft(s)).total,
    "HyCon, close and far": lambda x, y, s: (
        mm.hybrid_contrast(features(x, y), None, **hard(s), selection=mm.PairSelection(0.3)).total
    ),
    "HyCon, signs": lambda x, y, s: mm.hybrid_contrast(features(x, y), None, **signs(s)).total,
    "IAMCL, soft": lambda x, y, s: mm.intra_modal_contrast(features(x, y), None, **soft(s)),
    "IEMCL, soft": lambda x, y, s: mm.inter_modal_contrast(features(x, y), None, **soft(s)),
    "MCL-MCF, design B": lambda x, y, s: (
        mm.multilevel_contrast(
            {"first": [(x, y)]}, pair_design="B", labels=mm.sentiment_classes(s)
        ).total
    ),
    "MCL-MCF, design C": lambda x, y, s: (
        mm.multilevel_contrast(
            {"first": [(x, y)]}, pair_design="C", labels=mm.sentiment_classes(s)
        ).total
    ),
    "batch-hard triplets": batch_hard,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("missing", [math.nan, mm.IGNORE])
@pytest.mark.parametrize("filling", [0.3, math.nan])
def test_a_sample_without_a_score_takes_no_part(name, missing, filling):
    x, y, loss = rows(1), rows(2), LOSSES[name]
    without = SCORES.masked_fill(~REST, missing)
    expected, slopes = gradients(lambda x, y: loss(x, y, SCORES[REST]), x[REST], y[REST])
    value, found = gradients(
        lambda x, y: loss(x, y, without), *(z.masked_fill(~REST[:, None], filling) for z in (x, y))
    )
    assert expected.abs() > 0
    close(value, expected)
    for slope, gradient in zip(slopes, found, strict=True):
        close(gradient[REST], slope)
        assert (gradient[~REST] == 0).all()


def test_a_ratio_of_selected_pairs_leaves_out_a_sample_without_a_score():
    """Its own row of similarities is made by the caller, so it holds numbers."""
    x = rows(1)
    found = ratio(x, None, SCORES.masked_fill(~REST, math.nan))
    close(found, ratio(x[REST], None, SCORES[REST]))


def test_a_missing_modality_takes_no_part():
    x, y = rows(1), rows(2)
    present = dict.fromkeys(("text", "audio"), REST)
    for options in (soft, hard, signs):
        expected = mm.hybrid_contrast(features(x[REST], y[REST]), None, **options(SCORES[REST]))
        gone = (z.masked_fill(~REST[:, None], math.nan) for z in (x, y))
        found = mm.hybrid_contrast(features(*gone), None, **options(SCORES), present=present)
        close(found.total, expected.total)


@pytest.mark.parametrize("made", [soft, hard, signs])
@pytest.mark.parametrize("missing", [math.nan, mm.IGNORE])
def test_negatives_have_no_copies_no_self_and_no_sample_without_a_score(made, missing):
    found = made(SCORES.masked_fill(~REST, missing))
    positives, negatives = found["positives"], found["negatives"]
    assert positives[0, 1] == positives[0, 0] == 1
    assert negatives[0, 1] == negatives[0, 0] == 0
    for mask in (positives, negatives):
        assert not mask[NONE].any()
        assert not mask[:, NONE].any()
    assert (negatives != 0).any()


@pytest.mark.parametrize(
    "mined",
    [
        lambda x, y: mm.hard_negatives(x, x, 3, allowed=mm.different_label(y)),
        lambda x, y: mm.hard_negatives(x, x, 3, labels=y),
        lambda x, y: mm.uniform_negatives(x, 5, allowed=mm.different_label(y)),
    ],
)
def test_miners_return_no_copy_and_no_sample_without_a_label(mined):
    labels = mm.sentiment_classes(SCORES.masked_fill(~REST, math.nan))
    found = mined(rows(1).float(), labels)
    assert not found.valid[NONE].any()
    assert found.valid[0].any()
    for i, (indices, valid) in enumerate(zip(found.indices, found.valid, strict=True)):
        assert all(labels[k] not in (labels[i], mm.IGNORE) for k in indices[valid])


def test_twins_are_left_out_and_unknown_ids_are_not():
    """Of the notebooks: partners of the same sentence are no negatives."""
    ids = torch.tensor([7, 7, 1, mm.IGNORE, mm.IGNORE, 2])
    twins = mm.same_label(ids) & mm.off_diagonal(N)
    assert twins.nonzero().tolist() == [[0, 1], [1, 0]]
    x, y = rows(1), rows(2)
    found = mm.info_nce(x, y, keep=~twins, reduction="none")
    close(found[0], mm.info_nce(x[:1], torch.cat([y[:1], y[2:]]), reduction="none")[0])
    close(found[3], mm.info_nce(x, y, reduction="none")[3])


def test_no_recipe_negates_a_mask_of_labels_or_scores():
    """Samples without a label would be in the negation: the pages call the functions for it."""
    wrong = re.compile(r"(~|1 - )\s*(mm\.)?(same_label|close_scores|same_sign|score_kernel)\(")
    notebooks = [*(ROOT / "notebooks").glob("*.ipynb")]
    site = [*(ROOT / "notebooks" / "site").rglob("*.md")]
    assert len(notebooks) > 5
    assert len(site) > 20
    for page in [ROOT / "README.md", *notebooks, *site]:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".md":  # whose prose says what not to write
            text = "\n".join(re.findall(r"^```.*?^```", text, flags=re.MULTILINE | re.DOTALL))
        assert not wrong.search(text), page
