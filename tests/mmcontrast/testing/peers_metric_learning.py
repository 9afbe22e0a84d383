"""pytorch-metric-learning under the suite: its losses, miners and distances."""

from functools import partial

import torch

from mmcontrast import euclidean, l2_normalize
from mmcontrast.testing import Traits
from tests.mmcontrast.testing.peers import (
    ENGINEERING,
    INFO_NCE,
    NT_XENT,
    SUP_CON,
    Peer,
    distance,
    fixed,
    labelled,
    miner,
    module,
)


def pml_loss(name, **options):
    return getattr(module("pytorch_metric_learning.losses"), name)(**options)


def pml_nt_xent(temperature):
    loss = pml_loss("NTXentLoss", temperature=temperature)

    def call(a, b):
        ids = torch.arange(len(a))
        return loss(a, ids, ref_emb=b, ref_labels=ids.clone())

    return call


def pml_views(temperature):
    return pml_loss("SelfSupervisedLoss", loss=pml_loss("NTXentLoss", temperature=temperature))


def pml_sup_con(temperature):
    return pml_loss("SupConLoss", temperature=temperature)


def pml_memory(temperature):
    """A queue that the loss fills itself, for rows of three features."""
    loss = pml_loss("NTXentLoss", temperature=temperature)
    return pml_loss("CrossBatchMemory", loss=loss, embedding_size=3, memory_size=16)


def pml_triplet(margin):
    loss = pml_loss("TripletMarginLoss", margin=margin)

    def call(a, p, n):
        ids = torch.arange(len(a))
        rows = torch.cat([a, p, n])
        labels = torch.cat([ids, ids, ids + len(a)])
        return loss(rows, labels, (ids, ids + len(a), ids + 2 * len(a)))

    return call


def pml_vicreg():
    loss = pml_loss("VICRegLoss")
    return lambda a, b: loss(a, ref_emb=b)


def pml_miner(name, **options):
    return getattr(module("pytorch_metric_learning.miners"), name)(**options)


def pml_distance(name, **options):
    return getattr(module("pytorch_metric_learning.distances"), name)(**options)


def pml_cosine_distance():
    similarity = pml_distance("CosineSimilarity")
    return lambda x, y: (1 - similarity(x, y)).clamp(min=0)  # a cosine may be rounded above 1


def of_unit_rows(x, y):
    return euclidean(l2_normalize(x), l2_normalize(y))


BY_LABEL = {
    # name: what it claims beyond the usual
    "AngularLoss": {},
    "CircleLoss": {"smooth": False},
    "ContrastiveLoss": {"needs_positive": False},
    "DynamicSoftMarginLoss": {"nonnegative": False, "deterministic": False, "smooth": False},
    "FastAPLoss": {},
    "GeneralizedLiftedStructureLoss": {"needs_positive": False},
    "HistogramLoss": {},
    "InstanceLoss": {"needs_positive": False},
    "IntraPairVarianceLoss": {"needs_positive": False, "discriminative": False},
    "LiftedStructureLoss": {},
    "MarginLoss": {"needs_positive": False},
    "MultiSimilarityLoss": {"needs_positive": False},
    "NCALoss": {},
    "NPairsLoss": {"permutation_invariant": False, "normalized": False},
    "PNPLoss": {},
    "RankedListLoss": {"needs_positive": False},
    "SignalToNoiseRatioContrastiveLoss": {
        "needs_positive": False,
        "rotation_invariant": False,
    },
    "ThresholdConsistentMarginLoss": {"needs_positive": False},
    "TripletMarginLoss": {},
    "TupletMarginLoss": {},
}
OPTIONS = {
    "RankedListLoss": {"margin": 1, "Tn": 0},
}
WITH_CLASSES = {
    "ArcFaceLoss": {},
    "CosFaceLoss": {},
    "LargeMarginSoftmaxLoss": {"normalized": False},
    "NormalizedSoftmaxLoss": {},
    "P2SGradLoss": {"functional": False},
    "ProxyAnchorLoss": {},
    "ProxyNCALoss": {},
    "SoftTripleLoss": {},
    "SphereFaceLoss": {"normalized": False},
    "SubCenterArcFaceLoss": {},
}
CLASSES = {"features": 3, "classes": 3, "needs_positive": False, "smooth": False}


def with_classes(name):
    torch.manual_seed(0)  # of its weights
    if name == "SubCenterArcFaceLoss":  # takes them by name alone
        return pml_loss(name, num_classes=3, embedding_size=3)
    return getattr(module("pytorch_metric_learning.losses"), name)(3, 3)


HARDEST = {"distance": of_unit_rows}
SOME = {"hardest": ()}
DRAWN = {
    "hardest": (),
    "deterministic": False,
    **dict.fromkeys(("permutation_invariant", "normalized", "rotation_invariant"), False),
}
MINERS = {
    "BatchHardMiner": HARDEST,
    "BatchEasyHardMiner": SOME,
    "MultiSimilarityMiner": SOME,
    "TripletMarginMiner": SOME,
    "PairMarginMiner": SOME,
    "AngularMiner": SOME,
    "HDCMiner": SOME,
    "UniformHistogramMiner": DRAWN,
    "DistanceWeightedMiner": DRAWN,
}
MINER_OPTIONS = {"UniformHistogramMiner": {"num_bins": 10, "pos_per_bin": 2, "neg_per_bin": 2}}

LP = partial(pml_distance, "LpDistance", normalize_embeddings=False)
NOT_A_METRIC = {"metric": False, "matrix": True, "normalized": True}

METRIC_LEARNING = {
    f"pytorch-metric-learning {name}": peer
    for name, peer in {
        "NTXentLoss": Peer(pml_nt_xent, INFO_NCE),
        "SelfSupervisedLoss(NTXentLoss)": Peer(pml_views, NT_XENT),
        "SupConLoss": Peer(pml_sup_con, SUP_CON),
        "CrossBatchMemory": Peer(
            pml_memory,
            Traits(kind="labelled", features=3, deterministic=False, needs_positive=False),
        ),
        "TripletMarginLoss of triplets": Peer(
            pml_triplet, Traits(kind="triplet", **ENGINEERING), 0.2
        ),
        **{
            name: labelled(partial(pml_loss, name, **OPTIONS.get(name, {})), **claims)
            for name, claims in BY_LABEL.items()
        },
        **{
            name: labelled(partial(with_classes, name), **{**CLASSES, **claims})
            for name, claims in WITH_CLASSES.items()
        },
        "VICRegLoss": fixed(
            pml_vicreg, normalized=False, rotation_invariant=False, smallest=2, symmetric=True
        ),
        **{
            name: miner(partial(pml_miner, name, **MINER_OPTIONS.get(name, {})), **claims)
            for name, claims in MINERS.items()
        },
        "LpDistance": distance(
            partial(pml_distance, "LpDistance"), rotation_invariant=True, **NOT_A_METRIC
        ),
        "LpDistance of raw rows": distance(
            LP, matrix=True, rotation_invariant=True, translation_invariant=True, degree=1
        ),
        "LpDistance, p = 1": distance(
            partial(LP, p=1), matrix=True, translation_invariant=True, degree=1
        ),
        "LpDistance, squared": distance(
            partial(LP, power=2),
            metric=False,
            matrix=True,
            rotation_invariant=True,
            translation_invariant=True,
            degree=2,
        ),
        "SNRDistance": distance(
            partial(pml_distance, "SNRDistance"),
            symmetric=False,
            rotation_invariant=False,
            features=3,
            **NOT_A_METRIC,
        ),
        "CosineSimilarity from 1": distance(
            pml_cosine_distance, rotation_invariant=True, bounds=(0, 2), **NOT_A_METRIC
        ),
    }.items()
}
