"""Layouts with a frame for each word: MAG-BERT's lists, and UR-FUNNY's six pickles."""

import numpy as np
import pytest

from reference_models.data import load_corpus
from reference_models.data.pickles import DataError
from tests.reference_models.files import (
    mag_bert_content,
    same_corpus,
    write,
)

NAMES = {"train": "train", "dev": "valid", "test": "test"}


def load(tmp_path, data, **options):
    return load_corpus(write(tmp_path / "x.pkl", data), **options)


def real(split, modality, row):
    """The real frames of a sample; the rest of its row holds zeros."""
    frames, mask = split.features[modality][row], split.masks[modality][row]
    assert not frames[~mask].any()
    return frames[: mask.sum()]


def test_mag_bert(tmp_path):
    data = mag_bert_content()
    corpus = load(tmp_path, data)
    assert corpus.modalities == ("text", "audio", "vision")
    for name, samples in data.items():
        split = corpus.splits[NAMES[name]]
        assert len(split) == len(samples)
        assert list(split.features) == ["audio", "vision"]
        for row, ((words, vision, audio), label, segment) in enumerate(samples):
            assert split.raw_text[row].split(" ") == words
            assert split.ids[row] == segment
            assert split.labels[row] == np.float32(label[0, 0])
            assert np.array_equal(real(split, "vision", row), vision.astype(np.float32))
            assert np.array_equal(real(split, "audio", row), audio.astype(np.float32))
        longest = max(len(sample[0][0]) for sample in samples)
        assert split.features["audio"].shape == (len(samples), longest, 3)
        assert all(here.all() for here in split.present.values())


def test_long_sequences_of_mag_bert_lose_their_end(tmp_path):
    data = mag_bert_content()
    split = load(tmp_path, data, max_steps=2).splits["train"]
    assert split.features["vision"].shape == (6, 2, 4)
    for row, ((words, vision, _), *_) in enumerate(data["train"]):
        assert np.array_equal(real(split, "vision", row), vision[:2].astype(np.float32))
        assert split.raw_text[row].split(" ") == words
    random = np.random.default_rng(1)
    long = (["word"] * 60, random.normal(size=(60, 4)), random.normal(size=(60, 3)))
    data["train"][0] = (long, [[1.0]], "long")
    split = load(tmp_path, data).splits["train"]
    assert np.array_equal(real(split, "audio", 0), long[2][:50].astype(np.float32))


def test_what_mag_bert_samples_may_be(tmp_path):
    data = mag_bert_content()
    expected = load(tmp_path, data)
    data["train"] = [
        [[np.array(w), v.tolist(), a.tolist()], float(y[0, 0]), s.encode()]
        for (w, v, a), y, s in data["train"]
    ]
    data["dev"] = [
        (([x.encode() for x in w], v, a), [y[0, 0], 9, 9, 9, 9, 9, 9], s)
        for (w, v, a), y, s in data["dev"]
    ]
    data["test"] = [
        ((w, np.concatenate([v, v[:0]]), a), np.float64(y[0, 0]), s)
        for (w, v, a), y, s in data["test"]
    ]
    same_corpus(load(tmp_path, data), expected)


def test_samples_of_mag_bert_without_a_modality(tmp_path):
    data = mag_bert_content()
    (words, vision, audio), label, segment = data["train"][1]
    data["train"][0] = ([], [], []), [[1.0]], "empty"
    data["train"][1] = (words, vision * 0, audio), label, segment
    split = load(tmp_path, data).splits["train"]
    assert split.present["text"].tolist() == [False] + [True] * 5
    assert split.present["audio"].tolist() == [False] + [True] * 5
    assert split.present["vision"].tolist() == [False] * 2 + [True] * 4
    assert not split.masks["vision"][:2].any()


def mag_bert_with(sample):
    def change(data):
        words, label, segment = data["train"][2]
        data["train"][2] = sample(words, label, segment)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("dev"), r"expected the splits .*each a list, got .*; add valid"),
        (lambda d: d.update(test=[]), "add test"),
        (
            mag_bert_with(lambda s, y, i: (s, y)),
            r"'train', sample 2: expected .* got \(\(list, ndarray, ndarray\), ndarray\)",
        ),
        (mag_bert_with(lambda s, y, i: ((*s, [], 3, 4), y, i)), "sample 2: expected .* int, int"),
        (
            mag_bert_with(lambda s, y, i: (("a b", *s[1:]), y, i)),
            r"got \(\(str, ndarray, ndarray\)",
        ),
        (mag_bert_with(lambda s, y, i: 5), "sample 2: expected .*, got int"),
        (mag_bert_with(lambda s, y, i: ({}, y, i)), r"got \(dict, ndarray, str\)"),
        (
            mag_bert_with(lambda s, y, i: ((["a"] * 9, *s[1:]), y, i)),
            r"sample 2, audio: expected a frame for each of 9 words, got the shape \(\d, 3\)",
        ),
        (
            mag_bert_with(lambda s, y, i: ((s[0], 1.0, s[2]), y, i)),
            r"sample 2, vision: expected a frame for each .* got the shape \(\)",
        ),
        (
            mag_bert_with(lambda s, y, i: ((s[0], s[1][:, :2], s[2]), y, i)),
            r"'train', vision: expected frames .*one D for every sample, got \[\(2,\), \(4,\)\]",
        ),
        (
            mag_bert_with(lambda s, y, i: ((s[0], s[1][:, 0], s[2]), y, i)),
            r"'train', vision: expected frames .*got \[\(\), \(4,\)\]",
        ),
        (mag_bert_with(lambda s, y, i: (s, [1.0, 2.0], i)), "label: expected one score, got 2"),
        (mag_bert_with(lambda s, y, i: (s, "a", i)), "sample 2, label: expected numbers"),
        (mag_bert_with(lambda s, y, i: (s, 4.0, i)), r"labels: .* \[-3, 3\], got 4 in row 2"),
    ],
)
def test_a_fault_of_mag_bert_is_named(tmp_path, change, words):
    data = mag_bert_content()
    change(data)
    with pytest.raises(DataError, match=rf"x\.pkl.*{words}"):
        load(tmp_path, data)
