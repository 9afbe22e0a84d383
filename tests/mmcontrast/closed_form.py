"""InfoNCE's loss and gradient written out in float64, and unit rows of all kinds to try."""

import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import normal

TEMPERATURES = [0.01, 0.02, 0.05, 0.07, 0.1, 0.3, 1.0]


def unit_rows(kind, n, d, seed=0):
    """float32 unit rows of anchors and candidates."""
    x, y = normal(seed, n, d), normal(seed + 1, n, d)
    if kind == "aligned":
        y = x.clone()
    if kind == "nearly aligned":
        y = x + 0.01 * y
    if kind == "collapsed":
        x, y = x[:1] + 1e-3 * x, x[:1] + 1e-3 * y
    if kind == "opposed":
        y = -x
    if kind == "orthogonal":
        x = y = torch.linalg.qr(normal(seed, max(n, d), max(n, d)))[0][:n, :d]
    return [torch.nn.functional.normalize(v, dim=1).float() for v in (x, y)]


def allowed(temperature):
    """The relative error allowed in float32 where one matrix product makes all cosines.

    1e-5, or four roundings of a cosine of 1 over the temperature: how a processor adds up products
    decides whether it is one or four. Tiles add up those of a pair by themselves, and stay below.
    """
    return max(1e-5, 4 * torch.finfo(torch.float32).eps / temperature)


def relative(found, expected):
    return (found.double() - expected).norm() / expected.norm().clamp_min(1e-300)


FORMS = {
    "info_nce": mm.info_nce,
    "symmetric": mm.symmetric_info_nce,
    "matched_pair": mm.matched_pair_nce,
    "bool positives": lambda x, y, **k: mm.info_nce(
        x, y, positives=torch.eye(len(x), dtype=torch.bool), **k
    ),
    "soft positives": lambda x, y, **k: mm.info_nce(x, y, positives=torch.eye(len(x)), **k),
    "chunks": lambda x, y, **k: mm.info_nce(x, y, chunk_size=7, **k),
}


def exact_direction(x, y, temperature):
    """Loss and gradient of one direction, float64, written out: nothing is subtracted from one.

    With q the shares of the negatives and r their sum, the loss is -log(1 - r) and its gradient by
    the logits q for a negative and -r for the positive; then through the rows' normalisation.
    """
    n = len(x)
    sizes = [v.norm(dim=1, keepdim=True) for v in (x, y)]
    units = [v / size for v, size in zip((x, y), sizes, strict=True)]
    cosines = units[0] @ units[1].T
    odds = ((cosines - cosines.diagonal()[:, None]) / temperature).exp()
    odds = odds * mm.off_diagonal(n)
    loss = odds.sum(dim=1).log1p().mean()
    shares = odds / (1 + odds.sum(dim=1, keepdim=True))
    by_logit = (shares - torch.diag(shares.sum(dim=1))) / (n * temperature)
    found = []
    for unit, size, gradient in zip(
        units, sizes, (by_logit @ units[1], by_logit.T @ units[0]), strict=True
    ):
        found.append((gradient - unit * (gradient * unit).sum(dim=1, keepdim=True)) / size)
    return loss, found


def exact_both(x, y, temperature):
    there, (gx, gy) = exact_direction(x, y, temperature)
    back, (hy, hx) = exact_direction(y, x, temperature)
    return (there + back) / 2, [(gx + hx) / 2, (gy + hy) / 2]


EXACT = {name: exact_direction for name in FORMS if name != "matched_pair"}
EXACT["symmetric"] = exact_both
