"""The MMSA layout: what a file may do, and what comes out."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reference_models.data import mmsa
from reference_models.data.mmsa import load_mmsa
from reference_models.data.pickles import DataError, load_pickle
from tests.reference_models.files import (
    SIZES,
    content,
    frames,
    same_corpus,
    sims_content,
    write,
)

COLUMNS = ("text", "audio", "vision")


def load(tmp_path, data, **options):
    return load_mmsa(write(tmp_path / "x.pkl", data), **options)


def only(data, *columns):
    """The same content with these columns, and the labels."""
    keep = (*columns, "regression_labels")
    return {name: {k: v for k, v in s.items() if k in keep} for name, s in data.items()}


def test_a_whole_file(tmp_path):
    data = content()
    path = write(tmp_path / "x.pkl", data)
    corpus = load_mmsa(path)
    assert corpus.path == str(path)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert corpus.known_as is None
    assert corpus.modalities == COLUMNS
    assert {name: len(split) for name, split in corpus.splits.items()} == SIZES
    for name, columns in data.items():
        split = corpus.splits[name]
        assert split.name == name
        assert split.ids == columns["id"]
        assert split.raw_text == columns["raw_text"]
        assert split.labels.dtype == np.float32
        assert np.array_equal(split.labels, columns["regression_labels"])
        assert split.token_ids.dtype == np.int64
        assert np.array_equal(split.token_ids, columns["text_bert"][:, 0])
        assert np.array_equal(split.token_mask, columns["text_bert"][:, 1] == 1)
        for modality in COLUMNS:
            assert split.features[modality].dtype == np.float32
            assert np.array_equal(split.features[modality], columns[modality])
            assert split.masks[modality].dtype == bool
            assert split.present[modality].all()
        for modality in ("audio", "vision"):
            assert split.masks[modality].sum(axis=1).tolist() == list(
                columns[f"{modality}_lengths"]
            )
        assert np.array_equal(split.masks["text"], split.token_mask)


def test_the_path_may_be_a_word(tmp_path):
    path = write(tmp_path / "x.pkl", content())
    assert load_mmsa(str(path)).path == str(path)


def as_lists(columns):
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in columns.items()}


def as_arrays(columns):
    return {k: np.array(v) for k, v in columns.items()}


def as_objects(columns):
    out = {}
    for name, values in columns.items():
        out[name] = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):
            out[name][row] = value
    return out


def as_double(columns):
    floats = {k: v.astype(np.float64) for k, v in columns.items() if isinstance(v, np.ndarray)}
    return columns | floats


def as_fortran(columns):
    arrays = {k: np.asfortranarray(v) for k, v in columns.items() if isinstance(v, np.ndarray)}
    return columns | arrays


def tokens_last(columns):
    return columns | {"text_bert": columns["text_bert"].transpose(0, 2, 1)}


def whole_tokens(columns):
    return columns | {"text_bert": columns["text_bert"].astype(np.int32)}


def bytes_for_text(columns):
    words = {k: [x.encode() for x in columns[k]] for k in ("raw_text", "id")}
    return columns | words


def column_labels(columns):
    return columns | {"regression_labels": columns["regression_labels"].reshape(-1, 1, 1)}


@pytest.mark.parametrize(
    "form",
    [
        as_lists,
        as_arrays,
        as_objects,
        as_double,
        as_fortran,
        tokens_last,
        whole_tokens,
        bytes_for_text,
        column_labels,
    ],
)
def test_forms_that_mean_the_same(tmp_path, form):
    data = content()
    expected = load(tmp_path, data)
    got = load(tmp_path, {name: form(columns) for name, columns in data.items()})
    same_corpus(got, expected)
    assert all(x.flags.c_contiguous for x in got.splits["train"].features.values())


def test_names_of_samples_may_be_numbers(tmp_path):
    data = content()
    data["valid"]["id"] = np.array([7, 8])
    assert load(tmp_path, data).splits["valid"].ids == ["7", "8"]


def test_other_keys_are_left_alone(tmp_path):
    data = content()
    expected = load(tmp_path, data)
    for columns in data.values():
        columns["classification_labels_T"] = ["any length"]
    same_corpus(load(tmp_path, data | {"config": {"audio": "opensmile"}}), expected)


@pytest.mark.parametrize("column", [*COLUMNS, "raw_text", "text_bert"])
def test_one_column_is_enough(tmp_path, column):
    corpus = load(tmp_path, only(content(), column))
    modality = column if column in COLUMNS else "text"
    assert corpus.modalities == (modality,)
    for split in corpus.splits.values():
        assert tuple(split.features) == ((column,) if column in COLUMNS else ())
        assert (split.raw_text is None) == (column != "raw_text")
        assert (split.token_ids is None) == (column != "text_bert")
        assert split.present[modality].all()
    assert corpus.splits["valid"].ids == ["valid/0", "valid/1"]


# Sequences of 5 steps, by what is in each (1: not zero), the length the file states, and which
# steps are real.
SEQUENCES = [
    ("11100", None, (0, 3)),
    ("00111", None, (2, 5)),
    ("01110", None, (1, 4)),
    ("01010", None, (1, 4)),
    ("11111", None, (0, 5)),
    ("00000", None, (0, 0)),
    ("00001", None, (4, 5)),
    # Lengths say which zero frames beside the others are real.
    ("11100", 3, (0, 3)),
    ("11100", 4, (0, 4)),
    ("01100", 4, (0, 4)),
    ("00111", 3, (2, 5)),
    ("00111", 4, (1, 5)),
    ("00110", 4, (0, 4)),
    ("00110", 3, (2, 5)),
    ("11111", 5, (0, 5)),
    ("11100", 9, (0, 5)),
    # Lengths that leave out frames are wrong.
    ("11011", 2, (0, 5)),
    ("01110", 1, (1, 4)),
    ("11100", 0, (0, 3)),
    # Lengths start at 1, also where there is nothing.
    ("00000", 1, (0, 0)),
    ("00000", 0, (0, 0)),
]


@pytest.mark.parametrize(("steps", "length", "real"), SEQUENCES)
def test_where_the_real_frames_are(tmp_path, steps, length, real):
    random = np.random.default_rng(1)
    x = random.uniform(0.5, 1, (1, 5, 3)).astype(np.float32)
    x[0, [step == "0" for step in steps]] = 0
    columns = {"audio": x, "regression_labels": [1.0]}
    if length is not None:
        columns["audio_lengths"] = [length]
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["train"]
    start, stop = real
    assert split.masks["audio"][0].tolist() == [i < stop - start for i in range(5)]
    assert np.array_equal(split.features["audio"][0, : stop - start], x[0, start:stop])
    assert not split.features["audio"][0, stop - start :].any()
    assert split.present["audio"].tolist() == [stop > start]


def test_a_frame_is_real_by_any_feature(tmp_path):
    x = np.zeros((1, 4, 2), dtype=np.float32)
    x[0, 1], x[0, 2] = (1, -1), (0, 2)  # features that add up to zero, and a single one
    columns = {"vision": x, "regression_labels": [0.0]}
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["test"]
    assert split.masks["vision"].tolist() == [[True, True, False, False]]
    assert split.features["vision"][0].tolist() == [[1, -1], [0, 2], [0, 0], [0, 0]]


@given(
    x=arrays.arrays(np.float32, (4, 6, 2), elements=st.sampled_from([0, 0, 0, 1, -2])),
)
def test_moving_keeps_every_frame_and_its_order(tmp_path_factory, x):
    columns = {"audio": x, "regression_labels": [0.0] * 4}
    folder = tmp_path_factory.mktemp("mmsa")
    split = load(folder, dict.fromkeys(SIZES, columns)).splits["train"]
    for row in range(4):
        steps = [frame.tolist() for frame in x[row]]
        while steps and steps[0] == [0, 0]:
            steps.pop(0)
        while steps and steps[-1] == [0, 0]:
            steps.pop()
        assert split.masks["audio"][row].sum() == len(steps)
        assert split.features["audio"][row].tolist() == steps + [[0, 0]] * (6 - len(steps))


def test_word_aligned_frames_follow_the_attention_mask(tmp_path):
    random = np.random.default_rng(2)
    tokens = np.zeros((2, 3, 5))
    tokens[0, :2, :4] = [[101, 7, 8, 102], [1] * 4]
    tokens[1, :2, :3] = [[101, 9, 102], [1] * 3]
    audio = frames(random, [4, 3], 5, 3)
    audio[0, [0, 3]] = 0  # nothing sounds at [CLS] and [SEP]
    audio[1, [0, 2]] = 0
    vision = frames(random, [3, 2], 6, 2)  # another number of steps: not aligned
    columns = {"text_bert": tokens, "audio": audio, "vision": vision, "regression_labels": [0, 1]}
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["train"]
    assert split.masks["audio"].sum(axis=1).tolist() == [4, 3]
    assert np.array_equal(split.features["audio"], audio)
    assert split.masks["vision"].sum(axis=1).tolist() == [3, 2]
    # Stated lengths come before the attention mask.
    columns["audio_lengths"] = [3, 2]
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["train"]
    assert split.masks["audio"].sum(axis=1).tolist() == [3, 2]


def test_tokens_padded_in_front_are_moved(tmp_path):
    tokens = np.zeros((2, 3, 5))
    tokens[0, :2, 2:] = [[101, 7, 102], [1, 1, 1]]
    tokens[1, :2, :4] = [[101, 8, 9, 102], [1, 1, 1, 1]]
    columns = {"text_bert": tokens, "regression_labels": [0, 1]}
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["train"]
    assert split.token_ids.tolist() == [[101, 7, 102, 0, 0], [101, 8, 9, 102, 0]]
    assert split.token_mask.sum(axis=1).tolist() == [3, 4]


def test_absent_modalities(tmp_path):
    data = content()
    train = data["train"]
    train["audio"][1] = 0
    train["vision"][2] = 0
    train["raw_text"][3] = " \n"
    split = load(tmp_path, data).splits["train"]
    for modality, row in (("audio", 1), ("vision", 2), ("text", 3)):
        assert np.flatnonzero(~split.present[modality]).tolist() == [row]
    assert not split.masks["audio"][1].any()
    assert not split.features["vision"][2].any()


def test_who_has_text_without_sentences(tmp_path):
    tokens = np.zeros((3, 3, 4))
    tokens[0, :2, :3] = [[101, 7, 102], [1, 1, 1]]
    tokens[1, :2, :2] = [[101, 102], [1, 1]]  # nothing between [CLS] and [SEP]
    columns = {"text_bert": tokens, "text": np.ones((3, 4, 2)), "regression_labels": [0, 1, 2]}
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["train"]
    assert split.present["text"].tolist() == [True, False, False]
    del columns["text_bert"]
    columns["text"][1] = 0
    split = load(tmp_path, dict.fromkeys(SIZES, columns)).splits["train"]
    assert split.present["text"].tolist() == [True, False, True]


def test_numbers_that_are_none_become_zero(tmp_path):
    data = only(content(), "audio")
    data["train"]["audio"][0, 0] = [np.nan, 1, -np.inf]
    data["train"]["audio"][1] = np.inf
    split = load(tmp_path, data).splits["train"]
    assert split.features["audio"][0, 0].tolist() == [0, 1, 0]
    assert np.isfinite(split.features["audio"]).all()
    assert split.present["audio"].tolist() == [True, False, True, True, True, True]
    with pytest.raises(
        DataError,
        match=r"x\.pkl, split 'train', column 'audio': expected finite numbers, got 23 NaN or "
        r"infinite in 2 samples; .*nan='zero'",
    ):
        load(tmp_path, data, nan="raise")


def test_numbers_beyond_float32_count_as_infinite(tmp_path):
    data = only(content(), "audio")
    data["train"]["audio"] = data["train"]["audio"].astype(np.float64)
    data["train"]["audio"][0, 0, 0] = 1e300
    assert load(tmp_path, data).splits["train"].features["audio"][0, 0, 0] == 0
    with pytest.raises(DataError, match="got 1 NaN or infinite"):
        load(tmp_path, data, nan="raise")


def test_nan_raise_lets_clean_files_pass(tmp_path):
    same_corpus(load(tmp_path, content(), nan="raise"), load(tmp_path, content()))


def test_the_label_range(tmp_path):
    data = content()
    data["test"]["regression_labels"][:] = [3, -3, 0]
    load(tmp_path, data)
    data["test"]["regression_labels"][:] = [1, -3.5, 4]
    words = (
        r"x\.pkl, split 'test', column 'regression_labels': expected scores in \[-3, 3\], got -3.5 "
        r"in row 1 \(2 such rows\); .*label_range"
    )
    with pytest.raises(DataError, match=words):
        load(tmp_path, data)
    assert load(tmp_path, data, label_range=(-4, 4)).splits["test"].labels.tolist() == [1, -3.5, 4]
    with pytest.raises(DataError, match=r"expected scores in \[-1, 1\]"):
        load(tmp_path, data, label_range=(-1, 1))


def test_scores_of_single_modalities_make_it_ch_sims(tmp_path):
    data = sims_content()
    corpus = load(tmp_path, data)
    assert corpus.task == "sims"
    for name, split in corpus.splits.items():
        assert list(split.unimodal_labels) == list(COLUMNS)
        for modality, end in zip(COLUMNS, "TAV", strict=True):
            scores = split.unimodal_labels[modality]
            assert scores.dtype == np.float32
            assert np.array_equal(scores, data[name][f"regression_labels_{end}"])
            assert not np.array_equal(scores, split.labels)
    plain = load(tmp_path, content())
    assert plain.task == "sentiment"
    assert plain.splits["train"].unimodal_labels == {}


def test_one_column_of_such_scores_is_enough(tmp_path):
    data = sims_content()
    for columns in data.values():
        del columns["regression_labels_T"], columns["regression_labels_V"]
    corpus = load(tmp_path, data)
    assert corpus.task == "sims"
    assert list(corpus.splits["test"].unimodal_labels) == ["audio"]


@pytest.mark.parametrize("column", ["regression_labels", "regression_labels_A"])
def test_ch_sims_scores_end_at_1(tmp_path, column):
    data = sims_content()
    data["valid"][column] = np.array([1.0, -1.2])
    words = rf"'{column}': expected scores in \[-1, 1\], got -1.2 .*label_range.*taken for CH-SIMS"
    with pytest.raises(DataError, match=words):
        load(tmp_path, data)
    corpus = load(tmp_path, data, label_range=(-3, 3))
    assert corpus.task == "sentiment"
    assert list(corpus.splits["valid"].unimodal_labels) == list(COLUMNS)
    assert load(tmp_path, data, label_range=(-1.2, 1)).task == "sentiment"
    assert load(tmp_path, sims_content(), label_range=(-1, 1)).task == "sims"


def test_unimodal_scores_belong_to_every_sample_of_every_split(tmp_path):
    data = sims_content()
    data["valid"]["regression_labels_V"] = np.zeros(3)
    with pytest.raises(DataError, match=r"'regression_labels_V': expected 2 samples .*got 3"):
        load(tmp_path, data)
    del data["valid"]["regression_labels_V"]
    with pytest.raises(DataError, match=r"'valid', unimodal labels: expected .*'vision'.*as in"):
        load(tmp_path, data)


def changed(split, column, value):
    def change(data):
        data[split][column] = value(data[split].get(column)) if callable(value) else value

    return change


def without(split, *columns):
    def change(data):
        for column in columns:
            del data[split][column]

    return change


def nan_first(labels):
    return [float("nan"), *labels[1:]]


def one_row_less(values):
    return values[:-1]


EMPTY = {k: v[:0] for k, v in content()["valid"].items()}
FAULTS = [
    (lambda d: d.pop("valid"), r"expected the splits .*got \['train', 'test'\]; add valid"),
    (lambda d: d.update(test=[1]), "add test"),
    (lambda d: d.update(valid=EMPTY), "'valid', .*expected at least one sample, got none"),
    (without("test", "regression_labels"), "'test': expected the column 'regression_labels'"),
    (
        without("train", "raw_text", "text_bert", *COLUMNS),
        r"'train': expected at least one of the columns raw_text, .*, got \['annotations'",
    ),
    (changed("train", "regression_labels", nan_first), r"scores in \[-3, 3\], got nan in row 0"),
    (changed("train", "regression_labels", ["a"] * 6), "'regression_labels': expected numbers"),
    (changed("train", "regression_labels", 3.0), r"expected shape \(N,\), got \(\)"),
    (changed("train", "regression_labels", np.zeros((6, 2))), r"\(N,\), got \(6, 2\)"),
    *(
        (
            changed("train", column, one_row_less),
            f"'train', column '{column}': expected 6 samples as in 'regression_labels', got 5; ",
        )
        for column in (*COLUMNS, "raw_text", "id", "text_bert", "audio_lengths", "vision_lengths")
    ),
    (changed("train", "raw_text", 7), "'raw_text': expected a list or an array, got int"),
    (changed("train", "raw_text", [1] * 6), "'raw_text': expected sentences, got int in row 0"),
    (changed("train", "audio", np.zeros((6, 3))), r"\(N, T, D\), got \(6, 3\); .*x\[:, None, :\]"),
    (changed("train", "audio", np.zeros((6, 0, 3))), r"\(N, T, D\), got \(6, 0, 3\)"),
    (changed("train", "audio", 1.0), "expected 6 samples as in 'regression_labels', got 0"),
    (
        changed("train", "audio", [[[1.0]] * (row + 1) for row in range(6)]),
        "'audio': expected numbers of one shape for every sample, got 6 samples .*pad",
    ),
    (changed("train", "vision", {"a": 1}), "'vision': expected numbers .*got dict"),
    (changed("train", "text_bert", np.zeros((6, 2, 5))), r"\(N, 3, L\) or \(N, L, 3\), got"),
    (changed("train", "text_bert", np.zeros((6, 3))), r"\(N, 3, L\) or \(N, L, 3\), got \(6, 3\)"),
    (
        changed("train", "text_bert", lambda x: np.add(x, [[0.5], [0], [0]])),
        "'text_bert': expected token ids",
    ),
    (
        changed("train", "text_bert", lambda x: x * [[-1], [1], [1]]),
        "'text_bert': expected token ids",
    ),
    (
        changed("train", "text_bert", lambda x: np.add(x, [[np.inf], [0], [0]])),
        "'text_bert': expected token ids",
    ),
    (changed("train", "text_bert", lambda x: x[:, [1, 0, 2]]), "a mask of 0 and 1"),
    (changed("train", "audio_lengths", [-1] * 6), "'audio_lengths': expected lengths from 0 up"),
    (changed("train", "audio_lengths", [np.nan] * 6), "'audio_lengths': expected lengths"),
    (changed("train", "audio_lengths", [np.inf] * 6), "'audio_lengths': expected lengths"),
    (
        without("test", "vision"),
        r"'test', modalities: expected \('text', 'audio', 'vision'\) as in 'train', got",
    ),
    (without("valid", "raw_text"), "'valid', raw_text: expected True as in 'train', got False"),
    (without("valid", "text_bert"), "'valid', text_bert: expected True as in 'train', got False"),
    (without("valid", "text"), "'valid', the column text: expected True as in 'train', got False"),
    (
        changed("test", "audio", np.ones((3, 7, 4))),
        "'test', column 'audio': expected 3 as in 'train', got 4",
    ),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_fault_is_named(tmp_path, fault, words):
    data = content()
    fault(data)
    with pytest.raises(DataError, match=rf"x\.pkl.*{words}"):
        load(tmp_path, data)


def test_content_that_is_no_mapping(tmp_path):
    with pytest.raises(DataError, match=r"x\.pkl: expected a dict with the splits .*got list"):
        load(tmp_path, [1, 2])


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="nan: expected 'zero' or 'raise', got 'drop'"):
        load(tmp_path, content(), nan="drop")
    with pytest.raises(ValueError, match="label_range: expected"):
        load(tmp_path, content(), label_range=(3, -3))


def test_a_public_file_is_known(tmp_path, monkeypatch):
    path = write(tmp_path / "x.pkl", content())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(mmsa.KNOWN_FILES, sha256, "a public file")
    assert load_mmsa(path).known_as == "a public file"


def test_the_known_files_are_named_by_whole_hashes():
    assert len(mmsa.KNOWN_FILES) == len(set(mmsa.KNOWN_FILES.values())) == 5
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in mmsa.KNOWN_FILES)


def test_mosi_standard(data_folder):
    corpus = load_mmsa(data_folder / "mosi_standard_text_audio.pkl")
    assert {name: len(split) for name, split in corpus.splits.items()} == {
        "train": 1284,
        "valid": 229,
        "test": 686,
    }
    assert corpus.modalities == ("text", "audio")
    assert corpus.known_as is None
    for split in corpus.splits.values():
        assert tuple(split.features) == ("audio",)
        assert split.features["audio"].shape == (len(split), 1, 73)
        assert split.masks["audio"].all()
        assert split.present["text"].all()
        assert (split.token_ids[:, 0] == 101).all()  # [CLS] of the BERT vocabulary
        assert split.token_ids.max() < 30_522


def test_mosi_trimodal(data_folder):
    corpus = load_mmsa(data_folder / "mosi_speaker_split_trimodal.pkl", nan="raise")
    assert corpus.modalities == COLUMNS
    assert [len(split) for split in corpus.splits.values()] == [1239, 208, 752]
    assert corpus.splits["train"].features["vision"].shape == (1239, 1, 100)


def test_ict_mmmo_is_moved_to_the_front(data_folder):
    path = data_folder / "ict_mmmo_aligned_20.pkl"
    raw = load_pickle(path)
    corpus = load_mmsa(path, label_range=(-2, 2))
    assert [len(split) for split in corpus.splits.values()] == [72, 18, 30]
    moved = 0
    for name, split in corpus.splits.items():
        for modality in COLUMNS:
            for before, after, mask in zip(
                raw[name][modality], split.features[modality], split.masks[modality], strict=True
            ):
                real = np.flatnonzero(before.any(axis=1))
                moved += real[0] > 0
                length = real[-1] + 1 - real[0]
                assert mask.tolist() == [step < length for step in range(20)]
                assert after[0].any()
                assert after[length - 1].any()
                assert np.array_equal(after[:length], before[real[0] : real[-1] + 1])
    assert moved > 0
