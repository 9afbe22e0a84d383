"""Every argument of every public function and Module with values of wrong types.

Each call either takes what came, where the argument's annotation says so, or raises a ValueError
that begins with the argument's name. Nothing else, AttributeError, TypeError or a result of
nonsense, may come out.
"""

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import mmcontrast as mm

B, D, T = 4, 3, 5


def number(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ROWS, OTHERS = number(1, B, D), number(2, B, D)
FEATURES = {"text": ROWS, "audio": OTHERS, "vision": number(3, B, D)}
SEQUENCES = {"text": torch.arange(B * T).reshape(B, T) % 7, "audio": number(4, B, T, D)}
CLASSES = torch.tensor([0, 0, 1, 1])
SIMILARITY = number(5, B, B).sigmoid()
POSITIVES = mm.same_label(CLASSES)
NEGATIVES = ~POSITIVES
HALF = torch.tensor([True, True, True, False])
HERE = dict.fromkeys(FEATURES, HALF)
WEIGHT = torch.ones(B)
MINED = mm.hard_negatives(ROWS, OTHERS, 2)


def returns_none(*_args, **_kwargs):
    return None


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of prototypes
    NESTED = torch.nested.nested_tensor([torch.ones(2, D), torch.ones(1, D)])
    QUANTIZED = torch.quantize_per_tensor(torch.ones(B, D), 0.1, 0, torch.quint8)


class Many(nn.Module):
    """A Module of three inputs, which is neither a row map nor a distance."""

    def forward(self, x, y, z):
        return x + y + z


WRONG = {
    "None": None,
    "text": "text",
    "True": True,
    "int": 2,
    "negative": -7,
    "float": 0.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "NumPy int": np.int64(2),
    "NumPy float": np.float32(0.5),
    "list": [1, 2],
    "long list": list(range(10_000)),
    "dict": {"a": 1},
    "array": np.ones((B, D), dtype=np.float32),
    "0-d": torch.tensor(0.5),
    "vector": torch.ones(7),
    "cube": torch.ones(2, 3, 6),
    "integers": torch.ones(B, D, dtype=torch.int64),
    "complex": torch.ones(B, D, dtype=torch.complex64),
    "sparse": torch.eye(B).to_sparse(),
    "nested": NESTED,
    "quantized": QUANTIZED,
    "Fraction": Fraction(1, 2),
    "huge": 10**400,
    "0-d array": np.array(3.0),
    "module": Many(),
    "learned": mm.LearnableTemperature(),
    "function": returns_none,
    "class": nn.Linear,
    "object": object(),
}
NUMBERS = {"int", "negative", "float", "NumPy int", "NumPy float"}

COMMON = {"weight": WEIGHT, "group": None, "reduction": "mean"}
NCE = {"temperature": 0.1, "normalize": mm.l2_normalize, **COMMON}
VARIANTS = {"decoupled": True, "prior": 0.1, "smoothing": 0.1}
OWN_NEGATIVES = {
    "own_negatives": number(9, B, 2, D),
    "own_keep": torch.ones(B, 2, dtype=torch.bool),
}
HYBRID = {
    "refine": True,
    "log": False,
    "selection": None,
    "refine_on": "selected",
    "normalize": mm.softmax_normalize,
    "present": HERE,
    **COMMON,
}
HYBRID_SETTINGS = {k: v for k, v in HYBRID.items() if k not in ("present", "weight")}
BATCH = {"modalities": ["text", "audio"], "generator": None, "present": None}
REAL = {
    "masks": {"audio": torch.ones(B, T, dtype=torch.bool)},
    "lengths": {"text": torch.full((B,), T)},
}


def settings(*names, **given):
    """The settings of a Module: those of its function that it holds."""
    pool = {**NCE, "chunk_size": 2, **given}
    return {name: pool[name] for name in [*names, *given]}


# name -> (what is called, the values of all arguments that are tried)
CALLS = {
    "l2_normalize": (mm.l2_normalize, {"x": ROWS}),
    "softmax_normalize": (mm.softmax_normalize, {"x": ROWS}),
    "shifted_cosine_normalize": (mm.shifted_cosine_normalize, {"x": ROWS}),
    "softplus_normalize": (mm.softplus_normalize, {"x": ROWS}),
    "euclidean": (mm.euclidean, {"x": ROWS, "y": OTHERS}),
    "squared_euclidean": (mm.squared_euclidean, {"x": ROWS, "y": OTHERS}),
    "manhattan": (mm.manhattan, {"x": ROWS, "y": OTHERS}),
    "chebyshev": (mm.chebyshev, {"x": ROWS, "y": OTHERS}),
    "cosine_distance": (mm.cosine_distance, {"x": ROWS, "y": OTHERS}),
    "pairwise": (mm.pairwise, {"distance": mm.euclidean, "x": ROWS, "y": OTHERS}),
    "info_nce": (
        mm.info_nce,
        {
            "anchors": ROWS,
            "candidates": OTHERS,
            "targets": torch.arange(B),
            "keep": POSITIVES,
            "bias": SIMILARITY,
            "chunk_size": 2,
            **VARIANTS,
            **OWN_NEGATIVES,
            **NCE,
        },
    ),
    "info_nce:plain": (
        mm.info_nce,
        {"anchors": ROWS, "candidates": OTHERS, "targets": None, "chunk_size": None, **NCE},
    ),
    "info_nce:own alone": (
        mm.info_nce,
        {"anchors": ROWS, "candidates": OTHERS, "in_batch": False, **VARIANTS, **OWN_NEGATIVES},
    ),
    "info_nce:positives": (
        mm.info_nce,
        {"anchors": ROWS, "candidates": OTHERS, "positives": POSITIVES, "targets": None, **NCE},
    ),
    "matched_pair_nce": (mm.matched_pair_nce, {"x": ROWS, "y": OTHERS, "keep": HALF, **NCE}),
    "symmetric_info_nce": (
        mm.symmetric_info_nce,
        {
            "x": ROWS,
            "y": OTHERS,
            "positives": POSITIVES,
            "keep": POSITIVES,
            "bias": SIMILARITY,
            "chunk_size": 2,
            **NCE,
        },
    ),
    "symmetric_info_nce:plain": (
        mm.symmetric_info_nce,
        {"x": ROWS, "y": OTHERS, "chunk_size": 2, "within": True, **VARIANTS, **NCE},
    ),
    "sigmoid_contrast": (
        mm.sigmoid_contrast,
        {
            "x": ROWS,
            "y": OTHERS,
            "bias": -1.0,
            "positives": POSITIVES,
            "keep": POSITIVES,
            "chunk_size": 2,
            **NCE,
        },
    ),
    "sup_con": (
        mm.sup_con,
        {
            "anchors": ROWS,
            "labels": CLASSES,
            "candidates": OTHERS,
            "candidate_labels": CLASSES,
            "form": "out",
            "keep": POSITIVES,
            "bias": SIMILARITY,
            "chunk_size": 2,
            **NCE,
        },
    ),
    "sup_con:plain": (
        mm.sup_con,
        {"anchors": ROWS, "labels": CLASSES, "decoupled": True, "chunk_size": 2, **NCE},
    ),
    "sup_con:positives": (mm.sup_con, {"anchors": ROWS, "labels": None, "positives": POSITIVES}),
    "rank_n_contrast": (
        mm.rank_n_contrast,
        {
            "x": ROWS,
            "scores": WEIGHT,
            "candidates": OTHERS,
            "candidate_scores": WEIGHT,
            "temperature": 2.0,
            "distance": mm.euclidean,
            "chunk_size": 2,
            **COMMON,
        },
    ),
    "RankNContrast": (
        mm.RankNContrast,
        settings("temperature", "reduction", "chunk_size", "group", distance=mm.manhattan),
    ),
    "n_pair": (
        mm.n_pair,
        {
            "anchors": ROWS,
            "candidates": OTHERS,
            "targets": None,
            "positives": POSITIVES,
            "keep": POSITIVES,
            "normalize": None,
            **COMMON,
        },
    ),
    "anchored_info_nce": (
        mm.anchored_info_nce,
        {
            "features": FEATURES,
            "anchor": "text",
            "direction": "both",
            "present": HERE,
            **VARIANTS,
            **NCE,
        },
    ),
    "joint_contrast": (
        mm.joint_contrast,
        {
            "features": FEATURES,
            "score": "product",
            "anchor": "text",
            "negatives": "all",
            "present": HERE,
            "chunk_size": 2,
            "generator": None,
            **NCE,
        },
    ),
    "multilevel_contrast": (
        mm.multilevel_contrast,
        {
            "levels": {"first": [(ROWS, OTHERS)]},
            "weights": {"first": 0.5},
            "symmetric": True,
            "pair_design": "B",
            "labels": CLASSES,
            "keep": POSITIVES,
            "chunk_size": 2,
            **NCE,
        },
    ),
    "multilevel_contrast:positives": (
        mm.multilevel_contrast,
        {"levels": {"first": [(ROWS, OTHERS, HALF)]}, "positives": POSITIVES, "labels": None},
    ),
    "triplet": (
        mm.triplet,
        {
            "anchors": ROWS,
            "positives": OTHERS,
            "negatives": FEATURES["vision"],
            "margin": 0.5,
            "distance": mm.euclidean,
            "hinge": True,
            "swap": True,
            "soft": True,
            "keep": HALF,
            **COMMON,
        },
    ),
    "modality_correlation": (
        mm.modality_correlation,
        {"x": ROWS, "y": OTHERS, "reduce": "mean", "mask": HALF},
    ),
    "modality_correlation_triplet": (
        mm.modality_correlation_triplet,
        {
            "features": FEATURES,
            "negatives": {name: x.flip(0) for name, x in FEATURES.items()},
            "altered": HERE,
            "margin": 0.5,
            "distance": mm.cosine_distance,
            "reduce": "flatten",
            "skip_unaltered": True,
            "present": HERE,
            **COMMON,
        },
    ),
    "kl_distill": (
        mm.kl_distill,
        {
            "student": ROWS,
            "teacher": OTHERS,
            "temperature": 2.0,
            "direction": "teacher_student",
            "mask": HALF,
            **COMMON,
        },
    ),
    "pair_prediction": (
        mm.pair_prediction,
        {
            "logits": ROWS[:, :2],
            "paired": CLASSES,
            "weight": WEIGHT,
            "keep": HALF,
            "reduction": "sum",
        },
    ),
    "ratio_contrast": (
        mm.ratio_contrast,
        {
            "similarity": SIMILARITY,
            "positives": POSITIVES,
            "negatives": NEGATIVES,
            "log": True,
            **COMMON,
        },
    ),
    "semi_contrast": (
        mm.semi_contrast,
        {
            "features": FEATURES,
            "margin": 0.8,
            "normalize": mm.softmax_normalize,
            "present": HERE,
            **COMMON,
        },
    ),
    "intra_modal_contrast:masks": (
        mm.intra_modal_contrast,
        {"features": FEATURES, "labels": None, "positives": POSITIVES, "negatives": NEGATIVES},
    ),
    "inter_modal_contrast:masks": (
        mm.inter_modal_contrast,
        {"features": FEATURES, "labels": None, "positives": POSITIVES, "negatives": NEGATIVES},
    ),
    "intra_modal_pairs:masks": (
        mm.intra_modal_pairs,
        {"features": FEATURES, "labels": None, "positives": POSITIVES, "negatives": NEGATIVES},
    ),
    "intra_modal_contrast": (
        mm.intra_modal_contrast,
        {"features": FEATURES, "labels": CLASSES, **HYBRID},
    ),
    "inter_modal_contrast": (
        mm.inter_modal_contrast,
        {"features": FEATURES, "labels": CLASSES, "margin": 0.8, **HYBRID},
    ),
    "hybrid_contrast": (
        mm.hybrid_contrast,
        {"features": FEATURES, "labels": CLASSES, "margin": 0.8, "weights": (1, 1, 1), **HYBRID},
    ),
    "hybrid_contrast:masks": (
        mm.hybrid_contrast,
        {
            "features": FEATURES,
            "labels": None,
            "positives": POSITIVES,
            "negatives": NEGATIVES,
            **HYBRID,
        },
    ),
    "intra_modal_pairs": (
        mm.intra_modal_pairs,
        {"features": FEATURES, "labels": CLASSES, "present": HERE},
    ),
    "inter_modal_pairs": (
        mm.inter_modal_pairs,
        {
            "features": FEATURES,
            "labels": None,
            "positives": POSITIVES,
            "negatives": NEGATIVES,
            "present": HERE,
        },
    ),
    "PairSelection": (
        mm.PairSelection,
        {
            "fraction": 0.2,
            "gamma": 1.0,
            "positives": True,
            "negatives": True,
            "unselected": "mean",
            "inter_factor": 1,
        },
    ),
    "select_pairs": (
        mm.select_pairs,
        {
            "similarity": SIMILARITY,
            "positives": POSITIVES,
            "negatives": NEGATIVES,
            "selection": mm.PairSelection(),
            "batch_size": 4,
        },
    ),
    "hardness_weights": (
        mm.hardness_weights,
        {"similarity": SIMILARITY, "positives": POSITIVES, "negatives": NEGATIVES, "gamma": 1.0},
    ),
    "hard_negatives": (
        mm.hard_negatives,
        {
            "anchors": ROWS,
            "candidates": OTHERS,
            "k": 2,
            "targets": torch.arange(B),
            "allowed": POSITIVES,
            "labels": CLASSES,
            "candidate_labels": CLASSES,
            "exclude_positive": True,
            "skip": 1,
            "below": 0.9,
            "above": 0.1,
            "margin": 0.1,
            "relative_margin": 0.1,
            "semi_hard": 0.1,
            "sample": 3,
            "generator": None,
            "normalize": mm.l2_normalize,
            "chunk_size": 2,
            "group": None,
        },
    ),
    "hard_negatives:distance": (
        mm.hard_negatives,
        {
            "anchors": ROWS,
            "candidates": OTHERS,
            "k": 2,
            "distance": mm.euclidean,
            "normalize": None,
        },
    ),
    "retrieval": (
        mm.retrieval,
        {
            "anchors": ROWS,
            "candidates": OTHERS,
            "targets": torch.arange(B),
            "ks": (1, 2),
            "normalize": mm.l2_normalize,
            "chunk_size": 2,
            "group": None,
        },
    ),
    "retrieval:positives": (
        mm.retrieval,
        {"anchors": ROWS, "candidates": OTHERS, "positives": POSITIVES},
    ),
    "hard_triplets": (
        mm.hard_triplets,
        {
            "anchors": ROWS,
            "labels": CLASSES,
            "distance": mm.euclidean,
            "semi_hard": 0.1,
            "normalize": None,
            "chunk_size": 2,
            "group": None,
        },
    ),
    "sample_one": (mm.sample_one, {"mask": POSITIVES, "generator": None}),
    "extreme": (mm.extreme, {"similarity": SIMILARITY, "mask": POSITIVES, "largest": True}),
    "diagnose": (
        mm.diagnose,
        {
            "anchors": ROWS,
            "candidates": OTHERS,
            "targets": torch.arange(B),
            "labels": CLASSES,
            "candidate_labels": CLASSES,
            "temperature": 0.1,
            "k": 2,
            "normalize": mm.l2_normalize,
            "chunk_size": 2,
        },
    ),
    "same_label": (mm.same_label, {"labels": CLASSES, "others": CLASSES}),
    "different_label": (mm.different_label, {"labels": CLASSES, "others": CLASSES}),
    "close_scores": (
        mm.close_scores,
        {"scores": WEIGHT, "others": WEIGHT, "tolerance": 0.5},
    ),
    "same_sign": (mm.same_sign, {"scores": WEIGHT, "others": WEIGHT}),
    "score_kernel": (
        mm.score_kernel,
        {"scores": WEIGHT, "others": WEIGHT, "bandwidth": 0.5, "shape": "gaussian"},
    ),
    "far_scores": (
        mm.far_scores,
        {"scores": WEIGHT, "others": WEIGHT, "tolerance": 0.5},
    ),
    "score_distance": (
        mm.score_distance,
        {"scores": WEIGHT, "others": WEIGHT, "bandwidth": 0.5, "shape": "gaussian"},
    ),
    "labelled": (mm.labelled, {"labels": CLASSES}),
    "sentiment_classes": (mm.sentiment_classes, {"scores": WEIGHT, "neutral": "own"}),
    "off_diagonal": (mm.off_diagonal, {"n": 3, "device": "cpu"}),
    "uniform_negatives": (
        mm.uniform_negatives,
        {"anchors": ROWS, "k": 2, "allowed": POSITIVES, "generator": None},
    ),
    "replacement_gate": (
        mm.replacement_gate,
        {"negatives": MINED, "probability": 0.5, "generator": None, "training": True},
    ),
    "replacement_gate:mapping": (
        mm.replacement_gate,
        {"negatives": {"audio": MINED}, "probability": 0.5},
    ),
    "gather": (mm.gather, {"x": ROWS, "group": None}),
    "swap": (mm.swap, {"features": SEQUENCES, "allowed": POSITIVES, **BATCH, **REAL}),
    "shift": (
        mm.shift,
        {
            "features": SEQUENCES,
            "steps": 1,
            "text": "text",
            "shift_all": False,
            "padding_id": 0,
            **BATCH,
            **REAL,
        },
    ),
    "shift:steps": (mm.shift, {"features": SEQUENCES, "steps": {"audio": 2}}),
    "add_noise": (
        mm.add_noise,
        {"features": SEQUENCES, "std": 0.5, "relative": True, **BATCH, **REAL},
    ),
    "replace_tokens": (
        mm.replace_tokens,
        {
            "features": SEQUENCES,
            "vocabulary_size": 9,
            "probability": 0.5,
            "special": [0],
            **BATCH,
            **REAL,
        },
    ),
    "mixed_negatives": (
        mm.mixed_negatives,
        {
            "features": SEQUENCES,
            "allowed": POSITIVES,
            "steps": 1,
            "text": "text",
            "shift_all": False,
            "padding_id": 0,
            "std": 0.5,
            "relative": True,
            "vocabulary_size": 9,
            "probability": 0.5,
            "special": [0],
            **BATCH,
            **REAL,
        },
    ),
    "GradCache": (
        mm.GradCache,
        {
            "encoders": {"text": nn.Linear(3, 3)},
            "loss": returns_none,
            "chunk_size": 2,
            "backward": torch.Tensor.backward,
        },
    ),
    "InfoNCE": (
        mm.InfoNCE,
        settings(
            *("temperature", "normalize", "reduction", "chunk_size", "group"),
            in_batch=False,
            **VARIANTS,
        ),
    ),
    "SymmetricInfoNCE": (
        mm.SymmetricInfoNCE,
        settings(
            *("temperature", "normalize", "reduction", "chunk_size", "group"),
            within=True,
            **VARIANTS,
        ),
    ),
    "AnchoredInfoNCE": (
        mm.AnchoredInfoNCE,
        settings(
            *("temperature", "normalize", "reduction", "group"),
            anchor="text",
            direction="to_anchor",
            **VARIANTS,
        ),
    ),
    "JointContrast": (
        mm.JointContrast,
        settings(
            *("temperature", "normalize", "reduction", "chunk_size", "group"),
            score="product",
            anchor="text",
            negatives="all",
        ),
    ),
    "SupCon": (
        mm.SupCon,
        settings(
            *("temperature", "normalize", "reduction", "chunk_size", "group"),
            form="in",
            decoupled=True,
        ),
    ),
    "SigmoidContrast": (
        mm.SigmoidContrast,
        settings("temperature", "normalize", "reduction", "chunk_size", "group", bias=-1.0),
    ),
    "MultilevelContrast": (
        mm.MultilevelContrast,
        settings(
            "temperature",
            "normalize",
            "reduction",
            "chunk_size",
            "group",
            weights={"first": 0.5},
            symmetric=True,
            pair_design="A",
        ),
    ),
    "HybridContrast": (mm.HybridContrast, {"margin": 0.8, "weights": (1, 1, 1), **HYBRID_SETTINGS}),
    "Triplet": (
        mm.Triplet,
        settings(
            "reduction",
            "group",
            margin=0.5,
            distance=mm.euclidean,
            hinge=True,
            swap=True,
            soft=True,
        ),
    ),
    "ModalityCorrelationTriplet": (
        mm.ModalityCorrelationTriplet,
        settings(
            "reduction",
            "group",
            margin=0.5,
            distance=mm.cosine_distance,
            reduce="mean",
            skip_unaltered=True,
        ),
    ),
    "KLDistill": (
        mm.KLDistill,
        settings("temperature", "reduction", "group", direction="teacher_student"),
    ),
    "ReplacementGate": (mm.ReplacementGate, {"probability": 0.5}),
    "LearnableTemperature": (
        mm.LearnableTemperature,
        {"initial": 0.07, "minimum": 0.01, "maximum": 1.0},
    ),
    "BalancedBatchSampler": (
        mm.BalancedBatchSampler,
        {
            "labels": torch.arange(12) % 3,
            "batch_size": 4,
            "per_class": 2,
            "bins": 3,
            "repeat": False,
            "seed": 0,
            "rank": 0,
            "world_size": 1,
        },
    ),
    "BalancedBatchSampler:ids": (
        mm.BalancedBatchSampler,
        {"labels": CLASSES, "batch_size": 4, "ids": np.array(list("abcd"))},
    ),
    "BalancedBatchSampler:scores": (
        mm.BalancedBatchSampler,
        {"scores": torch.arange(12) / 7, "batch_size": 4},
    ),
    "EmbeddingQueue": (
        mm.EmbeddingQueue,
        {"size": 3, "features": 2, "dtype": torch.float32, "label_dtype": torch.int64},
    ),
    "EmbeddingQueue:push": (
        lambda **given: mm.EmbeddingQueue(6, D).push(**given),
        {"embeddings": ROWS, "labels": CLASSES},
    ),
    "EmbeddingQueue:extend": (
        lambda **given: mm.EmbeddingQueue(6, D).extend(**given),
        {"candidates": ROWS, "rows": B, "labels": CLASSES, "without": torch.tensor([0, -1])},
    ),
    "Mahalanobis": (mm.Mahalanobis, {"covariance": torch.eye(3), "trainable": True}),
    "Mahalanobis:estimate": (
        mm.Mahalanobis.estimate,
        {"samples": number(6, 9, 3), "shrinkage": 0.5},
    ),
    "Mahalanobis:learned": (mm.Mahalanobis.learned, {"size": 3}),
    "Mahalanobis:forward": (mm.Mahalanobis(torch.eye(D)).forward, {"x": ROWS, "y": OTHERS}),
    "Mahalanobis:whiten": (mm.Mahalanobis(torch.eye(D)).whiten, {"x": ROWS}),
    "different_id": (
        mm.different_id,
        {"ids": CLASSES, "candidate_ids": CLASSES, "group": None},
    ),
    "cross_batch_ids": (
        mm.cross_batch_ids,
        {"ids": CLASSES, "earlier_ids": CLASSES, "candidate_ids": CLASSES, "filled": HALF},
    ),
    "not_closer_than_partner": (
        mm.not_closer_than_partner,
        {"margin": 0.1, "relative_margin": 0.1, "guide": (ROWS, OTHERS)},
    ),
    "hardness_bias": (mm.hardness_bias, {"beta": 2.0}),
    "citation": (mm.citation, {"function": "info_nce"}),
    "Gate:take": (
        lambda tensors: mm.Gate(torch.arange(B), CLASSES).take(tensors),
        {"tensors": ROWS},
    ),
}

RESULTS = {
    "IGNORE",
    "Diagnosis",
    "Extended",
    "Gate",
    "HardNegatives",
    "LossTerms",
    "Negatives",
    "Pairs",
    "Retrieval",
    "Tile",
}

LEARNED = {
    "InfoNCE",
    "SymmetricInfoNCE",
    "AnchoredInfoNCE",
    "JointContrast",
    "SupCon",
    "MultilevelContrast",
    "RankNContrast",
}
"""Modules that take a LearnableTemperature."""

TAKEN = {
    "temperature": NUMBERS | {"0-d"},
    "bias": NUMBERS | {"0-d"},
    **dict.fromkeys(("margin", "prior"), NUMBERS | {"0-d"}),
    "smoothing": NUMBERS,
    "own_keep": {"None"},
    **dict.fromkeys(("bandwidth", "gamma", "std", "fraction", "shrinkage", "probability"), NUMBERS),
    "tolerance": NUMBERS | {"inf"},
    **dict.fromkeys(("initial", "minimum", "maximum", "beta"), NUMBERS),
    **dict.fromkeys(("k", "steps", "inter_factor", "vocabulary_size", "size"), NUMBERS),
    **dict.fromkeys(("n", "rows", "padding_id"), NUMBERS),
    "chunk_size": NUMBERS | {"None"},
    "batch_size": NUMBERS | {"None", "0-d"},
    **dict.fromkeys(
        (
            *("targets", "candidate_labels", "keep", "weight", "allowed", "mask", "altered"),
            *("present", "group", "generator", "masks", "lengths", "modalities", "others"),
            *("selection", "device"),
        ),
        frozenset({"None"}),
    ),
    "normalize": {"None"},
    **dict.fromkeys(
        (
            *("refine", "log", "symmetric", "hinge", "skip_unaltered", "trainable", "training"),
            *("swap", "soft", "decoupled", "in_batch", "within"),
            *("relative", "shift_all", "largest", "exclude_positive"),
        ),
        frozenset({"True"}),
    ),
    "text": {"text"},
    "anchor": {"text"},
    "special": {"list"},
    "ks": {"list"},
    "weights": {"None"},
    "loss": {"function", "module", "learned", "class"},
    "backward": {"function", "module", "learned", "class"},
    "function": {"learned"},
}
"""What an argument may take of the above; it may refuse its value all the same."""
OPTIONAL_LABELS = {
    "sup_con:positives",
    "hybrid_contrast:masks",
    "inter_modal_pairs",
    "intra_modal_pairs:masks",
    "inter_modal_contrast:masks",
    "intra_modal_contrast:masks",
    "multilevel_contrast:positives",
    "hard_negatives",
    "diagnose",
}

MINER_NUMBERS = {
    *("skip", "below", "above", "margin", "relative_margin", "semi_hard", "sample"),
}

TAKEN_INSIDE = {
    "weights": NUMBERS | {"0-d"},
    "special": NUMBERS,
    "steps": NUMBERS,
    "ks": {"int", "NumPy int"},
    "modalities": {"text"},
    "features": {"integers"},
    "encoders": {"function", "module", "learned", "class"},
}
"""The same inside a mapping or a list."""


SAMPLER = {
    **dict.fromkeys(("per_class", "bins", "seed"), NUMBERS),
    **dict.fromkeys(("rank", "world_size"), NUMBERS | {"None"}),
    "labels": {"list", "long list", "vector"},
    "scores": {"list", "long list", "vector"},
    "repeat": {"True"},
    "ids": {"None"},
}
"""What a BalancedBatchSampler may take; its scores may also be of any number of samples."""


def taken(call, name):
    kinds, base = TAKEN.get(name, set()), call.split(":")[0]
    if name == "temperature" and call in LEARNED:
        kinds = kinds | {"learned"}
    if name in ("labels", "candidate_labels"):
        kinds = kinds | {"integers"}
    if base == "multilevel_contrast" and name == "levels":
        kinds = kinds | {"dict"}
    if call.endswith(("_normalize", "_scores", "_sign", "_kernel", "_distance", "_classes")):
        kinds = kinds | ({"vector", "cube"} if name == "x" else {"vector"})
    if (base, name) in (("modality_correlation", "x"), ("kl_distill", "student")):
        kinds = kinds | {"cube"}
    if base in ("hard_negatives", "hard_triplets"):
        if name in MINER_NUMBERS:
            kinds = NUMBERS | {"None"}
        if name == "distance":
            kinds = kinds | {"None", "function", "learned"}
        if name == "candidates":
            kinds = kinds | {"array"}
    if name == "anchor" and base in ("joint_contrast", "JointContrast"):
        kinds = kinds | {"None"}
    if name == "labels" and call in OPTIONAL_LABELS:
        kinds = kinds | {"None"}
    if name == "positives" and base != "sup_con":
        kinds = kinds | {"None"}
    if call[0].isupper() and name in ("normalize", "distance"):
        kinds = kinds | {"function"}
    if call in ("same_label", "different_label", "labelled"):
        kinds = kinds | {"vector"}
    if call == "MultilevelContrast" and name == "weights":
        kinds = kinds | {"dict"}
    if call == "multilevel_contrast:positives" and name == "labels":
        kinds = kinds | {"0-d", "vector", "cube", "complex"}  # any tensor: design A has no labels
    if call == "PairSelection" and name in ("positives", "negatives"):
        kinds = {"True"}
    if base == "BalancedBatchSampler":
        return SAMPLER.get(name, set())
    if base in ("info_nce", "symmetric_info_nce", "sup_con") and name == "bias":
        kinds = {"None"}
    if name == "without":
        kinds = {"None", "integers"}  # any number of places
    if call in ("different_id", "cross_batch_ids") and name.endswith("ids"):
        kinds = {"vector", "integers"} | ({"None"} if name == "candidate_ids" else set())
    if call == "not_closer_than_partner" and name.endswith("margin"):
        kinds = NUMBERS
    if name in ("filled", "guide"):
        kinds = {"None"}
    if call == "EmbeddingQueue" and name == "features":
        kinds = NUMBERS
    if call in ("EmbeddingQueue:push", "EmbeddingQueue:extend") and name == "labels":
        kinds = {"None"}
    if call == "Gate:take":
        kinds = {"None", "vector", "integers", "complex"}
    if call == "gather" and name == "x":
        kinds = {"vector", "cube", "integers", "complex"}
    if call == "uniform_negatives" and name == "anchors":
        kinds = {"vector", "cube", "integers", "complex"}
    return kinds


def variants(value):
    """The argument with each wrong value in its place, and in the place of its first entry."""
    for kind, wrong in WRONG.items():
        yield kind, wrong, False
        if isinstance(value, Mapping) and value:
            first = next(iter(value))
            yield kind, {**value, first: wrong}, True
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield kind, [wrong, *value[1:]], True


def test_every_public_name_is_called():
    called = {name.split(":")[0] for name in CALLS}
    assert called | RESULTS == set(mm.__all__)


@pytest.mark.parametrize("call", CALLS)
def test_the_valid_calls_are_valid_and_name_every_argument(call):
    function, given = CALLS[call]
    function(**given)
    base = call.split(":")[0]
    expected = set(inspect.signature(getattr(mm, base)).parameters)
    if call in ("Gate:take", "EmbeddingQueue:push"):
        return
    named = {n for c, (_, g) in CALLS.items() if c.split(":")[0] == base for n in g}
    assert expected <= named


PAIRS = [(call, name) for call, (_, given) in CALLS.items() for name in given]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("call", "name"), PAIRS)
def test_a_wrong_type_is_taken_or_named(call, name):
    function, given = CALLS[call]
    faults = []
    for kind, value, inside in variants(given[name]):
        allowed = kind in (TAKEN_INSIDE.get(name, set()) if inside else taken(call, name))
        try:
            function(**{**given, name: value})
        except ValueError as error:
            words = str(error)
            # A value that could be right may make another argument's shape wrong.
            names = "|".join(given) if allowed else name
            if not re.match(rf"({names})\b.*: expected ", words) and not re.search(
                rf": expected .*\b({names})\b", words
            ):
                faults.append(f"{kind}{' inside' * inside}: {words}")
            elif len(words) > 400:
                faults.append(f"{kind}: a message of {len(words)} letters")
        except Exception as error:
            faults.append(f"{kind}{' inside' * inside}: {type(error).__name__}: {error}")
        else:
            if not allowed:
                faults.append(f"{kind}{' inside' * inside}: taken")
    assert not faults, "\n" + "\n".join(x[:150] for x in faults)
