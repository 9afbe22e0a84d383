"""Tables run again: true to the run folders, gone on with after a kill, fairly compared."""

import csv
import json
import pickle
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reference_models import folders, plan, published, registry, runs
from reference_models.__main__ import main
from reference_models.data.synthetic import generate
from reference_models.experiments import reproduce
from tests.processes import python
from tests.reference_models.test_report import check_whole

SMALL = (
    *("hidden_size=10", "heads=2", "layers=1", "batch_size=16", "epochs=1"),
    *("learning_rate=1e-3", "max_text_length=12"),
)
SIZES = (24, 8, 10)
ROWS = ("0.5", "0.9")
SEEDS = (1111, 1112)


def corpus_file(path, *, real=False, drop=()):
    """The synthetic corpus; ``real``: with names and a word as a collected corpus has them."""
    content = generate(sizes=SIZES, seed=4)
    for columns in content.values():
        if real:
            columns["id"] = [f"video$_${row}" for row in range(len(columns["id"]))]
            columns["raw_text"] = [f"hello {sentence}" for sentence in columns["raw_text"]]
        for name in drop:
            del columns[name]
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return corpus_file(tmp_path_factory.mktemp("data") / "corpus.pkl")


def run(file, out, *, table="alpha", rows=ROWS, seeds=SEEDS, settings=SMALL, **options):
    options = {"data": file, "out": out, "rows": rows, "seeds": seeds, **options}
    return reproduce("hycon", table, settings=settings, **options)


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced") / "hycon-alpha"
    return out, run(file, out)


@pytest.fixture
def no_training(monkeypatch):
    def train(*arguments):
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(runs, "train", train)


@pytest.fixture
def as_mosi(monkeypatch):
    """A corpus of this size counts as CMU-MOSI."""
    monkeypatch.setitem(published.SIZES, SIZES, "mosi")


def tables_of(out):
    return {name: (out / name).read_bytes() for name in TABLES}


TABLES = ("table.md", "table.csv", "table.json", "index.html")


def csv_rows(out):
    with (out / "table.csv").open(newline="") as lines:
        return {(row["row"], row["metric"]): row for row in csv.DictReader(lines)}


def markdown_rows(out):
    """The cells of the table itself, which is the last one."""
    text = (out / "table.md").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n\n")[-1].splitlines() if line.startswith("|")]
    if not lines:  # remarks come after it
        lines = [line for line in text.split("\n\n")[-2].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def set_entry(monkeypatch, **changes):
    monkeypatch.setitem(registry.MODELS, "hycon", replace(registry.find("hycon"), **changes))


def test_every_run_is_a_run_folder_of_its_row_and_seed(finished):
    out, page = finished
    assert page == out / "index.html"
    found = sorted(place.relative_to(out).as_posix() for place in out.glob("*/seed-*"))
    assert found == [f"{row}/seed-{seed}" for row in ROWS for seed in SEEDS]
    for row in ROWS:
        for seed in SEEDS:
            place = out / row / f"seed-{seed}"
            assert folders.state(place) == "finished"
            config = folders.read_json(place / "config.json")
            assert (config["seed"], config["model_config"]["margin"]) == (seed, float(row))
            assert config["training"]["epochs"] == 1


def test_the_tables_hold_means_and_deviations_of_the_runs(finished):
    out, _ = finished
    lines, shown = csv_rows(out), markdown_rows(out)
    content = json.loads((out / "table.json").read_text())
    assert [(line["Row"], line[""]) for line in shown] == [(row, "measured, n=2") for row in ROWS]
    for row, line, stored in zip(ROWS, shown, content["rows"], strict=True):
        places = [out / row / f"seed-{seed}" for seed in SEEDS]
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
    check_page(out)


def check_page(out):
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "http" not in page
    for row in markdown_rows(out):
        for cell in row.values():
            assert f">{cell}<" in page


def test_what_differs_stands_above_the_table(finished, file):
    text = (finished[0] / "table.md").read_text(encoding="utf-8")
    above, table = text.split("| Row |")
    lines = {line.split("|")[1].strip(): line for line in above.splitlines() if "|" in line}
    for topic, words in (
        ("text encoder", ("BERT-base-uncased", "scratch")),
        ("features", ("audio 74", "audio 16 in up to 20 steps")),
        ("data", ("MOSI 1284/229/686", "corpus.pkl", "24/8/10", "not a known public file")),
        ("training", ("preset none: up to 1 epochs, batches of 16", "hidden_size=10 (instead of")),
        ("selection", ("not said", "the epoch with the lowest validation loss")),
        ("runs", ("mean of five", "mean of 2: seeds 1111, 1112")),
    ):
        assert all(word in lines[topic] for word in words), topic
    assert "margin=" not in lines["training"]
    assert "synthetic" in lines["data"]
    assert "MAE" in table


def test_the_same_call_trains_nothing_and_writes_the_same(finished, file, no_training):
    out, _ = finished
    before = tables_of(out)
    for name in TABLES:
        (out / name).unlink()
    run(file, out)
    assert tables_of(out) == before


def test_fewer_seeds_are_a_table_of_fewer(finished, file, no_training):
    out, _ = finished
    run(file, out, seeds=SEEDS[:1])
    assert csv_rows(out)["0.5", "mae"]["n"] == "1"
    assert "±" not in markdown_rows(out)[0]["MAE"]
    run(file, out)


def test_other_settings_are_refused_before_anything_is_touched(finished, file, no_training):
    out, _ = finished
    before = tables_of(out)
    other = [*SMALL, "embed_dropout=0.2"]
    with pytest.raises(ValueError, match=r"model_config\.embed_dropout: 0\.3 there, 0\.2 now"):
        run(file, out, settings=other)
    assert tables_of(out) == before


def test_a_folder_with_other_files_is_refused(file, tmp_path, no_training):
    place = tmp_path / "0.9" / "seed-1112"
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"^--out .* got other files in .*0\.9.*seed-1112$"):
        run(file, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0.9", "seed-1112", "thesis.tex"]


@pytest.mark.slow
def test_a_killed_one_goes_on_to_the_table_of_one_that_was_not(finished, file, tmp_path):
    """Killed outright in its third run, after the epoch and before there are results."""
    program = f"""
import os, signal
from pathlib import Path
from reference_models import folders, runs
from tests.reference_models.test_experiments import run
write_history, calls = folders.write_history, []
def killed(folder, rows, stage=""):
    calls.append(folder)
    if len(set(calls)) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write_history(folder, rows, stage)
folders.write_history = killed
run({str(file)!r}, Path({str(tmp_path / "out")!r}))
"""
    done = python("-c", program, OMP_NUM_THREADS=str(torch.get_num_threads()))
    assert done.returncode == -9, done.stderr
    out = tmp_path / "out"
    states = [folders.state(out / row / f"seed-{seed}") for seed in SEEDS for row in ROWS]
    assert states == ["finished", "finished", "unfinished", "empty"]
    assert {line["n"] for line in csv_rows(out).values()} == {"1"}
    said = []
    run(file, out, say=said.append)
    assert [line.split(":")[0] for line in said[1:-1]] == ["0.5, seed 1112", "0.9, seed 1112"]
    assert tables_of(out) == tables_of(finished[0])


def test_the_table_is_there_after_every_run(file, tmp_path, monkeypatch):
    seen = []

    def train(parts, corpus, folder):
        seen.append({name: row["n"] for (name, _), row in csv_rows(tmp_path).items()})
        if len(seen) == 3:
            raise KeyboardInterrupt
        folders.open_run(folder, parts.config)
        folders.write(folder / "metrics.json", json.dumps({"test": {"mae": 1.0}}))

    monkeypatch.setattr(runs, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run(file, tmp_path)
    assert seen == [{"0.5": "0", "0.9": "0"}, {"0.5": "1", "0.9": "0"}, {"0.5": "1", "0.9": "1"}]


def test_a_run_that_ends_in_an_error_is_said_and_the_others_go_on(file, tmp_path, monkeypatch):
    def train(parts, corpus, folder):
        if (parts.config["seed"], parts.config["model_config"]["margin"]) == (1111, 0.5):
            raise ValueError("loss: expected a finite number, got nan")
        folders.open_run(folder, parts.config)
        folders.write(folder / "metrics.json", json.dumps({"test": {"mae": 1.0}}))

    monkeypatch.setattr(runs, "train", train)
    run(file, tmp_path)
    assert [line[""] for line in markdown_rows(tmp_path)] == ["measured, n=1", "measured, n=2"]
    words = "0.5: seed 1111 failed: loss: expected a finite number, got nan"
    for name in ("table.md", "index.html"):
        assert words in (tmp_path / name).read_text(encoding="utf-8")


def test_equal_rows_are_tried_once(file, tmp_path, monkeypatch):
    tried = []

    def train(parts, corpus, folder):
        tried.append(folder)
        raise ValueError("it diverges")

    monkeypatch.setattr(runs, "train", train)
    set_entry(monkeypatch, tables={"t": {"full": {}, "again": {"margin": 0.8}, "other": {}}})
    run(file, tmp_path, table="t", rows=None, seeds=[1])
    assert tried == [tmp_path / "full" / "seed-1"]
    remarks = {row["name"]: row["remark"] for row in read_rows(tmp_path)}
    assert remarks["again"] == remarks["other"] == "comes to the same run as full"
    assert remarks["full"] == "seed 1 failed: it diverges"


def read_rows(out):
    return json.loads((out / "table.json").read_text())["rows"]


def test_a_row_that_cannot_run_is_in_the_table_with_its_reason(tmp_path, monkeypatch):
    file = corpus_file(tmp_path / "two.pkl", drop=("vision", "vision_lengths"))
    rows = {"full": {}, "wo_V": {"modalities": ("text", "audio")}}
    rows |= {"wo_A": {"modalities": ("text", "vision")}, "T/x": {"margin": 0.5}}
    set_entry(monkeypatch, tables={"ablation": rows})
    out = tmp_path / "out"
    run(file, out, table="ablation", rows=None, seeds=[1])
    content = json.loads((out / "table.json").read_text())
    remarks = {row["name"]: row["remark"] for row in content["rows"]}
    assert remarks["wo_A"].startswith("cannot run here: modalities: expected some of text, audio")
    # Without vision in the file, the row without vision is the full one: it runs once.
    assert remarks["wo_V"] == "comes to the same run as full"
    assert remarks["full"] == remarks["T/x"] == ""
    assert content["folders"] == {"full": "full", "wo_V": "full", "T/x": "T-x"}
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["T-x", "full"]
    shown = {line["Row"]: line for line in markdown_rows(out)}
    assert shown["wo_A"][""] == "not measured"
    assert shown["wo_V"]["MAE"] == shown["full"]["MAE"] != ""
    text = (out / "table.md").read_text(encoding="utf-8")
    assert "* wo_A: cannot run here" in text
    assert "(not in the file: vision)" in text


def test_rows_without_text_get_no_text_encoder(file, tmp_path, monkeypatch, no_training):
    seen = []

    def build(*arguments, **options):
        seen.append((options["text_encoder"], options["modalities"]))
        raise ValueError("enough")

    monkeypatch.setattr(plan, "build", build)
    rows = {"full": {}, "av": {"modalities": ("audio", "vision")}}
    set_entry(monkeypatch, tables={"ablation": rows})
    with pytest.raises(ValueError, match="enough"):
        run(file, tmp_path, table="ablation", rows=None, text_encoder="scratch")
    assert seen == [("scratch", None), (None, ("audio", "vision"))]


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
    assert "The corpus is synthetic. Nothing published stands beside" in text
    assert "published |" not in text
    assert all(row["published"] == "" for row in csv_rows(tmp_path / "out").values())


def test_data_that_no_paper_has_and_tables_that_no_paper_prints(tmp_path, monkeypatch):
    file = corpus_file(tmp_path / "real.pkl", real=True)
    monkeypatch.setattr(runs, "train", lambda *arguments: None)
    run(file, tmp_path / "a")
    assert "none of the data sets" in (tmp_path / "a" / "table.md").read_text(encoding="utf-8")
    monkeypatch.setitem(published.SIZES, SIZES, "sims")
    run(file, tmp_path / "b")
    text = (tmp_path / "b" / "table.md").read_text(encoding="utf-8")
    assert "The paper prints no such row for CH-SIMS." in text
    assert [line[""] for line in markdown_rows(tmp_path / "b")] == ["not measured"] * 2


def test_settings_come_after_the_preset_and_a_row_after_both(tmp_path, monkeypatch, as_mosi):
    file = corpus_file(tmp_path / "real.pkl", real=True)
    presets = {"mosi": {"margin": 0.6, "epochs": 7, "refine": False}, "other": {"margin": 0.1}}
    set_entry(monkeypatch, presets=presets, tables={"t": {"full": {}, "row": {"epochs": 3}}})
    configs = {}

    def train(parts, corpus, folder):
        config = parts.config
        values = config["model_config"]["margin"], config["model_config"]["refine"]
        configs[folder.parent.name] = (*values, config["training"]["epochs"])

    monkeypatch.setattr(runs, "train", train)
    settings = ["layers=1", "hidden_size=10", "heads=2", "margin=0.7", "selection=test_loss"]
    run(file, tmp_path / "a", table="t", rows=None, seeds=[1], settings=settings)
    assert configs == {"full": (0.7, False, 7), "row": (0.7, False, 3)}
    text = (tmp_path / "a" / "table.md").read_text(encoding="utf-8")
    assert "margin=0.7 (instead of 0.6)" in text
    assert "the epoch with the lowest test loss" in text
    assert "flatters" in text
    run(file, tmp_path / "b", table="t", rows=["full"], seeds=[1], settings=[], preset="other")
    assert configs["full"][0] == 0.1
    run(file, tmp_path / "c", table="t", rows=["full"], seeds=[1], settings=[], preset="none")
    assert configs["full"][0] == 0.8


@pytest.mark.parametrize(
    ("model", "table", "options", "message"),
    [
        ("hycon-v2", "alpha", {}, "model: expected one of hycon, tecafn, .* got 'hycon-v2'"),
        ("hycon", "beta", {}, "--table: expected one of headline, .*alpha.* got 'beta'"),
        ("hycon", "alpha", {"rows": ["0.5", "2"]}, "--rows: expected some of 0.5, .* got '2'"),
        ("hycon", "alpha", {"settings": ["depth=3"]}, "--set: expected one of the keys"),
        ("hycon", "alpha", {"text_encoder": "no/such"}, "text_encoder: expected"),
        ("hycon", "alpha", {"modalities": ["audio"]}, "modalities: expected two"),
        ("hycon", "alpha", {"preset": "nobody"}, "preset: expected one of mosi"),
        ("hycon", "alpha", {"data": "absent.pkl"}, "absent.pkl: expected"),
    ],
)
def test_what_cannot_be_is_an_error_that_leaves_nothing(
    model, table, options, message, file, tmp_path, monkeypatch, no_training
):
    monkeypatch.chdir(tmp_path)
    options = {"data": file, "seeds": [1], "out": tmp_path / "out", **options}
    with pytest.raises(ValueError, match=f"^{message}"):
        reproduce(model, table, **options)
    assert not list(tmp_path.iterdir())


def test_the_commands_end_to_end(finished, file, tmp_path, capsys, monkeypatch, no_training):
    out, _ = finished
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "hycon", "--table", "alpha", "--data", str(file), "--seeds", "2"]
    arguments += ["--rows", "0.5,0.9", "--set", *SMALL, "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (out / "table.md").read_text(encoding="utf-8") in printed
    assert printed.endswith(f"page: {out / 'index.html'}\n")
    assert "training in" not in printed
    figures = ["--figures", "figures", "--format", "png"]
    assert main(["report", str(out / "0.5"), "--out", "page.html", *figures]) == 0
    assert "0.5: 2 finished\nfigures: 5 in figures\n" in capsys.readouterr().out
    assert len(list(Path("figures").glob("0.5-*.png"))) == 5
    page = Path("page.html").read_text(encoding="utf-8")
    check_whole(page)
    assert "The corpus is synthetic" in page


def test_without_out_the_folder_is_named_and_seeds_count_up(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = []
    monkeypatch.setattr(runs, "train", lambda parts, corpus, folder: places.append(folder))
    arguments = ["reproduce", "hycon", "--table", "alpha", "--data", str(file), "--seeds", "2"]
    assert main([*arguments, "--rows", "0.5", "--seed", "7"]) == 0
    assert places == [Path("reproduced/hycon-alpha/0.5") / f"seed-{seed}" for seed in (7, 8)]
    with pytest.raises(SystemExit):
        main([*arguments[:-1], "0"])
    assert "expected a whole number from 1, got '0'" in capsys.readouterr().err
