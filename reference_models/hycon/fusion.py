"""Four ways to fuse the vectors of the modalities into one: the rows of HyCon's Table 5.

Each maps ``{modality: (B, d)}`` of two or more modalities to (B, d); an absent modality is a zero
vector. The layers follow the public code of HyCon's first author.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations

import torch
from einops import pack, rearrange, reduce
from torch import Tensor, nn


class Addition(nn.Module):
    """The sum of the vectors; no parameters."""

    def __init__(self, modalities: Iterable[str], hidden_size: int):
        super().__init__()
        self.modalities = _at_least_two(modalities)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse ``{modality: (B, d)}`` to (B, d)."""
        return sum(_in_order(features, self.modalities))


class Concatenation(nn.Module):
    """One linear layer and a ReLU on the concatenated vectors."""

    def __init__(self, modalities: Iterable[str], hidden_size: int):
        super().__init__()
        self.modalities = _at_least_two(modalities)
        self.layer = nn.Linear(len(self.modalities) * hidden_size, hidden_size)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse ``{modality: (B, d)}`` to (B, d)."""
        vectors, _ = pack(_in_order(features, self.modalities), "b *")  # (B, M * d)
        return self.layer(vectors).relu()


class TensorFusion(nn.Module):
    """The outer product of all vectors, each with a 1 prepended, through three layers.

    The 1 keeps the products of fewer modalities, down to the vectors themselves. There are
    (d + 1)^M products for M modalities: 132,651 for three at d = 50.
    """

    def __init__(
        self,
        modalities: Iterable[str],
        hidden_size: int,
        *,
        width: int = 50,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.modalities = _at_least_two(modalities)
        self.dropout = nn.Dropout(dropout)
        products = (hidden_size + 1) ** len(self.modalities)
        self.layers = _three_layers(products, hidden_size, width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse ``{modality: (B, d)}`` to (B, d)."""
        vectors = _in_order(features, self.modalities)
        product = vectors[0].new_ones(len(vectors[0]), 1)
        for vector in vectors:
            led = nn.functional.pad(vector, (1, 0), value=1.0)  # (B, d + 1)
            outer = rearrange(product, "b p -> b p 1") * rearrange(led, "b d -> b 1 d")
            product = rearrange(outer, "b p d -> b (p d)")
        return self.layers(self.dropout(product))


class GraphFusion(nn.Module):
    """A graph with vertices of one, two and three modalities; each level is a weighted sum.

    A vertex of three modalities joins two pairs that share a modality, or a pair and the modality
    outside it: six vertices for three modalities. With two modalities there is no such vertex; the
    third level is left out, and the last layers read two sums.

    Two vertices are joined in the order of ``modalities``.
    """

    def __init__(self, modalities: Iterable[str], hidden_size: int, *, width: int = 50):
        super().__init__()
        self.modalities = _at_least_two(modalities)
        self.pairs = tuple(combinations(self.modalities, 2))
        meeting = ((p, q) for p, q in combinations(self.pairs, 2) if set(p) & set(q))
        outside = ((p, m) for p in self.pairs for m in self.modalities if m not in p)
        self.triples = (*meeting, *outside)
        self.score = nn.Linear(hidden_size, 1)
        self.join_pair = _join(hidden_size)
        self.join_triple = _join(hidden_size) if self.triples else None
        sums = 3 if self.triples else 2
        self.layers = _three_layers(sums * hidden_size, hidden_size, width)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Fuse ``{modality: (B, d)}`` to (B, d)."""
        vectors = dict(zip(self.modalities, _in_order(features, self.modalities), strict=True))
        # A vertex has a vector (B, d), its softmax, for comparison, and a score (B, 1). An edge
        # scores high where its ends score high and differ: the less alike, the more it adds.
        scores = {name: self.score(x).tanh() for name, x in vectors.items()}
        compared = {name: x.softmax(1) for name, x in vectors.items()}
        single = reduce([scores[name] * x for name, x in vectors.items()], "m b d -> b d", "mean")
        levels = [single]
        for edges, join in ((self.pairs, self.join_pair), (self.triples, self.join_triple)):
            if not edges:
                continue
            new_scores, joined = [], []
            for one, other in edges:
                alike = (compared[one] * compared[other]).sum(1, keepdim=True)
                new_scores.append((scores[one] + scores[other]) / (alike + 0.5))
                joined.append(join(torch.cat([vectors[one], vectors[other]], dim=1)))
            weights = torch.stack(new_scores).softmax(0)  # (edges, B, 1)
            vertices = (weights * torch.stack(joined)).tanh()  # (edges, B, d)
            levels.append(reduce(vertices, "edge b d -> b d", "sum"))
            vectors.update(zip(edges, vertices, strict=True))
            scores.update(zip(edges, new_scores, strict=True))
            compared.update((edge, y.softmax(1)) for edge, y in zip(edges, joined, strict=True))
        return self.layers(torch.cat(levels, dim=1))


FUSIONS: dict[str, type[nn.Module]] = {
    "addition": Addition,
    "concatenation": Concatenation,
    "tensor": TensorFusion,
    "graph": GraphFusion,
}


def make_fusion(name: str, modalities: Iterable[str], hidden_size: int) -> nn.Module:
    """The fusion of that name.

    Raises:
        ValueError: an unknown name, or fewer than two modalities.
    """
    if name not in FUSIONS:
        raise ValueError(f"fusion: expected one of {tuple(FUSIONS)}, got {name!r}")
    return FUSIONS[name](modalities, hidden_size)


def _at_least_two(modalities: Iterable[str]) -> tuple[str, ...]:
    names = tuple(modalities)
    if len(set(names)) < 2 or len(set(names)) != len(names):
        raise ValueError(f"modalities: expected two or more different names, got {names}")
    return names


def _in_order(features: Mapping[str, Tensor], modalities: tuple[str, ...]) -> list[Tensor]:
    if set(features) != set(modalities):
        raise ValueError(f"features: expected {modalities}, got {tuple(features)}")
    return [features[name] for name in modalities]


def _three_layers(in_features: int, hidden_size: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, width),
        nn.Tanh(),
        nn.Linear(width, width),
        nn.Tanh(),
        nn.Linear(width, hidden_size),
        nn.Tanh(),
    )


def _join(hidden_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * hidden_size, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, hidden_size),
        nn.Tanh(),
    )
