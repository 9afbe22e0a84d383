"""Sentences from a csv: by name or by order, and what does not fit."""

import csv
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data.corpus import file_sha256
from reference_models.data.pickles import DataError
from reference_models.data.transcripts import read_transcripts
from tests.reference_models.data.test_mult import COLUMNS, load
from tests.reference_models.files import (
    mult_content,
    write_transcripts,
)


def spoken(data):
    """What :func:`write_transcripts` has each sample say."""
    return {
        name: [f'she said "{row[0]}, {row[1]}"' for row in columns["id"].astype("U")]
        for name, columns in data.items()
    }


@pytest.mark.parametrize("ids", ["clips", "videos"])
def test_sentences_come_from_the_csv(tmp_path, ids):
    data = mult_content(ids=ids)
    table = write_transcripts(tmp_path / "x.csv", data)
    corpus = load(tmp_path, data, labels=table)
    plain = load(tmp_path, data)
    for name, split in corpus.splits.items():
        assert split.raw_text == spoken(data)[name]
        assert split.present["text"].all()
        assert list(split.present) == list(COLUMNS)
        assert split.ids == plain.splits[name].ids
        assert np.array_equal(split.features["text"], plain.splits[name].features["text"])
    assert corpus.sha256 not in (plain.sha256, file_sha256(table))
    assert "the sentences are those of x.csv, SHA-256 " in corpus.notes[0]
    assert plain.notes == ()


def test_other_sentences_are_other_data(tmp_path):
    """So that no run, mask or prediction of the one is taken for the other's."""
    data = mult_content()
    table = write_transcripts(tmp_path / "x.csv", data)
    first = load(tmp_path, data, labels=table).sha256
    assert load(tmp_path, data, labels=table).sha256 == first
    table.write_text(table.read_text().replace("she said", "he said"))
    assert load(tmp_path, data, labels=table).sha256 != first


def rows_of(path):
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def test_clips_are_found_in_any_order_among_others(tmp_path):
    data = mult_content()
    path = write_transcripts(tmp_path / "x.csv", data)
    head, *rows = rows_of(path)
    path.write_text(head + "".join([*reversed(rows), "v_9,0,other,1,any\n"]), encoding="utf-8-sig")
    corpus = load(tmp_path, data, labels=path)
    assert {name: split.raw_text for name, split in corpus.splits.items()} == spoken(data)


def shuffled(path, seed, drop=()):
    """Rows in another order, without some columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    np.random.default_rng(seed).shuffle(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        kept = [name for name in rows[0] if name not in drop]
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("form", ["{:04d}", "{:d}.0", "{:.3f}", " {:d} ", "000{:d}.", "{:d}"])
@given(seed=st.integers(0, 99), drop=st.sampled_from([(), ("label",)]))
def test_clips_are_found_however_a_spreadsheet_wrote_them(tmp_path_factory, form, seed, drop):
    folder, data = tmp_path_factory.mktemp("x"), mult_content(seed)
    number = float if "f" in form else int
    table = write_transcripts(
        folder / "x.csv",
        data,
        clip_id=lambda clip: form.format(number(clip)),
        video_id=lambda video: f" {video}\t",
    )
    corpus = load(folder, data, labels=shuffled(table, seed, drop))
    assert {name: split.raw_text for name, split in corpus.splits.items()} == spoken(data)


def test_videos_are_found_in_any_order_where_each_is_one_sample(tmp_path):
    data = mult_content(ids="videos")
    for columns in data.values():
        rows = columns["id"].astype("U9")
        rows[:, 0] = np.char.add("w", rows[:, 1])
        columns["id"] = rows
    table = write_transcripts(tmp_path / "x.csv", data, clip_id=lambda _: "0")
    corpus = load(tmp_path, data, labels=shuffled(table, 1, ("label",)))
    assert {name: split.raw_text for name, split in corpus.splits.items()} == spoken(data)


def test_the_names_of_another_file_are_not_matched_by_order(tmp_path):
    data = mult_content()
    for change in (
        {"video_id": lambda video: f"other{video}"},
        {"clip_id": lambda clip: "x" + clip},
    ):
        table = write_transcripts(tmp_path / "x.csv", data, **change)
        with pytest.raises(DataError, match=r"such as 'v_0_0', got none with such a video_id"):
            load(tmp_path, data, labels=table)


def test_an_order_that_nothing_shows_is_refused(tmp_path):
    data = mult_content(ids="videos")
    table = write_transcripts(tmp_path / "x.csv", data, clip_id=lambda clip: f"{clip}7")
    load(tmp_path, data, labels=table)
    table.write_text(table.read_text().replace("label", "score"))
    with pytest.raises(DataError, match="expected the column 'label', as only labels show"):
        load(tmp_path, data, labels=table)
    for columns in data.values():
        del columns["id"]
    with pytest.raises(DataError, match="expected the column 'label', as only labels show"):
        load(tmp_path, data, labels=table)


def test_names_in_one_split_alone(tmp_path):
    data = mult_content()
    table = write_transcripts(tmp_path / "x.csv", data)
    del data["valid"]["id"]
    with pytest.raises(DataError, match="names in every split, or in none"):
        load(tmp_path, data, labels=table)


def test_two_rows_that_are_one_clip_to_a_spreadsheet(tmp_path):
    data = mult_content()
    table = write_transcripts(tmp_path / "x.csv", data, clip_id=lambda clip: f"0{clip}")
    table.write_text(table.read_text() + "v_0,0,other,1,any\n")
    with pytest.raises(DataError, match="every video_id with a clip_id once, got 1 rows more"):
        load(tmp_path, data, labels=table)


def test_a_table_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(DataError, match="got another kind"):
        read_transcripts(tmp_path / "x.csv")


def test_clips_need_no_labels(tmp_path):
    data = mult_content()
    path = write_transcripts(tmp_path / "x.csv", data, label=lambda _: "?")
    assert load(tmp_path, data, labels=path).splits["test"].raw_text == spoken(data)["test"]


def test_videos_need_no_labels(tmp_path):
    data = mult_content(ids="videos")
    path = write_transcripts(tmp_path / "x.csv", data)
    path.write_text(path.read_text().replace("label", "score"))
    assert load(tmp_path, data, labels=path).splits["test"].raw_text == spoken(data)["test"]


def test_samples_without_names_go_by_the_order(tmp_path):
    data = mult_content()
    path = write_transcripts(tmp_path / "x.csv", data)
    expected = spoken(data)
    for columns in data.values():
        del columns["id"]
    corpus = load(tmp_path, data, labels=path)
    assert {name: split.raw_text for name, split in corpus.splits.items()} == expected
    path = write_transcripts(tmp_path / "y.csv", mult_content(seed=1))
    with pytest.raises(DataError, match="got another video or label in row 0 "):
        load(tmp_path, data, labels=path)


def swapped(path, first, second):
    rows = rows_of(path)
    rows[first], rows[second] = rows[second], rows[first]
    path.write_text("".join(rows))


def test_rows_out_of_order(tmp_path):
    data = mult_content(ids="videos")
    for columns in data.values():
        columns["labels"][:] = 1.0
    path = write_transcripts(tmp_path / "x.csv", data)
    swapped(path, 2, 5)  # after the head: rows 1 and 4, of two videos
    with pytest.raises(DataError, match=r"x\.csv: .*video or label in row 1 \(2 such rows\); sort"):
        load(tmp_path, data, labels=path)
    data = mult_content(ids="videos")
    path = write_transcripts(tmp_path / "x.csv", data)
    swapped(path, 1, 2)  # two clips of one video: only the labels tell
    with pytest.raises(DataError, match=r"in row 0 \(2 such rows\)"):
        load(tmp_path, data, labels=path)


def test_rounded_labels_agree_and_others_do_not(tmp_path):
    data = mult_content(ids="videos")
    for columns in data.values():
        columns["labels"][:] = 1 / 3
    path = write_transcripts(tmp_path / "x.csv", data)
    assert ",0.33," in path.read_text()
    load(tmp_path, data, labels=path)
    path.write_text(path.read_text().replace(",0.33,", ",0.35,", 1))
    with pytest.raises(DataError, match=r"label in row 0 \(1 such"):
        load(tmp_path, data, labels=path)


@pytest.mark.parametrize(
    ("ids", "change", "words"),
    [
        ("clips", lambda rows: rows[:-1], r"got none for v_5_0 \(1 of 11 samples\)"),
        ("clips", lambda rows: [*rows, rows[-1]], "every video_id with a clip_id once, got 1 rows"),
        ("videos", lambda rows: rows[:-1], "expected 11 rows, in the order .*, got 10"),
        ("videos", lambda rows: [*rows, rows[-1]], "expected 11 rows, in the order .*, got 12"),
        ("clips", lambda rows: rows[:1], r"got video_id, .*, 0 rows; give the label\.csv"),
        ("clips", lambda rows: [], "got an empty file, 0 rows"),
        ("clips", lambda rows: ["video_id,text,label\n", "a,b,1\n"], "columns video_id, clip_id"),
        ("clips", lambda rows: [*rows[:3], "v,2\n"], "expected 5 fields .* got fewer in row 2"),
        ("clips", lambda rows: [*rows, '"'], "expected a csv file in UTF-8, got unexpected end"),
        (
            "videos",
            lambda rows: [
                *rows[:-1],
                rows[-1].rsplit(",", 2)[0] + ",x,any\n",
            ],
            "column 'label': expected numbers",
        ),
    ],
)
def test_a_csv_that_does_not_fit(tmp_path, ids, change, words):
    data = mult_content(ids=ids)
    path = write_transcripts(tmp_path / "x.csv", data)
    path.write_text("".join(change(rows_of(path))))
    with pytest.raises(DataError, match=rf"x\.csv.*{words}"):
        load(tmp_path, data, labels=path)


def test_a_csv_that_is_none(tmp_path):
    with pytest.raises(
        DataError, match=r"absent\.csv: expected a csv file in UTF-8, got .*No such"
    ):
        read_transcripts(tmp_path / "absent.csv")
    path = tmp_path / "x.csv"
    path.write_bytes(b"video_id,clip_id,text\na,1,\xff\xfe\n")
    with pytest.raises(DataError, match="expected a csv file in UTF-8, got 'utf-8' codec"):
        read_transcripts(path)


def test_quotes_and_lines_in_sentences(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        'video_id,clip_id,text\r\na_b,1,"one, ""two""\nthree"\r\n', encoding="utf-8-sig"
    )
    assert read_transcripts(path) == [
        {"video_id": "a_b", "clip_id": "1", "text": 'one, "two"\nthree'}
    ]
