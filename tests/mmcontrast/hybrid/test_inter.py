"""HyCon's IEMCL: its laws beside those of all terms."""

import torch
from hypothesis import given

import mmcontrast as mm
from tests.mmcontrast.hybrid.losses import selections
from tests.mmcontrast.strategies import close, labels, normal, seeds


@given(seed=seeds)
def test_paper_alpha_one_makes_the_targets_equal(seed):
    """PAPERS 12: with margin 1 eq 11 aims where eq 8 does; one modality twice shows it."""
    x = normal(seed, 5, 3)
    features, classes = {"text": x, "audio": x}, torch.tensor([0, 1, 0, 1, 0])
    close(
        mm.inter_modal_contrast(features, classes, margin=1.0),
        mm.intra_modal_contrast(features, classes),
    )
    assert not torch.isclose(
        mm.inter_modal_contrast(features, classes, margin=0.8),
        mm.intra_modal_contrast(features, classes),
    )


@given(seed=seeds, selection=selections)
def test_law_54_inter_modal_contrast_is_symmetric_in_its_modalities(seed, selection):
    x, y = normal(seed, 5, 3), normal(seed + 1, 5, 3)
    classes = labels(seed, 5)
    options = {"selection": selection}
    close(
        mm.inter_modal_contrast({"text": x, "audio": y}, classes, **options),
        mm.inter_modal_contrast({"text": y, "audio": x}, classes, **options),
    )
