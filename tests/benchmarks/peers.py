"""The other libraries, each imported when it is measured; ``make bench`` installs them."""

import importlib
import sys
import types
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.benchmarks import joint
from tests.benchmarks.cases import (
    BATCH_HARD,
    BIAS,
    NT_XENT,
    ONE_WAY,
    SCALE,
    SHUFFLED,
    SIGMOID,
    SUP_CON,
    SYMMETRIC,
    TEMPERATURE,
    Call,
    Case,
)

OPEN_CLIP = "open_clip"
CHUNKED = "torch linear_cross_entropy"
METRIC_LEARNING = "pytorch-metric-learning"
SYMILE = "symile"


def module(name: str) -> types.ModuleType:
    """A library, without its warnings; ImportError where it is not installed."""
    # torchvision's operators are not registered beside a CPU build of torch, and nothing here
    # needs them: this empty module stands in for the one that would look for them.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("_meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def both(way: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Call:
    """The two directions' mean of a loss that has one."""

    def loss(inputs) -> Tensor:
        x, y = inputs.rows
        return (way(x, y, inputs.labels) + way(y, x, inputs.labels)) / 2

    return loss


def one(way: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Call:
    return lambda inputs: way(*inputs.rows, inputs.labels)


def clip() -> Call:
    loss = module("open_clip.loss").ClipLoss()
    return lambda inputs: loss(*inputs.rows, SCALE)


def sig_lip() -> Call:
    loss = module("open_clip.loss").SigLipLoss()
    return lambda inputs: loss(*inputs.rows, SCALE, BIAS)


def chunked() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise ImportError("torch.nn.LinearCrossEntropyOptions, from torch 2.13 on")
    options = torch.nn.LinearCrossEntropyOptions()
    return lambda x, y, ids: F.linear_cross_entropy(x * SCALE, y, ids, options=options)


def info_nce() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    loss = module("info_nce").InfoNCE(temperature=TEMPERATURE)
    return lambda x, y, ids: loss(x, y)


def ranking(**options) -> Call:
    losses = module("sentence_transformers.losses")
    loss = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=SCALE, **options)
    return lambda inputs: loss.compute_loss_from_embeddings(list(inputs.rows), None)


def symmetric_ranking() -> Call:
    return ranking(directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")


def nt_xent_of_pairs() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    loss = module("pytorch_metric_learning.losses").NTXentLoss(temperature=TEMPERATURE)
    # The same tensor twice would stand for the same rows, and the loss would be 0.
    return lambda x, y, ids: loss(x, ids, ref_emb=y, ref_labels=ids.clone())


def sup_con() -> Call:
    loss = module("pytorch_metric_learning.losses").SupConLoss(temperature=TEMPERATURE)
    return lambda inputs: loss(*inputs.rows, inputs.labels)


def batch_hard() -> Call:
    mean = module("pytorch_metric_learning.reducers").MeanReducer()
    miner = module("pytorch_metric_learning.miners").BatchHardMiner()
    losses = module("pytorch_metric_learning.losses")
    loss = losses.TripletMarginLoss(margin=1.0, reducer=mean)
    return lambda inputs: loss(
        *inputs.rows, inputs.labels, miner(inputs.rows[0].detach(), inputs.labels)
    )


def nt_xent() -> Call:
    loss = module("lightly.loss").NTXentLoss(temperature=TEMPERATURE)
    return lambda inputs: loss(*inputs.rows)


def symile() -> Call:
    loss = module("symile").Symile()

    def seeded(inputs) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(joint.seed(len(inputs.rows[0])))
            return loss(list(inputs.rows), SCALE)

    return seeded


# What each holds at once was measured; see Case.matrices.
CASES = [
    Case(SYMMETRIC.name, OPEN_CLIP, clip, 4),
    Case(SYMMETRIC.name, CHUNKED, lambda: both(chunked())),
    Case(SYMMETRIC.name, "info-nce-pytorch", lambda: both(info_nce()), 4),
    Case(SYMMETRIC.name, "sentence-transformers", symmetric_ranking, 5),
    Case(SYMMETRIC.name, METRIC_LEARNING, lambda: both(nt_xent_of_pairs()), largest=256),
    Case(ONE_WAY.name, CHUNKED, lambda: one(chunked())),
    Case(ONE_WAY.name, "info-nce-pytorch", lambda: one(info_nce()), 3),
    Case(ONE_WAY.name, "sentence-transformers", ranking, 4),
    Case(ONE_WAY.name, METRIC_LEARNING, lambda: one(nt_xent_of_pairs()), largest=256),
    Case(SIGMOID.name, OPEN_CLIP, sig_lip, 6),
    Case(SUP_CON.name, METRIC_LEARNING, sup_con, 12),
    Case(NT_XENT.name, "lightly", nt_xent, 17),
    Case(BATCH_HARD.name, METRIC_LEARNING, batch_hard, 8),
    Case(SHUFFLED.name, SYMILE, symile, 8),
]
