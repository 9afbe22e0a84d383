"""HyCon: contrast by class within a modality, across modalities and within a sample.

One public function a file: ``intra`` (eq. 7-9), ``inter`` (eq. 10-12), ``semi`` (eq. 6), their
weighted sum ``hybrid`` (eq. 16), the contrast without exponentials ``ratio`` (eq. 5), HyCon-v2's
``selection`` of pairs (eq. 13-15), and the ``pairs`` themselves. The calls below the losses::

    hybrid_contrast, intra_modal_contrast, inter_modal_contrast
      Settings                      the arguments that all of them share        settings
      evaluate                      checks, terms, reduction                    engine
        relations, participation    positives, negatives, missing modalities    pairs
        contrasted_values           one of three ways to the (B, M) values      contrasts
          values_by_moments         large batches: sums over classes            moments
            sort_by_size, cut_...   the batch by class, in parts                class_parts
            sum_classes             sums and moments of classes                 class_sums
            large_class_sums, ...   sums over the pairs of a part               part_sums, row_sums
          all_pairs                 all similarities                            similarities
          selected_pairs            the hardest pairs, weighted                 similarities
        term_values                 sums over pairs -> ratio and refinement     pair_sums
        semi_losses                 the third term                              semi
"""

from mmcontrast.hybrid.hybrid import HybridContrast, hybrid_contrast
from mmcontrast.hybrid.inter import inter_modal_contrast
from mmcontrast.hybrid.intra import intra_modal_contrast
from mmcontrast.hybrid.pairs import Pairs, inter_modal_pairs, intra_modal_pairs
from mmcontrast.hybrid.ratio import ratio_contrast
from mmcontrast.hybrid.selection import PairSelection, hardness_weights, select_pairs
from mmcontrast.hybrid.semi import semi_contrast

__all__ = [
    "HybridContrast",
    "PairSelection",
    "Pairs",
    "hardness_weights",
    "hybrid_contrast",
    "inter_modal_contrast",
    "inter_modal_pairs",
    "intra_modal_contrast",
    "intra_modal_pairs",
    "ratio_contrast",
    "select_pairs",
    "semi_contrast",
]
