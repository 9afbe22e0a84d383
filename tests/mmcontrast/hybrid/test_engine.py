"""HyCon's losses without gradients, and of every size of number."""

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.hybrid.evaluations import by_pairs, loss, sizes
from tests.mmcontrast.strategies import close, gradients, labels, modalities, normal


def test_without_gradients_and_with_one_of_three():
    features, classes = modalities(1, 300, 3), labels(1, 300, 5)
    function, inputs = loss(features, classes)
    value, expected = gradients(function, *inputs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert function(*inputs) == value
    moved = inputs[1].clone().requires_grad_()
    close(torch.autograd.grad(function(inputs[0], moved, inputs[2]), moved)[0], expected[1])


# --- every size of number ------------------------------------------------------------------------

ALL_PAIRS, SELECTED = {"selection": None}, {"selection": mm.PairSelection()}


def agrees_with_float64(features, classes, **chosen):
    """Values to 1e-5, and each row's gradient to 1e-4 of its own length."""
    function, inputs = loss(features, classes, **chosen)
    value, found = gradients(function, *inputs)
    with by_pairs():
        wide, exact = gradients(function, *[x.double() for x in inputs])
    assert value.isfinite()
    close(value, wide, rtol=1e-5, atol=1e-5)
    for gradient, reference in zip(found, exact, strict=True):
        assert gradient.isfinite().all()
        length = reference.norm(dim=1)
        error = (gradient.double() - reference).norm(dim=1)
        assert (error <= 1e-4 * length + 1e-5 * length.max() + 3e-38).all()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("chosen", [ALL_PAIRS, SELECTED], ids=["all", "selected"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_nearly_one_hot(seed, chosen, log):
    """Sums of similarities like e^-150, which a float32 does not hold, have a bounded gradient."""
    x = 50 * normal(seed, 33, 50).float()
    features = {name: x.clone() for name in ("text", "audio", "vision")}
    agrees_with_float64(features, torch.arange(33) % 2, log=log, **chosen)


@pytest.mark.parametrize("chosen", [ALL_PAIRS, SELECTED], ids=["all", "selected"])
@pytest.mark.parametrize("size", [1e-22, 1e-18, 1e18, 1e25])
@pytest.mark.parametrize("refine", [False, True])
def test_raw_rows_of_every_size(size, chosen, refine):
    """Their ratio does not depend on it. A refinement of 1e70 is the largest float32."""
    features = {name: (x.abs() * size).float() for name, x in modalities(1, 12, 4).items()}
    if refine:
        terms = mm.hybrid_contrast(features, torch.arange(12) % 2, normalize=None, **chosen)
        assert all(x.isfinite() for x in terms.values())
        return
    function = mm.inter_modal_contrast
    options = {"normalize": None, "refine": False, **chosen}

    def loss(*x):
        moved = dict(zip(features, x, strict=True))
        return function(moved, torch.arange(12) % 2, **options)

    value, found = gradients(loss, *features.values())
    wide, exact = gradients(loss, *[x.double() for x in features.values()])
    close(value, wide, rtol=1e-5)
    for gradient, reference in zip(found, exact, strict=True):
        close(gradient * size, reference * size, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("heavy", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("refine", [False, True])
def test_one_raw_row_heavier_than_its_class(heavy, refine):
    """By class moments its own square, far above all others together, is taken off their sum."""
    features = {name: x.abs().float() for name, x in modalities(1, 300, 6).items()}
    features["text"][3] *= heavy
    classes = torch.arange(300) % 2
    with sizes():
        agrees_with_float64(features, classes, normalize=None, refine=refine)


@pytest.mark.parametrize("chosen", [ALL_PAIRS, SELECTED], ids=["all", "selected"])
@pytest.mark.parametrize("n", [4, 250])
def test_shifted_cosines_of_opposite_rows_make_shares(n, chosen):
    row = normal(1, 1, 7).float()
    for classes in (torch.arange(n) % 2, torch.arange(n) // 2 % 2):
        signs = 1 - 2 * (torch.arange(n) % 2)
        features = dict.fromkeys(("text", "audio"), row * signs[:, None])
        options = {"refine": False, "normalize": mm.shifted_cosine_normalize, "reduction": "none"}
        for contrast in (mm.intra_modal_contrast, mm.inter_modal_contrast):
            found = contrast(features, classes, **options, **chosen)
            assert ((found >= -1) & (found <= 0)).all()


def test_what_the_caller_maps_is_not_widened():
    """Its row map may have float32 parameters."""
    layer = torch.nn.Linear(4, 4)
    features = {name: x.float() for name, x in modalities(1, 6, 4).items()}
    terms = mm.hybrid_contrast(features, torch.arange(6) % 2, normalize=lambda x: layer(x) * 0)
    assert all(x.isfinite() for x in terms.values())
