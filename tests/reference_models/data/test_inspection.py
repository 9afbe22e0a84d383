"""What is in a file, also where it cannot be loaded."""

import hashlib
import os
from dataclasses import replace

import numpy as np
import pytest

from reference_models.__main__ import main
from reference_models.data.converted import save_corpus
from reference_models.data.corpus import KNOWN_FILES
from reference_models.data.inspection import format_report, inspect_file
from reference_models.data.loading import load_corpus
from reference_models.data.pickles import DataError
from tests.reference_models.files import (
    content,
    frames,
    iemocap_content,
    mult_content,
    same_corpus,
    ur_funny_content,
    write,
    write_every_layout,
    write_folder,
)


def columns_of(report, split="train"):
    return {column.name: column for column in report.splits[split]}


def test_a_file_that_loads(tmp_path):
    data = content()
    path = write(tmp_path / "x.pkl", data)
    report = inspect_file(path)
    assert report.path == str(path)
    assert report.size == len(path.read_bytes())
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.known_as is None
    assert report.problem is None
    assert report.other_keys == []
    assert list(report.splits) == ["train", "valid", "test"]
    labels = np.concatenate([s["regression_labels"] for s in data.values()])
    assert report.label_range == (labels.min(), labels.max())
    columns = columns_of(report)
    assert list(columns) == list(data["train"])
    audio = columns["audio"]
    assert audio.shape == (6, 7, 3)
    assert audio.dtype == "float32"
    assert (audio.minimum, audio.maximum) == (
        data["train"]["audio"].min(),
        data["train"]["audio"].max(),
    )
    assert (audio.nan, audio.inf, audio.absent) == (0, 0, 0)
    assert columns["raw_text"].dtype == "text"
    assert columns["raw_text"].absent == 0
    assert columns["audio_lengths"].dtype == "list of numbers"
    assert columns["audio_lengths"].maximum == max(data["train"]["audio_lengths"])
    assert columns["text_bert"].shape == (6, 3, 5)
    assert columns["text_bert"].padding == ""


def test_what_is_odd_is_counted(tmp_path):
    random = np.random.default_rng(5)
    data = content()
    train = data["train"]
    train["audio"] = frames(random, [3, 7, 2, 1, 7, 0], 7, 3, side="front")
    train["audio"][1, 0] = [np.nan, np.inf, -np.inf]  # no frame once they are put to zero
    train["vision"] = frames(random, [2, 4, 4, 4, 4, 4], 4, 2)
    train["vision"][1, 0] = 0
    train["text"] = np.ones((6, 5, 6), dtype=np.float16)
    train["raw_text"][0] = "  "
    train["id"] = np.array(["", "b", "c", "d", "e", "f"])
    train["half"] = np.array([True, False])
    columns = columns_of(inspect_file(write(tmp_path / "x.pkl", data)))
    audio = columns["audio"]
    assert (audio.nan, audio.inf, audio.absent) == (1, 2, 1)
    assert audio.padding == "front (4)"
    finite = train["audio"][np.isfinite(train["audio"])]
    assert (audio.minimum, audio.maximum) == (finite.min(), finite.max())
    assert columns["vision"].padding == "front (1), end (1)"
    assert columns["text"].padding == "none"
    assert columns["text"].dtype == "float16"
    assert columns["raw_text"].absent == 1
    assert columns["id"].dtype == "text"
    assert columns["id"].absent is None
    assert (columns["half"].minimum, columns["half"].maximum) == (0, 1)


def test_padding_at_the_end(tmp_path):
    data = content()
    data["train"]["audio"] = frames(np.random.default_rng(6), [3, 7, 7, 1, 7, 7], 7, 3)
    columns = columns_of(inspect_file(write(tmp_path / "x.pkl", data)))
    assert columns["audio"].padding == "end (2)"


def test_a_file_that_does_not_load_is_shown(tmp_path):
    data = content()
    del data["valid"]
    data["config"] = {"audio": {"tool": "opensmile"}}
    data["version"] = 2
    train = data["train"]
    train["audio"] = [[[1.0]] * length for length in (1, 2, 3, 1, 1, 1)]
    train["vision"] = np.zeros((6, 0, 2))
    train["mixed"] = ["a", 1, None, 2.5, "b", "c"]
    train["thing"] = {"a": 1}
    train["number"] = 5
    train["nothing"] = np.full(6, np.nan)
    train["empty"] = np.zeros((0, 3))
    report = inspect_file(write(tmp_path / "x.pkl", data))
    assert "add valid" in report.problem
    assert report.other_keys == ["config", "version"]
    columns = columns_of(report)
    assert columns["audio"].dtype == columns["mixed"].dtype == "ragged or mixed"
    assert columns["audio"].shape == (6,)
    assert columns["thing"].dtype == "dict"
    assert columns["number"].dtype == "int"
    assert columns["nothing"].nan == 6
    assert columns["nothing"].minimum is None
    assert columns["empty"].shape == (0, 3)
    assert columns["vision"].shape == (6, 0, 2)
    assert columns["vision"].padding == ""
    text = format_report(report)
    assert "loads     no" in text
    assert f"problem   {report.problem}" in text
    assert "also has  config, version" in text
    assert "train, 0 or 6 samples" in text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x04]\x94", "truncated"),
        (b"\x80\x04K\x01.", "expected a dict with the splits"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, data, words):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    report = inspect_file(path)
    assert words in report.problem
    assert report.splits == {}
    assert report.label_range is None
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    assert report.problem in format_report(report)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"absent\.pkl: expected a file, got nothing there"):
        inspect_file(tmp_path / "absent.pkl")


def test_a_public_file_is_known(tmp_path, monkeypatch):
    path = write(tmp_path / "x.pkl", content())
    assert "known as  not a known public file" in format_report(inspect_file(path))
    monkeypatch.setitem(
        KNOWN_FILES, hashlib.sha256(path.read_bytes()).hexdigest(), "MMSA something"
    )
    assert "known as  MMSA something" in format_report(inspect_file(path))


def test_the_text_is_aligned(tmp_path):
    data = content()
    data["train"]["audio"][0, 0, 0] = np.nan
    data["train"]["audio"][1:] *= 1e6
    text = format_report(inspect_file(write(tmp_path / "x.pkl", data)))
    lines = text.splitlines()
    assert lines[0] == "x.pkl"
    assert text.endswith("\n")
    assert not any(line != line.rstrip() for line in lines)
    heads = [line for line in lines if line.startswith("  column")]
    assert len(set(heads)) == 1
    assert len(heads) == 3
    head = heads[0]
    table = [line for line in lines if line.startswith("  audio  ")]
    assert len(table) == 3
    for line in table:
        # Words start where the head's word starts; numbers end where it ends.
        for word in ("column", "shape", "dtype"):
            at = head.index(word)
            assert line[at - 1] == " "
            assert line[at] != " "
        for word in ("min", "max", "NaN", "inf", "absent"):
            stop = head.index(word) + len(word)
            assert line[stop - 1].isdigit()
            assert line[stop : stop + 1].strip() == ""
    assert "6 x 7 x 3" in table[0]
    assert "train, 6 samples" in lines


LAYOUTS = ("mmsa", "sims", "mult", "iemocap", "mag-bert", "ur-funny")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_shown(tmp_path, layout):
    path = write_every_layout(tmp_path)[layout]
    corpus = load_corpus(path)
    report = inspect_file(path)
    assert report.problem is None
    assert report.layout == corpus.layout
    assert report.sha256 == corpus.sha256
    same_corpus(report.corpus, corpus)
    labels = [split.labels for split in corpus.splits.values()]
    if layout in ("sims", "mult", "mag-bert", "ur-funny"):
        every = np.concatenate(labels)
        assert report.label_range == pytest.approx((every.min(), every.max()))
    assert set(report.splits) == {"train", "valid", "test"}
    for name, columns in report.splits.items():
        assert {column.shape[0] for column in columns} == {len(corpus.splits[name])}
    text = format_report(report)
    assert f"  layout    {corpus.layout}\n" in text
    assert f"  task      {corpus.task}\n" in text
    assert ("labels of text, audio, vision alone" in text) == (layout == "sims")
    assert all(f"  note      {note}\n" in text for note in corpus.notes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_converted_file_is_shown_with_its_origin(tmp_path, layout):
    source = load_corpus(write_every_layout(tmp_path)[layout])
    report = inspect_file(save_corpus(source, tmp_path / "x.safetensors"))
    assert report.layout == "converted"
    text = format_report(report)
    name = source.path.rpartition("/")[2]
    assert f"  made of   {name} (SHA-256 {source.sha256})\n" in text
    columns = columns_of(report)
    train = source.splits["train"]
    assert columns["labels"].shape == train.labels.shape
    for modality, array in train.features.items():
        assert columns[modality].shape == array.shape
        assert columns[modality].maximum == array.max()
    assert ("token_ids" in columns) == (train.token_ids is not None)
    assert ("raw_text" in columns) == (train.raw_text is not None)
    assert ("labels of audio" in columns) == ("audio" in train.unimodal_labels)


def test_samples_that_are_left_out_are_counted(tmp_path):
    files = ur_funny_content()
    files["covarep_features_sdk"][4]["punchline_features"] = np.zeros((40, 3))
    files["openface_features_sdk"][9]["punchline_features"] = np.zeros((40, 4))
    path = write_folder(tmp_path / "x", files)
    report = inspect_file(path)
    assert report.size == sum(file.stat().st_size for file in path.iterdir())
    assert "  left out  2 of train, 0 of valid, 0 of test\n" in format_report(report)
    whole = write_folder(tmp_path / "y", ur_funny_content())
    assert "left out" not in format_report(inspect_file(whole))


def test_how_often_an_emotion_is_there(tmp_path):
    text = format_report(inspect_file(write(tmp_path / "x.pkl", iemocap_content(likely=0.9))))
    assert "pass present_index=0" in text


def test_a_file_of_mult_that_does_not_load_is_shown(tmp_path):
    data = mult_content()
    data["train"]["labels"] = np.full((6, 1, 1), 9.0)
    data["test"]["labels"] = [[1.0], [2.0, 3.0], 4.0]
    report = inspect_file(write(tmp_path / "x.pkl", data))
    assert "expected scores in [-3, 3], got 9" in report.problem
    assert report.layout == "mult"
    assert report.corpus is None
    assert report.label_range[1] == 9
    assert columns_of(report)["audio"].padding.startswith("front (")
    assert "layout    mult" in format_report(report)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    report = inspect_file(tmp_path)
    assert "got a folder with a.txt" in report.problem
    assert report.layout is None
    assert "layout    unknown" in format_report(report)


def test_the_real_files(data_folder):
    standard = inspect_file(data_folder / "mosi_standard_text_audio.pkl")
    assert standard.problem is None
    assert standard.label_range == (-3, 3)
    assert [len(columns) for columns in standard.splits.values()] == [8, 8, 8]
    assert columns_of(standard)["audio"].shape == (1284, 1, 73)
    mmmo = inspect_file(data_folder / "ict_mmmo_aligned_20.pkl")
    assert mmmo.label_range == (-2, 2)
    assert columns_of(mmmo)["audio"].padding.startswith("front (")


def test_keys_cannot_write_to_the_terminal(tmp_path, capsys):
    data = content()
    evil = "\x1b]0;owned\x07\udc80\n"
    data[evil] = {evil: [1], "x" * 10**5: [2], ("a", 1): [3]}
    data[f"other{evil}"] = 3
    data["train"][evil] = [1]
    assert main(["data", "inspect", str(write(tmp_path / "x.pkl", data))]) == 0
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert r"\x1b]0;owned\x07\udc80\n" in printed
    assert "x" * 100 not in printed
    corpus = replace(load_corpus(write(tmp_path / "y.pkl", content())), notes=("a\x1b[2J",))
    save_corpus(replace(corpus, origin=("\x1b[31m", "\x07")), tmp_path / "y.safetensors")
    assert main(["data", "inspect", str(tmp_path / "y.safetensors")]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_messages_cannot_write_to_the_terminal(tmp_path, capsys):
    path = tmp_path / "a\x1b[31mb"
    assert main(["data", "inspect", str(path)]) == 2
    printed = capsys.readouterr().err
    assert printed.endswith("\n")
    assert printed[:-1].isprintable()


@pytest.mark.parametrize("command", [["inspect"], ["convert"]])
def test_a_pipe_is_not_waited_for(tmp_path, capsys, command):
    path = tmp_path / "x.pkl"
    os.mkfifo(path)
    out = [str(tmp_path / "y.safetensors")] if command == ["convert"] else []
    assert main(["data", *command, str(path), *out]) == 2
    printed = capsys.readouterr().err
    assert "x.pkl: expected a file, got a pipe or a device" in printed
    assert printed.count("\n") == 1
