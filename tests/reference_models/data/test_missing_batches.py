"""Training batches: taken apart and put together again, with other masks in every step."""

from dataclasses import fields

import pytest
import torch

from reference_models.data.batch import Batch, ModalDataset, collate
from reference_models.data.missing import BERT_BLANKS, RATED_MODES
from reference_models.data.missing_batches import lacking_batch, samples_of
from tests.reference_models.data.test_batch import split, two


def values(batch):
    """All tensors of a batch, by name."""
    found = {}
    for name in (field.name for field in fields(Batch)):
        value = batch.get(name, {})
        inner = value if isinstance(value, dict) else {"": value}
        found |= {f"{name} {key}": tensor for key, tensor in inner.items()}
    return found


def check_same(one, other):
    one, other = values(one), values(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def batch(rows=range(5), **others):
    source = two() if not others else split({"audio": [3, 8, 2], "vision": [2, 1, 4]}, **others)
    dataset = ModalDataset(source, ("audio", "vision"))
    return collate([dataset[row] for row in rows])


def test_a_batch_taken_apart_and_collated_is_the_batch():
    check_same(collate(samples_of(batch())), batch())
    labels = {"audio": torch.arange(3.0).numpy()}
    own = batch(range(3), features={"audio": 4, "vision": 3}, unimodal_labels=labels)
    assert own["unimodal_labels"]["audio"].tolist() == [0, 1, 2]
    check_same(collate(samples_of(own)), own)


@pytest.mark.parametrize("mode", RATED_MODES)
def test_masks_are_of_the_seed_the_step_and_the_sample(mode):
    def changed(given, *, seed=1, step=1):
        return lacking_batch(given, mode, 0.5, seed=seed, step=step, blanks=BERT_BLANKS)

    check_same(changed(batch()), changed(batch()))
    untouched, seen = batch(), []
    for seed, step in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)):
        left = changed(untouched, seed=seed, step=step)
        seen.append(
            [
                x.sum().item() if x.is_floating_point() else x.tolist()
                for name, x in values(left).items()
                if name.startswith(("features", "present"))
            ]
        )
    assert any(each != seen[0] for each in seen[1:3])
    assert any(each != other for each, other in zip(seen[:3], seen[3:], strict=True))
    check_same(untouched, batch())
    # In other company and order a sample lacks the same.
    whole, part = samples_of(changed(batch())), samples_of(changed(batch([3, 1])))
    for sample in part:
        for m, x in whole[sample["index"]]["features"].items():
            assert torch.equal(sample["features"][m], x)


def test_nothing_is_missing_at_the_rate_0():
    for mode in RATED_MODES:
        left = lacking_batch(batch(), mode, 0.0, seed=1, step=1, blanks=BERT_BLANKS)
        check_same(left, batch())
