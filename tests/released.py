"""The public names of released versions with their arguments: positional ones, ``*``, keywords.

A name or argument of a release stays, or is deprecated for two minor versions before it goes. When
a version is released, its names are added here.
"""

import re

_0_1 = """
AnchoredInfoNCE: * anchor direction temperature normalize reduction group
Diagnosis: alignment anchor_uniformity candidate_uniformity gap loss chance accuracy anchor_rank
    candidate_rank effective_negatives false_negatives edges positives negatives hardest
EmbeddingQueue: size features * dtype
Gate: source paired
GradCache: encoders loss * chunk_size backward
HardNegatives: indices scores valid
HybridContrast: * margin weights refine log selection refine_on normalize reduction group
IGNORE:
InfoNCE: * temperature normalize reduction chunk_size group
KLDistill: * temperature direction reduction group
LearnableTemperature: initial * minimum maximum
LossTerms: terms weights
Mahalanobis: covariance * trainable
ModalityCorrelationTriplet: * margin distance reduce skip_unaltered reduction group
MultilevelContrast: * weights temperature symmetric pair_design normalize reduction chunk_size
    group
Negatives: features altered masks lengths
PairSelection: fraction gamma positives negatives unselected inter_factor
Pairs: anchors candidates positives negatives here
ReplacementGate: probability
SigmoidContrast: * temperature bias normalize reduction chunk_size group
SupCon: * form temperature normalize reduction chunk_size group
SymmetricInfoNCE: * temperature normalize reduction chunk_size group
Triplet: * margin distance hinge reduction group
add_noise: features * std relative modalities present masks lengths generator
anchored_info_nce: features * anchor direction temperature present weight normalize reduction
    group
chebyshev: x y
close_scores: scores others * tolerance
cosine_distance: x y
diagnose: anchors candidates targets * labels candidate_labels temperature k normalize chunk_size
different_label: labels others
euclidean: x y
extreme: similarity mask * largest
gather: x group
hard_negatives: anchors candidates k * targets allowed labels candidate_labels exclude_positive
    normalize chunk_size group
hard_triplets: anchors labels * normalize chunk_size group
hardness_weights: similarity positives negatives * gamma
hybrid_contrast: features labels * margin weights refine log selection refine_on positives
    negatives normalize present weight reduction group
info_nce: anchors candidates targets * temperature positives keep weight normalize reduction
    chunk_size group
inter_modal_contrast: features labels * margin refine log selection refine_on positives negatives
    normalize present weight reduction group
inter_modal_pairs: features labels * positives negatives present
intra_modal_contrast: features labels * refine log selection refine_on positives negatives
    normalize present weight reduction group
intra_modal_pairs: features labels * positives negatives present
kl_distill: student teacher * temperature direction mask weight reduction group
l2_normalize: x
manhattan: x y
matched_pair_nce: x y * temperature keep weight normalize reduction group
mixed_negatives: features * allowed steps text shift_all padding_id std relative vocabulary_size
    probability special modalities present masks lengths generator
modality_correlation: x y * reduce mask
modality_correlation_triplet: features negatives * altered margin distance reduce skip_unaltered
    present weight reduction group
multilevel_contrast: levels * weights temperature symmetric pair_design labels positives keep
    weight normalize reduction chunk_size group
n_pair: anchors candidates targets * positives keep weight normalize reduction group
off_diagonal: n device
pair_prediction: logits paired * weight keep reduction
pairwise: distance x y
ratio_contrast: similarity positives negatives * log weight reduction group
replace_tokens: features * vocabulary_size probability special modalities present masks lengths
    generator
replacement_gate: negatives * probability generator training
same_label: labels others
same_sign: scores others
sample_one: mask * generator
score_kernel: scores others * bandwidth shape
select_pairs: similarity positives negatives * selection batch_size
semi_contrast: features * margin normalize present weight reduction group
sentiment_classes: scores * neutral
shift: features * steps text shift_all padding_id modalities present masks lengths generator
shifted_cosine_normalize: x
sigmoid_contrast: x y * temperature bias positives keep weight normalize reduction chunk_size
    group
softmax_normalize: x
softplus_normalize: x
squared_euclidean: x y
sup_con: anchors labels candidates candidate_labels * form temperature positives keep weight
    normalize reduction chunk_size group
swap: features * modalities allowed present masks lengths generator
symmetric_info_nce: x y * temperature positives keep weight normalize reduction chunk_size group
triplet: anchors positives negatives * margin distance hinge keep weight reduction group
uniform_negatives: anchors k * allowed generator
"""


def _parsed(text: str) -> dict[str, str]:
    """Name -> arguments; a line that is indented goes on with the one before it."""
    lines = re.sub(r"\n +", " ", text).strip().splitlines()
    return {name: arguments.strip() for name, arguments in (line.split(":") for line in lines)}


RELEASED = {"0.1": _parsed(_0_1)}
