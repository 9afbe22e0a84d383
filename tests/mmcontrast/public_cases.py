"""Every public function and module with example inputs, for the tests that go over all of them.

A case is made from `Make`, which draws inputs of one dtype on one device, so that the same table
serves every dtype and a device that is not there. Whoever adds a public name adds a case here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import MODALITIES


@dataclass(frozen=True)
class Make:
    """Inputs for n samples: random numbers are drawn on the CPU, in float64, then moved."""

    n: int = 6
    d: int = 4
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    seed: int = 0
    names: tuple[str, ...] = MODALITIES

    def normal(self, key, *shape):
        generator = torch.Generator().manual_seed(1000 * self.seed + key)
        x = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return x.to(device=self.device, dtype=self.dtype)

    def rows(self, key, n=None):
        return self.normal(key, self.n if n is None else n, self.d)

    def features(self):
        return {name: self.rows(key) for key, name in enumerate(self.names)}

    def present(self):
        """Sample k lacks modality k."""
        k = torch.arange(self.n, device=self.device)
        return {name: k != i for i, name in enumerate(self.names)}

    def classes(self):
        return torch.arange(self.n, device=self.device) % 2

    def ratings(self):
        """Scores without a fraction, some of them equal."""
        return (7 * torch.arange(self.n, device=self.device)) % 5

    def weight(self):
        return self.normal(50, self.n).abs()

    def mask(self, key, *shape):
        return self.normal(key, *shape) > 0

    def similarity(self, key=20):
        return self.normal(key, self.n, self.n + 2).sigmoid()

    def masks(self):
        positives = self.mask(21, self.n, self.n + 2)
        return positives, ~positives


@dataclass(frozen=True)
class Case:
    """`inputs` are nested tensors; `call` takes them. The inputs' floats are differentiable."""

    inputs: Callable[[Make], tuple[Any, ...]]
    call: Callable[..., Any]
    differentiable: bool = True  # False: miners and masks
    half: bool = True  # False: results keep the input's dtype, or have none to lower
    waits: bool = False  # True: a report, which may wait for the device


def loss(inputs, call):
    return Case(inputs, call)


def other(inputs, call, half=True, waits=False):
    return Case(inputs, call, differentiable=False, half=half, waits=waits)


def two(make):
    return make.rows(1), make.rows(2)


def three(make):
    return make.rows(1), make.rows(2), make.rows(3)


def anchors_candidates(make):
    return make.rows(1), make.rows(2, make.n + 2)


def labelled(make):
    return make.features(), make.classes()


def selected(make):
    return make.similarity(), *make.masks()


def steps(x):
    """A teacher for the student x: constant, for it gets no gradient, and exact in every dtype."""
    return ((7 * torch.arange(x.numel(), device=x.device)) % 5).reshape(x.shape).to(x.dtype)


SELECTION = mm.PairSelection(0.4)

# name of the public function, then a variant after a colon
CASES = {
    "l2_normalize": loss(lambda m: (m.rows(1),), mm.l2_normalize),
    "softmax_normalize": loss(lambda m: (m.rows(1),), mm.softmax_normalize),
    "shifted_cosine_normalize": loss(lambda m: (m.rows(1),), mm.shifted_cosine_normalize),
    "softplus_normalize": loss(lambda m: (m.rows(1),), mm.softplus_normalize),
    "euclidean": loss(two, mm.euclidean),
    "squared_euclidean": loss(two, mm.squared_euclidean),
    "info_nce": loss(anchors_candidates, mm.info_nce),
    "info_nce:raw": loss(
        anchors_candidates, lambda a, c: mm.info_nce(a, c, normalize=None, temperature=1.0)
    ),
    "info_nce:targets": loss(
        lambda m: (*anchors_candidates(m), torch.arange(m.n, device=m.device)), mm.info_nce
    ),
    "info_nce:positives": loss(
        lambda m: (*anchors_candidates(m), *m.masks()),
        lambda a, c, p, k: mm.info_nce(a, c, positives=p, keep=p | k, reduction="none"),
    ),
    "info_nce:soft": loss(
        lambda m: (*anchors_candidates(m), m.similarity(), m.weight()),
        lambda a, c, p, w: mm.info_nce(a, c, positives=p, weight=w),
    ),
    "info_nce:sum": loss(
        anchors_candidates, lambda a, c: mm.info_nce(a, c, reduction="sum", temperature=0.5)
    ),
    "info_nce:variants": loss(
        anchors_candidates,
        lambda a, c: mm.info_nce(a, c, decoupled=True, prior=0.1, smoothing=0.1, temperature=0.5),
    ),
    "info_nce:own": loss(
        lambda m: (*anchors_candidates(m), m.normal(30, m.n, 2, m.d), m.mask(31, m.n, 2)),
        lambda a, c, o, k: mm.info_nce(a, c, own_negatives=o, own_keep=k, prior=0.1),
    ),
    "info_nce:own alone": loss(
        lambda m: (*anchors_candidates(m), m.normal(30, m.n, 2, m.d)),
        lambda a, c, o: mm.info_nce(a, c, own_negatives=o, in_batch=False, reduction="none"),
    ),
    "info_nce:chunks": loss(anchors_candidates, lambda a, c: mm.info_nce(a, c, chunk_size=2)),
    "info_nce:bias": loss(
        lambda m: (*anchors_candidates(m), m.mask(7, m.n, m.n + 2), m.similarity()),
        lambda a, c, k, b: mm.info_nce(a, c, keep=k, bias=b),
    ),
    "symmetric_info_nce": loss(two, mm.symmetric_info_nce),
    "symmetric_info_nce:functions": loss(
        two,
        lambda x, y: mm.symmetric_info_nce(
            x,
            y,
            keep=lambda t: t.rows[:, None] != t.columns + 1,
            bias=lambda t: 0.1 * (t.rows[:, None] + t.columns).to(t.partner.dtype),
        ),
    ),
    "symmetric_info_nce:within": loss(
        two, lambda x, y: mm.symmetric_info_nce(x, y, within=True, smoothing=0.1)
    ),
    "symmetric_info_nce:variants": loss(
        lambda m: (*two(m), m.weight()),
        lambda x, y, w: mm.symmetric_info_nce(
            x, y, weight=w, decoupled=True, prior=0.1, smoothing=0.1, temperature=0.5
        ),
    ),
    "symmetric_info_nce:chunks": loss(
        lambda m: (*two(m), m.weight()),
        lambda x, y, w: mm.symmetric_info_nce(x, y, weight=w, chunk_size=2, reduction="none"),
    ),
    "symmetric_info_nce:keep": loss(
        lambda m: (*two(m), m.mask(7, m.n, m.n)),
        lambda x, y, k: mm.symmetric_info_nce(x, y, keep=k, positives=k, reduction="none"),
    ),
    "symmetric_info_nce:captions": loss(
        lambda m: (*anchors_candidates(m), *m.masks()),
        lambda x, y, p, k: mm.symmetric_info_nce(x, y, positives=p, keep=p | k.roll(1, 0)),
    ),
    "sigmoid_contrast": loss(anchors_candidates, mm.sigmoid_contrast),
    "sigmoid_contrast:options": loss(
        lambda m: (*anchors_candidates(m), *m.masks(), m.weight()),
        lambda x, y, p, q, w: mm.sigmoid_contrast(
            x, y, positives=p, keep=p | q.roll(1, 0), weight=w, bias=-1.0
        ),
    ),
    "sigmoid_contrast:functions": loss(
        lambda m: (*anchors_candidates(m), m.similarity()),
        lambda x, y, b: mm.sigmoid_contrast(
            x, y, keep=lambda t: t.rows[:, None] != t.columns + 1, bias=b
        ),
    ),
    "sigmoid_contrast:chunks": loss(
        anchors_candidates, lambda x, y: mm.sigmoid_contrast(x, y, bias=-2.0, chunk_size=2)
    ),
    "matched_pair_nce": loss(two, mm.matched_pair_nce),
    "matched_pair_nce:keep": loss(
        lambda m: (*two(m), m.mask(7, m.n)), lambda x, y, k: mm.matched_pair_nce(x, y, keep=k)
    ),
    "anchored_info_nce": loss(lambda m: (m.features(),), mm.anchored_info_nce),
    "anchored_info_nce:present": loss(
        lambda m: (m.features(), m.present()),
        lambda f, p: mm.anchored_info_nce(f, present=p, direction="both", reduction="none"),
    ),
    # Shuffled negatives are drawn at random: test_joint.py.
    "joint_contrast": loss(
        lambda m: (m.features(),), lambda f: mm.joint_contrast(f, negatives="all")
    ),
    "joint_contrast:present": loss(
        lambda m: (m.features(), m.present(), m.weight()),
        lambda f, p, w: mm.joint_contrast(
            f, negatives="all", present=p, weight=w, chunk_size=5, reduction="none"
        ),
    ),
    "joint_contrast:volume": loss(
        lambda m: (m.features(), m.present(), m.weight()),
        lambda f, p, w: mm.joint_contrast(f, score="volume", present=p, weight=w, chunk_size=4),
    ),
    "joint_contrast:area": loss(
        lambda m: (m.features(),),
        lambda f: mm.joint_contrast(f, score="area", anchor="audio", reduction="none"),
    ),
    "JointContrast": loss(lambda m: (m.features(),), mm.JointContrast(score="volume")),
    "ratio_contrast": loss(selected, mm.ratio_contrast),
    "ratio_contrast:log": loss(selected, lambda s, p, n: mm.ratio_contrast(s, p, n, log=True)),
    "sup_con": loss(lambda m: (m.rows(1), m.classes()), mm.sup_con),
    "sup_con:functions": loss(
        lambda m: (m.rows(1), m.classes()),
        lambda a, y: mm.sup_con(
            a, y, keep=lambda t: t.positive | (t.rows[:, None] != t.columns + 1)
        ),
    ),
    "sup_con:decoupled": loss(
        lambda m: (m.rows(1), m.classes()), lambda x, y: mm.sup_con(x, y, decoupled=True)
    ),
    "sup_con:in": loss(
        lambda m: (m.rows(1), m.classes(), m.rows(2), m.classes()),
        lambda a, y, c, z: mm.sup_con(a, y, c, z, form="in", reduction="none"),
    ),
    "n_pair": loss(anchors_candidates, mm.n_pair),
    "rank_n_contrast": loss(lambda m: (m.rows(1), m.ratings()), mm.rank_n_contrast),
    "rank_n_contrast:between": loss(
        lambda m: (m.rows(1), m.classes(), m.rows(2, m.n), m.ratings(), m.weight()),
        lambda x, y, c, z, w: mm.rank_n_contrast(
            x, y, c, z, weight=w, distance=lambda a, b: mm.manhattan(a, b), chunk_size=2
        ),
    ),
    "triplet": loss(three, mm.triplet),
    "triplet:soft": loss(three, lambda a, p, n: mm.triplet(a, p, n, swap=True, soft=True)),
    "triplet:squared": loss(
        lambda m: (*three(m), m.mask(7, m.n)),
        lambda a, p, n, k: mm.triplet(a, p, n, distance=mm.squared_euclidean, hinge=False, keep=k),
    ),
    "semi_contrast": loss(lambda m: (m.features(),), mm.semi_contrast),
    "semi_contrast:present": loss(
        lambda m: (m.features(), m.present()), lambda f, p: mm.semi_contrast(f, present=p)
    ),
    "intra_modal_contrast": loss(labelled, mm.intra_modal_contrast),
    "intra_modal_contrast:selection": loss(
        labelled,
        lambda f, y: mm.intra_modal_contrast(f, y, selection=SELECTION, reduction="none"),
    ),
    "inter_modal_contrast": loss(labelled, mm.inter_modal_contrast),
    "inter_modal_contrast:selection": loss(
        labelled,
        lambda f, y: mm.inter_modal_contrast(
            f, y, selection=SELECTION, refine_on="weighted", log=True
        ),
    ),
    "hybrid_contrast": loss(labelled, mm.hybrid_contrast),
    "hybrid_contrast:present": loss(
        lambda m: (*labelled(m), m.present(), m.weight()),
        lambda f, y, p, w: mm.hybrid_contrast(
            f, y, present=p, weight=w, selection=SELECTION, refine_on="all"
        ),
    ),
    "intra_modal_pairs": other(labelled, mm.intra_modal_pairs, half=False),
    "inter_modal_pairs": other(labelled, mm.inter_modal_pairs, half=False),
    "manhattan": loss(two, mm.manhattan),
    "chebyshev": loss(two, mm.chebyshev),
    "cosine_distance": loss(two, mm.cosine_distance),
    "modality_correlation": loss(two, mm.modality_correlation),
    "modality_correlation:mean": loss(
        lambda m: (m.normal(1, m.n, 3, m.d), m.normal(2, m.n, 3, m.d)),
        lambda x, y: mm.modality_correlation(x, y, reduce="mean"),
    ),
    "modality_correlation_triplet": loss(
        lambda m: (m.features(), {k: x + 1 for k, x in m.features().items()}, m.present()),
        lambda f, n, p: mm.modality_correlation_triplet(f, n, altered=p, margin=2.5),
    ),
    "ModalityCorrelationTriplet": loss(
        lambda m: (m.features(), {k: x + 1 for k, x in m.features().items()}),
        mm.ModalityCorrelationTriplet(distance=mm.squared_euclidean, margin=50.0),
    ),
    "kl_distill": loss(lambda m: (m.rows(1),), lambda s: mm.kl_distill(s, steps(s))),
    "kl_distill:sequence": loss(
        lambda m: (m.normal(1, m.n, 3, m.d), m.mask(3, m.n, 3)),
        lambda s, k: mm.kl_distill(
            s, steps(s), temperature=2.0, direction="student_teacher", mask=k, reduction="none"
        ),
    ),
    "KLDistill": loss(lambda m: (m.rows(1),), lambda s: mm.KLDistill(temperature=3.0)(s, steps(s))),
    "multilevel_contrast": loss(
        three, lambda x, y, z: mm.multilevel_contrast({"a": [(x, y), (y, z)], "b": [(x, z)]})
    ),
    "multilevel_contrast:C": loss(
        lambda m: (*two(m), m.classes()),
        lambda x, y, c: mm.multilevel_contrast({"a": [(x, y)]}, pair_design="C", labels=c),
    ),
    "MultilevelContrast": loss(
        two, lambda x, y: mm.MultilevelContrast(temperature=0.5)({"a": [(x, y)]})
    ),
    "pair_prediction": loss(
        lambda m: (m.normal(1, m.n, 2), m.classes()), lambda z, y: mm.pair_prediction(z, y)
    ),
    "ReplacementGate": other(
        two, lambda a, c: mm.ReplacementGate(0.5).eval()(mm.hard_negatives(a, c, 2)), half=False
    ),
    "pairwise": other(two, lambda x, y: mm.pairwise(mm.manhattan, x, y)),
    "InfoNCE": loss(anchors_candidates, mm.InfoNCE()),
    "SymmetricInfoNCE": loss(two, mm.SymmetricInfoNCE(temperature=0.2)),
    "AnchoredInfoNCE": loss(lambda m: (m.features(),), mm.AnchoredInfoNCE(direction="to_anchor")),
    "HybridContrast": loss(labelled, mm.HybridContrast(selection=SELECTION)),
    "RankNContrast": loss(
        lambda m: (m.rows(1), m.ratings()), mm.RankNContrast(distance=mm.squared_euclidean)
    ),
    "SupCon": loss(lambda m: (m.rows(1), m.classes()), mm.SupCon(form="in")),
    "Triplet": loss(three, mm.Triplet(margin=0.3)),
    "hard_negatives": other(two, lambda a, c: mm.hard_negatives(a, c, 2)),
    "hard_negatives:allowed": other(
        lambda m: (*two(m), m.mask(7, m.n, m.n)),
        lambda a, c, k: mm.hard_negatives(a, c, 2, allowed=k),
    ),
    "hard_negatives:limits": other(
        two, lambda a, c: mm.hard_negatives(a, c, 2, margin=0.1, above=-0.5, skip=1)
    ),
    "hard_negatives:distance": other(
        two, lambda a, c: mm.hard_negatives(a, c, 2, distance=mm.manhattan, semi_hard=2.0)
    ),
    "select_pairs": other(selected, lambda s, p, n: mm.select_pairs(s, p, n, selection=SELECTION)),
    "hardness_weights": other(selected, mm.hardness_weights),
    "extreme": other(selected, lambda s, p, n: mm.extreme(s, p, largest=True)),
    "retrieval": other(two, lambda a, c: mm.retrieval(a, c, ks=(1, 2))),
    "retrieval:positives": other(
        lambda m: (*two(m), m.mask(7, m.n, m.n)),
        lambda a, c, p: mm.retrieval(a, c, positives=p, ks=(1, 2)),
        waits=True,  # the most positives of an anchor
    ),
    "hard_triplets": other(lambda m: (m.rows(1), m.classes()), mm.hard_triplets),
    "hard_triplets:distance": other(
        lambda m: (m.rows(1), m.classes()),
        lambda x, y: mm.hard_triplets(x, y, distance=mm.squared_euclidean, semi_hard=0.5),
    ),
    "diagnose": other(
        lambda m: (
            *anchors_candidates(m),
            m.classes(),
            torch.arange(m.n + 2, device=m.device) % 2,
        ),
        lambda a, c, y, z: mm.diagnose(
            a, c, labels=y, candidate_labels=z, temperature=0.5, k=2, chunk_size=4
        ),
        waits=True,  # singular values
    ),
    "same_label": other(lambda m: (m.classes(),), mm.same_label, half=False),
    "different_label": other(lambda m: (m.classes(),), mm.different_label, half=False),
    "close_scores": other(
        lambda m: (m.normal(1, m.n),), lambda s: mm.close_scores(s, tolerance=0.5), half=False
    ),
    "far_scores": other(
        lambda m: (m.normal(1, m.n),), lambda s: mm.far_scores(s, tolerance=0.5), half=False
    ),
    "score_kernel": other(
        lambda m: (m.normal(1, m.n),), lambda s: mm.score_kernel(s, bandwidth=0.7)
    ),
    "score_distance": other(
        lambda m: (m.normal(1, m.n),), lambda s: mm.score_distance(s, bandwidth=0.7)
    ),
    "labelled": other(lambda m: (m.classes(),), mm.labelled, half=False),
    "same_sign": other(lambda m: (m.normal(1, m.n),), mm.same_sign, half=False),
    "sentiment_classes": other(lambda m: (m.normal(1, m.n),), mm.sentiment_classes, half=False),
    "off_diagonal": other(
        lambda m: (m.rows(1),), lambda x: mm.off_diagonal(len(x), x.device), half=False
    ),
}

# Public names that take no example: what they are instead.
NOT_CASES = {
    "BalancedBatchSampler": "takes no batch: test_balanced.py",
    "Diagnosis": "a result: test_diagnostics.py",
    "citation": "takes a function: test_citations.py",
    "EmbeddingQueue": "a store with a state: test_queue.py",
    "Extended": "a result: test_queue.py",
    "Gate": "a result: test_gate.py",
    "GradCache": "takes encoders: test_gradcache.py",
    "IGNORE": "a number",
    "HardNegatives": "a result",
    "LearnableTemperature": "takes no input: test_temperature.py",
    "LossTerms": "a result: test_terms.py",
    "PairSelection": "settings: hybrid/test_selection.py",
    "Mahalanobis": "a distance with a state: test_mahalanobis.py",
    "Negatives": "a result: negatives/test_batches.py",
    "Pairs": "a result",
    "Retrieval": "a result: test_retrieval.py",
    "SigmoidContrast": "learns two numbers: test_sigmoid.py",
    "Tile": "what functions of a tile get: exact/test_pair_tile.py",
    "add_noise": "draws at random: negatives/test_noise.py",
    **dict.fromkeys(
        ("cross_batch_ids", "different_id", "hardness_bias", "not_closer_than_partner"),
        "makes a function of a tile: test_pair_functions.py",
    ),
    "gather": "needs ranks: test_distributed.py",
    "mixed_negatives": "draws at random: negatives/test_mixed.py",
    "replace_tokens": "draws at random: negatives/test_noise.py",
    "replacement_gate": "draws at random: test_gate.py",
    "sample_one": "draws at random: test_mining.py",
    "shift": "draws at random: negatives/test_shift.py",
    "swap": "draws at random: negatives/test_swap.py",
    "uniform_negatives": "draws at random: test_gate.py",
}


def names(kind=lambda case: True):
    return [name for name, case in CASES.items() if kind(case)]


LOSSES = names(lambda case: case.differentiable)
HALVES = names(lambda case: case.half)
UNROLLED = {
    "rank_n_contrast:between": "a distance of the caller's own, in blocks of chunk_size anchors",
}
"""Losses that a compiler makes a graph of for each size: it writes out the loop over the blocks."""
NO_MODULES = [x for x in LOSSES if x[0].islower()]  # Modules call functions
ANY_SIZE = [x for x in NO_MODULES if x not in UNROLLED]


def of_few(name, **options):
    """Inputs of a case, of two modalities where a third is one more turn of the same loops."""
    joint = name.lower().startswith("joint")
    return CASES[name].inputs(Make(names=MODALITIES if joint else MODALITIES[:2], **options))


def tensors(nested):
    """All tensors of nested mappings and tuples, in order."""
    if isinstance(nested, torch.Tensor):
        return [nested]
    if isinstance(nested, Mapping):
        return [x for value in nested.values() for x in tensors(value)]
    return [x for value in nested for x in tensors(value)]


def replace(nested, new):
    """The same nesting with the tensors taken from the iterator `new`."""
    if isinstance(nested, torch.Tensor):
        return next(new)
    if isinstance(nested, Mapping):
        return {name: replace(value, new) for name, value in nested.items()}
    return tuple(replace(value, new) for value in nested)


def mapped(function, nested):
    return replace(nested, iter([function(x) for x in tensors(nested)]))


def leaves(nested):
    """Fresh leaves; the floating ones collect a gradient."""
    return mapped(lambda x: x.detach().clone().requires_grad_(x.is_floating_point()), nested)


def floats(nested):
    return [x for x in tensors(nested) if x.is_floating_point()]


def results(name, inputs):
    """All result tensors; of terms also the total."""
    found = CASES[name].call(*inputs)
    return [*tensors(found), found.total] if isinstance(found, mm.LossTerms) else tensors(found)


def scalar(name, inputs):
    """One number that depends on every entry of every result, each in its own way."""
    total = 0
    for k, x in enumerate(results(name, inputs)):
        steps = torch.arange(1, x.numel() + 1, device=x.device).reshape(x.shape)
        total = total + (x * (steps + k)).sum()
    return total


def value_and_gradients(name, inputs):
    inputs = leaves(inputs)
    value = scalar(name, inputs)
    found = torch.autograd.grad(value, floats(inputs), allow_unused=True)
    return value, [
        torch.zeros_like(x) if g is None else g for x, g in zip(floats(inputs), found, strict=True)
    ]
