"""Tables run again: true to the run folders, gone on with after a kill, fairly compared."""

import shutil
from pathlib import Path

import pytest

from reference_models.__main__ import main
from reference_models.running import folders, runs, storage
from reference_models.running.trainer import NotFinite
from reference_models.tables.experiments import reproduce
from tests.reference_models.tables.reproduced import (
    ROWS,
    SEEDS,
    SMALL,
    TABLES,
    csv_rows,
    leave_blank,
    markdown_rows,
    run,
    tables_of,
)
from tests.reference_models.tables.test_figures import run_folder
from tests.reference_models.tables.test_report import check_whole


def test_every_run_is_a_run_folder_of_its_row_and_seed(finished):
    found = sorted(place.relative_to(finished).as_posix() for place in finished.glob("*/seed-*"))
    assert found == [f"{row}/seed-{seed}" for row in ROWS for seed in SEEDS]
    for row in ROWS:
        for seed in SEEDS:
            place = finished / row / f"seed-{seed}"
            assert folders.state(place) == "finished"
            config = storage.read_json(place / "config.json")
            assert (config["seed"], config["model_config"]["margin"]) == (seed, float(row))
            assert config["training"]["epochs"] == 1


def test_the_same_call_trains_nothing_and_writes_the_same(finished, file, no_training):
    before = tables_of(finished)
    for name in TABLES:
        (finished / name).unlink()
    assert run(file, finished) == finished / "index.html"
    assert tables_of(finished) == before


@pytest.mark.usefixtures("blank_figures")
def test_fewer_seeds_are_a_table_of_fewer(finished, file, no_training, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    run(file, out, seeds=SEEDS[:1])
    assert csv_rows(out)["0.5", "mae"]["n"] == "1"
    assert "±" not in markdown_rows(out)[0]["MAE"]


def test_other_settings_are_refused_before_anything_is_touched(finished, file, no_training):
    before = tables_of(finished)
    other = [*SMALL, "embed_dropout=0.2"]
    with pytest.raises(ValueError, match=r"model_config\.embed_dropout: 0\.3 there, 0\.2 now"):
        run(file, finished, settings=other)
    assert tables_of(finished) == before


def test_a_folder_with_other_files_is_refused(file, tmp_path, no_training):
    place = tmp_path / "0.9" / "seed-1112"
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"^--out .* got other files in .*0\.9.*seed-1112$"):
        run(file, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0.9", "seed-1112", "thesis.tex"]


def test_a_stopped_one_goes_on_to_the_table_of_one_that_was_not(
    finished, file, tmp_path, monkeypatch
):
    """In its third run, after the epoch and before there are results; the first two are there.

    What a kill leaves of a run, outright and at any moment, is the subject of test_survival.py.
    """
    out = tmp_path / "out"
    for row in ROWS:
        shutil.copytree(finished / row / f"seed-{SEEDS[0]}", out / row / f"seed-{SEEDS[0]}")

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        leave_blank(patch)
        patch.setattr(folders, "write_history", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(file, out)
    states = [folders.state(out / row / f"seed-{seed}") for seed in SEEDS for row in ROWS]
    assert states == ["finished", "finished", "unfinished", "empty"]
    assert {line["n"] for line in csv_rows(out).values()} == {"1"}
    said = []
    with monkeypatch.context() as patch:
        leave_blank(patch)
        run(file, out, say=said.append)
    assert [line.split(":")[0] for line in said[1:-1]] == ["0.5, seed 1112", "0.9, seed 1112"]
    run(file, out)
    assert tables_of(out) == tables_of(finished)


@pytest.mark.usefixtures("blank_figures")
def test_the_table_is_there_after_every_run(file, tmp_path, monkeypatch):
    seen = []

    def train(parts, corpus, folder, **options):
        seen.append({name: row["n"] for (name, _), row in csv_rows(tmp_path).items()})
        if len(seen) == 3:
            raise KeyboardInterrupt
        run_folder(folder, config={"seed": parts.config["seed"]})

    monkeypatch.setattr(runs, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run(file, tmp_path)
    assert seen == [{"0.5": "0", "0.9": "0"}, {"0.5": "1", "0.9": "0"}, {"0.5": "1", "0.9": "1"}]


@pytest.mark.usefixtures("blank_figures")
def test_a_run_that_ends_in_an_error_is_said_and_the_others_go_on(file, tmp_path, monkeypatch):
    def train(parts, corpus, folder, **options):
        if (parts.config["seed"], parts.config["model_config"]["margin"]) == (1111, 0.5):
            raise NotFinite("loss: expected a finite number, got nan")
        run_folder(folder, config={"seed": parts.config["seed"]})

    monkeypatch.setattr(runs, "train", train)
    run(file, tmp_path)
    assert [line[""] for line in markdown_rows(tmp_path)] == ["measured, n=1", "measured, n=2"]
    words = "0.5: seed 1111 failed: loss: expected a finite number, got nan"
    for name in ("table.md", "index.html"):
        assert words in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("model", "table", "options", "message"),
    [
        ("bert", "alpha", {}, "model: expected one of hycon, hycon-v2, .* got 'bert'"),
        ("hycon-v2", "alpha", {}, "--table: expected one of headline, .* of hycon-v2, got"),
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
    out = finished
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


@pytest.mark.usefixtures("blank_figures")
def test_without_out_the_folder_is_named_and_seeds_count_up(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = []
    monkeypatch.setattr(
        runs, "train", lambda parts, corpus, folder, **options: places.append(folder)
    )
    arguments = ["reproduce", "hycon", "--table", "alpha", "--data", str(file), "--seeds", "2"]
    assert main([*arguments, "--rows", "0.5", "--seed", "7"]) == 0
    assert places == [Path("reproduced/hycon-alpha/0.5") / f"seed-{seed}" for seed in (7, 8)]
    with pytest.raises(SystemExit):
        main([*arguments[:-1], "0"])
    assert "expected a whole number from 1, got '0'" in capsys.readouterr().err
    for odd in ("1001", "²", "100000000000"):
        with pytest.raises(SystemExit):
            main([*arguments[:-1], odd])
        assert "--seeds: expected" in capsys.readouterr().err
    assert main([*arguments, "--seed", str(2**32 - 1)]) == 2
    assert "--seed: expected 2 seeds below 2^32, got 4294967295" in capsys.readouterr().err


@pytest.mark.usefixtures("blank_figures")
def test_a_table_of_which_every_run_diverged_is_no_success(file, tmp_path, monkeypatch, capsys):
    def train(parts, corpus, folder, **options):
        if folder.parent.name == "0.5":
            raise NotFinite("it diverges")

    monkeypatch.setattr(runs, "train", train)
    arguments = ["reproduce", "hycon", "--table", "alpha", "--data", str(file), "--seeds", "2"]
    assert main([*arguments, "--rows", "0.5,0.9", "--out", str(tmp_path / "both")]) == 0
    capsys.readouterr()
    assert main([*arguments, "--rows", "0.5", "--out", str(tmp_path / "out")]) == 2
    assert "expected a run that trains to its end, got none" in capsys.readouterr().err
    assert "it diverges" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
