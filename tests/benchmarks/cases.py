"""What is measured: the losses, their inputs, our own cases and plain PyTorch's.

All losses get rows of unit length, and are told so where they take it, so that none does more than
it has to. Every case of one loss computes the same number.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import mmcontrast
from tests.benchmarks import corpus_search, hycon, joint, own_negatives, rank_contrast

TEMPERATURE = 0.07
SCALE = 1 / TEMPERATURE
BIAS = -10.0
PER_CLASS = 8
K = 10
OURS = "mmcontrast"
PLAIN = "mmcontrast, all at once"
BY_PAIRS = "mmcontrast, by pairs"
OWN = (OURS, PLAIN, BY_PAIRS)
BY_ID = "mmcontrast, keep=different_id"
COPIES = "mmcontrast, keep=different_id, some equal"
TORCH = "plain torch"
VARIANTS = {
    "mmcontrast, decoupled": {"decoupled": True},
    "mmcontrast, with a prior": {"prior": 0.1},
    "mmcontrast, smoothed": {"smoothing": 0.1},
}
OURS_COMPILED = "mmcontrast, compiled"
TORCH_COMPILED = "plain torch, compiled"


class Inputs(NamedTuple):
    rows: tuple[Tensor, ...]
    """(N, d) each; gradients are taken of all."""
    labels: Tensor


@dataclass(frozen=True)
class Loss:
    name: str
    inputs: Callable[[int, int], Inputs]
    products: int = 3
    """Matrix products of the floor; 0 where there is no floor to speak of."""
    per_sample: int = 1
    """Rows that a sample brings into these products."""
    gradient: bool = True


Call = Callable[[Inputs], Tensor]


@dataclass(frozen=True)
class Case:
    loss: str
    name: str
    make: Callable[[], Call]
    """Imports what it needs and gives the call."""
    matrices: float = 0
    """How many N x N float32 matrices it holds at once, about."""
    largest: int | None = None
    """The largest N for what grows faster than a matrix."""
    another: bool = False
    """Whether it computes another number: a variant, beside the loss for its time alone."""
    compiled: bool = False
    """Whether torch.compile makes the call, which then has to meet some sizes before its time."""

    def bytes(self, n: int) -> float:
        return 4.0 * self.matrices * n * n


def rows(count: int, n: int, d: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1000 * n + d)
    found = (F.normalize(torch.randn(n, d, generator=generator), dim=1) for _ in range(count))
    return tuple(x.requires_grad_() for x in found)


def classes(n: int, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randperm(n, generator=generator) % max(number, 2)


def pair(n: int, d: int) -> Inputs:
    return Inputs(rows(2, n, d), torch.arange(n))


def labelled_pair(n: int, d: int) -> Inputs:
    return Inputs(rows(2, n, d), classes(n, n // PER_CLASS))


def batch(n: int, d: int) -> Inputs:
    return Inputs(rows(1, n, d), classes(n, n // PER_CLASS))


def scored(n: int, d: int) -> Inputs:
    """Rows with a real number each."""
    return Inputs(rows(1, n, d), torch.randn(n, generator=torch.Generator().manual_seed(n)))


def with_own_negatives(n: int, d: int) -> Inputs:
    return Inputs(own_negatives.rows(n, d), torch.arange(n))


def corpus(n: int, d: int) -> Inputs:
    return Inputs(rows(1, n, d), torch.arange(n))


def three_modalities(n: int, d: int) -> Inputs:
    return Inputs(rows(3, n, d), classes(n, 2))


SYMMETRIC = Loss("symmetric InfoNCE", pair)
ONE_WAY = Loss("one-way InfoNCE", pair)
SIGMOID = Loss("sigmoid", pair)
SUP_CON = Loss("SupCon", batch)
NT_XENT = Loss("NT-Xent", pair, per_sample=2)
BATCH_HARD = Loss("batch-hard triplets", batch)
TOP_K = Loss(f"top-{K}", pair, products=1, gradient=False)
TOP_K_LABELS = Loss(f"top-{K} of other labels", labelled_pair, products=1, gradient=False)
HYCON = Loss("HyCon", three_modalities, products=0)
RANKED = Loss("Rank-N-Contrast", scored, products=0)
OWN_NEGATIVES = Loss("own negatives", with_own_negatives, products=0)
RETRIEVAL = Loss("retrieval", pair, products=1, gradient=False)
CORPUS = Loss("closest of a corpus", corpus, products=0, gradient=False)
SHUFFLED = Loss("joint contrast, shuffled products", three_modalities, products=0)
VOLUMES = Loss("joint contrast, volumes", three_modalities, products=0)
LOSSES = [
    *(SYMMETRIC, ONE_WAY, SIGMOID, SUP_CON, NT_XENT, BATCH_HARD, TOP_K, TOP_K_LABELS),
    *(HYCON, RANKED, RETRIEVAL, CORPUS, OWN_NEGATIVES, SHUFFLED, VOLUMES),
]


def call(function: Call) -> Callable[[], Call]:
    """A case that has nothing to import."""
    return lambda: function


# --- ours ----------------------------------------------------------------------------------------


def symmetric(inputs: Inputs, **options) -> Tensor:
    return mmcontrast.symmetric_info_nce(
        *inputs.rows, temperature=TEMPERATURE, normalize=None, **options
    )


def by_id(loss: Callable[..., Tensor], inputs: Inputs) -> Tensor:
    """The ids are distinct, so that the loss is the same, and no tile is masked."""
    return loss(inputs, keep=mmcontrast.different_id(inputs.labels))


def by_id_of_copies(loss: Callable[..., Tensor], inputs: Inputs) -> Tensor:
    """One sample in a hundred has a copy somewhere: many tiles are masked, for a few pairs each."""
    ids, number = inputs.labels.clone(), max(len(inputs.labels) // 100, 1)
    places = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))
    ids[places[:number]] = ids[places[number : 2 * number]]
    return loss(inputs, keep=mmcontrast.different_id(ids))


def one_way(inputs: Inputs, **options) -> Tensor:
    return mmcontrast.info_nce(*inputs.rows, temperature=TEMPERATURE, normalize=None, **options)


def sigmoid(inputs: Inputs, **options) -> Tensor:
    return mmcontrast.sigmoid_contrast(
        *inputs.rows, temperature=TEMPERATURE, bias=BIAS, normalize=None, **options
    )


def sup_con(x: Tensor, labels: Tensor | None, **options) -> Tensor:
    return mmcontrast.sup_con(x, labels, temperature=TEMPERATURE, normalize=None, **options)


def sup_con_by_mask(inputs: Inputs) -> Tensor:
    return sup_con(*inputs.rows, None, positives=mmcontrast.same_label(inputs.labels))


def sup_con_by_label(inputs: Inputs) -> Tensor:
    return sup_con(*inputs.rows, inputs.labels)


def nt_xent(inputs: Inputs) -> Tensor:
    return sup_con(torch.cat(inputs.rows), inputs.labels.repeat(2))


def batch_hard(inputs: Inputs) -> Tensor:
    (x,) = inputs.rows
    own, positive, negative = mmcontrast.hard_triplets(x, inputs.labels, normalize=None)
    return mmcontrast.triplet(x, x[positive], x[negative], keep=positive != own)


def top_k(inputs: Inputs) -> Tensor:
    return mmcontrast.hard_negatives(*inputs.rows, K, normalize=None).scores.mean()


def top_k_labels(inputs: Inputs) -> Tensor:
    found = mmcontrast.hard_negatives(*inputs.rows, K, labels=inputs.labels, normalize=None)
    return found.scores.mean()


def at_once(function: Callable[..., Tensor]) -> Callable[[], Call]:
    return call(lambda inputs: function(inputs, chunk_size=len(inputs.labels)))


# --- plain PyTorch -------------------------------------------------------------------------------


def torch_symmetric(inputs: Inputs) -> Tensor:
    x, y = inputs.rows
    logits = x @ y.T * SCALE
    ways = F.cross_entropy(logits, inputs.labels), F.cross_entropy(logits.T, inputs.labels)
    return (ways[0] + ways[1]) / 2


def torch_one_way(inputs: Inputs) -> Tensor:
    x, y = inputs.rows
    return F.cross_entropy(x @ y.T * SCALE, inputs.labels)


def torch_sigmoid(inputs: Inputs) -> Tensor:
    x, y = inputs.rows
    z = 2 * torch.eye(len(x)) - 1
    return -F.logsigmoid(z * (x @ y.T * SCALE + BIAS)).sum() / len(x)


def torch_sup_con(inputs: Inputs) -> Tensor:
    """Masks, as most write it."""
    (x,), labels = inputs
    others = ~torch.eye(len(x), dtype=torch.bool)
    positives = (labels == labels[:, None]) & others
    logits = x @ x.T * SCALE
    log_share = logits - logits.where(others, -torch.inf).logsumexp(1, keepdim=True)
    return -((log_share * positives).sum(1) / positives.sum(1)).mean()


def torch_batch_hard(inputs: Inputs) -> Tensor:
    (x,), labels = inputs
    same = labels == labels[:, None]
    with torch.no_grad():
        similarity = x @ x.T
        positive = similarity.where(same, torch.inf).argmin(1)
        negative = similarity.where(~same, -torch.inf).argmax(1)
    return F.triplet_margin_loss(x, x[positive], x[negative], eps=0)


@torch.no_grad()
def torch_top_k(inputs: Inputs) -> Tensor:
    x, y = inputs.rows
    return (x @ y.T).fill_diagonal_(-torch.inf).topk(K).values.mean()


def recall(inputs: Inputs) -> Tensor:
    """With ranks, MRR and mean average precision, which the one by plain torch lacks."""
    return mmcontrast.retrieval(*inputs.rows, ks=(K,)).recall[K]


@torch.no_grad()
def torch_recall(inputs: Inputs) -> Tensor:
    x, y = inputs.rows
    found = (x @ y.T).topk(K).indices  # rows are of length 1
    return (found == torch.arange(len(x))[:, None]).any(1).float().mean()


@torch.no_grad()
def torch_top_k_labels(inputs: Inputs) -> Tensor:
    (x, y), labels = inputs
    return (x @ y.T).masked_fill_(labels == labels[:, None], -torch.inf).topk(K).values.mean()


CASES = [
    Case(SYMMETRIC.name, OURS, call(symmetric)),
    Case(SYMMETRIC.name, PLAIN, at_once(symmetric), 2),
    Case(SYMMETRIC.name, TORCH, call(torch_symmetric), 4),
    Case(ONE_WAY.name, OURS, call(one_way)),
    Case(ONE_WAY.name, PLAIN, at_once(one_way), 5),
    Case(ONE_WAY.name, TORCH, call(torch_one_way), 3),
    Case(SIGMOID.name, OURS, call(sigmoid)),
    Case(SIGMOID.name, PLAIN, at_once(sigmoid), 5),
    Case(SIGMOID.name, TORCH, call(torch_sigmoid), 5),
    Case(SUP_CON.name, OURS, call(sup_con_by_label)),
    Case(SUP_CON.name, PLAIN, call(sup_con_by_mask), 6),
    Case(SUP_CON.name, TORCH, call(torch_sup_con), 7),
    Case(NT_XENT.name, OURS, call(nt_xent)),
    Case(BATCH_HARD.name, OURS, call(batch_hard)),
    Case(BATCH_HARD.name, TORCH, call(torch_batch_hard), 3),
    Case(TOP_K.name, OURS, call(top_k)),
    Case(TOP_K.name, TORCH, call(torch_top_k), 1),
    Case(TOP_K_LABELS.name, OURS, call(top_k_labels)),
    Case(TOP_K_LABELS.name, TORCH, call(torch_top_k_labels), 1.25),
    Case(HYCON.name, OURS, call(hycon.ours)),
    Case(HYCON.name, BY_PAIRS, call(hycon.by_pairs), 3),
    Case(HYCON.name, hycon.MASKS, call(hycon.masks), 20),
    Case(HYCON.name, hycon.ANCHOR_LOOP, call(hycon.anchor_loop), largest=1024),
    Case(HYCON.name, hycon.PAIR_LOOP, call(hycon.pair_loop), largest=128),
    Case(RANKED.name, OURS, call(rank_contrast.ours)),
    Case(RANKED.name, rank_contrast.COLUMN_LOOP, call(rank_contrast.column_loop), 8, 2048),
    Case(RETRIEVAL.name, OURS, call(recall)),
    Case(RETRIEVAL.name, TORCH, call(torch_recall), 1),
    Case(CORPUS.name, OURS, call(corpus_search.ours)),
    Case(CORPUS.name, corpus_search.TOPK, call(corpus_search.topk_in_blocks)),
    Case(OWN_NEGATIVES.name, OURS, call(own_negatives.ours)),
    Case(OWN_NEGATIVES.name, own_negatives.EINSUM, call(own_negatives.einsum)),
    *(
        Case(loss, name, call(functools.partial(function, of)), another=name == COPIES)
        for loss, of in ((SYMMETRIC.name, symmetric), (ONE_WAY.name, one_way))
        for name, function in ((BY_ID, by_id), (COPIES, by_id_of_copies))
    ),
    *(
        Case(loss, name, call(functools.partial(function, **options)), another=True)
        for loss, function in ((SYMMETRIC.name, symmetric), (ONE_WAY.name, one_way))
        for name, options in VARIANTS.items()
    ),
    Case(SHUFFLED.name, OURS, call(joint.shuffled)),
    Case(SHUFFLED.name, TORCH, call(joint.torch_shuffled), 8),
    Case(VOLUMES.name, OURS, call(joint.volumes)),
    Case(VOLUMES.name, joint.DETERMINANTS, call(joint.determinants), 55),
]
