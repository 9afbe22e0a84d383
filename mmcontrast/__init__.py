"""Contrastive losses and miners for multimodal learning: exact, vectorized, independent.

Every loss is a function with a thin Module of the same name; all names are flat in this package.
The files behind them, from top to bottom (each imports only what is below it):

- losses, one family a file: ``infonce``, ``symmetric``, ``supervised``, ``sigmoid``, ``margin``,
  ...; ``hybrid`` is HyCon's, ``negatives`` are CorMulT's negative batches,
- miners, queues, samplers and measures: ``mining``, ``gate``, ``queue``, ``balanced``, ...,
- ``exact``: how losses are evaluated at any size, with hand-written gradients and GPU kernels,
- what all of them share: ``masks``, ``scores``, ``presence``, ``rows``, ``reductions``, ...

``gradcache`` splits batches that an encoder cannot hold. ``interop`` has adapters for other
libraries and ``testing`` the property suite; both are imported only when used.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from mmcontrast.anchored import AnchoredInfoNCE, anchored_info_nce
from mmcontrast.balanced import BalancedBatchSampler
from mmcontrast.citations import citation
from mmcontrast.correlation import (
    ModalityCorrelationTriplet,
    modality_correlation,
    modality_correlation_triplet,
)
from mmcontrast.diagnostics import Diagnosis, diagnose
from mmcontrast.distance_matrix import pairwise
from mmcontrast.distances import (
    chebyshev,
    cosine_distance,
    euclidean,
    manhattan,
    squared_euclidean,
)
from mmcontrast.distill import KLDistill, kl_distill
from mmcontrast.distributed import gather
from mmcontrast.exact.pair_tile import Tile
from mmcontrast.gate import Gate, ReplacementGate, replacement_gate, uniform_negatives
from mmcontrast.gradcache import GradCache
from mmcontrast.hybrid import (
    HybridContrast,
    Pairs,
    PairSelection,
    hardness_weights,
    hybrid_contrast,
    inter_modal_contrast,
    inter_modal_pairs,
    intra_modal_contrast,
    intra_modal_pairs,
    ratio_contrast,
    select_pairs,
    semi_contrast,
)
from mmcontrast.infonce import InfoNCE, info_nce, matched_pair_nce
from mmcontrast.joint import JointContrast, joint_contrast
from mmcontrast.mahalanobis import Mahalanobis
from mmcontrast.margin import Triplet, triplet
from mmcontrast.masks import IGNORE, different_label, labelled, off_diagonal, same_label
from mmcontrast.mining import HardNegatives, hard_negatives
from mmcontrast.multilevel import MultilevelContrast, multilevel_contrast
from mmcontrast.n_pair import n_pair
from mmcontrast.negatives import Negatives, add_noise, mixed_negatives, replace_tokens, shift, swap
from mmcontrast.pair_functions import (
    cross_batch_ids,
    different_id,
    hardness_bias,
    not_closer_than_partner,
)
from mmcontrast.pair_prediction import pair_prediction
from mmcontrast.picking import extreme, sample_one
from mmcontrast.queue import EmbeddingQueue, Extended
from mmcontrast.ranked import RankNContrast, rank_n_contrast
from mmcontrast.retrieval import Retrieval, retrieval
from mmcontrast.rows import (
    l2_normalize,
    shifted_cosine_normalize,
    softmax_normalize,
    softplus_normalize,
)
from mmcontrast.scores import (
    close_scores,
    far_scores,
    same_sign,
    score_distance,
    score_kernel,
    sentiment_classes,
)
from mmcontrast.sigmoid import SigmoidContrast, sigmoid_contrast
from mmcontrast.supervised import SupCon, sup_con
from mmcontrast.symmetric import SymmetricInfoNCE, symmetric_info_nce
from mmcontrast.temperature import LearnableTemperature
from mmcontrast.terms import LossTerms
from mmcontrast.triplet_mining import hard_triplets

try:
    __version__ = _version("mmcontrast")
except _PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "unknown"

__all__ = [
    "IGNORE",
    "AnchoredInfoNCE",
    "BalancedBatchSampler",
    "Diagnosis",
    "EmbeddingQueue",
    "Extended",
    "Gate",
    "GradCache",
    "HardNegatives",
    "HybridContrast",
    "InfoNCE",
    "JointContrast",
    "KLDistill",
    "LearnableTemperature",
    "LossTerms",
    "Mahalanobis",
    "ModalityCorrelationTriplet",
    "MultilevelContrast",
    "Negatives",
    "PairSelection",
    "Pairs",
    "RankNContrast",
    "ReplacementGate",
    "Retrieval",
    "SigmoidContrast",
    "SupCon",
    "SymmetricInfoNCE",
    "Tile",
    "Triplet",
    "add_noise",
    "anchored_info_nce",
    "chebyshev",
    "citation",
    "close_scores",
    "cosine_distance",
    "cross_batch_ids",
    "diagnose",
    "different_id",
    "different_label",
    "euclidean",
    "extreme",
    "far_scores",
    "gather",
    "hard_negatives",
    "hard_triplets",
    "hardness_bias",
    "hardness_weights",
    "hybrid_contrast",
    "info_nce",
    "inter_modal_contrast",
    "inter_modal_pairs",
    "intra_modal_contrast",
    "intra_modal_pairs",
    "joint_contrast",
    "kl_distill",
    "l2_normalize",
    "labelled",
    "manhattan",
    "matched_pair_nce",
    "mixed_negatives",
    "modality_correlation",
    "modality_correlation_triplet",
    "multilevel_contrast",
    "n_pair",
    "not_closer_than_partner",
    "off_diagonal",
    "pair_prediction",
    "pairwise",
    "rank_n_contrast",
    "ratio_contrast",
    "replace_tokens",
    "replacement_gate",
    "retrieval",
    "same_label",
    "same_sign",
    "sample_one",
    "score_distance",
    "score_kernel",
    "select_pairs",
    "semi_contrast",
    "sentiment_classes",
    "shift",
    "shifted_cosine_normalize",
    "sigmoid_contrast",
    "softmax_normalize",
    "softplus_normalize",
    "squared_euclidean",
    "sup_con",
    "swap",
    "symmetric_info_nce",
    "triplet",
    "uniform_negatives",
]
