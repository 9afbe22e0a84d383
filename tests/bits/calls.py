"""How each function is called: its inputs, and itself as a function of these."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import mmcontrast as mm
from tests.bits.given import Given, Inputs, Loss


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
