"""What our losses equal in other libraries: the calls side by side, and what differs.

One list, which ``test_peers.py`` evaluates and the site's tables show. In the calls, x, y and z
are (7, 5) rows of any length and direction, ``unit`` scales rows to length one, t is a temperature,
b a bias and m a margin; ``labels`` has classes of two and three rows and ``ids`` one for each row.
"""

from dataclasses import dataclass

OPEN_CLIP = "open_clip"
METRIC_LEARNING = "pytorch-metric-learning"
SENTENCES = "sentence-transformers"
LIGHTLY = "lightly"
INFO_NCE = "info-nce-pytorch"
SYMILE = "symile"
TORCH = "torch"
# By library, the modules that its calls name; torch's own are there in every call.
MODULES = {
    OPEN_CLIP: ("open_clip.loss",),
    METRIC_LEARNING: (
        "pytorch_metric_learning.losses",
        "pytorch_metric_learning.distances",
        "pytorch_metric_learning.reducers",
    ),
    SENTENCES: ("sentence_transformers.losses",),
    LIGHTLY: ("lightly.loss",),
    INFO_NCE: ("info_nce",),
    SYMILE: ("symile",),
    TORCH: (),
}


@dataclass(frozen=True)
class Case:
    function: str
    """The public name of ours."""
    ours: str
    library: str
    theirs: str
    differs: str = ""
    """Beyond the arguments, in a sentence."""
    inputs: str = "xy"
    """What gradients are compared for."""


CASES = [
    Case(
        "info_nce",
        "info_nce(x, y, temperature=t)",
        INFO_NCE,
        "InfoNCE(temperature=t)(x, y)",
        "A row of zeros is NaN in float16.",
    ),
    Case(
        "info_nce",
        "info_nce(x, cat([y, z]), keep=cat([eye, ones], 1), temperature=t)",
        INFO_NCE,
        "InfoNCE(temperature=t)(x, y, z)",
        "Once it is given negatives, the partners of other samples are none: `keep=` says so.",
        "xyz",
    ),
    Case(
        "info_nce",
        "info_nce(x, cat([y, z]), temperature=t)",
        SENTENCES,
        "MultipleNegativesRankingLoss(model, scale=1 / t).compute_loss_from_embeddings("
        "[x, y, z], None)",
        "It takes columns of texts and encodes them itself.",
        "xyz",
    ),
    Case(
        "info_nce",
        "(info_nce(x, y, temperature=t) + info_nce(y, x, temperature=t)) / 2",
        OPEN_CLIP,
        "ClipLoss()(unit(x), unit(y), 1 / t)",
        "It has no call for one direction.",
    ),
    Case(
        "info_nce",
        "info_nce(x, y, temperature=t)",
        METRIC_LEARNING,
        "NTXentLoss(temperature=t)(x, ids, ref_emb=y, ref_labels=ids.clone())",
        "Adds the dtype's smallest number inside its logarithm: float16 saturates.",
    ),
    Case(
        "info_nce",
        "info_nce(x, cat([y, x]), keep=cat([ones, ~eye], 1), temperature=t)",
        SENTENCES,
        "MultipleNegativesRankingLoss(model, scale=1 / t, directions=('query_to_doc',"
        " 'query_to_query')).compute_loss_from_embeddings([x, y], None)",
    ),
    Case(
        "info_nce",
        "info_nce(cat([unit(x), unit(y)], 1), cat([cat([unit(y), 0 * y], 1),"
        " cat([unit(x), 0 * x], 1), cat([0 * x, unit(x)], 1), cat([0 * y, unit(y)], 1)]),"
        " keep=cat([ones, ~eye, ones, ~eye], 1), normalize=None, temperature=t)",
        SENTENCES,
        "MultipleNegativesRankingLoss(model, scale=1 / t, directions=('query_to_doc',"
        " 'query_to_query', 'doc_to_query', 'doc_to_doc')).compute_loss_from_embeddings("
        "[x, y], None)",
        "One softmax of a pair's four directions: a direction that is left out takes its columns"
        " with it, and `doc_to_query` counts the positive once more.",
    ),
    Case(
        "info_nce",
        "info_nce(x, y, smoothing=0.2, temperature=t)",
        TORCH,
        "F.cross_entropy(unit(x) @ unit(y).mT / t, ids, label_smoothing=0.2)",
    ),
    Case(
        "symmetric_info_nce",
        "symmetric_info_nce(x, y, within=True, temperature=t)",
        LIGHTLY,
        "NTXentLoss(temperature=t)(x, y)",
        "It has a memory bank of its own, off by default.",
    ),
    Case(
        "symmetric_info_nce",
        "symmetric_info_nce(x, y, decoupled=True, within=True, temperature=t)",
        LIGHTLY,
        "DCLLoss(temperature=t)(x, y)",
    ),
    Case(
        "symmetric_info_nce",
        "symmetric_info_nce(x, y, temperature=t)",
        OPEN_CLIP,
        "ClipLoss()(unit(x), unit(y), 1 / t)",
        "The caller scales the rows; over ranks, gradients are cut off unless"
        " `gather_with_grad=True`.",
    ),
    Case(
        "symmetric_info_nce",
        "symmetric_info_nce(x, y, temperature=t)",
        SENTENCES,
        "MultipleNegativesRankingLoss(model, scale=1 / t, partition_mode='per_direction',"
        " directions=('query_to_doc', 'doc_to_query')).compute_loss_from_embeddings([x, y], None)",
        "Its default, `'joint'`, is one softmax over both directions.",
    ),
    Case(
        "sigmoid_contrast",
        "sigmoid_contrast(x, y, temperature=t, bias=b)",
        OPEN_CLIP,
        "SigLipLoss()(unit(x), unit(y), 1 / t, b)",
        "The caller scales the rows.",
        "xyb",
    ),
    Case(
        "sup_con",
        "sup_con(x, labels, temperature=t)",
        METRIC_LEARNING,
        "SupConLoss(temperature=t)(x, labels)",
        "Its mean leaves out the losses that are 0, so one that underflows changes what it divides"
        " by; a batch of one class is 0.",
        "x",
    ),
    Case(
        "sup_con",
        "sup_con(cat([x, y]), ids.repeat(2), temperature=t)",
        METRIC_LEARNING,
        "NTXentLoss(temperature=t)(cat([x, y]), ids.repeat(2))",
        "With several positives it is a mean over pairs, each against the negatives alone.",
    ),
    Case(
        "sup_con",
        "sup_con(cat([x, y]), ids.repeat(2), temperature=t)",
        LIGHTLY,
        "NTXentLoss(temperature=t)(x, y)",
        "It has no labels, and a memory bank of its own, off by default.",
    ),
    Case(
        "joint_contrast",
        "joint_contrast({'x': x, 'y': y, 'z': z}, negatives='all', temperature=t).total",
        SYMILE,
        "Symile('n_squared')([unit(x), unit(y), unit(z)], 1 / t)",
        "The caller scales the rows; it holds all B^3 products, and has no call for missing rows.",
        "xyz",
    ),
    Case(
        "n_pair",
        "n_pair(x, y)",
        METRIC_LEARNING,
        "NPairsLoss(distance=DotProductSimilarity(normalize_embeddings=False))("
        "cat([x, y]), ids.repeat(2))",
        "It scales rows to length one by default, and draws one pair for each label.",
    ),
    Case(
        "n_pair",
        "n_pair(unit(x), unit(y))",
        INFO_NCE,
        "InfoNCE(temperature=1.0)(x, y)",
        "It scales rows to length one.",
    ),
    Case(
        "triplet",
        "triplet(x, y, z, margin=m)",
        METRIC_LEARNING,
        "TripletMarginLoss(margin=m, distance=LpDistance(normalize_embeddings=False),"
        " reducer=MeanReducer())(cat([x, y, z]), cat([ids, ids, ids + 7]),"
        " (ids, ids + 7, ids + 14))",
        "By default it scales rows to length one, and its mean leaves out the triplets that are 0.",
        "xyz",
    ),
    Case(
        "triplet",
        "triplet(x, y, z, margin=m, swap=True, soft=True)",
        METRIC_LEARNING,
        "TripletMarginLoss(margin=m, swap=True, smooth_loss=True,"
        " distance=LpDistance(normalize_embeddings=False),"
        " reducer=MeanReducer())(cat([x, y, z]), cat([ids, ids, ids + 7]),"
        " (ids, ids + 7, ids + 14))",
        inputs="xyz",
    ),
    Case(
        "triplet",
        "triplet(x, y, z, margin=m, distance=cosine_distance)",
        SENTENCES,
        "TripletLoss(model, TripletDistanceMetric.COSINE, m).compute_loss_from_embeddings("
        "[x, y, z], None)",
        "Its Euclidean distance adds 1e-6 to every difference.",
        "xyz",
    ),
    Case(
        "triplet",
        "triplet(x, y, z, margin=m, distance=squared_euclidean)",
        TORCH,
        "F.triplet_margin_with_distance_loss(x, y, z, margin=m,"
        " distance_function=squared_euclidean)",
        inputs="xyz",
    ),
    Case(
        "kl_distill",
        "kl_distill(x, y.detach())",
        TORCH,
        "F.kl_div(x.log_softmax(-1), y.detach().softmax(-1), reduction='batchmean')",
        "Its default, `'mean'`, divides by the features as well; its temperature is the caller's.",
        "x",
    ),
    Case(
        "pair_prediction",
        "pair_prediction(x[:, :2], paired)",
        TORCH,
        "F.cross_entropy(x[:, :2], paired)",
        "In float32 it is 0 where one class leads by more than 16.",
        "x",
    ),
]
