"""lightly, open_clip, info-nce-pytorch, Symile, memeff and torch's own losses under the suite.

Each is called as its own documentation calls it: open_clip's and Symile's take rows that the caller
has normalised, so the caller here does that.
"""

import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F

from mmcontrast.testing import Traits
from tests.mmcontrast.testing.peers import (
    ENGINEERING,
    INFO_NCE,
    NT_XENT,
    SUP_CON,
    SYMMETRIC,
    Peer,
    all_pairs,
    distance,
    fixed,
    labelled,
    module,
)

# --- lightly, open_clip, info-nce-pytorch ---------------------------------------------------------


def lightly_loss(name, **options):
    return getattr(module("lightly.loss"), name)(**options)


def lightly_nt_xent(temperature):
    return lightly_loss("NTXentLoss", temperature=temperature)


def hypersphere():
    return module("lightly.loss.hypersphere_loss").HypersphereLoss()


def open_clip_clip(temperature):
    loss = module("open_clip.loss").ClipLoss()
    return lambda a, b: loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1), 1 / temperature)


def open_clip_sig_lip(temperature):
    loss = module("open_clip.loss").SigLipLoss()
    return lambda a, b: loss(
        F.normalize(a, dim=-1), F.normalize(b, dim=-1), 1 / temperature, logit_bias=-10.0
    )


def info_nce_pytorch(temperature):
    return module("info_nce").InfoNCE(temperature=temperature)


# --- formulas: no package, or none that runs without a GPU ----------------------------------------


def sup_contrast(temperature):
    """SupContrast publishes no package: its formula, with the maximum over the anchor's own too."""

    def call(z, labels):
        z = F.normalize(z, dim=1)
        others = 1 - torch.eye(len(z), dtype=z.dtype)
        positives = (labels[:, None] == labels).to(z.dtype) * others
        logits = z @ z.T / temperature
        logits = logits - logits.max(dim=1, keepdim=True).values.detach()
        shares = logits - (logits.exp() * others).sum(1, keepdim=True).log()
        number = positives.sum(1)
        return -((positives * shares).sum(1) / torch.where(number < 1e-6, 1, number)).mean()

    return call


def memeff_clip(temperature, *, both=True, stable=False):
    """memeff's kernels need a GPU: their formula, summed in float32, with a maximum of 1 assumed.

    ``stable``, its default, multiplies the gradient by sqrt(N * temperature).
    """

    def call(a, b):
        x, y = (F.normalize(z, dim=1) for z in (a, b))
        x, y = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in (x, y))
        logits = (x @ (y if both else y.detach()).T - 1) / temperature
        gaps = [
            logits.exp().sum(dim).log() - logits.diagonal() for dim in ((1, 0) if both else (1,))
        ]
        loss = torch.stack(gaps).mean()
        scale = math.sqrt(len(a) * temperature) if stable else 1.0
        return loss.detach() + scale * (loss - loss.detach()) if stable else loss

    return call


def symile(temperature, negatives):
    loss = module("symile").Symile(negatives)
    return lambda modal: loss([F.normalize(x, dim=-1) for x in modal.values()], 1 / temperature)


# --- torch's own ----------------------------------------------------------------------------------


def cross_entropy(temperature):
    """InfoNCE as most people write it."""

    def call(a, b):
        cosines = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
        return F.cross_entropy(cosines / temperature, torch.arange(len(a)))

    return call


def linear_cross_entropy(temperature):
    def call(a, b):
        a, b = F.normalize(a, dim=-1) / temperature, F.normalize(b, dim=-1)
        return F.linear_cross_entropy(a, b, torch.arange(len(a)))

    return call


def cosine_triplet():
    return torch.nn.TripletMarginWithDistanceLoss(distance_function=one_minus_cosine, margin=0.5)


def cosine_embedding(z, labels):
    a, b, same = all_pairs(z, labels)
    return F.cosine_embedding_loss(a, b, torch.where(same, 1, -1), margin=0.5)


def one_minus_cosine(x, y):
    return (1 - F.cosine_similarity(x, y, dim=-1)).clamp(min=0)  # a cosine may be rounded above 1


RAW = {"normalized": False, "rotation_invariant": False, "smallest": 2}
VIEWS = {"symmetric": True, "smallest": 2}
METRIC = {"rotation_invariant": True, "translation_invariant": True, "degree": 1}
SYMILE = Traits(kind="multimodal", rotation_invariant=False, discriminative=False, **ENGINEERING)

OTHERS = {
    "lightly NTXentLoss": Peer(lightly_nt_xent, NT_XENT),
    "lightly DCLLoss": fixed(partial(lightly_loss, "DCLLoss"), nonnegative=False, **VIEWS),
    "lightly DCLWLoss": fixed(
        partial(lightly_loss, "DCLWLoss"), nonnegative=False, discriminative=False, **VIEWS
    ),
    "lightly MACLLoss": fixed(partial(lightly_loss, "MACLLoss"), **VIEWS),
    "lightly NegativeCosineSimilarity": fixed(
        partial(lightly_loss, "NegativeCosineSimilarity"),
        symmetric=True,
        nonnegative=False,
        bounds=(-1, 1),
    ),
    "lightly HypersphereLoss": fixed(hypersphere, nonnegative=False, **VIEWS),
    "lightly BarlowTwinsLoss": fixed(partial(lightly_loss, "BarlowTwinsLoss"), **RAW),
    "lightly VICRegLoss": fixed(partial(lightly_loss, "VICRegLoss"), symmetric=True, **RAW),
    "lightly TiCoLoss": fixed(
        partial(lightly_loss, "TiCoLoss"), nonnegative=False, deterministic=False, smallest=2
    ),
    "open_clip ClipLoss": Peer(open_clip_clip, SYMMETRIC),
    "open_clip SigLipLoss": Peer(open_clip_sig_lip, Traits(symmetric=True, **ENGINEERING)),
    "info-nce-pytorch InfoNCE": Peer(info_nce_pytorch, INFO_NCE),
    "SupContrast's formula": Peer(sup_contrast, SUP_CON),
    "memeff's formula, MemoryEfficientCLIPLoss": Peer(partial(memeff_clip, stable=True), SYMMETRIC),
    "memeff's formula, MemoryEfficientCLIPLoss(stable=False)": Peer(memeff_clip, SYMMETRIC),
    "memeff's formula, MemoryEfficientLiTLoss(stable=False)": Peer(
        partial(memeff_clip, both=False),
        Traits(form="info_nce", differentiable=("a",), **ENGINEERING),
    ),
    "symile Symile('n')": Peer(
        partial(symile, negatives="n"),
        replace(SYMILE, permutation_invariant=False, deterministic=False, functional=False),
    ),
    "symile Symile('n_squared')": Peer(
        partial(symile, negatives="n_squared"),
        replace(SYMILE, symmetric=True),
    ),
    "torch cross_entropy of cosines": Peer(cross_entropy, INFO_NCE),
    "torch linear_cross_entropy of cosines": Peer(linear_cross_entropy, INFO_NCE),
    "torch TripletMarginLoss": fixed(
        torch.nn.TripletMarginLoss,
        kind="triplet",
        normalized=False,
        translation_invariant=True,
    ),
    "torch TripletMarginWithDistanceLoss, cosine": fixed(cosine_triplet, kind="triplet"),
    "torch cosine_embedding_loss": labelled(
        lambda: cosine_embedding, smallest=2, needs_positive=False
    ),
    "torch pairwise_distance": distance(lambda: F.pairwise_distance, **METRIC),
    "torch cdist": distance(lambda: torch.cdist, matrix=True, **METRIC),
    "torch cosine_similarity from 1": distance(
        lambda: one_minus_cosine,
        metric=False,
        normalized=True,
        rotation_invariant=True,
        bounds=(0, 2),
    ),
}
