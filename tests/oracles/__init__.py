"""The papers' equations as float64 loops over samples: slow, plain, and independent of the library.

Nothing here is vectorised beyond a dot product, and nothing is imported from `mmcontrast`.
Arguments are numpy arrays, or anything `np.asarray` takes, and carry the library's names.
A "per anchor" list holds ``None`` for an anchor that drops out.
"""

from tests.oracles.chance import p_value
from tests.oracles.correlation import modality_correlation, modality_correlation_triplet
from tests.oracles.derivatives import central_differences
from tests.oracles.distances import (
    DISTANCES,
    chebyshev,
    cosine_distance,
    covariance_of,
    euclidean,
    mahalanobis,
    manhattan,
    pairwise,
    squared_euclidean,
)
from tests.oracles.distill import kl_distill
from tests.oracles.gate import outcome_probabilities, pair_prediction, replacements
from tests.oracles.hybrid import (
    hybrid_contrast,
    inter_modal_contrast,
    intra_modal_contrast,
    semi_contrast,
)
from tests.oracles.infonce import anchored_info_nce, info_nce, matched_pair_nce, symmetric_info_nce
from tests.oracles.joint import joint_contrast, joint_score
from tests.oracles.margin import triplet
from tests.oracles.masks import both_labelled, classes_of, pair_mask, unlabelled
from tests.oracles.mining import (
    distant_triplets,
    hard_negatives,
    hard_triplets,
    limited_candidates,
    ranked_candidates,
)
from tests.oracles.multilevel import multilevel_contrast
from tests.oracles.negatives import deviations, real_frames, shifted, swap_choices
from tests.oracles.ranked import rank_n_contrast
from tests.oracles.ratio import ratio_contrast
from tests.oracles.rows import is_present, rows
from tests.oracles.selection import FrozenWeights, hardness_weights, lowest, select_pairs
from tests.oracles.sigmoid import sigmoid_contrast
from tests.oracles.supervised import n_pair, sup_con

__all__ = [
    "DISTANCES",
    "FrozenWeights",
    "anchored_info_nce",
    "both_labelled",
    "central_differences",
    "chebyshev",
    "classes_of",
    "cosine_distance",
    "covariance_of",
    "deviations",
    "distant_triplets",
    "euclidean",
    "hard_negatives",
    "hard_triplets",
    "hardness_weights",
    "hybrid_contrast",
    "info_nce",
    "inter_modal_contrast",
    "intra_modal_contrast",
    "is_present",
    "joint_contrast",
    "joint_score",
    "kl_distill",
    "limited_candidates",
    "lowest",
    "mahalanobis",
    "manhattan",
    "matched_pair_nce",
    "modality_correlation",
    "modality_correlation_triplet",
    "multilevel_contrast",
    "n_pair",
    "outcome_probabilities",
    "p_value",
    "pair_mask",
    "pair_prediction",
    "pairwise",
    "rank_n_contrast",
    "ranked_candidates",
    "ratio_contrast",
    "real_frames",
    "replacements",
    "rows",
    "select_pairs",
    "semi_contrast",
    "shifted",
    "sigmoid_contrast",
    "squared_euclidean",
    "sup_con",
    "swap_choices",
    "symmetric_info_nce",
    "triplet",
    "unlabelled",
]
