"""The words of a case, made into inputs and keywords."""

import ast
import itertools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import mmcontrast as mm

Inputs = dict[str, Tensor]
Loss = Callable[..., Any]

SHAPE = ["B", "C", "D", "M", "T", "dtype", "rows", "labels", "targets", "distance", "floats"]
NOT_PASSED_ON = {*SHAPE, "mode", "free", "pairwise", "world", "empty", "ring"}
SHARES = {(2, False): [3, 5], (3, False): [4, 1, 6], (2, True): [1, 0], (3, True): [1, 0, 2]}
MODALITIES = ["text", "audio", "vision", "touch"]
ROW_MAPS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "none": None,
    "softmax": mm.softmax_normalize,
    "l2": mm.l2_normalize,
    "lambda": lambda x: x.tanh(),
}
SELECTIONS = {
    "default": mm.PairSelection(),
    "positives": mm.PairSelection(0.3, negatives=False),
    "negatives": mm.PairSelection(0.3, positives=False),
    "sum": mm.PairSelection(0.1, gamma=2.0, negatives=False, unselected="sum"),
    "twice": mm.PairSelection(0.1, inter_factor=2),
}


class Given:
    """A case's words, and what they stand for on a rank: its part of what is drawn for all."""

    def __init__(self, name: str, rank: int, world: int):
        self.function, _, words = name.partition("/")
        self.words = dict(word.split("=", 1) for word in words.split())
        self.rank, self.world = rank, world
        self.seed = zlib.crc32(name.encode())
        self.source = torch.Generator().manual_seed(self.seed)
        self.dtypes = itertools.cycle(self.words.get("dtype", "float32").split("+"))

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def size(self, word: str = "B", default: int | None = None) -> int:
        """A number; C is B where nothing is said."""
        value = self.words.get(word, self.words["B"] if default is None else default)
        return int(value)

    def own(self, x: Tensor) -> Tensor:
        """This rank's rows."""
        if self.world == 1:
            return x
        shares = SHARES[self.world, "empty" in self]
        start, stop = (sum(shares[:k]) * len(x) // sum(shares) for k in (self.rank, self.rank + 1))
        return x[start:stop]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.source, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.source, dtype=torch.float64)

    def floats(self, x: Tensor) -> Tensor:
        """This rank's part, in the next dtype."""
        return self.own(x).to(getattr(torch, next(self.dtypes)))

    def rows(self, count: str = "B", *steps: int) -> Tensor:
        """(B, ..., D) features of the kind that is asked for."""
        kind, shape = (
            self.words.get("rows", "plain"),
            (self.size(count), *steps, self.size("D", 16)),
        )
        x = self.normal(*shape)
        scales = {"large": 1e3, "small": 1e-5, "tiny": 1e-14}
        if kind in scales:
            x = x * scales[kind]
        elif kind == "ties":
            x = x.round().clamp(-1, 1)
        elif kind == "close":
            base = torch.Generator().manual_seed(self.seed + 1)
            x = torch.randn(2000, *shape[1:], generator=base).double()[: shape[0]] + x / 100
        elif kind == "edges":
            lengths = torch.tensor([0, 1e-30, 1e30, 1e-20, 1, 0, 1e-7]).double()
            lengths = torch.cat([lengths[: len(x)], torch.ones(max(len(x) - 7, 0))])
            x = x * lengths.view(-1, *[1] * (x.ndim - 1))
        return self.floats(x)

    def features(self) -> Inputs:
        """By modality, NaN where one is absent."""
        steps = [self.size("T")] if "T" in self else []
        found = {name: self.rows("B", *steps) for name in MODALITIES[: self.size("M", 3)]}
        for name, there in self.mapping("present", found).items():
            found[name][~there] = torch.nan
        return found

    def mapping(self, word: str, features: Mapping[str, Tensor]) -> Inputs:
        """(B,) masks by modality, the same whenever they are asked for."""
        if word not in self:
            return {}
        source = torch.Generator().manual_seed(self.seed + len(word))
        draws = {name: torch.rand(self.size(), generator=source) for name in features}
        return {name: self.own(x < 0.7) for name, x in draws.items()}

    def mask(self, word: str) -> Tensor:
        """(B, C), a row and a column of it empty."""
        draws, kind = self.uniform(self.size(), self.size("C")), self.words[word]
        mask = draws < (0.1 if word == "positives" else 0.7)
        mask[:1], mask[:, 1:2] = False, False
        return self.own(self.uniform(*mask.shape).float() * mask if kind == "float" else mask)

    def labels(self, count: str = "B") -> Tensor:
        n, kind = self.size(count), self.words.get("labels", "few")
        x = torch.randint(5, (n,), generator=self.source)
        found = {
            "few": x,
            "pair": x.clamp(max=1),
            "one": x * 0 + 7,
            "two": torch.randperm(n, generator=self.source) // 2,
            "distinct": torch.randperm(n, generator=self.source) - 3,
            "columns": torch.stack([x, x.flip(0) % 2], dim=1),
            "holes": torch.where(x == 4, -100, x),
            "nobody": x * 0 - 100,
            "scores": torch.where(x == 4, torch.nan, x - 1.0),
        }
        return self.own(found[kind])

    def targets(self, count: int) -> Tensor:
        """(B,) into this rank's candidates."""
        kind, draws = self.words["targets"], self.own(self.uniform(self.size()))
        places = (draws * count).long().clamp(max=max(count - 1, 0))
        if kind == "default":
            return torch.arange(len(draws))
        return torch.where(
            draws < {"permuted": 0.0, "holes": 0.3, "nobody": 2.0}[kind], -100, places
        )

    def learned(self) -> Inputs:
        """Weight, temperature and bias, where they are inputs that take a gradient."""
        start = {"t": ("temperature", 0.07), "bias": ("bias", -3.0)}
        found = {
            name: torch.tensor(value)
            for word, (name, value) in start.items()
            if self.words.get(word) == "learned"
        }
        if self.words.get("weight") == "learned":
            found["weight"] = self.own(self.uniform(self.size()).float())
        return found

    def distance(self) -> Callable[..., Tensor]:
        name = self.words.get("distance", self.function)
        if name == "custom":
            return lambda x, y: (x - y).abs().sqrt().sum(-1)
        if name != "mahalanobis":
            return getattr(mm, name)
        x = self.normal(40, self.size("D", 16))
        return mm.Mahalanobis.estimate(x.float(), shrinkage=0.1)

    def keywords(self) -> dict[str, Any]:
        """What the function is called with beside its inputs."""
        found: dict[str, Any] = {}
        for word, value in self.words.items():
            if word in NOT_PASSED_ON or value == "learned":
                continue
            name, made = self.keyword(word, value)
            found[name] = made
        if self.world > 1:
            found["group"] = "world"
        if "distance" in self:
            found["distance"] = self.distance()
        return found

    def keyword(self, word: str, value: str) -> tuple[str, Any]:
        """A word as a keyword and its value."""
        if word == "t":
            return "temperature", float(value)
        if word == "chunk":
            return "chunk_size", self.size() if value == "B" else int(value)
        if word == "normalize":
            return word, ROW_MAPS[value]
        if word == "selection":
            return word, SELECTIONS[value]
        if word == "weight":
            weight = self.uniform(self.size()).float()
            return word, self.own(
                torch.where(weight < 0.3, 0, weight) if value == "zeros" else weight
            )
        if word in ("keep", "positives", "allowed"):
            return word, self.mask(word)
        if word in ("present", "altered"):
            return word, self.mapping(word, dict.fromkeys(MODALITIES[: self.size("M", 3)]))
        if word in ("pairs", "frames"):
            shape = (self.size(), self.size("T")) if "T" in self else (self.size(),)
            mask = self.own(self.uniform(*shape) < 0.6)
            return "keep" if word == "pairs" else "mask", mask
        try:
            return word, ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return word, value
