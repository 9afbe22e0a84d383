"""The four losses by kernels, beside the same formula written out in float64."""

import torch
import torch.nn.functional as F

from mmcontrast.exact import kernels

BIAS = -3.0
BLOCKS = kernels.Blocks(16, 16, 16, 16, 4, 1)
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def targets(n):
    """Several anchors of one partner, and candidates that are nobody's."""
    return (torch.arange(n) * 3) % max(n - 2, 1)


def labels(n):
    """Classes of one, two and more, in no order."""
    return torch.tensor([(i * i) % 7 if i % 5 else 100 + i // 10 for i in range(n)])


def symmetric(x, y, t, **options):
    return kernels.symmetric_fused(x, y[: len(x)], t, **options)


def one_way(x, y, t, *, weight=None, **options):
    return kernels.one_way_fused(x, y, targets(len(x)).to(x.device), t, weight, **options)


def sigmoid(x, y, t, *, weight=None, bias=BIAS, **options):
    return kernels.sigmoid_fused(x, y, t, bias, weight, **options)


def sup_con(x, y, t, **options):
    both = torch.cat([x, y])
    own = labels(len(both)).to(x.device)
    losses, counted = kernels.sup_con_fused(both, own, temperature=t, normalize=None, **options)
    return torch.where(counted, losses, 0)


def plain_symmetric(x, y, t):
    logits, own = x @ y[: len(x)].T / t, torch.arange(len(x), device=x.device)
    ways = [F.cross_entropy(s, own, reduction="none") for s in (logits, logits.T)]
    return (ways[0] + ways[1]) / 2


def plain_one_way(x, y, t):
    return F.cross_entropy(x @ y.T / t, targets(len(x)).to(x.device), reduction="none")


def plain_sigmoid(x, y, t, bias=BIAS):
    logits = x @ y.T / t + bias
    z = 2 * torch.eye(*logits.shape, device=x.device) - 1
    return -F.logsigmoid(z * logits).sum(1)


def plain_sup_con(x, y, t):
    x = torch.cat([x, y])
    others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    own = labels(len(x)).to(x.device)
    positives = (own == own[:, None]) & others
    logits = x @ x.T / t
    several = positives.any(1)
    all_of_them = logits.where(others, -torch.inf)[several].logsumexp(1)
    near = (logits * positives)[several].sum(1) / positives[several].sum(1)
    return torch.zeros_like(logits[0]).index_put((several.nonzero()[:, 0],), all_of_them - near)


LOSSES = {
    "symmetric": (symmetric, plain_symmetric),
    "one_way": (one_way, plain_one_way),
    "sigmoid": (sigmoid, plain_sigmoid),
    "sup_con": (sup_con, plain_sup_con),
}


def rows(kind, n, d, seed=0):
    """(n, d) and (n + 3, d) rows in float64."""
    generator = torch.Generator().manual_seed(1000 * n + 10 * d + seed)
    x, y = (torch.randn(n + k, d, generator=generator, dtype=torch.float64) for k in (0, 3))
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    if kind == "aligned":
        y[:n] = F.normalize(x + 0.01 * y[:n], dim=1)
    elif kind == "collapsed":
        x, y = x[:1].expand(n, d).clone(), x[:1].expand(n + 3, d).clone()
    elif kind == "duplicated":
        x, y = x[torch.arange(n) // 2], y[torch.arange(n + 3) // 3]
    elif kind == "huge":
        x, y = 300 * x, 300 * y
    elif kind == "zero":
        x[::2], y[1] = 0, 0
    return x, y


def given(kind, n, d, precision, device, seed=0):
    """The rows as leaves in float32, already rounded to the precision of the products."""
    dtype = HALVES.get(precision, torch.float32)
    found = (x.to(dtype).float().to(device) for x in rows(kind, n, d, seed))
    return tuple(x.requires_grad_() for x in found)


def in_double(*tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


def errors(loss, x, y, temperature, upstream, **options):
    """The largest error of the losses, and of the gradient of each row and of the temperature.

    Each of them is over what the terms of its sum come to together.
    """
    ours, plain = LOSSES[loss]
    t = torch.tensor(temperature, device=x.device, requires_grad=True)
    losses = ours(x, y, t, **options)
    expected = plain(*(doubles := in_double(x, y, t)))
    upstream = upstream[: len(losses)].to(x.device)
    found = torch.autograd.grad(losses, (x, y, t), upstream)
    exact = torch.autograd.grad(expected, doubles, upstream.double())
    longest = max(z.norm(dim=1).max().item() for z in (x, y))
    largest = longest**2 / temperature + abs(BIAS)
    terms = upstream.abs().sum().item() * longest / temperature
    scales = (1 + largest, terms, terms, terms * longest / temperature)
    return [
        ((a - b).abs().max() / scale).item()
        for a, b, scale in zip((losses, *found), (expected, *exact), scales, strict=True)
    ]
