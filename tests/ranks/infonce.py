"""InfoNCE over ranks: what tests of it run there, by name."""

import sys

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import infonce_tiles
from mmcontrast.exact import sizes as limits
from tests.ranks import run
from tests.ranks.distributed import gathered_in

SIZES = {2: [3, 5], 3: [4, 0, 6]}
LARGE = {3: [64, 0, 21]}
LEAST = 2**11  # pairs from which a rank takes tiles: some of those do, some do not


class Batch:
    """Rows, masks and weights of all ranks, drawn alike everywhere, and which are this rank's."""

    def __init__(self, rank, sizes, seed=3, dtype=torch.float64):
        source = torch.Generator().manual_seed(seed)
        n, start = sum(sizes), sum(sizes[:rank])
        self.own, self.n = slice(start, start + sizes[rank]), n
        self.x, self.y, self.z = (
            torch.randn(n, 5, dtype=torch.float64, generator=source).to(dtype) for _ in range(3)
        )
        self.weight = torch.rand(n, dtype=torch.float64, generator=source).to(dtype)
        self.keep = torch.rand(n, n, generator=source) < 0.7
        self.several = torch.rand(n, n, generator=source) < 0.3
        self.soft = torch.rand(n, n, dtype=torch.float64, generator=source).to(dtype)
        self.there = {k: torch.rand(n, generator=source) < 0.7 for k in ("text", "audio")}
        # Within each rank's own rows, and nobody for some.
        self.targets = torch.cat([torch.arange(size).flip(0) for size in sizes])
        self.targets[torch.rand(n, generator=source) < 0.3] = -100
        self.starts = torch.cat([torch.full((k,), sum(sizes[:r])) for r, k in enumerate(sizes)])


def equal(world, batch, loss, reduction, tolerance=1e-12, pair=None):
    """``loss(x, y, temperature, weight, rows)`` of this rank's rows against all in one process.

    The value is the whole batch's, and the mean over ranks of the gradients, of the rows and of the
    weights; the temperature's is on each rank the whole batch's.
    """
    x, y = pair or (batch.x, batch.y)
    mine = batch.own

    def leaves(rows):
        each = x[rows], y[rows], torch.tensor(0.3, dtype=x.dtype), batch.weight[rows]
        return [z.clone().requires_grad_() for z in each]

    every, own = leaves(slice(0, batch.n)), leaves(mine)
    expected = loss(*every, slice(0, batch.n), reduction=reduction)
    got = loss(*own, mine, reduction=reduction, group="world")
    wanted = torch.autograd.grad(expected.sum(), every, allow_unused=True, materialize_grads=True)
    if reduction == "none":
        expected = expected[mine]
        found = torch.autograd.grad(got.sum(), own, allow_unused=True, materialize_grads=True)
    else:
        found = torch.autograd.grad(
            got / world, own, allow_unused=True, materialize_grads=True, retain_graph=True
        )
    temperature = world * found[2]
    unit = 1 + max(z.abs().max().item() for z in wanted)
    pairs = [(got, expected), (temperature / unit, wanted[2] / unit)]
    pairs += [(found[k] / unit, wanted[k][mine] / unit) for k in (0, 1, 3)]
    for a, b in pairs:
        torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def forms(batch):
    """Every loss, with every kind of mask: a function of this rank's rows or of all."""

    def masks(rows, columns, **chosen):
        return {name: z[rows, columns] for name, z in chosen.items()}

    every = slice(0, batch.n)

    def one_way(**chosen):
        return lambda x, y, t, w, i, **k: mm.info_nce(
            x, y, temperature=t, weight=w, **masks(i, every, **chosen), **k
        )

    def both(**chosen):
        return lambda x, y, t, w, i, **k: mm.symmetric_info_nce(
            x, y, temperature=t, weight=w, **masks(i, every, **chosen), **k
        )

    def sigmoid(**chosen):
        return lambda x, y, t, w, i, **k: mm.sigmoid_contrast(
            x, y, temperature=t, bias=-1.0, weight=w, **masks(i, every, **chosen), **k
        )

    def functions(form, **options):
        """Indices count the rows and columns of all ranks."""

        def hardness(tile):
            own = tile.partner[:, None] + (
                0 if tile.column_partner is None else tile.column_partner
            )
            return torch.where(own.isinf(), 0.0, 2 * tile.similarity - own)

        ids = torch.arange(batch.n) // 2
        keep = [lambda tile: batch.keep[tile.rows[:, None], tile.columns], mm.different_id(ids)]

        def loss(x, y, t, w, i, **k):
            given = masks(i, every, **options)
            return form(x, y, temperature=t, weight=w, keep=keep, bias=hardness, **given, **k)

        return loss

    def unweighted(form):
        return lambda x, y, t, w, i, **k: form(x, y, temperature=t, **k)

    def named(**chosen):
        def loss(x, y, t, w, i, **k):
            targets = batch.targets[i]
            if "group" not in k:
                targets = torch.where(targets < 0, targets, targets + batch.starts)
            given = masks(i, every, **chosen)
            return mm.info_nce(x, y, targets, temperature=t, weight=w, **given, **k)

        return loss

    def anchored(x, y, t, w, i, **k):
        there = {name: z[i] for name, z in batch.there.items()}
        features = {"text": x, "audio": y, "vision": batch.z[i]}
        terms = mm.anchored_info_nce(
            features, temperature=t, weight=w, present=there, direction="both", **k
        )
        return terms.total

    return {
        "one way": one_way(),
        "one way, unweighted": unweighted(mm.info_nce),
        "one way, targets": named(),
        "one way, targets, keep": named(keep=batch.keep),
        "one way, keep": one_way(keep=batch.keep),
        "one way, several": one_way(positives=batch.several, keep=batch.keep),
        "one way, soft": one_way(positives=batch.soft),
        "one way, functions": functions(mm.info_nce),
        "one way, bias": one_way(bias=batch.soft, keep=batch.keep),
        "one way, several, functions": functions(mm.info_nce, positives=batch.several),
        "symmetric, functions": functions(mm.symmetric_info_nce),
        "symmetric, bias": both(bias=batch.soft, keep=batch.keep),
        "symmetric": both(),
        "symmetric, unweighted": unweighted(mm.symmetric_info_nce),
        "symmetric, keep": both(keep=batch.keep),
        "symmetric, several": both(positives=batch.several),
        "symmetric, soft": both(positives=batch.soft, keep=batch.keep),
        "matched": lambda x, y, t, w, i, **k: mm.matched_pair_nce(
            x, y, temperature=t, weight=w, keep=batch.there["text"][i], **k
        ),
        "anchored": anchored,
        "sigmoid": sigmoid(),
        "sigmoid, masks": sigmoid(positives=batch.several, keep=batch.keep),
        "sigmoid, keep": sigmoid(keep=batch.keep),
        "sigmoid, functions": functions(mm.sigmoid_contrast),
    }


def values(rank, world):
    """Every loss and mask; an empty rank, and one without a group of its own."""
    batch = Batch(rank, SIZES[world])
    for name, loss in forms(batch).items():
        for reduction in ("mean", "sum", "none"):
            sys.stderr.write(f"  {name}, {reduction}\n")
            equal(world, batch, loss, reduction)


def sizes(rank, world):
    """Ranks that take different paths, in blocks, in tiles and at once, meet all the same."""
    limits.SPLIT = LEAST
    batch = Batch(rank, LARGE[world])
    batch.targets[-1] = -100  # which is nobody, also where a rank's own rows begin beyond 100
    for k, (name, loss) in enumerate(forms(batch).items()):
        sys.stderr.write(f"  {name}\n")
        equal(world, batch, loss, ("mean", "none")[k % 2], tolerance=1e-11)
    for chunk_size in (1, 7, 100):
        for form in (mm.symmetric_info_nce, mm.info_nce, mm.sigmoid_contrast):
            equal(
                world,
                batch,
                lambda x, y, t, w, i, f=form, c=chunk_size, **k: f(
                    x, y, temperature=t, weight=w, chunk_size=c, **k
                ),
                "mean",
                tolerance=1e-11,
            )


def varied(batch):
    """The variants of one direction and of both: as `forms`."""
    source = torch.Generator().manual_seed(9)
    own = torch.randn(batch.n, 2, 5, dtype=torch.float64, generator=source)
    kept = torch.rand(batch.n, 2, generator=source) < 0.7
    every = slice(0, batch.n)

    def loss(form, *, mine=False, keep=False, several=False, **options):
        def call(x, y, t, w, i, **k):
            given = {**options, **k, "temperature": t, "weight": w}
            given["prior"] = 0.2 * batch.weight[i]
            if mine:
                given |= {"own_negatives": own[i], "own_keep": kept[i]}
            if keep:
                given["keep"] = batch.keep[i, every]
            if several:
                given["positives"] = batch.several[i, every]
            return form(x, y, **given)

        return call

    smoothed = {"decoupled": True, "smoothing": 0.2}
    return {
        "one way": loss(mm.info_nce, **smoothed, mine=True),
        "one way, keep": loss(mm.info_nce, **smoothed, mine=True, keep=True),
        "one way, several": loss(mm.info_nce, mine=True, keep=True, several=True),
        "own alone": loss(mm.info_nce, smoothing=0.2, mine=True, in_batch=False),
        "both": loss(mm.symmetric_info_nce, **smoothed),
        "both, keep": loss(mm.symmetric_info_nce, **smoothed, keep=True),
        "both, several": loss(mm.symmetric_info_nce, decoupled=True, several=True),
        "within": loss(mm.symmetric_info_nce, within=True, **smoothed),
        "within, keep": loss(mm.symmetric_info_nce, within=True, keep=True, smoothing=0.2),
    }


def variants(rank, world):
    """On ranks of few rows, and of many that take different paths; in blocks, tiles and a ring."""
    ring = limits.RING
    for sizes_of, least, around in (
        (SIZES, limits.SPLIT, ring),
        (LARGE, LEAST, ring),
        (SIZES, 1, 1),
    ):
        limits.SPLIT, limits.RING = least, around
        batch = Batch(rank, sizes_of[world])
        for k, (name, loss) in enumerate(varied(batch).items()):
            sys.stderr.write(f"  {name}\n")
            equal(world, batch, loss, ("mean", "none")[k % 2], tolerance=1e-11)


def shifts(rank, world):
    """Ranks whose logits are far apart: each has a shift of its own, which underflows elsewhere."""
    batch = Batch(rank, LARGE[world])
    far = torch.linspace(0, 60, batch.n, dtype=torch.float64)[:, None]
    rows = (batch.x * far, batch.y * (1 + far.flip(0)))
    certain = infonce_tiles.certain
    for each in (lambda *a: False, certain):
        infonce_tiles.certain = each
        for chunk_size in (None, 5):
            equal(
                world,
                batch,
                lambda x, y, t, w, i, c=chunk_size, **k: mm.symmetric_info_nce(
                    x, y, temperature=t, weight=w, normalize=None, chunk_size=c, **k
                ),
                "mean",
                tolerance=1e-9,
                pair=rows,
            )


def single_precision(rank, world):
    batch = Batch(rank, LARGE[world], dtype=torch.float32)
    for name in ("one way", "symmetric", "matched", "anchored", "sigmoid"):
        equal(world, batch, forms(batch)[name], "mean", tolerance=1e-6)


def products(rank, world):
    """The symmetric loss of B rows against all C: 4 products of B C D, not 8 for two calls."""
    from tests.mmcontrast.exact.ways import Allocations

    limits.WIDE = (8, 4)
    batch = Batch(rank, [16] * world)
    x, y = (z[batch.own].clone().requires_grad_() for z in (batch.x, batch.y))
    with Allocations() as made:
        mm.symmetric_info_nce(x, y, temperature=1.0, group="world").backward()
    assert made.products == 4 * 2 * 4 * world
    assert made.largest <= batch.x.numel()


def captions(rank, world):
    """Images with several captions or none, and other numbers of both on each rank."""
    batch, many = (
        Batch(rank, SIZES[world]),
        Batch(rank, [n + 2 * k for k, n in enumerate(SIZES[world])], seed=4),
    )
    source = torch.Generator().manual_seed(5)
    positives, keep = (torch.rand(batch.n, many.n, generator=source) < p for p in (0.3, 0.8))
    for reduction in ("mean", "sum"):
        for chunk_size in (None, 2):

            def loss(x, y, rows, reduction=reduction, chunk_size=chunk_size, **group):
                options = {"reduction": reduction, "chunk_size": chunk_size, **group}
                masks = {"positives": positives[rows], "keep": keep[rows]}
                return mm.symmetric_info_nce(x, y, temperature=0.3, **masks, **options)

            whole = [z.clone().requires_grad_() for z in (batch.x, many.x)]
            own = [
                batch.x[batch.own].clone().requires_grad_(),
                many.x[many.own].clone().requires_grad_(),
            ]
            expected = loss(*whole, slice(0, batch.n))
            found = loss(*own, batch.own, group="world")
            torch.testing.assert_close(found, expected)
            wanted = torch.autograd.grad(expected, whole)
            got = torch.autograd.grad(found / world, own)
            torch.testing.assert_close(got[0], wanted[0][batch.own])
            torch.testing.assert_close(got[1], wanted[1][many.own])


def exchanges(rank, world):
    """A mask costs no second exchange of the ranks' sizes."""
    batch = Batch(rank, SIZES[world])
    found = gathered_in(
        lambda: forms(batch)["symmetric, keep"](
            *(batch.x[batch.own], batch.y[batch.own], 0.3, None, batch.own), group="world"
        )
    )
    assert found == 2  # the sizes, and the rows


def second_derivatives(rank, world):
    """Of the sum over all rows of the squares of the first: ranks differentiate their own part."""
    batch = Batch(rank, SIZES[world])
    for name in ("one way", "symmetric", "symmetric, keep", "matched", "sigmoid"):

        def slopes_of_slopes(rows, share, name=name, **group):
            x, y = (z[rows].clone().requires_grad_() for z in (batch.x, batch.y))
            value = forms(batch)[name](x, y, 0.3, batch.weight[rows], rows, **group)
            slopes = torch.autograd.grad(value, (x, y), create_graph=True)
            return torch.autograd.grad(share * sum(z.square().sum() for z in slopes), (x, y))

        expected = slopes_of_slopes(slice(0, batch.n), 1)
        # A first derivative is that of the ranks' sum, and so is the second: the world's square.
        found = slopes_of_slopes(batch.own, 1 / world**2, group="world")
        for own, whole in zip(found, expected, strict=True):
            torch.testing.assert_close(own, whole[batch.own], rtol=1e-10, atol=1e-10, msg=name)


def modules(rank, world):
    """Every module hands its group on."""
    batch = Batch(rank, SIZES[world])
    x, y = batch.x[batch.own], batch.y[batch.own]
    for module in (mm.InfoNCE, mm.SymmetricInfoNCE, mm.SigmoidContrast):
        torch.testing.assert_close(module(group="world")(x, y), module()(batch.x, batch.y))
    torch.testing.assert_close(
        mm.AnchoredInfoNCE(group="world")({"text": x, "audio": y}).total,
        mm.AnchoredInfoNCE()({"text": batch.x, "audio": batch.y}).total,
    )


def disagree(rank, world):
    """A mask of this rank's candidates alone is refused: it has a column for everybody's."""
    batch = Batch(rank, SIZES[world])
    rows = batch.own
    for loss in (mm.info_nce, mm.symmetric_info_nce, mm.sigmoid_contrast):
        with pytest.raises(ValueError, match=r"keep: expected shape \(\d, 8\), got"):
            loss(batch.x[rows], batch.y[rows], keep=batch.keep[rows, rows], group="world")


if __name__ == "__main__":
    run(globals())
