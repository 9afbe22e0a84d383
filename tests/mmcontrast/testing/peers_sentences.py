"""sentence-transformers' losses under the suite, as its trainer calls them, on rows for sentences.

A loss that takes pairs of sentences with a score gets all pairs of a labelled batch, with 1 where
two labels are equal and 0 elsewhere.
"""

from functools import partial

import torch

from mmcontrast.testing import Traits
from tests.mmcontrast.testing.peers import (
    ENGINEERING,
    INFO_NCE,
    SYMMETRIC,
    Peer,
    all_pairs,
    distance,
    fixed,
    labelled,
    module,
)

LOSSES = "sentence_transformers.sentence_transformer.losses"


def sentence_loss(name, *others, **options):
    return getattr(module(LOSSES), name)(torch.nn.Identity(), *others, **options)


def sentence_transformers_ranking(temperature, **options):
    loss = sentence_loss("MultipleNegativesRankingLoss", scale=1 / temperature, **options)
    return lambda a, b: loss.compute_loss_from_embeddings([a, b], None)


def ranking_both_ways(temperature):
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    return sentence_transformers_ranking(temperature, **both)


def guided(temperature):
    """GISTEmbedLoss, with the rows themselves as the guide's."""
    loss = module(LOSSES).GISTEmbedLoss(reads_rows(), reads_rows(), temperature)
    return lambda a, b: loss([{"rows": a}, {"rows": b}], None)


def reads_rows():
    """A model whose sentences are rows already, with the tokenizer that GISTEmbedLoss asks for."""
    tokenizers, transformers = module("tokenizers"), module("transformers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    model = torch.nn.Module()
    model.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    model.max_seq_length = 8
    model.forward = lambda features: {"sentence_embedding": features["rows"]}
    return model


def mega_batch():
    loss = sentence_loss("MegaBatchMarginLoss", use_mini_batched_version=False)
    return lambda a, b: loss.calculate_loss([[a], [b]])


def of_triplets(margin, measure):
    chosen = getattr(module(LOSSES).TripletDistanceMetric, measure)
    loss = sentence_loss("TripletLoss", chosen, margin)
    return lambda a, p, n: loss.compute_loss_from_embeddings([a, p, n], None)


def of_scores(name):
    loss = sentence_loss(name)

    def call(z, labels):
        a, b, same = all_pairs(z, labels)
        return loss.compute_loss_from_embeddings([a, b], same.float())

    return call


def of_labels(name):
    loss = sentence_loss(name)
    return lambda z, labels: loss.compute_loss_from_embeddings([z], labels)


def hard_distance():
    """That of the losses BatchHard*: all distances of one matrix of rows."""
    found = module(LOSSES).BatchHardTripletLossDistanceFunction.euclidean_distance
    return lambda x, y: found(torch.cat([x, y]))[: len(x), len(x) :]


RAW = {"normalized": False, "translation_invariant": True}
PAIRS = {"smallest": 2, "needs_positive": False}

SENTENCES = {
    f"sentence-transformers {name}": peer
    for name, peer in {
        "MultipleNegativesRankingLoss": Peer(sentence_transformers_ranking, INFO_NCE),
        "MultipleNegativesRankingLoss, both ways": Peer(ranking_both_ways, SYMMETRIC),
        "GISTEmbedLoss": Peer(guided, Traits(discriminative=False, smooth=False, **ENGINEERING)),
        "MegaBatchMarginLoss": fixed(mega_batch),
        "TripletLoss": Peer(
            partial(of_triplets, measure="EUCLIDEAN"),
            Traits(kind="triplet", **RAW, **ENGINEERING),
            5.0,
        ),
        "TripletLoss, cosine": Peer(
            partial(of_triplets, measure="COSINE"), Traits(kind="triplet", **ENGINEERING), 0.5
        ),
        "TripletLoss, Manhattan": Peer(
            partial(of_triplets, measure="MANHATTAN"),
            Traits(kind="triplet", rotation_invariant=False, **RAW, **ENGINEERING),
            5.0,
        ),
        **{
            name: labelled(partial(of_scores, name), **PAIRS)
            for name in ("ContrastiveLoss", "OnlineContrastiveLoss", "CosineSimilarityLoss")
        },
        "CoSENTLoss": labelled(partial(of_scores, "CoSENTLoss")),
        "AnglELoss": labelled(
            partial(of_scores, "AnglELoss"),
            rotation_invariant=False,
            permutation_invariant=False,
            discriminative=False,
        ),
        **{
            name: labelled(partial(of_labels, name), **RAW)
            for name in (
                "BatchAllTripletLoss",
                "BatchHardTripletLoss",
                "BatchHardSoftMarginTripletLoss",
                "BatchSemiHardTripletLoss",
            )
        },
        "BatchHardTripletLossDistanceFunction": distance(
            hard_distance,
            matrix=True,
            rotation_invariant=True,
            translation_invariant=True,
            degree=1,
        ),
    }.items()
}
