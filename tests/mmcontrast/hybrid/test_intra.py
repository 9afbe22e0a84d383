"""HyCon's IAMCL: its laws beside those of all terms."""

import torch
from hypothesis import given

import mmcontrast as mm
from tests.mmcontrast.strategies import close, modalities, normal, seeds


@given(seed=seeds)
def test_law_52_an_unselected_easy_pair_below_the_cut_changes_nothing(seed):
    """The smallest fraction takes the hardest pair only; an easier one may become easier yet."""
    z = mm.softmax_normalize(normal(seed, 6, 3))
    features, classes = {"text": z, "audio": z}, torch.tensor([0, 0, 0, 1, 1, 1])
    selection = mm.PairSelection(fraction=1e-9)
    options = {"selection": selection, "normalize": None, "reduction": "none"}
    similarity = z @ z.T
    before = mm.intra_modal_contrast(features, classes, **options)
    hardest_positive = similarity[0, 1:3].min()
    hardest_negative = similarity[0, 3:].max()
    share = hardest_positive / (hardest_positive + hardest_negative)
    close(before[0, 0], -share + (hardest_positive - 1) ** 2)
    easy = 3 + int(similarity[0, 3:].argmin())
    moved = z.clone()
    moved[easy] = 0.9 * z[easy]  # still the least similar negative of anchor 0, now more so
    after = mm.intra_modal_contrast({"text": moved, "audio": z}, classes, **options)
    close(after[0, 0], before[0, 0])


def test_h4_ratio_and_refinement_have_their_own_anchors():
    """Anchors of the lone class have no refinement; in a two-class batch nobody lacks a ratio."""
    features, classes = modalities(11, 4, 3), torch.tensor([0, 0, 0, 1])
    with_terms = mm.intra_modal_contrast(features, classes)
    ratio = mm.intra_modal_contrast(features, classes, refine=False, reduction="none")
    refinement = mm.intra_modal_contrast(features, classes, reduction="none") - ratio
    close(with_terms, ratio[:3].mean() + refinement[:3].mean())
