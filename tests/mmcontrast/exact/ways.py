"""The losses that can be evaluated in several ways, what they are tried on, and what they made."""

import pytest
import torch
from hypothesis import strategies as st

import mmcontrast as mm
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import close, embeddings

TEMPERATURES = [0.01, 0.02, 0.07, 0.3, 1.0]
KINDS = ["gauss", "aligned", "collapsed", "duplicated", "opposed"]
FORMS = {
    "symmetric": mm.symmetric_info_nce,
    "one way": mm.info_nce,
    "sigmoid": lambda x, y, **k: mm.sigmoid_contrast(x, y, bias=-3.0, **k),
}
every_form = pytest.mark.parametrize("form", FORMS)
reductions = st.sampled_from(["mean", "sum", "none"])


def views(kind, n, extra, d, seed):
    """Two float64 views, the second with extra candidates."""
    x, y = embeddings(seed, n, d), embeddings(seed + 1, n + extra, d)
    if kind == "aligned":
        y[:n] = x
    if kind == "collapsed":
        x, y = x[:1].expand(n, d), x[:1].expand(n + extra, d)
    if kind == "duplicated":
        x, y = x[torch.arange(n) // 2], y[torch.arange(n + extra) // 3]
    if kind == "opposed":
        y[:n] = -x
    return x, y


def same(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        unit = 1 + b.abs().max().item()
        close(a / unit, b / unit, atol=tolerance)


class Allocations(Made):
    """And how many matrix products."""

    products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        aten = torch.ops.aten
        self.products += function.overloadpacket in (aten.mm, aten.matmul, aten.addmm, aten.addmm_)
        return super().__torch_dispatch__(function, types, args, kwargs)
