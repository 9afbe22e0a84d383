"""Every loader keeps what the docstrings of a corpus say, and each sentence of them is checked."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data import load_corpus
from reference_models.data.corpus import Corpus, Split
from reference_models.data.pickles import DataError
from reference_models.data.promises import check_promises
from tests.reference_models.data.test_converted import LAYOUTS
from tests.reference_models.files import content, write, write_every_layout, write_folder


@pytest.mark.parametrize("layout", LAYOUTS)
@given(seed=st.integers(0, 10**6))
def test_loaders_keep_them(tmp_path_factory, layout, seed):
    folder = tmp_path_factory.mktemp("x")
    save = write_folder if layout == "ur-funny" else write
    check_promises(load_corpus(save(folder / "source", LAYOUTS[layout](seed))))


def test_the_real_files_keep_them(data_folder):
    for path in sorted(data_folder.glob("*.pkl")):
        check_promises(load_corpus(path))


def test_names_and_sentences_that_could_not_be_written(tmp_path):
    data = content()
    for columns in data.values():
        columns["id"] = ["same"] * len(columns["id"])
        columns["id"][0] = "a\udc80"
        columns["raw_text"][0] = "half \ud800 of one"
    corpus = load_corpus(write(tmp_path / "x.pkl", data))
    check_promises(corpus)
    assert corpus.splits["test"].ids == ["a\ufffd", "same/1", "same/2"]
    assert corpus.splits["test"].raw_text[0] == "half \ufffd of one"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    paths = write_every_layout(tmp_path_factory.mktemp("x"))
    return {layout: load_corpus(path) for layout, path in paths.items()}


def other(array, value, place=0):
    array = array.copy()
    array.flat[place] = value
    return array


def inner(part, name, value):
    return lambda split: {part: getattr(split, part) | {name: value(getattr(split, part)[name])}}


# Layout, change of the split "valid", and what the message says.
SPLIT_CHANGES = {
    "name": ("mmsa", lambda _: {"name": "dev"}, "name: expected 'valid', got 'dev'"),
    "no ids": ("mmsa", lambda _: {"ids": []}, "ids: expected a list of at least one"),
    "ids in a tuple": ("mmsa", lambda s: {"ids": tuple(s.ids)}, "ids: expected a list"),
    "numbers for ids": ("mmsa", lambda _: {"ids": [1, 2]}, "ids: expected text, got 1"),
    "ids again": ("mmsa", lambda _: {"ids": ["a", "a"]}, "every name once, got 1 of them again"),
    "half a character": ("mmsa", lambda _: {"ids": ["a", "\udc80"]}, "whole characters"),
    "sentences": ("mmsa", lambda _: {"raw_text": ["a"]}, "raw_text: expected a list of 2"),
    "no sentence": ("mmsa", lambda _: {"raw_text": ["a", None]}, "raw_text: expected text"),
    "labels": ("mmsa", lambda s: {"labels": other(s.labels, np.nan)}, "labels: expected finite"),
    "float64": ("mmsa", lambda s: {"labels": s.labels.astype(float)}, "labels: expected float32"),
    "a score of 2": ("sims", lambda s: {"labels": other(s.labels, 2)}, "labels: expected -1 to 1"),
    "funny": ("ur-funny", lambda s: {"labels": other(s.labels, 2)}, "labels: expected 0 to 1"),
    "emotions": ("iemocap", lambda s: {"labels": other(s.labels, -1)}, "labels: expected 0 to 1"),
    "three of them": ("iemocap", lambda s: {"labels": s.labels[:, :3]}, r"int64 of shape \(2, 4\)"),
    "tokens": ("mmsa", lambda s: {"token_ids": other(s.token_ids, -1)}, "token_ids: expected 0"),
    "a token after the mask": (
        "mmsa", lambda s: {"token_mask": np.zeros_like(s.token_mask)}, "token_mask: expected zeros"
    ),
    "no mask of tokens": ("mmsa", lambda _: {"token_mask": None}, "ids and a mask, or neither"),
    "no mask": ("mmsa", lambda _: {"masks": {}}, "masks: expected those of"),
    "a mask with a gap": (
        "mmsa",
        inner("masks", "audio", lambda x: np.arange(x.shape[1]) % 2 * np.ones((2, 1)) == 1),
        "masks audio: expected True at the start",
    ),
    "frames after the mask": (
        "mmsa", inner("masks", "audio", np.zeros_like), "masks audio: expected zeros where"
    ),
    "an infinite frame": (
        "mmsa", inner("features", "audio", lambda x: other(x, np.inf)), "features audio: .* finite"
    ),
    "no step": ("mmsa", inner("features", "audio", lambda x: x[:, :0]), "features audio: expected"),
    "present": ("mmsa", inner("present", "text", lambda x: x.astype(int)), "present text: .* bool"),
    "nobody present": ("mult", lambda _: {"present": {}}, "present: expected all of"),
    "another order": (
        "mmsa", lambda s: {"present": dict(reversed(s.present.items()))}, "in this order"
    ),
    "a score of one": (
        "sims", inner("unimodal_labels", "text", lambda x: other(x, 3)), "unimodal_labels text"
    ),
    "other widths": (
        "mult", inner("features", "text", lambda x: x[..., 1:]), "'text': expected 6 as in 'train'"
    ),
}  # fmt: skip
CORPUS_CHANGES = {
    "splits": (lambda c: {"splits": {"train": c.splits["train"]}}, "splits: expected"),
    "task": (lambda _: {"task": ["sims"]}, r"task: expected one of .* got \['sims'\]"),
    "layout": (lambda _: {"layout": 3}, "layout: expected text, got 3"),
    "dropped": (lambda _: {"dropped": {"train": 0.5}}, "dropped: expected numbers"),
    "notes": (lambda _: {"notes": ["a"]}, "notes and origin: expected tuples"),
    "a note": (lambda _: {"notes": (3,)}, "notes: expected text, got 3"),
    "origin": (lambda _: {"origin": ("a",)}, "origin: expected a name and a SHA-256"),
}


@pytest.mark.parametrize("name", SPLIT_CHANGES)
def test_a_split_that_breaks_one(corpora, name):
    layout, change, words = SPLIT_CHANGES[name]
    corpus = corpora[layout]
    split = replace(corpus.splits["valid"], **change(corpus.splits["valid"]))
    with pytest.raises(DataError, match=f"split 'valid', .*{words}"):
        check_promises(replace(corpus, splits=corpus.splits | {"valid": split}))


@pytest.mark.parametrize("name", CORPUS_CHANGES)
def test_a_corpus_that_breaks_one(corpora, name):
    change, words = CORPUS_CHANGES[name]
    with pytest.raises(DataError, match=words):
        check_promises(replace(corpora["mmsa"], **change(corpora["mmsa"])))


def test_every_field_is_among_them():
    said = " ".join(words for _, _, words in SPLIT_CHANGES.values())
    assert [field.name for field in fields(Split) if field.name not in said] == []
    said = " ".join(words for _, words in CORPUS_CHANGES.values())
    identity = {"path", "sha256", "known_as"}  # measured, not stated
    assert {field.name for field in fields(Corpus) if field.name not in said} == identity
