"""Losses in float64 where float32 does not reach: only there, and back in float32 after it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.wide import may_widen, narrow, retry_in_float64, widen, widen_products
from tests.mmcontrast.strategies import close, gradients, leaf, normal

MOST = torch.finfo(torch.float32).max

OWN = 0.1 * normal(2, 5, 2, 3)


def varied(x, y, **options):
    """With own negatives of the size of x."""
    own = OWN.to(x) * x.detach().abs().max()
    return mm.info_nce(x, y, own_negatives=own, normalize=None, temperature=0.5, **options)


RAW = {
    "info_nce": lambda x, y: mm.info_nce(x, y, normalize=None, temperature=0.5),
    "info_nce in blocks": lambda x, y: mm.info_nce(
        x, y, normalize=None, temperature=0.5, chunk_size=2
    ),
    "decoupled": lambda x, y: mm.info_nce(x, y, normalize=None, decoupled=True),
    "decoupled, in blocks": lambda x, y: mm.info_nce(
        x, y, normalize=None, decoupled=True, chunk_size=2
    ),
    "decoupled, masked": lambda x, y: mm.info_nce(
        x, y, normalize=None, decoupled=True, positives=torch.eye(5).bool()
    ),
    "decoupled, both ways": lambda x, y: mm.symmetric_info_nce(
        x, y, normalize=None, decoupled=True, within=True
    ),
    "prior": lambda x, y: mm.info_nce(x, y, normalize=None, prior=0.1),
    "prior, decoupled": lambda x, y: mm.info_nce(x, y, normalize=None, prior=0.1, decoupled=True),
    "own negatives": varied,
    "own negatives, smoothing": lambda x, y: varied(x, y, smoothing=0.1),
    "own negatives alone": lambda x, y: varied(x, y, in_batch=False),
    "own negatives, all": lambda x, y: varied(x, y, prior=0.1, smoothing=0.1, decoupled=True),
    "n_pair": mm.n_pair,
    "symmetric_info_nce": lambda x, y: mm.symmetric_info_nce(x, y, normalize=None),
    "matched_pair_nce": lambda x, y: mm.matched_pair_nce(x, y, normalize=None),
    "sigmoid_contrast": lambda x, y: mm.sigmoid_contrast(x, y, normalize=None),
    "sup_con": lambda x, y: mm.sup_con(
        torch.cat([x, y]), torch.arange(len(x)).repeat(2), normalize=None
    ),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("size", [1e18, 1e19, 1e20, 1e30, 1e37])
def test_products_of_raw_rows_beyond_a_float32(name, size):
    """Where the loss or a gradient is beyond a float32 itself, it is the largest one."""
    x, y = ((0.1 * normal(k, 5, 3) * size).float() for k in range(2))
    value, found = gradients(RAW[name], x, y)
    wide, exact = gradients(RAW[name], x.double(), y.double())
    assert value.dtype == torch.float32
    close(value, wide.clamp(-MOST, MOST), rtol=1e-5)
    for gradient, reference in zip(found, exact, strict=True):
        reference = reference.clamp(-MOST, MOST)
        close(gradient, reference, rtol=1e-5, atol=1e-6 * reference.abs().max().item())


def test_only_a_loss_that_is_not_finite_is_computed_again():
    seen = []

    @retry_in_float64
    def loss(x, *, normalize=None, group=None):
        """Documented."""
        seen.append(x.dtype)
        return (x * x).sum()

    assert loss(torch.ones(2)) == 2
    assert seen == [torch.float32]
    found = loss(torch.tensor([1e20, 1.0]))
    assert (found.item(), found.dtype, seen[1:]) == (
        MOST,
        torch.float32,
        [torch.float32, torch.float64],
    )
    assert loss(torch.tensor([1e200], dtype=torch.float64)) == torch.inf
    assert loss(torch.tensor([torch.nan])).isnan()
    # A row map of the caller's own may hold float32 parameters.
    assert loss(torch.tensor([1e20]), normalize=torch.nn.Linear(1, 1)) == torch.inf
    assert loss(torch.tensor([1e20]), normalize=mm.softmax_normalize) == MOST
    assert loss.__doc__ == "Documented."


def test_scores_stay_in_their_dtype():
    """Equal distances between them are equal to the precision of a float32."""
    scores, x = torch.tensor([1.0, 1.2, 0.8, 3.0]), normal(1, 4, 3)
    ordinary = mm.rank_n_contrast(x.float() * 1e3, scores, temperature=1e3)
    close(mm.rank_n_contrast((x * 1e20).float(), scores, temperature=1e20), ordinary, rtol=1e-5)
    large = (x * 1e38).clamp(-3e38, 3e38).float()
    _, (found,) = gradients(lambda x: mm.rank_n_contrast(x, scores), large)
    _, (exact,) = gradients(lambda x: mm.rank_n_contrast(x, scores), large.double())
    close(found, exact, rtol=1e-5, atol=1e-6)


def test_no_value_is_read_where_there_is_none():
    with FakeTensorMode():
        assert not may_widen(torch.ones(2))
    assert not may_widen(torch.ones(2, device="meta"))
    assert not may_widen(torch.ones(2, dtype=torch.float64))
    assert may_widen(torch.ones(2), torch.ones(2, dtype=torch.bfloat16))
    torch.vmap(lambda x: torch.zeros(()) if may_widen(x) else x.sum())(torch.ones(2, 2))


def test_casts_there_and_back_keep_gradients_and_cap_them():
    x = leaf(torch.tensor([2.0, 1e30]))
    wide = widen({"x": (x, torch.tensor([True]))})["x"]
    assert wide[0].dtype == torch.float64
    assert wide[1].dtype == torch.bool
    product = narrow(wide[0] ** 2)
    assert product.tolist() == [4.0, MOST]
    (first,) = torch.autograd.grad((product * 1e30).sum(), x, create_graph=True)
    close(first, torch.tensor([4e30, MOST]), rtol=1e-6)
    y = leaf(torch.tensor([3.0]))
    (slope,) = torch.autograd.grad(narrow(widen(y) ** 3).sum(), y, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), y)
    assert (slope.item(), second.item()) == (27.0, 18.0)


def test_casts_take_batched_gradients():
    x = torch.ones(3, requires_grad=True)
    (found,) = torch.autograd.grad(widen(x), x, torch.eye(3).double(), is_grads_batched=True)
    assert torch.equal(found, torch.eye(3))


def test_rows_of_ordinary_products_stay_as_they_are():
    x = normal(1, 3, 4).float()
    assert widen_products(x, x)[0] is x
    assert widen_products(x * 1e20, x)[1].dtype == torch.float64
    assert widen_products(x, x * 1e20)[0].dtype == torch.float64
    assert widen_products(x[:0], x)[1] is x
