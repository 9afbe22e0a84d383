"""HyCon's sums over pairs, by moments and by similarities, against loops over the pairs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.hybrid.pair_sums import Contrasts, PairSums
from mmcontrast.hybrid.part_sums import OneClass, Part, large_class_sums, small_class_sums
from tests.mmcontrast.strategies import close, mask, normal, seeds

M, D = 3, 4
CONTRASTS = Contrasts(
    torch.stack([torch.eye(M), 1 - torch.eye(M)]).double(),
    torch.tensor([[1.0], [0.8]], dtype=torch.float64),
)
"""Within a modality and between modalities, with their targets."""
FIELDS = [name for name in PairSums._fields if name != "certain"]


def batch(seed, n):
    """(n, M, D) rows, zero where a sample lacks a modality, and who has which."""
    here = mask(seed, n, M, share=0.7)
    return normal(seed + 1, n, M, D) * here[..., None], here.double()


def by_loop(x, here, ids, anchors):
    """Field -> (anchors, N, M), by the definition: all other rows of the batch, pair by pair."""
    found = {name: torch.zeros(len(anchors), len(CONTRASTS.targets), M).double() for name in FIELDS}
    for at, i in enumerate(anchors):
        for kind, (partners, target) in enumerate(zip(*CONTRASTS, strict=True)):
            for a in range(M):
                for k in range(len(x)):
                    for b in range(M):
                        if k == i or not (partners[a, b] and here[i, a] and here[k, b]):
                            continue
                        s = x[i, a] @ x[k, b]
                        alike = ids[k] == ids[i]
                        place = at, kind, a
                        found["positives" if alike else "negatives"][place] += s
                        found["positive_count" if alike else "negative_count"][place] += 1
                        if alike:
                            found["errors"][place] += (s - target[0]) ** 2
    return found


def sum_and_number(x, here):
    """(M, D + 1) of some samples: the rows' sum and how many there are."""
    return torch.cat([x.sum(0), here.sum(0)[:, None]], dim=1)


@given(seed=seeds, n=st.integers(1, 6), beside=st.integers(0, 3), others=st.integers(0, 4))
def test_moments_of_one_class_are_the_loops(seed, n, beside, others):
    """A part of a class, the rest of the class beside it, and the other classes."""
    x, here = batch(seed, n + beside + others)
    ids = [0] * (n + beside) + [1] * others
    own, rest = slice(0, n + beside), slice(n + beside, None)
    part = Part(x[:n], here[:n], sum_and_number(x[rest], here[rest]))
    columns = x[own].transpose(0, 1).mT
    whole = OneClass(
        sum_and_number(x[own], here[own]),
        sum_and_number(x[n : n + beside], here[n : n + beside]),
        columns @ columns.mT,
    )
    similarity, found = large_class_sums(part, whole, CONTRASTS, True)
    close(similarity, x[:n] @ x[:n].mT)
    expected = by_loop(x, here, ids, range(n))
    for name in FIELDS:
        close(getattr(found, name), expected[name], atol=1e-9)
    _, without = large_class_sums(part, whole, CONTRASTS, False)
    assert (without.errors == 0).all()
    assert torch.equal(without.positives, found.positives)


@given(seed=seeds, n=st.integers(1, 7), others=st.integers(0, 4), data=st.data())
def test_similarities_of_small_classes_are_the_loops(seed, n, others, data):
    x, here = batch(seed, n + others)
    ids = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed)).sort().values
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    part = Part(x[:n], here[:n], sum_and_number(x[n:], here[n:]))
    similarity, found = small_class_sums(part, ids, torch.tensor(chosen), CONTRASTS)
    close(similarity, x[chosen] @ x[chosen].mT)
    # Of an anchor without positives they are not read, and may be anything that is finite.
    assert found.errors.isfinite().all()
    found = found._replace(errors=torch.where(found.positive_count > 0, found.errors, 0))
    expected = by_loop(x, here, [*ids.tolist(), *[9] * others], chosen)
    for name in FIELDS:
        close(getattr(found, name), expected[name])
