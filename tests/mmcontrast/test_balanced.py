"""Balanced batches: what each has, what an epoch visits, on how many ranks."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from mmcontrast import BalancedBatchSampler, sup_con
from tests.mmcontrast.strategies import normal, rng, seeds
from tests.oracles import sampling

SIZES = st.lists(st.integers(1, 14), min_size=2, max_size=7)


@st.composite
def settings(draw):
    """Labels in random order, and the arguments of all ranks' samplers."""
    sizes, per_class = draw(SIZES), draw(st.integers(1, 3))
    width, ranks = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=rng(len(labels)))]
    seed = draw(seeds)
    common = {"batch_size": width * per_class, "per_class": per_class, "seed": seed}
    return labels, sizes, common, ranks


def of_ranks(labels, ranks, epoch=0, **given):
    """Each rank's batches; their number is what `len` says."""
    found = []
    for rank in range(ranks):
        sampler = BalancedBatchSampler(labels, rank=rank, world_size=ranks, **given)
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    assert len({len(batches) for batches in found}) == 1
    return found


def chain(batches):
    return list(itertools.chain.from_iterable(batches))


def check_balance(batches, labels, sizes, batch_size, per_class):
    """Of each class a number of groups; no more of one than is needed to fill a batch."""
    groups = [n // per_class for n in sizes if n >= per_class]
    most = sampling.fewest(groups, batch_size // per_class)
    for batch in batches:
        assert len(batch) == len(set(batch)) == batch_size
        counts = Counter(labels[batch].tolist())
        assert all(n % per_class == 0 for n in counts.values())
        assert max(counts.values()) <= most * per_class
        assert len(counts) >= 2


def possible(sizes, batch_size, per_class):
    """Sizes of the classes that make groups; none where these are too few."""
    enough = [n for n in sizes if n >= per_class]
    groups = sum(n // per_class for n in enough)
    return enough if len(enough) >= 2 and groups >= batch_size // per_class else []


@given(settings(), st.integers(0, 5))
def test_an_epoch_without_repeats(given, epoch):
    labels, sizes, common, ranks = given
    per_class, width = common["per_class"], common["batch_size"] // common["per_class"]
    enough = possible(sizes, common["batch_size"], per_class)
    expected = sampling.batches_once(enough, width, per_class, ranks) if enough else 0
    if not expected:
        with pytest.raises(ValueError, match="labels: expected"):
            of_ranks(labels, ranks, **common)
        return
    found = of_ranks(labels, ranks, epoch, **common)
    batches = [batch for rank in found for batch in rank]
    assert len(batches) == expected
    check_balance(batches, labels, sizes, common["batch_size"], per_class)
    visited = chain(batches)
    assert len(visited) == len(set(visited))
    # Only what is larger is cut: a class with groups left has as many in batches as any, up to one.
    used = Counter(labels[visited].tolist())
    full = [used[c] // per_class for c, n in enumerate(sizes) if n >= per_class]
    for c, n in enumerate(sizes):
        most = sampling.fewest([n // per_class for n in enough], width) * expected
        if used[c] // per_class < min(n // per_class, most):
            assert used[c] // per_class >= max(full) - 1


@given(settings(), st.integers(0, 5))
def test_an_epoch_with_repeats(given, epoch):
    labels, sizes, common, ranks = given
    per_class, width = common["per_class"], common["batch_size"] // common["per_class"]
    enough = possible(sizes, common["batch_size"], per_class)
    if not enough:
        return
    found = of_ranks(labels, ranks, epoch, repeat=True, **common)
    batches = [batch for rank in found for batch in rank]
    assert len(batches) == sampling.batches_repeated(enough, width, per_class, ranks)
    check_balance(batches, labels, sizes, common["batch_size"], per_class)
    small = torch.tensor(sizes)[labels] < per_class
    left_out = BalancedBatchSampler(labels, repeat=True, **common).left_out
    assert torch.equal(left_out, small.nonzero()[:, 0])
    assert set(chain(batches)) == set((~small).nonzero()[:, 0].tolist())


@given(settings(), st.integers(2, 12), st.booleans(), st.booleans())
def test_no_id_is_twice_in_a_step(given, different, repeat, named):
    labels, sizes, common, ranks = given
    ids = torch.randint(different, (len(labels),), generator=rng(different))
    names = [f"image {i}" for i in ids.tolist()] if named else ids
    try:
        found = of_ranks(labels, ranks, ids=names, repeat=repeat, **common)
    except ValueError as error:
        if re.match(r"labels: expected (\d+ groups|a batch)", str(error)):
            return
        raise
    for step in zip(*found, strict=True):
        together = ids[chain(step)].tolist()
        assert len(together) == len(set(together)) == ranks * common["batch_size"]
    batches = [batch for rank in found for batch in rank]
    check_balance(batches, labels, sizes, common["batch_size"], common["per_class"])
    visited = chain(batches)
    assert repeat or len(visited) == len(set(visited))


def test_ids_that_no_batch_can_do_without_leave_batches_out_and_the_length_says_so():
    """One id in all of class 0: never two of it in a batch, so class 0 is never there."""
    labels = torch.arange(3).repeat_interleave(8)
    ids = torch.where(labels == 0, 7, torch.arange(24) + 10)
    sampler = BalancedBatchSampler(labels, ids=ids, batch_size=4)
    assert sampler.left_out.tolist() == list(range(8))
    assert len(sampler) == 4
    # Two samples of it would make a group, with one of another id: only one group, so one batch.
    ids[0] = 8
    sampler = BalancedBatchSampler(labels, ids=ids, batch_size=6)
    assert len(list(sampler)) == len(sampler) == 1


def test_labels_of_none_and_ids_of_none():
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0, float("nan"), -100.0])
    sampler = BalancedBatchSampler(labels, batch_size=4, ids=[-100] * 6)
    assert sorted(next(iter(sampler))) == [0, 1, 2, 3]
    assert sampler.left_out.tolist() == [4, 5]


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "cat", "dog", "dog", "dog"],
        np.array(["cat", "cat", "dog", "dog", "dog"]),
        np.array(["cat", "cat", "dog", "dog", "dog"], dtype=object),
        [7, 7, -1, -1, -1],
        np.array([7, 7, 1, 1, 1], dtype=np.uint16),
        torch.tensor([1, 1, 0, 0, 0]).bool(),
        torch.tensor([7, 7, -1, -1, -1], dtype=torch.bfloat16),
    ],
)
def test_what_labels_can_be(labels):
    batch = next(iter(BalancedBatchSampler(labels, batch_size=4)))
    assert sorted(batch)[:2] == [0, 1]


def test_scores_make_bins_of_equal_size():
    scores = normal(1, 100)
    sampler = BalancedBatchSampler(scores=scores, bins=5, batch_size=20, per_class=4)
    ranks = scores.argsort().argsort()
    for batch in sampler:
        assert Counter((ranks[batch] // 20).tolist()) == dict.fromkeys(range(5), 4)
    assert len(sampler) == 5


def test_equal_scores_stay_together_and_what_is_no_score_is_left_out():
    scores = [1.0] * 4 + [2.0] * 2 + [3.0] * 4 + [float("nan"), float("inf"), float("inf"), -100.0]
    sampler = BalancedBatchSampler(scores=scores, bins=4, batch_size=4)
    assert sampler.left_out.tolist() == [10, 11, 12, 13]
    kinds = {
        tuple(sorted(scores[i] for i in batch)) for k in range(20) for batch in epoch(sampler, k)
    }
    # Of 10 scores, 1.0 is in bin floor(4 * 2 / 10), 2.0 in floor(4 * 5 / 10), 3.0 in the last.
    assert kinds == {(1.0, 1.0, 2.0, 2.0), (1.0, 1.0, 3.0, 3.0), (2.0, 2.0, 3.0, 3.0)}


def test_a_run_of_equal_scores_is_where_its_middle_is():
    scores = [1.0] * 4 + [2.0] * 2 + [3.0] * 4  # 2.0 is in bin floor(2 * 5 / 10), with 3.0
    sampler = BalancedBatchSampler(scores=scores, bins=2, batch_size=4)
    for batch in itertools.chain.from_iterable(epoch(sampler, k) for k in range(10)):
        assert sum(scores[i] == 1.0 for i in batch) == 2


def test_with_ids_the_length_is_that_of_the_epoch():
    labels, ids = torch.arange(36) % 3, torch.arange(36) ** 2 % 11
    sampler = BalancedBatchSampler(labels, batch_size=6, ids=ids)
    lengths = []
    for k in range(12):
        sampler.set_epoch(k)
        lengths.append(len(sampler))
        assert lengths[-1] == len(list(sampler))
    assert len(set(lengths)) > 1


def epoch(sampler, k):
    sampler.set_epoch(k)
    return list(sampler)


def test_seed_and_epoch_say_all():
    labels = torch.arange(40) % 5
    first, same = (BalancedBatchSampler(labels, batch_size=8, seed=3) for _ in range(2))
    other = BalancedBatchSampler(labels, batch_size=8, seed=4)
    torch.manual_seed(0)
    found = [epoch(first, k) for k in range(3)]
    torch.manual_seed(1)
    assert [epoch(same, k) for k in (0, 1, 2)] == found
    assert epoch(same, 1) == found[1]
    assert found[0] != found[1] != found[2]
    assert epoch(other, 0) != found[0]


def test_over_epochs_every_sample_comes():
    labels = torch.tensor([0] * 7 + [1] * 3 + [2] * 30)
    sampler = BalancedBatchSampler(labels, batch_size=4)
    visited = {i for k in range(60) for batch in epoch(sampler, k) for i in batch}
    assert visited == set(range(40))


def test_ranks_are_those_of_the_process_group(monkeypatch):
    labels = torch.arange(40) % 5
    for name, value in (("is_initialized", True), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    found = list(BalancedBatchSampler(labels, batch_size=4))
    assert found == of_ranks(labels, 2, batch_size=4)[1]
    alone = BalancedBatchSampler(labels, batch_size=4, rank=0, world_size=1)
    assert len(alone) == 2 * len(found)


def test_a_loader_takes_it():
    labels = torch.arange(30) % 3
    sampler = BalancedBatchSampler(labels, batch_size=6)
    loader = DataLoader(TensorDataset(normal(1, 30, 4), labels), batch_sampler=sampler)
    assert len(loader) == len(sampler) == 5
    for (x, found), batch in zip(loader, sampler, strict=True):
        assert torch.equal(found, labels[batch])
        assert sup_con(x, found, reduction="none").all()  # each anchor has a positive


def test_accelerate_shares_sets_epochs_and_skips():
    data_loader = pytest.importorskip("accelerate.data_loader")
    labels = torch.arange(41) % 4
    sampler = BalancedBatchSampler(labels, batch_size=4, rank=0, world_size=1)
    expected = [epoch(sampler, k) for k in range(2)]
    loader = DataLoader(TensorDataset(torch.arange(41)), batch_sampler=sampler)
    for rank in range(2):
        prepared = data_loader.prepare_data_loader(loader, num_processes=2, process_index=rank)
        for k in range(2):  # it counts epochs by itself
            assert [batch[0].tolist() for batch in prepared] == expected[k][rank::2]
        prepared.set_epoch(1)
        rest = data_loader.skip_first_batches(prepared, 2)
        assert [batch[0].tolist() for batch in rest] == expected[1][rank::2][2:]


LABELS = torch.arange(12) % 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "labels: expected either labels or scores, got neither"),
        ({"labels": LABELS, "scores": LABELS}, "labels: expected either .*, got both"),
        ({"labels": LABELS[:, None]}, r"labels: expected shape \(N,\), got \(12, 1\)"),
        ({"labels": LABELS / 2}, "labels: expected classes, whole numbers .*got 0.5"),
        ({"labels": [[0, 1], [2]]}, "labels: expected numbers or strings, one for each sample"),
        (
            {"labels": [torch.eye(3).to_sparse()]},
            "labels: expected numbers or strings, one for each sample",
        ),
        ({"labels": [None, 3]}, "labels: expected numbers or strings, one for each sample"),
        ({"scores": LABELS + 1j}, "scores: expected real numbers, got torch.complex64"),
        ({"labels": LABELS, "ids": LABELS[1:]}, r"ids: expected shape \(12,\), got \(11,\)"),
        ({"labels": LABELS, "batch_size": 5}, "batch_size: expected a multiple of per_class=2"),
        ({"labels": LABELS, "batch_size": 2}, "batch_size: expected .* at least twice it, got 2"),
        ({"labels": LABELS, "per_class": 0}, "per_class: expected an int of at least 1, got 0"),
        ({"scores": LABELS, "bins": 1}, "bins: expected an int of at least 2, got 1"),
        ({"labels": LABELS, "seed": -1}, "seed: expected an int of at least 0, got -1"),
        ({"labels": LABELS, "repeat": 1}, "repeat: expected True or False, got 1"),
        ({"labels": LABELS, "world_size": 0}, "world_size: expected an int of at least 1, got 0"),
        ({"labels": LABELS, "rank": 1}, "rank: expected an int below world_size=1, got 1"),
        ({"labels": np.ones(4, np.longdouble)}, "labels: expected numbers or strings"),
        ({"labels": LABELS, "rank": -1}, "rank: expected an int of at least 0, got -1"),
        (
            {"labels": LABELS, "batch_size": 18},
            "labels: expected 9 groups of 2 samples of one class .* 18, .*got 6 such groups, of 3",
        ),
        (
            {"labels": LABELS[:1]},
            "labels: expected 2 groups .* for a batch of 4, not all of one class, got 0 .*, of 0",
        ),
        (
            {"labels": [0, 0, 1, 1], "ids": [0, 0, 1, 1]},
            "labels: expected 2 groups of 2 samples of one class and different ids .*got 0 such",
        ),
        (
            {"scores": [0.1, 0.2]},
            "scores: expected .* one bin for a batch of 4, not all of one bin",
        ),
        (
            {"labels": LABELS, "world_size": 4},
            "labels: expected a batch for each of 4 ranks, got 3 batches",
        ),
    ],
)
def test_errors_name_the_argument(given, message):
    with pytest.raises(ValueError, match=message):
        BalancedBatchSampler(**{"batch_size": 4, **given})


@pytest.mark.parametrize("name", ["labels", "scores", "ids"])
@pytest.mark.parametrize("kind", ["big-endian", "backwards", "a column", "read-only"])
def test_arrays_as_they_lie(kind, name):
    plain = np.arange(12) % 4
    given = {
        "big-endian": plain.astype(">i2"),
        "backwards": plain[::-1].copy()[::-1],
        "a column": np.stack([plain, plain], 1)[:, 0],
        "read-only": np.broadcast_to(plain, (1, 12))[0],
    }[kind]
    before, rest = given.copy(), {"labels": np.arange(12) % 3} if name == "ids" else {}
    found, expected = (
        list(BalancedBatchSampler(batch_size=4, **rest, **{name: x}))
        for x in (given, torch.from_numpy(plain))
    )
    assert found == expected
    assert (given == before).all()


def test_an_epoch_is_a_whole_number():
    with pytest.raises(ValueError, match="epoch: expected an int of at least 0, got -1"):
        BalancedBatchSampler(LABELS, batch_size=4).set_epoch(-1)
