"""SupCon in tiles and in its plain form, and the classes that both are tried on."""

import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import labels, leaf

KINDS = ["gauss", "aligned", "duplicate", "tiny", "huge", "one_direction"]
LABELS = ["classes", "pairs", "alone", "floats", "columns", "one", "nobody"]


def classes(kind, seed, n):
    return {
        "classes": labels(seed, n, 3, ignored=0.2),
        "pairs": torch.arange(n).flip(0) // 2,
        "alone": torch.arange(n),
        "floats": torch.where(labels(seed, n, 2) == 0, torch.nan, 2.0 * labels(seed + 1, n, 3)),
        "columns": torch.stack([labels(seed, n, 2, 0.1), labels(seed + 1, n, 2)], dim=1),
        "one": torch.full((n,), 7),
        "nobody": torch.full((n,), -100),
    }[kind]


def slopes(function, x, temperature):
    """(losses, their weighted sum's gradients by x and by the temperature)."""
    leaves = [leaf(x), torch.tensor(temperature, dtype=x.dtype, requires_grad=True)]
    losses = function(*leaves)
    weights = torch.linspace(0.5, 2, len(losses), dtype=losses.dtype)
    found = torch.autograd.grad((3 * losses * weights).sum(), leaves)
    return losses.detach(), *found


def tiled(ids, side, **options):
    return lambda x, t: mm.sup_con(
        x, ids, temperature=t, reduction="none", chunk_size=side, **options
    )


def plain(ids, **options):
    """The path of candidates that are given: whole rows, masks, nothing of this file's."""
    return lambda x, t: mm.sup_con(
        x,
        ids,
        temperature=t,
        reduction="none",
        keep=mm.off_diagonal(len(x)),
        **options,
    )
