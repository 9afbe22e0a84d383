"""The losses that can be evaluated in several ways, what they are tried on, and what they made."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import (
    infonce_choice,
    joint_choice,
    masked_choice,
    ranked_choice,
    rules_choice,
    sigmoid_choice,
    sizes,
    supcon_choice,
)
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import close, embeddings, normal

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


# --- which one is taken ---------------------------------------------------------------------------

CHOICES = (
    infonce_choice,
    joint_choice,
    masked_choice,
    ranked_choice,
    rules_choice,
    sigmoid_choice,
    supcon_choice,
)
WAYS = [
    *("one_way_at_once", "one_way_in_blocks", "symmetric_at_once", "symmetric_in_one_matrix"),
    *("symmetric_in_tiles", "info_nce_on_ring", "sigmoid_at_once", "sigmoid_in_tiles"),
    *("sup_con_at_once", "sup_con_in_tiles", "masked_in_blocks"),
    *("shuffled_in_blocks", "negatives_of_all_tuples", "negatives_of_volumes"),
    *("plain_shuffled", "plain_negatives_of_all_tuples", "plain_negatives_of_volumes"),
    *("ranked_at_once", "ranked_checkpointed", "ranked_in_one_pass"),
]


def taken(call):
    """The names of the ways that a call takes; each does what it does."""
    names = []

    def watched(name, way):
        def named(*given, **settings):
            names.append(name)
            return way(*given, **settings)

        return named

    with pytest.MonkeyPatch.context() as patch:
        for module in CHOICES:
            for name in set(WAYS) & set(vars(module)):
                patch.setattr(module, name, watched(name, getattr(module, name)))
        call()
    return names


@contextmanager
def sized(**chosen):
    with pytest.MonkeyPatch.context() as patch:
        for name, size in chosen.items():
            patch.setattr(sizes, name, size)
        yield


def rows(n, k=1):
    return normal(k, n, 3)


def transformed(function):
    """What a function without arguments says under a functional transform."""
    said = []

    def inside(x):
        said.append(function())
        return x

    torch.func.vmap(inside)(torch.ones(2))
    return said[0]
