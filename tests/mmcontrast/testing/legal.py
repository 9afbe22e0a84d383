"""Losses that are right and unlike a softmax: what they claim, for the suite to believe them."""

import torch
import torch.nn.functional as F
from torch import nn

from mmcontrast import sup_con
from mmcontrast.testing import Traits


def decoupled(a, b):
    """DCL, arXiv:2110.06848: the denominator has the negatives alone, so that one needs two."""
    logits = F.normalize(a) @ F.normalize(b).T / 0.1
    rest = logits.masked_fill(torch.eye(len(a)).bool(), -torch.inf).logsumexp(1)
    return (rest - logits.diagonal()).mean()


def vicreg(a, b):
    """VICReg, arXiv:2105.04906: invariance, variance over the batch, covariance of features."""
    loss = 25 * F.mse_loss(a, b)
    for x in (a, b):
        loss = loss + 25 * F.relu(1 - (x.var(0) + 1e-4).sqrt()).mean()
        centred = x - x.mean(0)
        covariance = centred.T @ centred / (len(x) - 1)
        off = covariance - covariance.diag().diag()
        loss = loss + off.square().sum() / x.shape[1]
    return loss


class ProxyNCA(nn.Module):
    """A softmax over learned proxies, one for each class; labels are their indices."""

    def __init__(self, classes=3, features=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.proxies = nn.Parameter(torch.randn(classes, features, generator=generator))

    def forward(self, z, labels):
        return F.cross_entropy(10 * F.normalize(z) @ F.normalize(self.proxies).T, labels)


class Classifier(nn.Module):
    """A linear head, whose weights are float32 whatever the rows are."""

    def __init__(self, classes=3, features=3):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(features, classes)

    def forward(self, z, labels):
        return F.cross_entropy(self.head(z), labels)


def by_distance(a, b):
    return F.cross_entropy(-torch.cdist(a, b), torch.arange(len(a)))


def of_unit_rows(a, b):
    """As open_clip's: the caller normalises; other rows are refused."""
    for x in (a, b):
        wide = x.detach().double()
        if not (wide.norm(dim=1) - 1).abs().max() < 0.02:
            raise ValueError("rows: expected length one")
    logits = a @ b.T / 0.1
    targets = torch.arange(len(a))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def labelled_unit_rows(z, labels):
    if not (z.detach().double().norm(dim=1) - 1).abs().max() < 0.02:
        raise ValueError("rows: expected length one")
    return sup_con(z, labels, temperature=0.1, normalize=None)


RAW = {"normalized": False, "rotation_invariant": False}
PROXIES = {"kind": "labelled", "features": 3, "classes": 3}

LEGAL = {
    decoupled: Traits(nonnegative=False, smallest=2),
    vicreg: Traits(**RAW, symmetric=True, smallest=2, permutation_invariant=True),
    ProxyNCA: Traits(**PROXIES),
    Classifier: Traits(**PROXIES, **{"normalized": False}),
    by_distance: Traits(normalized=False, translation_invariant=True),
    of_unit_rows: Traits(unit=True, form="info_nce", temperature=0.1, symmetric=True),
    labelled_unit_rows: Traits(kind="labelled", unit=True, form="sup_con", temperature=0.1),
}
