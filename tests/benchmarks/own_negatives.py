"""InfoNCE with own negatives beside the batch's, as it can be written: ours, and einsum.

Inputs are (N, D) anchors, (N, D) partners and (N, K, D) negatives, of any length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

import mmcontrast

TEMPERATURE = 0.07
K = 32
EINSUM = "einsum"


def rows(n: int, d: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(n)
    shapes = (n, d), (n, d), (n, K, d)
    return tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)


def ours(inputs) -> Tensor:
    x, y, negatives = inputs.rows
    return mmcontrast.info_nce(x, y, own_negatives=negatives, temperature=TEMPERATURE)


def einsum(inputs) -> Tensor:
    """As most write it."""
    x, y, negatives = inputs.rows
    x = F.normalize(x, dim=-1)
    y = F.normalize(y, dim=-1)
    negatives = F.normalize(negatives, dim=-1)
    batch = x @ y.T
    own = torch.einsum("bd,bkd->bk", x, negatives)
    logits = torch.cat([batch, own], dim=1) / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(len(x)))
