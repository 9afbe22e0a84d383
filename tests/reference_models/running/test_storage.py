"""Files are written whole or not at all, and damaged ones are refused in one line."""

import csv
import io
import json
import math
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from reference_models.running import storage


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    storage.write(path, "old")

    def killed(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            storage.write(path, "newer")
    assert path.read_text() == "old"
    storage.write(path, b"newest")
    assert path.read_bytes() == b"newest"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    def save(folder):
        Path(folder).mkdir()
        (Path(folder) / "b").write_text("b")

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("a")
    (tmp_path / "folder.part").mkdir()  # of an earlier kill
    (tmp_path / "folder.part" / "c").write_text("c")
    storage.write_folder(tmp_path / "folder", save)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == [
        "folder",
        "folder/b",
    ]


def test_json_has_null_where_a_number_is_not_finite():
    text = storage.json_text({"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": "x"})
    assert json.loads(text) == {"a": None, "b": [1.5, None, {"c": None}], "d": "x"}
    assert storage.json_text({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}\n'


def test_what_a_kill_left_in_the_way_is_replaced(tmp_path):
    """Half a file, a folder, a link out of the folder, or a pipe, which would block a writer."""
    path, outside = tmp_path / "file", tmp_path / "outside"
    outside.write_text("mine")
    makers = {
        "file": lambda partial: partial.write_text("half"),
        "folder": lambda partial: (partial / "in").mkdir(parents=True),
        "link": lambda partial: partial.symlink_to(outside),
        "pipe": os.mkfifo,
    }
    for kind, make in makers.items():
        make(tmp_path / "file.part")
        storage.write(path, kind)
        assert path.read_text() == kind
        make(tmp_path / "folder.part")
        storage.write_folder(tmp_path / "folder", os.mkdir)
        assert (tmp_path / "folder").is_dir()
    assert outside.read_text() == "mine"


def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new_one(tmp_path, monkeypatch):
    storage.write(tmp_path / "file", "old")
    storage.write_folder(tmp_path / "folder", os.mkdir)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    def half(folder):
        os.mkdir(folder)
        (Path(folder) / "half").write_text("half")
        full()

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"file: could not be written .*No space left on device"):
        storage.write(tmp_path / "file", "newer")
    with pytest.raises(OSError, match=r"folder: could not be written .*No space left on device"):
        storage.write_folder(tmp_path / "folder", half)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def test_half_a_character_is_written_as_an_escape(tmp_path):
    storage.write(tmp_path / "page.html", "a\udc80b")
    assert (tmp_path / "page.html").read_text() == "a\\udc80b"


@pytest.mark.parametrize("text", ["a", "a,b", 'a"b', "a\nb", "a\rb", "\ra", "a\r\nb", "", "a\x00b"])
def test_csv_comes_back_as_it_was(text):
    rows = [{"id": text, "x": "1"}, {"id": "b", "x": "-2"}]
    assert list(csv.DictReader(io.StringIO(storage.csv_text(rows), newline=""))) == rows


BAD_JSON = {
    "empty": b"",
    "cut": b'{"a": [1, 2',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "long": b'{"a": ' + b"9" * 30 + b"}",
    "longer": b'{"a": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 30 + b"]" * 30,
    "deeper": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
def test_other_json_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: expected JSON, got something else") as caught:
        storage.read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_numbers_that_are_not_finite_are_none(tmp_path):
    (tmp_path / "a.json").write_text("[NaN, -Infinity, 1e999, 1e99]")
    assert storage.read_json(tmp_path / "a.json") == [None, None, None, 1e99]


def test_no_more_json_is_read_than_a_run_writes(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(storage.LARGEST_JSON + 1)
    with pytest.raises(ValueError, match=r"expected at most 67108864 bytes of JSON, got 67108865"):
        storage.read_json(path)


READERS = (storage.read_json, storage.read_tensors, storage.read_shapes)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in {"pipe": "no regular file", "folder": "a folder"}.items():
        with pytest.raises(ValueError, match=f"{name}: expected a file, got {kind}$"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"absent: expected a file, got none$"):
        read(tmp_path / "absent")


def test_damaged_tensors_are_refused_wherever_they_are_cut(tmp_path):
    whole = safetensors.torch.save({"a": torch.arange(6.0), "b": torch.ones(2, 3)})
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole)
    assert storage.read_tensors(path)["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert storage.read_shapes(path) == {"a": (6,), "b": (2, 3)}
    for content in (*(whole[:end] for end in range(0, len(whole), 7)), b"\xff" * 40, whole + b"x"):
        path.write_bytes(content)
        for read in (storage.read_tensors, storage.read_shapes):
            with pytest.raises(ValueError, match=r"expected a safetensors file, got a damaged one"):
                read(path)
