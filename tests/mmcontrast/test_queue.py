"""The queue against a plain list of what was pushed, and in a loss."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast import IGNORE, EmbeddingQueue, close_scores, different_id, info_nce, sup_con
from tests.mmcontrast.strategies import close, gradients, normal


@given(st.integers(1, 5), st.lists(st.integers(0, 7), max_size=5), st.integers(0, 1000))
def test_it_holds_the_last_ones(size, batches, seed):
    queue = EmbeddingQueue(size, 3, dtype=torch.float64)
    pushed, ids = [], []
    for k, n in enumerate(batches):
        x, labels = normal(seed + k, n, 3), torch.arange(n) + 10 * k
        places = queue.push(x, labels)
        # Where they are, and -1 for those that are not.
        assert places.dtype == torch.int64
        assert places.tolist()[: max(n - size, 0)] == [-1] * max(n - size, 0)
        there = places >= 0
        assert there.sum() == min(n, size)
        assert torch.equal(queue.embeddings[places[there]], x[there])
        assert torch.equal(queue.labels[places[there]], labels[there])
        pushed += x.tolist()
        ids += labels.tolist()
    held = {tuple(x): label for x, label in zip(pushed[-size:], ids[-size:], strict=True)}
    filled = queue.filled
    assert filled.sum() == len(held)
    found = zip(queue.embeddings[filled].tolist(), queue.labels[filled].tolist(), strict=True)
    assert {tuple(x): label for x, label in found} == held
    assert (queue.labels[~filled] == IGNORE).all()


def test_the_oldest_goes_first():
    queue = EmbeddingQueue(3, 1)
    queue.push(torch.tensor([[1.0], [2.0]]))
    queue.push(torch.tensor([[3.0], [4.0]]))
    assert sorted(queue.embeddings[:, 0].tolist()) == [2.0, 3.0, 4.0]
    assert (queue.labels == IGNORE).all()


@given(st.integers(1, 9), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 1000))
def test_law_43_an_empty_queue_is_none_and_what_is_pushed_only_adds_negatives(size, batches, seed):
    anchors, partners = normal(seed, 4, 3), normal(seed + 1, 4, 3)
    queue = EmbeddingQueue(size, 3, dtype=torch.float64)
    candidates, keep = queue.extend(partners, rows=4)
    alone = info_nce(anchors, partners, reduction="none")
    before = info_nce(anchors, candidates, keep=keep, reduction="none")
    close(before, alone)
    pushed = normal(seed, 0, 3)
    for k, n in enumerate(batches):
        pushed = torch.cat([pushed, normal(seed + 2 + k, n, 3)])
        queue.push(pushed[len(pushed) - n :])
        candidates, keep = queue.extend(partners, rows=4)
        found = info_nce(anchors, candidates, keep=keep, reduction="none")
        close(found, info_nce(anchors, torch.cat([partners, pushed[-size:]]), reduction="none"))
        assert (found >= alone).all()
        if len(pushed) <= size:  # nothing was replaced
            assert (found >= before).all()
        before = found


@given(st.integers(1, 5), st.integers(0, 7), st.integers(0, 7))
def test_a_batch_that_was_pushed_first_does_not_meet_itself(size, before, n):
    anchors, partners, ids = normal(1, n, 3), normal(2, n, 3), torch.arange(n)
    queue = EmbeddingQueue(size, 3, dtype=torch.float64)
    queue.push(normal(3, before, 3), 100 + torch.arange(before))
    places = queue.push(partners, ids)
    found = queue.extend(partners, rows=n, labels=ids, without=places)
    rest = [k for k in range(size) if queue.filled[k] and queue.labels[k] >= 100]
    candidates = torch.cat([partners, queue.embeddings[rest]])
    close(
        info_nce(anchors, found.candidates, keep=found.keep, reduction="none"),
        info_nce(anchors, candidates, reduction="none"),
    )
    assert found.labels[:n].tolist() == ids.tolist()
    assert (found.labels[n:][rest] >= 100).all()
    assert (found.labels[n:] == IGNORE).sum() == size - len(rest)
    pair = queue.extend(partners, rows=n, without=places)
    for x, y in zip(pair, found[:2], strict=True):
        assert torch.equal(x, y)


def test_no_place_is_left_out_for_rows_that_were_dropped():
    queue = EmbeddingQueue(2, 3)
    queue.push(torch.ones(2, 3))
    keep = queue.extend(torch.ones(1, 3), rows=1, without=torch.tensor([-1, 1, -1]))[1]
    assert keep.tolist() == [[True, True, False]]


def test_ids_of_candidates_and_queue_keep_a_sample_from_its_own_copies():
    anchors, partners, ids = normal(1, 4, 3), normal(2, 4, 3), torch.tensor([5, 6, 7, IGNORE])
    queue = EmbeddingQueue(4, 3, dtype=torch.float64)
    queue.push(normal(3, 3, 3), torch.tensor([6, IGNORE, 5]))
    found = queue.extend(partners, rows=4, labels=ids)
    keep = [found.keep, different_id(ids, found.labels)]
    value = info_nce(anchors, found.candidates, keep=keep, reduction="none")
    left = torch.ones(4, 7).bool()
    left[0, 6] = left[1, 4] = False
    candidates = torch.cat([partners, normal(3, 3, 3)])
    close(value, info_nce(anchors, candidates, keep=left, reduction="none"))


def test_labels_of_candidates_and_queue_are_those_of_sup_con():
    queue = EmbeddingQueue(5, 3, dtype=torch.float64)
    queue.push(normal(1, 3, 3), torch.tensor([0, 1, IGNORE]))
    anchors, others, labels = normal(2, 4, 3), normal(3, 4, 3), torch.tensor([0, 1, 1, 2])
    found = queue.extend(others, rows=4, labels=labels)
    known = torch.cat([others, normal(1, 3, 3)[:2]]), torch.tensor([0, 1, 1, 2, 0, 1])
    close(
        sup_con(anchors, labels, found.candidates, found.labels), sup_con(anchors, labels, *known)
    )


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.bfloat16, torch.float8_e5m2])
def test_labels_of_candidates_take_the_queues_dtype(dtype):
    own = torch.float32 if dtype.is_floating_point else torch.int64
    queue = EmbeddingQueue(2, 3, label_dtype=own)
    queue.push(torch.ones(1, 3), torch.tensor([7], dtype=own))
    found = queue.extend(torch.ones(2, 3), rows=1, labels=torch.tensor([1, 0], dtype=dtype))
    assert found.labels.dtype == own
    assert found.labels.tolist() == [1, 0, 7, IGNORE]


def test_no_gradient_reaches_what_is_in_it():
    queue = EmbeddingQueue(4, 3, dtype=torch.float64)
    old = normal(1, 2, 3).requires_grad_()
    queue.push(old)
    assert not queue.embeddings.requires_grad
    candidates, keep = queue.extend(normal(2, 2, 3), rows=2)
    value, (gradient,) = gradients(lambda x: info_nce(x, candidates, keep=keep), normal(3, 2, 3))
    assert value > 0
    assert gradient.any()
    assert old.grad is None


def test_a_push_after_the_forward_leaves_its_gradient_alone():
    """The candidates are a copy: what is written into the queue later is not in the graph."""
    queue = EmbeddingQueue(2, 3, dtype=torch.float64)
    queue.push(normal(1, 2, 3))
    anchors, partners = normal(2, 2, 3).requires_grad_(), normal(3, 2, 3)
    candidates, keep = queue.extend(partners, rows=2)
    loss = info_nce(anchors, candidates, keep=keep)
    (before,) = torch.autograd.grad(loss, anchors, retain_graph=True)
    queue.push(normal(4, 2, 3))
    (after,) = torch.autograd.grad(loss, anchors)
    close(after, before)


def test_its_labels_make_supervised_candidates():
    queue = EmbeddingQueue(4, 3, dtype=torch.float64)
    queue.push(normal(1, 3, 3), torch.tensor([0, 1, IGNORE]))
    anchors, labels = normal(2, 2, 3), torch.tensor([0, 1])
    value = sup_con(anchors, labels, queue.embeddings, queue.labels)
    close(value, info_nce(anchors, normal(1, 3, 3)[:2]))


def test_the_whole_state_is_in_the_state_dict():
    queue = EmbeddingQueue(4, 3)
    queue.push(normal(1, 6, 3, dtype=torch.float32), torch.arange(6))
    queue.push(normal(2, 1, 3, dtype=torch.float32), torch.tensor([9]))
    file = io.BytesIO()
    torch.save(queue.state_dict(), file)
    file.seek(0)
    resumed = EmbeddingQueue(4, 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    twin = copy.deepcopy(queue)
    for q in (queue, resumed, twin):
        q.push(normal(3, 2, 3, dtype=torch.float32), torch.tensor([20, 21]))
    for other in (resumed, twin):
        for name, value in queue.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


SCORES = [0.2, 0.9, -0.4, 1.6, math.nan]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_scores_stay_what_they_are(dtype):
    scores = torch.tensor(SCORES, dtype=dtype)
    queue = EmbeddingQueue(7, 3, label_dtype=dtype)
    queue.push(torch.ones(5, 3), scores)
    queue.push(torch.ones(1, 3))
    expected = torch.cat([scores, torch.full((2,), IGNORE, dtype=dtype)])
    assert queue.labels.dtype == dtype
    assert torch.equal(queue.labels.nan_to_num(7.0), expected.nan_to_num(7.0))
    found = close_scores(scores, queue.labels, tolerance=0.01)
    assert torch.equal(found[:, :5], close_scores(scores, tolerance=0.01))
    assert not found[:, 5:].any()
    queue.half()
    assert queue.embeddings.dtype == torch.float16
    assert queue.labels.dtype == dtype
    queue.to(device="meta")
    assert queue.labels.is_meta


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_scores_of_one_byte_fit_wider_dtypes(dtype):
    queue = EmbeddingQueue(2, 1, label_dtype=torch.bfloat16)
    queue.push(torch.ones(2, 1), torch.tensor([0.25, -3.0]).to(dtype))
    assert queue.labels.tolist() == [0.25, -3.0]


@pytest.mark.parametrize(
    ("own", "given"),
    [
        *((torch.int64, dtype) for dtype in (torch.float32, torch.bfloat16, torch.complex64)),
        (torch.int64, torch.uint64),
        (torch.float32, torch.float64),
        (torch.float16, torch.bfloat16),
        (torch.float32, torch.int64),
        (torch.float32, torch.bool),
    ],
)
def test_labels_that_it_cannot_hold_are_refused_and_change_nothing(own, given):
    queue = EmbeddingQueue(3, 2, label_dtype=own)
    before = {name: x.clone() for name, x in queue.state_dict().items()}
    with pytest.raises(ValueError, match=f"labels: expected {own} .*label_dtype.*got {given}"):
        queue.push(torch.ones(2, 2), torch.zeros(2, dtype=given))
    for name, x in queue.state_dict().items():
        assert torch.equal(x, before[name]), name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool])
def test_integer_labels_are_int64(dtype):
    queue = EmbeddingQueue(3, 2)
    queue.push(torch.ones(2, 2), torch.tensor([1, 0], dtype=dtype))
    assert queue.labels.dtype == torch.int64
    assert queue.labels.tolist() == [1, 0, IGNORE]


def test_clear_empties_it():
    queue = EmbeddingQueue(2, 1)
    fresh = {name: value.clone() for name, value in queue.state_dict().items()}
    queue.push(torch.ones(3, 1), torch.arange(3))
    queue.clear()
    for name, value in queue.state_dict().items():
        assert torch.equal(value, fresh[name]), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_it_keeps_its_own_dtype_and_lends_the_candidates(dtype):
    queue = EmbeddingQueue(2, 3, dtype=torch.float32)
    queue.push(normal(1, 1, 3, dtype=dtype))
    candidates, keep = queue.extend(normal(2, 2, 3, dtype=dtype), rows=2)
    assert queue.embeddings.dtype == torch.float32
    assert candidates.dtype == dtype
    assert math.isfinite(info_nce(normal(3, 2, 3, dtype=dtype), candidates, keep=keep))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EmbeddingQueue(0, 3), "size: expected an int of at least 1, got 0"),
        (lambda: EmbeddingQueue(3, 0), "features: expected an int of at least 1, got 0"),
        (lambda: EmbeddingQueue(3, 2, dtype=torch.int64), "dtype: expected a floating dtype, got"),
        (
            lambda: EmbeddingQueue(3, 2, label_dtype=torch.int32),
            "label_dtype: expected a floating dtype or torch.int64, got torch.int32",
        ),
        (
            lambda: EmbeddingQueue(3, 2, label_dtype=torch.float8_e5m2),
            "label_dtype: expected a dtype that holds -100, got torch.float8_e5m2",
        ),
        (
            lambda: EmbeddingQueue(3, 2).push(torch.ones(4, 5)),
            r"embeddings: expected shape \(rows, 2\), got \(4, 5\)",
        ),
        (
            lambda: EmbeddingQueue(3, 2).push(torch.ones(4, 2), torch.arange(3)),
            r"labels: expected shape \(4,\), got \(3,\)",
        ),
        (
            lambda: EmbeddingQueue(3, 2).extend(
                torch.ones(4, 2), rows=4, labels=torch.tensor([0.5, 1.0, 2.0, 2.5])
            ),
            "labels: expected torch.int64 .*label_dtype=torch.float32.* got torch.float32",
        ),
        (
            lambda: EmbeddingQueue(3, 2).extend(torch.ones(4, 2), rows=4, labels=torch.arange(3)),
            r"labels: expected shape \(4,\), got \(3,\)",
        ),
        (
            lambda: EmbeddingQueue(3, 2).extend(
                torch.ones(4, 2), rows=4, without=torch.tensor([0, 3])
            ),
            "without: expected indices from 0 to 2, or -1 for none, got 3",
        ),
        (
            lambda: EmbeddingQueue(3, 2).extend(torch.ones(4, 2), rows=4, without=torch.ones(2)),
            "without: expected integer indices, got torch.float32",
        ),
        (
            lambda: EmbeddingQueue(3, 2).extend(torch.ones(4, 5), rows=4),
            r"candidates: expected shape \(rows, 2\), got \(4, 5\)",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
