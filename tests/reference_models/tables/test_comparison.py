"""Measured beside published: only where they may be compared, with what differs."""

import json
import pickle
import shutil
import statistics

import pytest

from reference_models.data import data_sets
from reference_models.data.loading import load_corpus
from reference_models.data.synthetic import generate
from reference_models.running import runs
from reference_models.tables.experiments import reproduce
from tests.reference_models.tables.reproduced import (
    ROWS,
    SEEDS,
    SIZES,
    corpus_file,
    csv_rows,
    markdown_rows,
    run,
)
from tests.reference_models.tables.test_report import check_whole


def test_the_tables_hold_means_and_deviations_of_the_runs(finished):
    lines, shown = csv_rows(finished), markdown_rows(finished)
    content = json.loads((finished / "table.json").read_text())
    assert [(line["Row"], line[""]) for line in shown] == [(row, "measured, n=2") for row in ROWS]
    for row, line, stored in zip(ROWS, shown, content["rows"], strict=True):
        places = [finished / row / f"seed-{seed}" for seed in SEEDS]
        results = [json.loads((place / "metrics.json").read_text())["test"] for place in places]
        for metric, factor, values in (
            ("mae", 1, [result["mae"] for result in results]),
            ("acc2_p_n", 100, [result["acc2"]["p_n"] for result in results]),
            ("mag_bert_f1_p_n", 100, [result["mag_bert"]["f1"]["p_n"] for result in results]),
        ):
            mean, std = factor * statistics.fmean(values), factor * statistics.pstdev(values)
            got = lines[row, metric]
            assert float(got["mean"]) == pytest.approx(mean)
            assert float(got["std"]) == pytest.approx(std, abs=1e-9)
            assert (got["n"], got["published"]) == ("2", "")
            assert stored["measured"][metric]["values"] == [factor * value for value in values]
        assert line["MAE"].split(" ± ")[0] == f"{float(lines[row, 'mae']['mean']):.3f}"
        assert line["Acc-2 p/n"].split(" ± ")[0] == f"{float(lines[row, 'acc2_p_n']['mean']):.1f}"
    assert content["overrides"] == {"0.5": {"margin": 0.5}, "0.9": {"margin": 0.9}}
    check_page(finished)


@pytest.mark.usefixtures("blank_figures", "no_training")
def test_differences_of_an_earlier_call_do_not_stay(finished, file, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    assert (out / "paired.csv").exists()
    run(file, out, rows=[ROWS[0]])
    assert not (out / "paired.csv").exists()


def check_page(out):
    page = (out / "index.html").read_text(encoding="utf-8")
    check_whole(page, out)
    for row in markdown_rows(out):
        for cell in row.values():
            assert f">{cell}<" in page


def test_the_page_links_its_runs_and_shows_their_curves(finished, file):
    page = (finished / "index.html").read_text(encoding="utf-8")
    for row in ROWS:
        for seed in SEEDS:
            for name in ("config.json", "metrics.json", "history.csv", "predictions.csv"):
                assert f'<a href="{row}/seed-{seed}/{name}">{name}</a>' in page
        assert f'aria-label="Loss terms over time: {row}"' in page
    assert page.count('aria-label="Loss terms over time') == len(ROWS)
    assert f"<title>hycon, table alpha: {file.name}</title>" in page
    assert f"SHA-256 {load_corpus(file).sha256}<" in page
    assert "Confusion" not in page


def test_what_differs_stands_above_the_table(finished, file):
    text = (finished / "table.md").read_text(encoding="utf-8")
    above, table = text.split("| Row |  |")
    lines = {line.split("|")[1].strip(): line for line in above.splitlines() if "|" in line}
    for topic, words in (
        ("text encoder", ("BERT-base-uncased", "scratch")),
        ("features", ("audio 74", "audio 16 in up to 20 steps")),
        ("data", ("MOSI 1284/229/686", "corpus.pkl", "24/8/10", "not a known public file")),
        ("training", ("preset none: up to 1 epochs, batches of 16", "hidden_size=10 (instead of")),
        ("selection", ("not said", "the epoch with the lowest validation loss")),
        ("runs", ("mean of five", "mean of 2: seeds 1111, 1112")),
        ("metrics", ("without the samples of label 0", "F1 p/n; MAE and Corr of all samples")),
    ):
        assert all(word in lines[topic] for word in words), topic
    assert "margin=" not in lines["training"]
    assert "synthetic" in lines["data"]
    assert "MAE" in table
    for row in ROWS:  # what tells it from the others
        assert f"* {row}: margin={row}\n" in table


@pytest.mark.usefixtures("blank_figures")
def test_published_numbers_stand_beside_the_measured_ones(tmp_path, as_mosi):
    file, out = corpus_file(tmp_path / "real.pkl", real=True), tmp_path / "out"
    run(file, out, rows=["0.5"], seeds=[1])
    measured, printed = markdown_rows(out)
    assert (measured[""], printed[""]) == ("measured, n=1", "published")
    head = ["Acc-7", "Acc-2 p/n (MAG-BERT)", "F1 p/n (MAG-BERT)", "MAE (MAG-BERT)"]
    head.append("Corr (MAG-BERT)")
    assert list(measured) == ["Row", "", *head]
    assert [printed[name] for name in head] == ["42.2", "83.8", "83.7", "0.751", "0.784"]
    results = json.loads((out / "0.5" / "seed-1" / "metrics.json").read_text())["test"]
    assert measured["MAE (MAG-BERT)"] == f"{results['mag_bert']['mae']:.3f}"
    assert read_differences(out)["metrics"] == ", ".join(head)
    lines = csv_rows(out)
    assert lines["0.5", "mag_bert_mae"]["published"] == "0.751"
    assert lines["0.5", "mae"]["published"] == ""
    content = json.loads((out / "table.json").read_text())
    assert (content["data_set"], content["synthetic"]) == ("mosi", False)
    assert "Published numbers are the paper's, CMU-MOSI." in content["note"]
    assert "preset mosi" in (out / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("renamed", [False, True])
def test_nothing_published_stands_beside_synthetic_numbers(renamed, tmp_path, as_mosi, no_training):
    """Whatever the generated corpus's size is, and whatever its samples are called."""
    content = generate(sizes=SIZES, seed=4)
    for columns in content.values() if renamed else ():
        columns["id"] = [f"video$_${row}" for row in range(len(columns["id"]))]
    file = tmp_path / "corpus.pkl"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(AssertionError, match="nothing is to be trained"):
        run(file, tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "The corpus is synthetic, so its numbers are not shown beside published" in text
    assert "published |" not in text
    assert all(row["published"] == "" for row in csv_rows(tmp_path / "out").values())


@pytest.mark.usefixtures("blank_figures")
def test_data_that_no_paper_has_and_tables_that_no_paper_prints(tmp_path, monkeypatch):
    file = corpus_file(tmp_path / "real.pkl", real=True)
    monkeypatch.setattr(runs, "train", lambda *arguments, **options: None)
    run(file, tmp_path / "a")
    assert "none of the data sets" in (tmp_path / "a" / "table.md").read_text(encoding="utf-8")
    monkeypatch.setitem(data_sets.SIZES, SIZES, "sims")
    run(file, tmp_path / "b")
    text = (tmp_path / "b" / "table.md").read_text(encoding="utf-8")
    assert "The paper prints no such row for CH-SIMS." in text
    assert [line[""] for line in markdown_rows(tmp_path / "b")] == ["not measured"] * 2


@pytest.mark.usefixtures("blank_figures")
def test_a_model_without_published_numbers_is_measured_alone(tmp_path, monkeypatch, as_mosi):
    file = corpus_file(tmp_path / "real.pkl", real=True)
    monkeypatch.setattr(runs, "train", lambda *arguments, **options: None)
    options = {"data": file, "seeds": [1], "out": tmp_path / "out"}
    reproduce("text-only", "headline", modalities=["text"], **options)
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "No published numbers of text-only are stored" in text
    assert "|  | here |" in text
    assert "| data | real.pkl" in text
    assert [line[""] for line in markdown_rows(tmp_path / "out")] == ["not measured"]


def read_differences(out):
    found = json.loads((out / "table.json").read_text())["differences"]
    return {line["topic"]: line["here"] for line in found}


@pytest.mark.parametrize("drop", [(), ("vision", "vision_lengths")])
def test_the_setting_has_what_the_model_read_and_not_all_of_the_file(drop, tmp_path, monkeypatch):
    file = corpus_file(tmp_path / "corpus.pkl", drop=drop)
    monkeypatch.setattr(runs, "train", lambda *arguments, **options: None)
    reproduce("text-only", "headline", data=file, seeds=[1], out=tmp_path / "out")
    here = read_differences(tmp_path / "out")
    assert here["modalities"] == "text"
    assert here["features"] == "text 128 of the text encoder"


def test_the_setting_has_what_any_of_the_rows_reads(file, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "train", lambda *arguments, **options: None)
    for rows, modalities, features in (
        (["V", "A"], "audio, vision", "audio 16 in up to 20 steps, vision 20 in up to 24 steps"),
        (["V", "T"], "text, vision", "text 128 of the text encoder, vision 20 in up to 24 steps"),
    ):
        out = tmp_path / modalities
        reproduce("mfon", "ablation", data=file, seeds=[1], out=out, rows=rows)
        here = read_differences(out)
        assert here["modalities"] == modalities
        assert here["features"] == features
        assert here["text encoder"] == ("scratch" if "text" in modalities else "none")
