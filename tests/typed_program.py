"""A user's typed program, for mypy alone: ``tests/test_packaging.py`` checks it and nobody runs it.

``assert_type`` says what a call gives; a wrong call stands beside an ignore that names its error,
and mypy reports an ignore that nothing needs.
"""

from collections.abc import Mapping
from typing import assert_type

import torch
import torch.distributed as dist
from torch import Tensor, nn

import mmcontrast as mm
from mmcontrast.interop import hf, lightning, open_clip, pml, sentence_transformers


def functions(x: Tensor, y: Tensor, labels: Tensor, mask: Tensor, group: dist.ProcessGroup) -> None:
    assert_type(mm.info_nce(x, y), Tensor)
    assert_type(mm.info_nce(x, y, labels, temperature=x.mean(), reduction="none"), Tensor)
    assert_type(mm.info_nce(x, y, positives=mask, keep=mask, normalize=None, group=group), Tensor)
    assert_type(mm.symmetric_info_nce(x, y, chunk_size=64, group="world"), Tensor)
    assert_type(mm.sup_con(x, labels, form="in", weight=y), Tensor)
    assert_type(mm.sigmoid_contrast(x, y, temperature=0.1, bias=-10.0), Tensor)
    assert_type(mm.triplet(x, y, y, distance=mm.squared_euclidean, hinge=False), Tensor)
    assert_type(mm.triplet(x, y, y, distance=lambda a, b: (a - b).abs().sum(-1)), Tensor)
    assert_type(mm.pairwise(mm.Mahalanobis.learned(3), x, y), Tensor)
    assert_type(mm.kl_distill(x, y, temperature=2.0), Tensor)
    assert_type(mm.gather(x), Tensor)

    mm.info_nce(x)  # type: ignore[call-arg]
    mm.info_nce(x, y, labels, 0.1)  # type: ignore[call-arg]
    mm.info_nce(x, y, tau=0.1)  # type: ignore[call-arg]
    mm.info_nce(x, y, temperature="0.1")  # type: ignore[arg-type]
    mm.info_nce({"text": x}, y)  # type: ignore[arg-type]
    mm.info_nce(x, y, normalize=mm.cosine_distance)  # type: ignore[arg-type]
    mm.info_nce(x, y, group="wrold")  # type: ignore[arg-type]
    mm.triplet(x, y, y, distance=mm.l2_normalize)  # type: ignore[arg-type]


def several_modalities(
    features: Mapping[str, Tensor], labels: Tensor, present: dict[str, Tensor]
) -> None:
    terms = mm.hybrid_contrast(features, labels, selection=mm.PairSelection(), present=present)
    assert_type(terms, mm.LossTerms)
    assert_type(terms.total, Tensor)
    terms.backward()  # type: ignore[attr-defined]
    assert_type(terms["intra"], Tensor)
    assert_type(terms.weights, dict[str, float])
    assert_type({name: term.item() for name, term in terms.items()}, dict[str, bool | float | int])
    assert_type(mm.anchored_info_nce(features, anchor="text", direction="both"), mm.LossTerms)
    assert_type(mm.modality_correlation_triplet(features, features), mm.LossTerms)
    pairs = [(features["text"], features["audio"])]
    assert_type(mm.multilevel_contrast({"first": pairs, "last": lambda: pairs}), mm.LossTerms)
    assert_type(mm.multilevel_contrast({"first": pairs}, weights={"first": 0.5}), mm.LossTerms)
    assert_type(mm.LossTerms({"task": labels, **terms}, {"task": 2}).total, Tensor)
    altered = mm.mixed_negatives(features, present=present)
    assert_type(altered.features, dict[str, Tensor])

    mm.hybrid_contrast(features["text"], labels)  # type: ignore[arg-type]
    mm.hybrid_contrast([labels, labels], labels)  # type: ignore[arg-type]
    mm.hybrid_contrast(features, labels, weights=(1, 1))  # type: ignore[arg-type]
    mm.hybrid_contrast(features, labels, selection=0.2)  # type: ignore[arg-type]
    mm.hybrid_contrast(features, labels, present=labels)  # type: ignore[arg-type]
    mm.multilevel_contrast(features)  # type: ignore[arg-type]
    terms.semi  # type: ignore[attr-defined] # noqa: B018


def masks_and_miners(x: Tensor, y: Tensor, scores: Tensor) -> None:
    labels = mm.sentiment_classes(scores, neutral="ignore")
    assert_type(mm.same_label(labels) & mm.off_diagonal(len(x)), Tensor)
    assert_type(mm.close_scores(scores, tolerance=0.5), Tensor)
    negatives = mm.hard_negatives(x, y, 3, allowed=mm.different_label(labels))
    assert_type(negatives, mm.HardNegatives)
    assert_type(negatives.valid, Tensor)
    assert_type(mm.hard_triplets(x, labels), tuple[Tensor, Tensor, Tensor])
    assert_type(mm.diagnose(x, y).summary(), str)

    mm.close_scores(scores)  # type: ignore[call-arg]
    mm.hard_negatives(x, y)  # type: ignore[call-arg]
    mm.hard_negatives(x, y, 0.5)  # type: ignore[arg-type]
    negatives.mask  # type: ignore[attr-defined] # noqa: B018


def overloads(x: Tensor, length: Tensor | None, negatives: mm.HardNegatives) -> None:
    gate = mm.replacement_gate(negatives, probability=0.7)
    assert_type(gate, mm.Gate)
    assert_type(gate.take(x), tuple[Tensor, ...])
    assert_type(gate.take(x, length), tuple[Tensor | None, ...])
    gates = mm.replacement_gate({"audio": negatives, "vision": negatives}, probability=0.7)
    assert_type(gates, dict[str, mm.Gate])
    assert_type(mm.ReplacementGate(0.7).forward(negatives), mm.Gate)
    assert_type(mm.ReplacementGate(0.7).forward({"audio": negatives}), dict[str, mm.Gate])

    mm.replacement_gate(negatives)  # type: ignore[call-overload]
    mm.replacement_gate([negatives], probability=0.7)  # type: ignore[call-overload]
    gates.source  # type: ignore[attr-defined] # noqa: B018


class Model(nn.Module):
    """Modules in a model. torch types the call of every Module as Any, that of ours too."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = mm.InfoNCE(temperature=mm.LearnableTemperature(0.07))
        self.hybrid = mm.HybridContrast(margin=0.5, selection=mm.PairSelection(fraction=0.5))
        self.queue = mm.EmbeddingQueue(1024, 16)
        mm.InfoNCE(0.07)  # type: ignore[call-arg]
        mm.InfoNCE(temperature=None)  # type: ignore[arg-type]
        mm.HybridContrast(margn=0.5)  # type: ignore[call-arg]

    def forward(self, features: dict[str, Tensor], labels: Tensor) -> Tensor:
        rows = features["text"]
        candidates, of_candidates = self.queue.extend(rows, rows=len(rows))
        assert_type(of_candidates, Tensor)
        assert_type(self.queue.push(rows, labels), Tensor)
        assert_type(self.queue.extend(rows, rows=2, labels=labels, without=labels), mm.Extended)
        assert_type(self.pairs.forward(rows, candidates), Tensor)
        self.pairs.forward(features)  # type: ignore[call-arg, arg-type]
        pairs: Tensor = self.pairs(rows, candidates)
        terms: mm.LossTerms = self.hybrid(features, labels)
        return pairs + terms.total


def beyond_memory(encoders: nn.ModuleDict, inputs: dict[str, Tensor]) -> Tensor:
    def loss(features: Mapping[str, Tensor]) -> Tensor:
        return mm.info_nce(features["text"], features["image"])

    step = mm.GradCache(encoders, loss, chunk_size={"text": 64, "image": 32})
    total = step(inputs)
    assert_type(total, Tensor | mm.LossTerms)
    return total.total if isinstance(total, mm.LossTerms) else total


def adapters(x: Tensor, mask: Tensor) -> None:
    assert_type(pml.to_pml_tuple(mask, ~mask), tuple[Tensor, ...])
    assert_type(pml.MaskLoss(mm.info_nce), pml.MaskLoss)
    assert_type(open_clip.ClipLoss(world_size=2), open_clip.ClipLoss)
    assert_type(hf.attach(object(), lambda outputs, labels: x), hf.ComputeLoss)
    lightning.log_terms(object(), mm.LossTerms({"task": x}), batch_size=len(x))
    sentence_transformers.InfoNCELoss(nn.Linear(2, 2), temperature="0.1")  # type: ignore[arg-type]


def low_level(x: Tensor) -> None:
    similarity = mm.l2_normalize(x) @ mm.softplus_normalize(x).T
    assert_type(mm.extreme(similarity, similarity > 0, largest=True), tuple[Tensor, Tensor])
    assert_type(mm.euclidean(x, torch.zeros_like(x)), Tensor)
    assert_type(mm.intra_modal_pairs({"text": x}, None), dict[str, mm.Pairs])
