"""Log-sums of a row's similarities to the others of its side, against loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact.log_sums import weighted_log_sums
from tests.mmcontrast.strategies import close, gradients, mask, normal, numpy, seeds

T = torch.tensor(0.05, dtype=torch.float64)


@given(
    seed=seeds,
    n=st.integers(1, 6),
    others=st.integers(0, 3),
    kept=st.booleans(),
    chunk_size=st.sampled_from([None, 1, 2]),
)
def test_log_sums_agree_with_loops(seed, n, others, kept, chunk_size):
    """Rows in the middle of all ranks', and their gradients those of autograd."""
    y = normal(seed, n + 2 * others, 3)
    x, keep = y[others : others + n], mask(seed, n, len(y), share=0.6) if kept else None
    found = weighted_log_sums(x, y, T, None, keep, others, chunk_size)
    for i in range(n):
        taken = [j for j in range(len(y)) if j != others + i and (keep is None or keep[i, j])]
        logits = [float(x[i] @ y[j]) / float(T) for j in taken]
        top = max(logits, default=0.0)
        total = math.fsum(math.exp(s - top) for s in logits)
        close(found[i].exp() if not logits else found[i], math.log(total) + top if logits else 0.0)

    weight = torch.where(found == -math.inf, 0, normal(seed + 1, n))

    def ours(x, y, t):
        return (weighted_log_sums(x, y, t, None, keep, others, chunk_size) * weight)[
            found != -math.inf
        ].sum()

    def plain(x, y, t):
        logits = (x @ y.T / t)[found != -math.inf]
        out = torch.arange(len(y)) == others + torch.arange(n)[:, None]
        out = (out if keep is None else out | ~keep)[found != -math.inf]
        return (logits.masked_fill(out, -math.inf).logsumexp(1) * weight[found != -math.inf]).sum()

    for a, b in zip(gradients(ours, x, y, T)[1], gradients(plain, x, y, T)[1], strict=True):
        close(a, b, atol=1e-8)


def test_a_row_alone_has_no_sum_and_no_gradient():
    x = normal(1, 1, 3).requires_grad_()
    found = weighted_log_sums(x, x, T, None, None, 0, None)
    assert found == -math.inf
    (gradient,) = torch.autograd.grad(found, x, torch.zeros(1, dtype=x.dtype))
    assert (numpy(gradient) == 0).all()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_does_what_it_says_to_compilers():
    x, y = normal(1, 4, 3).requires_grad_(), normal(2, 6, 3).requires_grad_()
    operator = torch.ops.mmcontrast.weighted_log_sums.default
    keep, t = mask(3, 4, 6, share=0.9), T.clone().requires_grad_()
    torch.library.opcheck(operator, (x, y, t, None, keep, 1, 2, [False] * 4))
    weight = normal(4, 4).requires_grad_()
    torch.library.opcheck(operator, (x, y, t, weight, keep, 1, 2, [True] * 4))
