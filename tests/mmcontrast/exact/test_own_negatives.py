"""Own negatives: some anchors' at a time, and wrong ones. What they equal is in test_beside.py."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import mmcontrast as mm
from mmcontrast.exact import own_negatives, sizes
from tests.mmcontrast.strategies import close, gradients, mask, normal, numpy

X, OWN = normal(1, 4, 3), normal(2, 4, 2, 3)
EYE = torch.eye(4).bool()


@pytest.fixture
def in_pieces(monkeypatch):
    """Three anchors at a time; of the pieces that were made, the number of anchors."""
    seen, whole = [], own_negatives._logits
    monkeypatch.setattr(sizes, "OWN", 3 * 2 * 3)

    def counted(anchors, *given):
        seen.append(len(anchors))
        return whole(anchors, *given)

    monkeypatch.setattr(own_negatives, "_logits", counted)
    return seen


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("normalize", [mm.l2_normalize, mm.softmax_normalize, None])
def test_pieces_are_the_whole(kept, normalize, in_pieces):
    x, y, own = normal(1, 7, 3), normal(2, 9, 3), normal(3, 7, 2, 3)
    t = torch.tensor(0.5, dtype=torch.float64)
    options = {"normalize": normalize, "own_keep": mask(1, 7, 2) if kept else None, "prior": 0.1}

    def loss(x, y, own, t):
        return mm.info_nce(x, y, own_negatives=own, temperature=t, **options)

    value, found = gradients(loss, x, y, own, t)
    assert in_pieces == [3, 3, 1] * 2
    expected = torch.func.grad_and_value(loss, argnums=(0, 1, 2, 3))(x, y, own, t)
    close(value, expected[1])
    for a, b in zip(found, expected[0], strict=True):
        close(a, b)
    some = gradients(lambda own: loss(x, y, own, 0.5), own)[1]  # of the negatives alone
    close(some[0], found[2])
    inputs = [z.requires_grad_() for z in (x, y, own, t)]
    assert gradcheck(loss, inputs, fast_mode=True)
    assert gradgradcheck(loss, inputs, fast_mode=True)


def test_a_row_map_that_is_trained_gets_its_gradient(in_pieces):
    torch.manual_seed(0)
    head = torch.nn.Linear(3, 4, dtype=torch.float64)
    x, y, own = normal(1, 7, 3), normal(2, 7, 3), normal(3, 7, 2, 3)

    def loss():
        return mm.info_nce(x, y, own_negatives=own, in_batch=False, normalize=head)

    found = torch.autograd.grad(loss(), head.parameters())
    assert in_pieces == [7]
    blocks = torch.cat([torch.eye(7), torch.eye(7).repeat_interleave(2, 1)], 1).bool()
    masked = mm.info_nce(x, torch.cat([y, own.flatten(0, 1)]), keep=blocks, normalize=head)
    for a, b in zip(found, torch.autograd.grad(masked, head.parameters()), strict=True):
        close(a, b, atol=1e-9)


def test_the_gradient_has_the_dtype_of_the_negatives(in_pieces):
    own = normal(3, 7, 2, 3, dtype=torch.bfloat16).requires_grad_()
    x, y = normal(1, 7, 3, dtype=torch.float32), normal(2, 7, 3, dtype=torch.float32)
    (found,) = torch.autograd.grad(mm.info_nce(x, y, own_negatives=own), own)
    assert in_pieces == [3, 3, 1] * 2
    assert found.dtype == torch.bfloat16
    (exact,) = gradients(lambda o: mm.info_nce(x, y, own_negatives=o), own.detach().double())[1]
    close(numpy(found.float()), exact, atol=0.01 * exact.abs().max().item(), rtol=0.01)


@pytest.mark.parametrize("options", [{}, {"in_batch": False}, {"smoothing": 0.1}])
@pytest.mark.parametrize("masked", [False, True])
def test_without_any_candidate_nothing_counts(options, masked):
    x, y, own = X[:2], torch.zeros(0, 3, dtype=torch.float64), OWN[:2]
    options = {**options, "own_negatives": own, "targets": torch.tensor([-100, -100])}
    if masked and "in_batch" not in options:
        options["keep"] = torch.ones(2, 0, dtype=torch.bool)
    value, found = gradients(lambda x, y: mm.info_nce(x, y, **options), x, y)
    assert value == 0
    assert [(z == 0).all().item() for z in found] == [True, True]


def test_a_temperature_of_low_precision_loses_no_digit_of_a_prior():
    """The floor of the negatives' sum, at 1 / t, where all of them are opposite."""
    t = torch.tensor(0.07, dtype=torch.bfloat16)
    options = {"own_negatives": -X[:, None], "in_batch": False, "prior": 0.3, "decoupled": True}
    found, expected = (mm.info_nce(X, X, temperature=z, **options) for z in (t, t.item()))
    close(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"own_negatives: expected shape \(4, K, 3\), got \(4, 3\)", {"own_negatives": X}),
        (r"own_negatives: expected shape \(4, K, 3\)", {"own_negatives": OWN[:3]}),
        ("own_negatives: expected a floating dtype", {"own_negatives": OWN.long()}),
        ("own_keep: expected None without own_negatives", {"own_keep": EYE[:, :2]}),
        (r"own_keep: expected shape \(4, 2\)", {"own_negatives": OWN, "own_keep": EYE}),
    ],
)
def test_wrong_arguments(message, options):
    with pytest.raises(ValueError, match=message):
        mm.info_nce(X, X, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e20, 3e37])
@pytest.mark.parametrize("options", [{}, {"decoupled": True}, {"smoothing": 0.1}])
@pytest.mark.parametrize("alone", [True, False])
def test_rows_whose_products_a_float32_cannot_hold(alone, options, size, dtype, in_pieces):
    x, y = (size * normal(seed, 4, 3).clamp(-3, 3) for seed in (1, 2))
    leaves = [v.to(dtype) for v in (x, y, size * normal(3, 4, 6, 3).clamp(-3, 3))]

    def loss(a, b, own):
        settings = {"temperature": 0.01, "in_batch": not alone, **options}
        return mm.info_nce(a, b, own_negatives=own, normalize=None, **settings)

    value, found = gradients(loss, *leaves)
    truth, expected = gradients(loss, *[v.double() for v in leaves])
    limit = torch.finfo(dtype).max
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, truth.clamp(-3.4028234e38, 3.4028234e38).float())
    for gradient, exact in zip(found, expected, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient / size, exact.clamp(-limit, limit).to(dtype) / size)
