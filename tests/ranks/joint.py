"""Joint contrast over ranks."""

import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import presence
from tests.ranks import run
from tests.ranks.distributed import batch, gathered_in
from tests.ranks.supervised import compare

KINDS = (
    {"negatives": "shuffled"},
    {"negatives": "all"},
    {"score": "volume"},
    {"score": "area"},
)


def together(rank, world):
    """With missing modalities, which one rank may have all of, and without."""
    x, y, own = batch(rank, world)
    z = (x + y.flip(0)).sin()
    weight = torch.linspace(0.5, 2, len(x), dtype=torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64)
    some = presence(3, len(x))
    some["audio"][: len(x) // 2] = True
    for kind in KINDS:
        for present in (None, some):

            def loss(i, group, x, y, z, t, reduction, kind=kind, present=present):
                return mm.joint_contrast(
                    {"text": x, "audio": y, "vision": z},
                    **kind,
                    temperature=t,
                    present=present and {name: there[i] for name, there in present.items()},
                    weight=weight[i],
                    reduction=reduction,
                    chunk_size=3,
                    group=group,
                    generator=torch.Generator().manual_seed(5),
                ).total

            compare(
                lambda *args, loss=loss: loss(own, "world", *args),
                lambda *args, loss=loss: loss(slice(None), None, *args),
                (x, y, z, t),
                own,
                1e-12,
            )


def draws(rank, world):
    """Only the first rank's generator counts; second derivatives are those of one process."""
    x, y, own = batch(rank, world)
    features = {"text": x, "audio": y, "vision": x.flip(0)}
    expected = mm.joint_contrast(features, generator=torch.Generator().manual_seed(0))
    found = mm.joint_contrast(
        {name: rows[own] for name, rows in features.items()},
        group="world",
        generator=torch.Generator().manual_seed(rank),
    )
    torch.testing.assert_close(found.total, expected.total)

    for kind in KINDS[1:]:

        def bent(rows, group, kind=kind):
            features = {"text": rows, "audio": rows.flip(1), "vision": rows.sin()}
            total = mm.joint_contrast(features, **kind, group=group).total
            (slope,) = torch.autograd.grad(total, rows, create_graph=True)
            return torch.autograd.grad(slope.square().sum(), rows)[0]

        whole = bent(x.clone().requires_grad_(), None)[own]
        here = bent(x[own].clone().requires_grad_(), "world")
        # Slopes are of the sum of W losses, and so their squares W^2 times those of one.
        torch.testing.assert_close(here / world**2, whole)


def exchanges(rank, world):
    """Tuples of one anchor cost one exchange of the ranks' sizes, however much they consist of."""
    x, y, own = batch(rank, world)
    features = {"text": x[own], "audio": y[own], "vision": (x + y)[own]}
    present = {"audio": x[own, 0] > 0}

    def call(given):
        return mm.joint_contrast(features, score="area", anchor="text", group="world", **given)

    # The names, all sizes, and who has each of the three; and for each pattern of modalities the
    # sizes, the bases, their volumes and offsets, and who takes part.
    assert gathered_in(lambda: call({})) == 1 + 1 + 3 + 5
    assert gathered_in(lambda: call({"present": present})) == 1 + 1 + 3 + 2 * 5


if __name__ == "__main__":
    run(globals())
