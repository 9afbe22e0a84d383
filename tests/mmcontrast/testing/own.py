"""Every public loss of mmcontrast with what it claims, for the suite's public door."""

from functools import partial

import torch

import mmcontrast as mm
from mmcontrast.testing import Traits, Vary
from tests.mmcontrast.public_cases import LOSSES

DTYPES = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16))
EVERYTHING = {"empty": "zero", "traceable": True, "functional": True, "dtypes": DTYPES}
SETTINGS = ("temperature", "reduction", "chunk_size")


def ways(loss, *names):
    """The traits that take the loss by one of its arguments."""
    traits = {"temperature": "factory", "margin": "factory", "reduction": "reductions"}
    return {traits.get(name, "chunked"): Vary(loss, name) for name in names}


def paired(loss, *names, **claims):
    return loss, Traits(**{**EVERYTHING, **ways(loss, *names), **claims})


def labelled(loss, *names, **claims):
    return loss, Traits(kind="labelled", **{**EVERYTHING, **ways(loss, *names), **claims})


def modal(loss, *names, **claims):
    return loss, Traits(kind="multimodal", **{**EVERYTHING, **ways(loss, *names), **claims})


def triplets(loss, *names, **claims):
    return loss, Traits(kind="triplet", **{**EVERYTHING, **ways(loss, *names), **claims})


INFO_NCE = {"form": "info_nce", "temperature": 0.07, "keep": True, "positives": True}
DECOUPLED = {"decoupled": True, "temperature": 0.07, "nonnegative": False, "smallest": 2}
SUP_CON = {"form": "sup_con", "temperature": 0.07, "ignore_index": -100}
RAW = {"normalized": False, "rotation_invariant": False}
RANKED = {
    "normalized": False,
    "translation_invariant": True,
    "relabelling_invariant": False,
    "discriminative": False,
    "needs_positive": False,
    "ignore_index": -100,
    "temperature": 2.0,
}


def distances(x, y):
    """Two modalities' areas: the distances of their unit rows, in both directions."""
    logits = -mm.pairwise(mm.euclidean, mm.l2_normalize(x), mm.l2_normalize(y)) / 0.2
    each = logits.logsumexp(0) + logits.logsumexp(1) - 2 * logits.diagonal()
    return each.sum() / max(2 * len(x), 1)


JOINT = {"symmetric": True, "discriminative": False}
HYCON = {
    **RAW,
    "labels": True,
    "present": True,
    "ignore_index": -100,
    "row_shift_invariant": True,
    "nonnegative": False,
    "symmetric": True,
}


def similarity_ratio(z, labels, *, log=False, reduction="mean"):
    """Ratio contrast on similarities in [0.1, 1]: a log has no digits of one that cancels."""
    rows = mm.shifted_cosine_normalize(z)
    same, other = mm.same_label(labels), mm.different_label(labels)
    same = same & mm.off_diagonal(len(z))
    alike = 0.1 + 0.9 * rows @ rows.T
    return mm.ratio_contrast(alike, same, other, log=log, reduction=reduction)


def levels(features, *, temperature=0.07, reduction="mean", chunk_size=None):
    """Three modalities two by two, and the sum of all against the first."""
    first, *rest = features.values()
    whole = first + sum(rest)
    return mm.multilevel_contrast(
        {"single": [(first, x) for x in rest], "fused": [(first, whole)]},
        weights={"fused": 0.5},
        temperature=temperature,
        reduction=reduction,
        chunk_size=chunk_size,
    )


def levels_module(features):
    """The same through the Module, one level."""
    first, *rest = features.values()
    return mm.MultilevelContrast(temperature=0.2)({"single": [(first, x) for x in rest]})


def correlation(a, p, n, *, margin=0.2, reduction="mean"):
    """One modality's anchors against the other's: the first term, which is a triplet loss."""
    terms = mm.modality_correlation_triplet(
        {"x": a, "y": p}, {"x": a, "y": n}, margin=margin, reduction=reduction
    )
    return terms["x"]


def correlation_module(a, p, n):
    return mm.ModalityCorrelationTriplet(margin=0.2)({"x": a, "y": p}, {"x": a, "y": n})["x"]


def replaced_or_not(z, labels, *, reduction="mean"):
    """A head of two outputs that tells label 0 from the others."""
    logits = torch.stack([z.sum(1), -z.sum(1)], dim=1)
    return mm.pair_prediction(logits, (labels != 0).long(), reduction=reduction)


def learned(cls, **settings):
    return cls(temperature=mm.LearnableTemperature(0.2), **settings)


LEARNED = {"temperature": 0.2, "tol": 1e-6, "empty": "zero", "functional": True, "traceable": True}

OWN = {
    "info_nce": paired(mm.info_nce, *SETTINGS, rectangular=True, **INFO_NCE),
    "info_nce:raw": paired(
        partial(mm.info_nce, normalize=None),
        rectangular=True,
        normalized=False,
        discriminative=True,
        factory=Vary(mm.info_nce, "temperature", {"normalize": None}),
        **INFO_NCE,
    ),
    "n_pair": paired(
        mm.n_pair,
        "reduction",
        rectangular=True,
        normalized=False,
        **INFO_NCE | {"temperature": 1.0},
    ),
    "info_nce:variants": paired(
        partial(mm.info_nce, decoupled=True), rectangular=True, keep=True, **DECOUPLED
    ),
    "symmetric_info_nce:within": paired(
        partial(mm.symmetric_info_nce, decoupled=True, within=True), symmetric=True, **DECOUPLED
    ),
    "symmetric_info_nce": paired(mm.symmetric_info_nce, *SETTINGS, symmetric=True, **INFO_NCE),
    "matched_pair_nce": paired(
        mm.matched_pair_nce,
        "temperature",
        "reduction",
        symmetric=True,
        discriminative=False,
        collapse_value=lambda n: torch.tensor(float(n)).double().log().item(),
    ),
    "sigmoid_contrast": paired(
        mm.sigmoid_contrast, *SETTINGS, rectangular=True, keep=True, temperature=0.1
    ),
    "InfoNCE": paired(learned(mm.InfoNCE), form="info_nce", rectangular=True, **LEARNED),
    "SymmetricInfoNCE": paired(
        learned(mm.SymmetricInfoNCE), form="info_nce", symmetric=True, **LEARNED
    ),
    "SigmoidContrast": paired(mm.SigmoidContrast(), rectangular=True, keep=True, temperature=0.1),
    "kl_distill": paired(
        mm.kl_distill,
        "reduction",
        differentiable=("a",),
        row_shift_invariant=True,
        temperature=1.0,
        **RAW,
    ),
    "KLDistill": paired(
        mm.KLDistill(temperature=2.0),
        differentiable=("a",),
        row_shift_invariant=True,
        temperature=1.0,
        **RAW,
    ),
    "sup_con": labelled(mm.sup_con, *SETTINGS, **SUP_CON),
    "sup_con:in": labelled(partial(mm.sup_con, form="in"), ignore_index=-100, temperature=0.07),
    "SupCon": labelled(learned(mm.SupCon), form="sup_con", ignore_index=-100, **LEARNED),
    "rank_n_contrast": labelled(mm.rank_n_contrast, *SETTINGS, **RANKED),
    "RankNContrast": labelled(learned(mm.RankNContrast), **RANKED | {"temperature": 0.2}),
    "ratio_contrast": labelled(
        similarity_ratio, "reduction", nonnegative=False, bounds=(-1.0, 0.0), temperature=1.0
    ),
    "ratio_contrast:log": labelled(partial(similarity_ratio, log=True), temperature=1.0),
    "pair_prediction": labelled(
        replaced_or_not,
        "reduction",
        relabelling_invariant=False,
        discriminative=False,
        needs_positive=False,
        temperature=1.0,
        **RAW,
    ),
    "triplet": triplets(
        mm.triplet, "margin", "reduction", normalized=False, translation_invariant=True
    ),
    "triplet:cosine": triplets(
        partial(mm.triplet, distance=mm.cosine_distance, margin=0.2),
        factory=Vary(mm.triplet, "margin", {"distance": mm.cosine_distance}),
    ),
    "triplet:soft": triplets(
        partial(mm.triplet, soft=True), normalized=False, translation_invariant=True
    ),
    "triplet:open": triplets(
        partial(mm.triplet, distance=mm.squared_euclidean, hinge=False),
        normalized=False,
        translation_invariant=True,
        nonnegative=False,
    ),
    "Triplet": triplets(
        mm.Triplet(margin=0.3),
        factory=Vary(mm.Triplet, "margin"),
        normalized=False,
        translation_invariant=True,
    ),
    "modality_correlation_triplet": triplets(correlation, "margin", "reduction"),
    "ModalityCorrelationTriplet": triplets(correlation_module),
    "anchored_info_nce": modal(
        mm.anchored_info_nce, "temperature", "reduction", present=True, temperature=0.1
    ),
    "AnchoredInfoNCE": modal(
        learned(mm.AnchoredInfoNCE, direction="both"), present=True, temperature=0.2
    ),
    "joint_contrast": modal(
        partial(mm.joint_contrast, negatives="all"),
        factory=Vary(mm.joint_contrast, "temperature", {"negatives": "all"}),
        reductions=Vary(mm.joint_contrast, "reduction", {"negatives": "all"}),
        chunked=Vary(mm.joint_contrast, "chunk_size", {"negatives": "all"}),
        present=True,
        temperature=0.07,
        pairwise=mm.symmetric_info_nce,
        **JOINT | {"rotation_invariant": False},
    ),
    # It draws anew at each call, and not by the samples' places.
    "joint_contrast:shuffled": modal(
        mm.joint_contrast,
        *SETTINGS,
        temperature=0.07,
        permutation_invariant=False,
        deterministic=False,
        pairwise=mm.symmetric_info_nce,
        **JOINT | {"rotation_invariant": False, "symmetric": False, "functional": False},
    ),
    "joint_contrast:volume": modal(
        partial(mm.joint_contrast, score="volume"),
        factory=Vary(mm.joint_contrast, "temperature", {"score": "volume"}),
        reductions=Vary(mm.joint_contrast, "reduction", {"score": "volume"}),
        chunked=Vary(mm.joint_contrast, "chunk_size", {"score": "volume"}),
        present=True,
        temperature=0.07,
        **JOINT,
    ),
    "JointContrast": modal(
        learned(mm.JointContrast, score="area"),
        present=True,
        temperature=0.2,
        **JOINT,
    ),
    "joint_contrast:area": modal(
        partial(mm.joint_contrast, score="area", temperature=0.2),
        temperature=0.2,
        tol=1e-6,  # the root of a square that cancels
        pairwise=distances,
        **JOINT,
    ),
    "semi_contrast": modal(
        mm.semi_contrast,
        "reduction",
        symmetric=True,
        present=True,
        row_shift_invariant=True,
        temperature=1.0,
        **RAW,
    ),
    "intra_modal_contrast": modal(
        mm.intra_modal_contrast, "reduction", temperature=1.0, bounds=(-1.0, 1.0), **HYCON
    ),
    "inter_modal_contrast": modal(
        mm.inter_modal_contrast, "reduction", temperature=1.0, bounds=(-1.0, 1.0), **HYCON
    ),
    "hybrid_contrast": modal(mm.hybrid_contrast, "reduction", temperature=1.0, **HYCON),
    "hybrid_contrast:selection": modal(
        partial(mm.hybrid_contrast, selection=mm.PairSelection(0.4)),
        temperature=1.0,
        smooth=False,  # no gradient goes through the weights
        **HYCON,
    ),
    "HybridContrast": modal(
        mm.HybridContrast(selection=mm.PairSelection(0.4), log=True),
        temperature=1.0,
        smooth=False,
        **HYCON,
    ),
    "multilevel_contrast": modal(levels, *SETTINGS, temperature=0.07, normalized=False),
    "MultilevelContrast": modal(levels_module, temperature=0.2),
}

NOT_LOSSES = {
    "chebyshev": "a distance",
    "cosine_distance": "a distance",
    "euclidean": "a distance",
    "l2_normalize": "a row map",
    "manhattan": "a distance",
    "modality_correlation": "a similarity",
    "shifted_cosine_normalize": "a row map",
    "softmax_normalize": "a row map",
    "softplus_normalize": "a row map",
    "squared_euclidean": "a distance",
}

PUBLIC_LOSSES = {name.split(":")[0] for name in LOSSES} - set(NOT_LOSSES) | {"SigmoidContrast"}
