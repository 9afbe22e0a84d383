"""What is in a file, also where it cannot be loaded."""

import hashlib

import numpy as np
import pytest

from reference_models.data import mmsa
from reference_models.data.inspection import format_report, inspect_file
from reference_models.data.pickles import DataError
from tests.reference_models.files import content, frames, write


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
        mmsa.KNOWN_FILES, hashlib.sha256(path.read_bytes()).hexdigest(), "MMSA something"
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


def test_the_real_files(data_folder):
    standard = inspect_file(data_folder / "mosi_standard_text_audio.pkl")
    assert standard.problem is None
    assert standard.label_range == (-3, 3)
    assert [len(columns) for columns in standard.splits.values()] == [8, 8, 8]
    assert columns_of(standard)["audio"].shape == (1284, 1, 73)
    mmmo = inspect_file(data_folder / "ict_mmmo_aligned_20.pkl")
    assert mmmo.label_range == (-2, 2)
    assert columns_of(mmmo)["audio"].padding.startswith("front (")
