"""Random inputs, the tolerance, and the small tools that the loss tests share."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

MODALITIES = ("text", "audio", "vision")
KINDS = ("gauss", "aligned", "duplicate", "tiny", "huge", "one_direction")
seeds = st.integers(0, 2**31 - 1)


def tol(dtype, temperature=1.0, n=2):
    """How far a value computed in `dtype` may be from float64: its rounding, through the logits.

    A cosine is off by a few eps, a logit by 1 / temperature times that, a log-sum-exp over n by no
    more than its largest logit, and its own size is up to log(n) + 2 / temperature.
    """
    return 8 * torch.finfo(dtype).eps * (1 + 1 / temperature) * (1 + math.log(max(n, 2)))


def rng(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64).to(dtype)


def embeddings(seed, n, d, kind="gauss"):
    """(n, d) float64 rows of a shape that losses meet in practice, none of them zero."""
    x = normal(seed, n, d)
    if kind == "aligned":
        return normal(seed + 1, 1, d) + 1e-3 * x
    if kind == "duplicate":
        return x[torch.arange(n) // 2]
    if kind == "tiny":
        return 1e-4 * x
    if kind == "huge":
        return 1e4 * x
    if kind == "one_direction":
        return x[:1] * (1 + torch.rand(n, 1, generator=rng(seed), dtype=torch.float64))
    return x


def modalities(seed, n, d, names=MODALITIES):
    return {name: normal(seed + k, n, d) for k, name in enumerate(names)}


def presence(seed, n, names=MODALITIES, share=0.7):
    masks = torch.rand(len(names), n, generator=rng(seed + 77)) < share
    return dict(zip(names, masks, strict=True))


def labels(seed, n, classes=2, ignored=0.0):
    generator = rng(seed + 99)
    ids = torch.randint(0, classes, (n,), generator=generator)
    return torch.where(torch.rand(n, generator=generator) < ignored, -100, ids)


def mask(seed, *shape, share=0.5):
    return torch.rand(*shape, generator=rng(seed + 55)) < share


def orthogonal(seed, d):
    return torch.linalg.qr(normal(seed, d, d))[0]


def modal_batches(most, classes):
    """What HyCon's losses take: by name."""
    return st.builds(
        lambda seed, n, d, names, classes, ignored, some_absent, weighted: {
            "features": modalities(seed, n, d, names),
            "labels": labels(seed, n, classes, 0.25 if ignored else 0.0),
            "present": presence(seed, n, names) if some_absent else None,
            "weight": normal(seed, n).abs() if weighted else None,
        },
        seed=seeds,
        n=st.integers(1, most),
        d=st.integers(1, 4),
        names=st.sampled_from([("text", "audio"), MODALITIES, ("smell", *MODALITIES)]),
        classes=st.integers(1, classes),
        ignored=st.booleans(),
        some_absent=st.booleans(),
        weighted=st.booleans(),
    )


@st.composite
def pairs(draw, most=6, features=5, square=False):
    """Anchors (B, D) and candidates (C, D), C >= B."""
    seed = draw(seeds)
    n = draw(st.integers(1, most))
    extra = 0 if square else draw(st.integers(0, 3))
    d = draw(st.integers(1, features))
    kind = draw(st.sampled_from(KINDS))
    return embeddings(seed, n, d, kind), embeddings(seed + 1, n + extra, d, "gauss")


temperatures = st.sampled_from([0.01, 0.05, 0.07, 0.1, 0.5, 1.0, 3.0])


def numpy(x):
    """Tensors, also inside a mapping, as float64 numpy arrays for the oracles."""
    if isinstance(x, dict):
        return {name: numpy(value) for name, value in x.items()}
    return np.asarray(x.detach().cpu().numpy()) if isinstance(x, torch.Tensor) else x


def leaf(x):
    """A fresh leaf that collects a gradient."""
    return x.detach().clone().requires_grad_()


def gradients(function, *tensors):
    """(value, gradients) of a scalar function at fresh leaves; an unused input has gradient 0."""
    leaves = [leaf(x) for x in tensors]
    value = function(*leaves)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)
    ]


def of_any_rows(compiled):
    """The compiled function, called with the first size of each tensor marked as dynamic.

    One graph is then for all sizes, where the compiler by itself makes a second one for them.
    """

    def call(*given, **options):
        for x in tree_leaves(given):
            if isinstance(x, torch.Tensor) and x.ndim:
                torch._dynamo.mark_dynamic(x, 0)
        return compiled(*given, **options)

    return call


def nothing_of(function, tensors, out, filler):
    """Whatever fills the rows that are out: the same value and gradients, and none to them."""
    filled = [torch.where(gone[:, None], filler, x) for x, gone in zip(tensors, out, strict=True)]
    value, found = gradients(function, *filled)
    plain, expected = gradients(function, *tensors)
    close(value, plain, atol=0, rtol=0)
    for gradient, other, gone in zip(found, expected, out, strict=True):
        close(gradient, other, atol=0, rtol=0)
        assert (gradient[gone] == 0).all()


def close(actual, expected, atol=1e-10, rtol=1e-10):
    """Equal shapes, and values within a tolerance; never NaN."""
    actual = torch.as_tensor(numpy(actual), dtype=torch.float64)
    expected = torch.as_tensor(numpy(expected), dtype=torch.float64)
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol, equal_nan=False)


def same_mask(actual, expected):
    """A bool tensor and the array that it should be."""
    assert actual.dtype == torch.bool
    assert actual.tolist() == expected.tolist()
    assert tuple(actual.shape) == expected.shape


def with_ties(seed, n, m):
    """Similarities from a few values, so that ties are the rule."""
    return torch.randint(0, 4, (n, m), generator=rng(seed)).double() / 4
