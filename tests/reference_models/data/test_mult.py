"""MulT's files: padding in front, sentences out of a csv, and IEMOCAP's four pairs of columns."""

import numpy as np
import pytest

from reference_models.data import load_corpus
from reference_models.data.corpus import EMOTIONS
from reference_models.data.pickles import DataError
from tests.reference_models.files import (
    iemocap_content,
    mult_content,
    same_corpus,
    write,
    write_transcripts,
)

COLUMNS = ("text", "audio", "vision")


def load(tmp_path, data, **options):
    return load_corpus(write(tmp_path / "x.pkl", data), **options)


def test_front_padding_is_moved_to_the_end(tmp_path):
    data = mult_content()
    corpus = load(tmp_path, data)
    moved = 0
    for name, split in corpus.splits.items():
        assert split.raw_text is None
        assert split.token_ids is None
        for modality in COLUMNS:
            for before, after, mask in zip(
                data[name][modality], split.features[modality], split.masks[modality], strict=True
            ):
                real = [frame.tolist() for frame in before if frame.any()]
                moved += len(real) < len(before)
                assert mask.sum() == len(real)
                assert after[: len(real)].tolist() == real
                assert not after[len(real) :].any()
    assert moved


def test_a_zero_frame_inside_does_not_shift_the_window(tmp_path):
    data = mult_content()
    x = np.zeros((6, 7, 3), np.float32)
    x[:, 2:] = np.arange(1, 6)[:, None]
    x[:, 4] = 0
    data["train"]["audio"] = x
    split = load(tmp_path, data).splits["train"]
    # MMIM counts 4 frames that are not zero, and would keep the last 4: 0, 4, 5 after 2's loss.
    assert split.features["audio"][0, :, 0].tolist() == [1, 2, 0, 4, 5, 0, 0]


@pytest.mark.parametrize("form", [(-1, 1, 7), (-1, 7)])
def test_seven_columns_begin_with_the_sentiment(tmp_path, form):
    data = mult_content(seven=True)
    expected = {name: columns["labels"].reshape(-1, 7)[:, 0] for name, columns in data.items()}
    for columns in data.values():
        columns["labels"] = columns["labels"].reshape(form)
    corpus = load(tmp_path, data)
    for name, split in corpus.splits.items():
        assert split.labels.dtype == np.float32
        assert np.array_equal(split.labels, expected[name])


def test_names(tmp_path):
    assert load(tmp_path, mult_content()).splits["valid"].ids == ["v_3_0", "v_3_1"]
    # A video of MOSEI has many clips: their times make the name.
    videos = load(tmp_path, mult_content(ids="videos"))
    assert videos.splits["valid"].ids == ["w_3_6_7", "w_3_7_8"]
    data = mult_content()
    for columns in data.values():
        columns["id"] = [row[0] for row in columns["id"].tolist()]
    assert load(tmp_path, data).splits["valid"].ids == ["v_3_0", "v_3_1"]
    for columns in data.values():
        del columns["id"]
    assert load(tmp_path, data).splits["valid"].ids == ["valid/0", "valid/1"]


def test_text_without_vectors_is_a_modality_too(tmp_path):
    data = mult_content()
    table = write_transcripts(tmp_path / "x.csv", data, text=lambda x: x if "v_0_0" in x else " ")
    for columns in data.values():
        del columns["text"]
    assert load(tmp_path, data).modalities == ("audio", "vision")
    corpus = load(tmp_path, data, labels=table)
    assert corpus.modalities == COLUMNS
    assert corpus.splits["train"].present["text"].tolist() == [True] + [False] * 5


def changed(split, column, value):
    def change(data):
        data[split][column] = value(data[split][column]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("valid"), r"expected the splits .*each a dict, got .*; add valid"),
        (lambda d: d["test"].pop("labels"), "'test': expected the column 'labels' and some of"),
        (lambda d: [d["test"].pop(m) for m in COLUMNS], "'test': expected the column 'labels' and"),
        (lambda d: d["test"].pop("audio"), "'test', modalities: expected .*as in 'train'"),
        (
            changed("train", "labels", np.zeros((6, 2))),
            r"\(N, 1, 1\) or seven columns, got \(6, 2\)",
        ),
        (changed("train", "labels", 3.0), r"seven columns, got \(\)"),
        (changed("train", "labels", np.zeros((0, 1, 1))), "expected at least one sample, got none"),
        (
            changed("train", "labels", np.full((6, 1), 3.1)),
            r"expected scores in \[-3, 3\], got 3.1",
        ),
        (changed("train", "labels", ["a"] * 6), "'labels': expected numbers"),
        (changed("train", "audio", lambda x: x[:-1]), "'audio': expected 6 samples as in 'labels'"),
        (changed("train", "audio", np.zeros((6, 3))), r"\(N, T, D\), got \(6, 3\)"),
        (
            changed("train", "id", lambda x: x[:-1]),
            "'id': expected 6 samples as in 'labels', got 5",
        ),
        (changed("train", "id", 7), "'id': expected a list or an array, got int"),
        (
            changed("valid", "vision", np.ones((2, 4, 9))),
            "'vision': expected 2 as in 'train', got 9",
        ),
    ],
)
def test_a_fault_is_named(tmp_path, change, words):
    data = mult_content()
    change(data)
    with pytest.raises(DataError, match=rf"x\.pkl.*{words}"):
        load(tmp_path, data)


@pytest.mark.parametrize("index", [0, 1])
def test_emotions_are_there_by_the_column_that_means_it(tmp_path, index):
    data = iemocap_content()
    corpus = load(tmp_path, data, present_index=index)
    assert corpus.task == "iemocap"
    for name, split in corpus.splits.items():
        assert split.labels.dtype == np.int64
        for row, pairs in enumerate(data[name]["labels"].tolist()):
            assert split.labels[row].tolist() == [int(pair[index]) for pair in pairs]
        assert split.ids == [f"{name}/{row}" for row in range(len(split))]
        assert split.raw_text is None
    there = data["train"]["labels"][..., index].mean(axis=0)
    listing = ", ".join(f"{e} {100 * s:.0f}%" for e, s in zip(EMOTIONS, there, strict=True))
    assert corpus.notes[0].startswith(f"column {index} of the labels")
    assert listing in corpus.notes[0]


def test_the_other_column_is_named_where_most_emotions_are_there_too_often(tmp_path):
    data = iemocap_content()

    def notes(majorities, index):
        there = np.zeros((6, 4), dtype=bool)
        there[:4, :majorities] = True  # 4 of 6
        there[:3, majorities:] = True  # just half
        data["train"]["labels"] = np.stack([~there, there], axis=-1).astype(float)
        return load(tmp_path, data, present_index=index).notes

    assert len(notes(2, 1)) == 1
    assert "pass present_index=0" in notes(3, 1)[1]
    assert len(notes(3, 0)) == 1
    data["train"]["labels"] = np.tile([1, 0], (6, 4, 1))
    assert "pass present_index=1" in load(tmp_path, data, present_index=0).notes[1]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.ones((6, 4, 2)), r"one-hot numbers \(N, 4, 2\), got \(6, 4, 2\) with others"),
        (np.zeros((6, 4, 2)), "with others"),
        (np.full((6, 4, 2), 0.5), "with others"),
        (np.full((6, 4, 2), np.nan), "with others"),
        (np.zeros((6, 4)), r"got \(6, 4\); give two columns for each of neutral, happy"),
    ],
)
def test_emotions_that_are_not_one_hot(tmp_path, labels, words):
    data = iemocap_content()
    data["train"]["labels"] = labels
    with pytest.raises(DataError, match=rf"x\.pkl, split 'train', column 'labels': .*{words}"):
        load(tmp_path, data, layout="iemocap")


def test_lists_for_arrays(tmp_path):
    for data in (mult_content(), iemocap_content()):
        expected = load(tmp_path, data)
        for columns in data.values():
            columns |= {name: x.tolist() for name, x in columns.items()}
        same_corpus(load(tmp_path, data), expected)
