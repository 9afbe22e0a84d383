"""What InfoNCE and its forms are tried on: options, targets, logits."""

import torch
from hypothesis import strategies as st

import mmcontrast as mm
from tests.mmcontrast.strategies import close, mask, normal, rng

REDUCTIONS = ["mean", "sum", "none"]
reductions = st.sampled_from(REDUCTIONS)
NORMALIZE = {"l2": mm.l2_normalize, "softmax": mm.softmax_normalize, None: None}


def random_targets(seed, n, m):
    targets = torch.randint(0, m, (n,), generator=rng(seed))
    return torch.where(torch.rand(n, generator=rng(seed + 1)) < 0.2, -100, targets)


OPTIONS = ["targets", "bool positives", "soft positives", "keep", "weight"]


def options_for(names, seed, n, m):
    made = {}
    if "targets" in names:
        made["targets"] = random_targets(seed, n, m)
    if "bool positives" in names:
        made["positives"] = mask(seed + 2, n, m, share=0.4)
    if "soft positives" in names:
        made["positives"] = normal(seed + 3, n, m).relu()
    if "keep" in names:
        made["keep"] = mask(seed + 4, n, m, share=0.7)
    if "weight" in names:
        made["weight"] = normal(seed + 5, n).abs()
    return made


def of_logits(logits, **options):
    """InfoNCE of a given logit matrix: anchors are its rows, candidates the unit vectors."""
    eye = torch.eye(logits.shape[1], dtype=logits.dtype)
    return mm.info_nce(logits, eye, normalize=None, temperature=1.0, **options)


def symmetric_of_logits(logits):
    eye = torch.eye(len(logits), dtype=logits.dtype)
    return mm.symmetric_info_nce(logits, eye, normalize=None, temperature=1.0)


def same_in_chunks(chunked, whole):
    """Values and gradients, these to the size of their largest entry."""
    close(chunked[0], whole[0], atol=1e-12)
    for a, b in zip(chunked[1], whole[1], strict=True):
        unit = 1 + b.abs().max().item()
        close(a / unit, b / unit, atol=1e-12)
