"""Numbers and places of groups in batches, against loops and by counting."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast import dealing
from tests.mmcontrast.strategies import seeds
from tests.oracles import sampling

groups = st.lists(st.integers(1, 9), min_size=2, max_size=6).map(np.array)
widths = st.integers(2, 5)


@given(groups, widths)
def test_numbers_of_batches_agree_with_the_oracle(groups, width):
    if groups.sum() < width:
        return
    most = dealing.fewest_in_a_batch(groups, width)
    assert most == sampling.fewest(groups, width)
    found = dealing.batches_without_repeats(groups, width, most)
    assert found == sampling.batches_once(groups, width, 1, 1)
    every = dealing.batches_with_all(groups, width, np.minimum(groups, most))
    assert every == sampling.batches_repeated(groups.tolist(), width, 1, 1)


@given(groups, st.integers(0, 9), st.integers(0, 100), seeds)
def test_a_level_is_as_equal_as_it_can_be(high, lift, share, seed):
    low = np.maximum(high - lift, 0)
    total = int(low.sum() + (high.sum() - low.sum()) * share // 100)
    found = dealing.level(total, low, high, np.random.default_rng(seed))
    assert found.sum() == total
    assert ((low <= found) & (found <= high)).all()
    can_fall, can_rise = found[found > low], found[found < high]
    if can_fall.size and can_rise.size:
        assert can_fall.max() - can_rise.min() <= 1


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), widths, seeds)
def test_each_class_is_dealt_evenly(counts, width, seed):
    counts[-1] += -sum(counts) % width
    batches = sum(counts) // width
    if not batches:
        return
    table = dealing.deal(np.array(counts), width, np.random.default_rng(seed))
    assert table.shape == (batches, width)
    for c, count in enumerate(counts):
        found = (table == c).sum(1)
        assert found.sum() == count
        assert found.min() >= count // batches
        assert found.max() <= -(-count // batches)


@pytest.mark.parametrize("seed", range(20))
def test_a_class_of_several_rows_is_dealt_evenly(seed):
    table = dealing.deal(np.array([2, 8, 6]), 4, np.random.default_rng(seed))
    assert ((table == 1).sum(1) == 2).all()


def test_what_follows_a_class_of_two_rows_is_dealt_anywhere():
    """In two rows of 8: 0 six times and 1 twice; 1 twice, 2 and 3 three times each."""
    meetings = set()
    for seed in range(400):
        if np.random.default_rng(seed).permutation(4).tolist() == [0, 1, 2, 3]:
            table = dealing.deal(np.array([6, 4, 3, 3]), 2, np.random.default_rng(seed))
            meetings |= {tuple(sorted(row)) for row in table.tolist()}
    assert meetings == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)}


def test_any_two_classes_meet():
    """Six classes of which a batch has two: all 15 pairs occur over epochs."""
    found = set()
    for seed in range(40):
        table = dealing.deal(np.full(6, 5), 2, np.random.default_rng(seed))
        found |= {tuple(sorted(row)) for row in table.tolist()}
    assert len(found) == 15


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), seeds)
def test_samples_of_one_id_are_spread_over_their_class(classes, different, times, seed):
    """Of as many samples of each id, all ids come once before any comes again."""
    ids = np.tile(np.arange(different), classes * times)
    own = np.arange(classes).repeat(different * times)
    order = dealing.spread(own, ids, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(ids)))
    assert (own[order] == own).all()
    for turn in ids[order].reshape(-1, different):
        assert sorted(turn) == list(range(different))


def test_without_ids_every_order_of_a_class_occurs():
    orders = {tuple(dealing.spread(np.zeros(3), None, np.random.default_rng(k))) for k in range(60)}
    assert len(orders) == 6


def fill(classes, queues, ids, used=(), **given):
    used = set(used)
    options = {"each": 2, "again": None, "patience": 9, **given}
    return dealing.fill(classes, queues, ids, used, **options), used


def test_a_batch_passes_over_ids_in_use_and_leaves_them_in_front():
    queues = [deque([0, 1, 2, 3, 6]), deque([4, 5])]
    batch, used = fill([0, 1], queues, "aabcdef", used="b")  # 1 has the id of 0, and 2 has b
    assert batch == [0, 3, 4, 5]
    assert queues == [deque([1, 2, 6]), deque()]
    assert used == set("abcde")


@pytest.mark.parametrize(("ids", "patience"), [("abcc", 9), ("abcxc", 9), ("abccx", 0)])
def test_a_batch_that_fails_changes_nothing(ids, patience):
    queues = [deque([0, 1]), deque(range(2, len(ids)))]
    batch, used = fill([0, 1], queues, ids, used="x", patience=patience)
    assert batch == []
    assert queues == [deque([0, 1]), deque(range(2, len(ids)))]
    assert used == {"x"}


def test_how_many_are_passed_over():
    assert fill([0], [deque(range(4))], "aaab", patience=2)[0] == [0, 3]
    assert fill([0], [deque(range(4))], "aaab", patience=1)[0] == []


def test_an_empty_queue_is_filled_once():
    queues, asked = [deque([1])], []

    def again(c):
        asked.append(c)
        return [1, 0]

    assert fill([0], queues, "ab", again=again)[0] == [1, 0]
    assert queues == [deque([1])]
    assert fill([0], [deque()], "aa", again=again)[0] == []
    assert asked == [0, 0]
