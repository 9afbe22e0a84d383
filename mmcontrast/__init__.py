"""Contrastive losses and miners for multimodal learning: exact, vectorized, independent.

Every loss is a function with a thin Module of the same name; all names are flat in this package.
"""

from mmcontrast.anchored import AnchoredInfoNCE, anchored_info_nce
from mmcontrast.distances import euclidean, squared_euclidean
from mmcontrast.hybrid import (
    HybridContrast,
    hybrid_contrast,
    inter_modal_contrast,
    intra_modal_contrast,
    semi_contrast,
)
from mmcontrast.infonce import (
    InfoNCE,
    SymmetricInfoNCE,
    info_nce,
    matched_pair_nce,
    symmetric_info_nce,
)
from mmcontrast.margin import Triplet, triplet
from mmcontrast.masks import (
    IGNORE,
    close_scores,
    different_label,
    off_diagonal,
    same_label,
    same_sign,
    score_kernel,
    sentiment_classes,
)
from mmcontrast.mining import (
    HardNegatives,
    PairSelection,
    extreme,
    hard_negatives,
    hard_triplets,
    hardness_weights,
    sample_one,
    select_pairs,
)
from mmcontrast.pairs import Pairs, inter_modal_pairs, intra_modal_pairs
from mmcontrast.queue import EmbeddingQueue
from mmcontrast.rows import (
    l2_normalize,
    shifted_cosine_normalize,
    softmax_normalize,
    softplus_normalize,
)
from mmcontrast.supervised import SupCon, n_pair, ratio_contrast, sup_con
from mmcontrast.temperature import LearnableTemperature
from mmcontrast.terms import LossTerms

__version__ = "0.1.0"
__all__ = [
    "IGNORE",
    "AnchoredInfoNCE",
    "EmbeddingQueue",
    "HardNegatives",
    "HybridContrast",
    "InfoNCE",
    "LearnableTemperature",
    "LossTerms",
    "PairSelection",
    "Pairs",
    "SupCon",
    "SymmetricInfoNCE",
    "Triplet",
    "anchored_info_nce",
    "close_scores",
    "different_label",
    "euclidean",
    "extreme",
    "hard_negatives",
    "hard_triplets",
    "hardness_weights",
    "hybrid_contrast",
    "info_nce",
    "inter_modal_contrast",
    "inter_modal_pairs",
    "intra_modal_contrast",
    "intra_modal_pairs",
    "l2_normalize",
    "matched_pair_nce",
    "n_pair",
    "off_diagonal",
    "ratio_contrast",
    "same_label",
    "same_sign",
    "sample_one",
    "score_kernel",
    "select_pairs",
    "semi_contrast",
    "sentiment_classes",
    "shifted_cosine_normalize",
    "softmax_normalize",
    "softplus_normalize",
    "squared_euclidean",
    "sup_con",
    "symmetric_info_nce",
    "triplet",
]
