"""What the cases of tests/bits.py call: the words of a name made into inputs, and gradients."""

import ast
import importlib
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad

import mmcontrast as mm

RING = [("mmcontrast.ring", "LEAST"), ("mmcontrast.exact.sizes", "RING")]
"""Where the number of entries is from which candidates circulate among ranks: the first found."""

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
        if kind == "large":
            x = x * 1e3
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
            "scores": torch.where(x == 4, torch.nan, x / 2 - 1),
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


# --- how a function is called ---------------------------------------------------------------------


def _two(given: Given, function: Loss, *names: str) -> tuple[Inputs, Loss]:
    """Two sets of rows."""
    inputs = {"x": given.rows(), "y": given.rows("C")}
    more = given.keywords()
    if "targets" in given:
        more["targets"] = given.targets(len(inputs["y"]))
    if "labels" in given:
        more["labels"] = given.labels()
        if "C" in given:
            more["candidate_labels"] = given.labels("C")
    return inputs | given.learned(), lambda x, y, **rest: function(x, y, **more, **rest)


def _alike(given: Given, function: Loss, number: int) -> tuple[Inputs, Loss]:
    """Some sets of rows of one shape."""
    steps = [given.size("T")] if "T" in given else []
    names = [f"x{k}" for k in range(number)]
    inputs, more = {name: given.rows("B", *steps) for name in names}, given.keywords()

    def loss(**found: Tensor) -> Any:
        rows = [found.pop(name) for name in names]
        return function(*rows, **more, **found)

    return inputs | given.learned(), loss


def _labelled(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """Rows and their labels, and candidates where there are some: SupCon, triplets."""
    inputs, more = {"x": given.rows()}, given.keywords()
    labels: list[Any] = [None if "positives" in given else given.labels()]
    if "C" in given:
        inputs["y"] = given.rows("C")

    def loss(x: Tensor, y: Tensor | None = None, **rest: Tensor) -> Any:
        others = [] if y is None else [y, theirs]
        return function(x, *labels, *others, **more, **rest)

    theirs = given.labels("C")
    return inputs | given.learned(), loss


def _modal(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """Features by modality, with labels or masks where these are said."""
    features, more = given.features(), given.keywords()
    labels: list[Any] = [given.labels()] if "labels" in given else []
    if "positives" in given:
        labels = [None]
        more["negatives"] = (
            ~more["positives"] if more["positives"].dtype == torch.bool else 1 - more["positives"]
        )

    def loss(**found: Tensor) -> Any:
        return function({name: found.pop(name) for name in features}, *labels, **more, **found)

    return features | given.learned(), loss


def _levels(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    features, more = given.features(), given.keywords()
    here = more.pop("present", {})
    if "labels" in given:
        more["labels"] = given.labels()

    def loss(text: Tensor, audio: Tensor, vision: Tensor, **rest: Tensor) -> Any:
        pairs = [(text, vision, here["text"] & here["vision"]) if here else (text, vision)]
        both = (text, audio, here["text"] & here["audio"]) if here else (text, audio)
        return function({"first": [both], "second": [*pairs, both]}, **more, **rest)

    return features | given.learned(), loss


def _against(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """Features by modality, and those of an altered batch."""
    features, more = given.features(), given.keywords()
    negatives = {f"not {name}": x for name, x in given.features().items()}

    def loss(**found: Tensor) -> Any:
        every = [{n.removeprefix("not "): found.pop(n) for n in m} for m in (features, negatives)]
        return function(*every, **more, **found)

    return features | negatives | given.learned(), loss


def _table(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """(B, C) similarities, and who of them is positive and negative."""
    more, size = given.keywords(), (given.size(), given.size("C"))
    kind = given.words.get("rows")
    similarity = given.uniform(*size) if kind != "ties" else given.uniform(*size).mul(4).round() / 4
    draws = given.own(given.uniform(*size))
    masks: list[Tensor] = [draws < 0.2, draws > 0.4]
    if "floats" in given:
        masks = [mask * draws.float() for mask in masks]
    if given.function == "extreme":
        masks = masks[:1]
    inputs = {"similarity": given.floats(similarity)} | given.learned()
    return inputs, lambda similarity, **rest: function(similarity, *masks, **more, **rest)


def _scores(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    scores, more = given.floats(given.normal(given.size())), given.keywords()
    scores[::7], scores[1::7] = torch.nan, 0
    scores[2::9] = -100
    return {"scores": scores}, lambda scores: function(scores, **more)


def _classes(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    labels = given.labels()
    return {}, lambda: {"alone": function(labels), "others": function(labels, labels[:5])}


def _prediction(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    scale = 1e3 if given.words.get("rows") == "large" else 1
    logits, more = given.floats(given.normal(given.size(), 2) * scale), given.keywords()
    paired = torch.randint(2, (given.size(),), generator=given.source)
    paired[::5] = -100
    return {"logits": logits}, lambda logits: function(logits, paired, **more)


def _drawn(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """Random choices, from a generator of their own."""
    more, size = given.keywords(), given.size()
    if given.function == "sample_one":
        draws = given.uniform(size, given.size("C")) < 0.1
        return {}, lambda: function(draws, generator=given.source)
    if given.function == "uniform_negatives":
        return {}, lambda: function(given.rows(), generator=given.source, **more)
    x = given.rows()
    negatives = mm.uniform_negatives(x, 3, generator=given.source)

    def loss() -> Any:
        gates = function({"audio": negatives, "vision": negatives}, generator=given.source, **more)
        return {"gates": gates, "taken": gates["audio"].take(x)}

    return {}, loss


def _altered(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """Negative batches of sequences, rows and token ids."""
    n, more = given.size(), given.keywords()
    audio, vision = given.floats(given.normal(n, 6, 5)), given.floats(given.normal(n, 4))
    tokens = torch.randint(50, (n, 7), generator=given.source)
    more["lengths"] = {"audio": torch.randint(1, 7, (n,), generator=given.source)}
    more["masks"] = {"text": given.uniform(n, 7) < 0.8}
    if given.function in ("replace_tokens", "mixed_negatives"):
        more |= {"vocabulary_size": 50, "special": (0, 3)}

    def loss(audio: Tensor, vision: Tensor) -> Any:
        features = {"text": tokens, "audio": audio, "vision": vision}
        return function(features, generator=given.source, **more)

    return {"audio": audio, "vision": vision}, loss


def _pairwise(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    x, y = given.rows(), given.rows("C")
    distance = function if isinstance(function, nn.Module) else given.distance()
    call = partial(mm.pairwise, distance) if "pairwise" in given else distance
    return {"x": x, "y": y}, call


def _queue(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """InfoNCE and SupCon with a queue that has gone round once."""
    labels, earlier = given.labels(), [given.rows() for _ in range(3)]

    def loss(x: Tensor, y: Tensor) -> Any:
        queue = mm.EmbeddingQueue(100, 16)
        for rows in earlier:
            queue.push(rows, labels)
        candidates, keep = queue.extend(y, rows=len(x))
        every = torch.cat([labels, queue.labels])
        return mm.LossTerms(
            {
                "one": mm.info_nce(x, candidates, keep=keep),
                "class": mm.sup_con(x, labels, candidates, every),
            }
        )

    return {"x": given.rows(), "y": given.rows()}, loss


def _module(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """A Module, with a learned temperature where it takes one, and its parameters as inputs."""
    name, learns = MODULES[given.function]
    if given.function in START:
        module = START[given.function]()
    else:
        module = function(temperature=mm.LearnableTemperature()) if learns else function()
    inputs, loss = BUILDERS[name](given, module)
    parameters = {f"parameter {name}": x for name, x in module.named_parameters()}

    def alone(**found: Tensor) -> Any:
        return loss(**{name: found[name] for name in inputs})

    return inputs | parameters, alone


def _cached(given: Given, function: Loss) -> tuple[Inputs, Loss]:
    """Batches larger than the encoders' memory: the parameters' gradients."""
    torch.manual_seed(given.seed)
    towers = nn.ModuleDict({name: nn.Linear(16, 8) for name in ("text", "audio")})
    inputs = {name: given.rows() for name in towers}

    def loss() -> Any:
        cache = function(towers, lambda z: mm.symmetric_info_nce(*z.values()), **given.keywords())
        value = cache(inputs)
        return {"value": value} | {name: p.grad for name, p in towers.named_parameters()}

    return {}, loss


OF = {
    _two: "info_nce symmetric_info_nce matched_pair_nce n_pair sigmoid_contrast"
    " hard_negatives diagnose",
    partial(_alike, number=1): "gather "
    + " ".join(n for n in mm.__all__ if n.endswith("normalize")),
    partial(_alike, number=2): "kl_distill modality_correlation",
    partial(_alike, number=3): "triplet",
    _labelled: "sup_con hard_triplets",
    _modal: "hybrid_contrast intra_modal_contrast inter_modal_contrast semi_contrast"
    " anchored_info_nce intra_modal_pairs inter_modal_pairs",
    _levels: "multilevel_contrast",
    _against: "modality_correlation_triplet",
    _table: "ratio_contrast select_pairs hardness_weights extreme",
    _scores: "close_scores same_sign score_kernel sentiment_classes",
    _classes: "same_label different_label",
    _prediction: "pair_prediction",
    _drawn: "sample_one uniform_negatives replacement_gate",
    _altered: "swap shift add_noise replace_tokens mixed_negatives",
    _pairwise: "euclidean squared_euclidean manhattan chebyshev cosine_distance mahalanobis custom",
    _queue: "queue",
    _cached: "GradCache",
}
MODULES = {
    "InfoNCE": ("info_nce", True),
    "SymmetricInfoNCE": ("symmetric_info_nce", True),
    "SupCon": ("sup_con", True),
    "AnchoredInfoNCE": ("anchored_info_nce", True),
    "MultilevelContrast": ("multilevel_contrast", True),
    "SigmoidContrast": ("sigmoid_contrast", False),
    "HybridContrast": ("hybrid_contrast", False),
    "Triplet": ("triplet", False),
    "ModalityCorrelationTriplet": ("modality_correlation_triplet", False),
    "KLDistill": ("kl_distill", False),
    "ReplacementGate": ("replacement_gate", False),
    "Mahalanobis": ("mahalanobis", False),
}
START: dict[str, Callable[[], Any]] = {
    "ReplacementGate": lambda: mm.ReplacementGate(0.6),
    "Mahalanobis": lambda: mm.Mahalanobis.learned(16),
}
BUILDERS: dict[str, Callable[..., tuple[Inputs, Loss]]] = {
    **{name: builder for builder, names in OF.items() for name in names.split()},
    **dict.fromkeys(MODULES, _module),
}


# --- what is looked at ----------------------------------------------------------------------------


def outcome(name: str, rank: int, world: int) -> Inputs:
    """What a case gives on a rank: values, and gradients."""
    given = Given(name, rank, world)
    function = getattr(mm, given.function, None)
    inputs, loss = BUILDERS[given.function](given, function)
    with ExitStack() as stack:
        if "ring" in given:
            stack.enter_context(_ring())
        return MODES[given.words.get("mode", "plain")](inputs, loss, given.words.get("free"))


@contextmanager
def _ring() -> Iterator[None]:
    """Candidates circulate however few they are."""
    for module, name in RING:
        try:
            place = importlib.import_module(module)
            least = getattr(place, name)
        except (ImportError, AttributeError):
            continue
        setattr(place, name, 1)
        try:
            yield
        finally:
            setattr(place, name, least)
        return
    raise LookupError(f"none of {RING}")


def _plain(inputs: Inputs, loss: Loss, free: str | None, autocast: bool = False) -> Inputs:
    """Values, and the gradients of all inputs, or of one."""
    leaves = {name: x.requires_grad_() for name, x in inputs.items() if free in (None, name)}
    with torch.autocast("cpu", enabled=autocast):
        found = loss(**inputs)
    return _flat("value", found) | _gradients("gradient", _scalar(found), leaves)


def _no_grad(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    with torch.no_grad():
        return _flat("value", loss(**inputs))


def _twice(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    """First derivatives, and those of a sum of them."""
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    first = _gradients("gradient", _scalar(loss(**inputs)), leaves, create_graph=True)
    whole = [_scalar(x) for x in first.values()]
    return first | _gradients(
        "second", torch.stack([x for x in whole if x is not None]).sum(), leaves
    )


def _func(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    first, call = _first(inputs, loss)
    return {"gradient": torch.func.grad(call)(first)}


def _vmap(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    name, first = next(iter(inputs.items()))
    rows = torch.stack([first, first.flip(0), first / 2])
    return _flat("value", torch.func.vmap(lambda x: _total(loss(**inputs | {name: x})))(rows))


def _jvp(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    first, call = _first(inputs, loss)
    value, slope = torch.func.jvp(call, (first,), (first.flip(0),))
    return {"value": value, "slope": slope}


def _first(inputs: Inputs, loss: Loss) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first input, and the scalar as a function of it."""
    name = next(iter(inputs))
    return inputs[name], lambda x: _weighted(loss(**inputs | {name: x}))


MODES: dict[str, Callable[[Inputs, Loss, str | None], Inputs]] = {
    "plain": _plain,
    "autocast": partial(_plain, autocast=True),
    "no_grad": _no_grad,
    "twice": _twice,
    "func": _func,
    "vmap": _vmap,
    "jvp": _jvp,
}


def _scalar(found: Any) -> Tensor | None:
    """A number to differentiate; None where a result has no graph."""
    if isinstance(found, tuple | dict):  # a negative batch, pairs
        parts = [x for x in _flat("", found).values() if x.requires_grad]
        return torch.stack([_weighted(x) for x in parts]).sum() if parts else None
    value = _total(found)
    return _weighted(value) if value.requires_grad else None


def _total(found: Any) -> Any:
    return found.total if isinstance(found, mm.LossTerms) else found


def _weighted(found: Any) -> Tensor:
    """All losses with different weights, so that no two gradients are mixed up."""
    value: Tensor = _total(found)
    if not value.ndim:
        return value
    weights = torch.linspace(-1, 2, value.numel(), dtype=torch.float64).view(value.shape)
    return (value * weights.to(value.dtype)).sum()


def _gradients(word: str, value: Tensor | None, leaves: Inputs, **how: bool) -> Inputs:
    if value is None:
        return {}
    found = grad(value, list(leaves.values()), allow_unused=True, **how)
    pairs = zip(leaves, found, strict=True)
    return {f"{word} of {name}": x for name, x in pairs if x is not None}


def _flat(place: str, found: Any) -> Inputs:
    """All tensors in a result, by where they stand in it."""
    if isinstance(found, Tensor):
        return {place: found}
    parts: Mapping[Any, Any] = {}
    if isinstance(found, Mapping):
        parts = found
    elif isinstance(found, tuple):
        parts = found._asdict() if hasattr(found, "_asdict") else dict(enumerate(found))
    whole = _flat(f"{place} total", found.total) if isinstance(found, mm.LossTerms) else {}
    for name, x in parts.items():
        whole |= _flat(f"{place} {name}", x)
    return whole
