"""Which data set a corpus is, and that a generated one is known."""

from dataclasses import replace

import numpy as np
import pytest

from reference_models.data import data_sets
from reference_models.data.corpus import Corpus, Split
from reference_models.data.data_sets import data_set_of, is_synthetic
from reference_models.data.synthetic import generate


def corpus(sizes=(3, 2, 2), *, word="somebody", name="video", sentences=True):
    def split(part, size):
        return Split(
            part,
            [f"{name}_{row}" for row in range(size)],
            np.zeros(size, dtype=np.float32),
            [f"the {word} was good"] * size if sentences else None,
            None,
            None,
            {},
            {},
            {"text": np.ones(size, dtype=bool)},
        )

    parts = zip(("train", "valid", "test"), sizes, strict=True)
    return Corpus("a.pkl", "12", None, {part: split(part, size) for part, size in parts})


@pytest.mark.parametrize(
    ("sizes", "data_set"),
    [
        ((1284, 229, 686), "mosi"),
        ((16326, 1871, 4659), "mosei"),
        ((16265, 1869, 4643), "mosei"),
        ((1368, 456, 457), "sims"),
        ((7614, 980, 994), "ur_funny"),
        ((1284, 686, 229), None),
        ((1239, 208, 752), None),
    ],
)
def test_a_data_set_is_known_by_the_sizes_of_its_splits(sizes, data_set):
    assert data_set_of(corpus(sizes)) == data_set


def test_a_generated_corpus_is_known_by_its_names_or_by_its_words(monkeypatch):
    assert not is_synthetic(corpus())
    assert not is_synthetic(corpus(sentences=False))
    assert is_synthetic(corpus(name="synthetic_train"))
    assert is_synthetic(corpus(word="soundtrack"))
    content = generate(sizes=(60, 2, 2), seed=3)["train"]
    assert content["id"][0].startswith("synthetic")
    real = corpus(sizes=(60, 2, 2))
    train = replace(real.splits["train"], raw_text=content["raw_text"])
    renamed = replace(real, splits=real.splits | {"train": train})
    assert is_synthetic(renamed)
    monkeypatch.setitem(data_sets.SIZES, (60, 2, 2), "mosi")
    assert data_set_of(real) == "mosi"
    assert data_set_of(renamed) is None
