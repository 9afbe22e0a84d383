"""Small losses that the tests of the suite itself put under it; importable, as snippets need."""

import torch
import torch.nn.functional as F
from torch import nn

from mmcontrast import LossTerms, info_nce, sup_con, triplet

calls = []


def half(a, b):
    """Half of what is declared."""
    return info_nce(a, b) / 2


def scaled(a, b, *, temperature=0.07, factor=1.0):
    return factor * info_nce(a, b, temperature=temperature)


def negative_by_label(z, labels):
    return -sup_con(z, labels)


def negative_triplet(a, p, n):
    return -triplet(a, p, n)


def distance_of_first(features, labels=None):
    """Sees the first two modalities only, and takes their order for a role."""
    x, y = list(features.values())[:2]
    return (x - 2 * y).square().sum() / max(len(x), 1)


def terms(a, b):
    return LossTerms({"there": info_nce(a, b), "back": info_nce(b, a)}, {"back": 0.5})


def raises(a, b):
    raise IndexError("nobody is here")


def raises_for_three(a, b):
    if len(a) == 3:
        raise KeyError("three")
    return info_nce(a, b)


def nan(a, b):
    return info_nce(a, b) * torch.nan


def vector(a, b):
    return info_nce(a, b, reduction="none")


def number(a, b):
    return info_nce(a, b).item()


def whole(a, b):
    return info_nce(a, b).long()


class Scaled(nn.Module):
    """Keeps its setting under the argument's name, and learns a bias."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, a, b):
        return self.factor * info_nce(a, b) + self.bias


class Counts(nn.Module):
    """Everything that a call can change: buffers, a plain attribute, its mode, the generator."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(2), persistent=False)
        self.inner = nn.Dropout(0.0)
        self.calls = 0

    def forward(self, a, b):
        calls.append(id(self))
        self.seen += 1
        self.calls += 1
        self.last = b.detach()[0]
        self.train(not self.training)
        torch.rand(3)
        return info_nce(a, b)


class Grows(nn.Module):
    """Worth more with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, a, b):
        self.calls += 1
        return info_nce(a, b) * self.calls


class CannotBeCopied(Counts):
    """The same, with a tensor that has a graph, which deepcopy refuses."""

    def __init__(self):
        super().__init__()
        self.held = torch.ones(1, requires_grad=True) * 2


class Unpicklable(nn.Module):
    def __init__(self):
        super().__init__()
        self.function = lambda x: x

    def forward(self, a, b):
        return info_nce(self.function(a), F.normalize(b))
