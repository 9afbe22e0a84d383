"""The page: whole in itself, true to the run folders, and legible where numbers are missing."""

import json
import re
import statistics
from html.parser import HTMLParser

import pytest

from reference_models.report import find_runs, group, report, save_figures, swept, write_report
from reference_models.tables import (
    columns,
    html_table,
    markdown_table,
    mean_and_deviation,
    printed,
    summaries,
    text_table,
    title,
)
from tests.reference_models.test_figures import run_folder

METRICS = {
    "mae": 0.71234,
    "corr": 0.8,
    "acc7": 0.5,
    "acc5": 0.5,
    "acc2": {"nn_n": 0.8125, "p_n": 0.85},
    "f1": {"nn_n": 0.81, "p_n": 0.849},
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = {
        "with <contrast>": run_folder(folder / "a", samples=12),
        "without": run_folder(folder / "b", samples=12, contrast=False),
    }
    results = json.loads((folder / "a" / "metrics.json").read_text())
    (folder / "a" / "metrics.json").write_text(json.dumps(results | {"test": METRICS}))
    write_report(
        runs,
        folder / "new" / "index.html",
        title="Two & two",
        lead="A sentence.",
        note="These numbers are synthetic.",
        go_on=[("train", "python -m reference_models train hycon --data <FILE>")],
    )
    return (folder / "new" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory):
    """Two values of one setting, two seeds each, and a file that is no run."""
    folder = tmp_path_factory.mktemp("sweep")
    for margin in (0.5, 0.9):
        for seed in (1, 2):
            config = {"seed": seed, "model_config": {"margin": margin}}
            place = folder / f"{margin}" / f"seed-{seed}"
            run_folder(place, config=config, samples=12)
            results = json.loads((place / "metrics.json").read_text())
            results["test"]["mae"] = margin + seed
            (place / "metrics.json").write_text(json.dumps(results))
    (folder / "table.md").write_text("a table")
    return folder


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.links, self.texts = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.links.append(value)

    def handle_data(self, data):
        self.texts.append(data)


def check_whole(page):
    """Nothing is loaded from elsewhere, and every reference inside has one target."""
    elements = Elements(page)
    assert elements.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in elements.links)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(elements.tags)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page))
    # What remains of addresses are the names of the two namespaces of SVG.
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'<>\s]+", page)) == names
    assert len(elements.ids) == len(set(elements.ids))
    targets = {link[1:] for link in elements.links if link.startswith("#")}
    targets |= {target[1:] for target in re.findall(r"url\((#.*?)\)", page)}
    assert targets <= set(elements.ids)


def test_the_page_is_whole_in_itself(page):
    check_whole(page)
    assert len(page) < 1_500_000


def test_there_are_five_figures_for_each_run_and_the_table(page):
    elements = Elements(page)
    assert elements.tags.count("svg") == elements.tags.count("figure") == 10
    words = " ".join(elements.texts)
    for word in (
        "Loss terms over time",
        "Predicted against true",
        "Confusion of the seven",
        "Confusion of the two",
        "Fused features",
    ):
        assert word in words
    for cell in (
        "with <contrast>",
        "0.712",
        "81.2 / 85.0",
        "2 of 3",
        "These numbers are synthetic.",
    ):
        assert cell in words
    assert "train hycon --data <FILE>" in words
    assert "<contrast>" not in page
    assert "<title>Two &amp; two</title>" in page
    assert "Figures left out" not in page


def test_the_same_runs_give_the_same_page(tmp_path):
    runs = {"a": run_folder(tmp_path / "a", samples=12)}
    for name in ("one", "two"):
        write_report(runs, tmp_path / name, title="t", lead="l")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "How to go on" not in (tmp_path / "one").read_text(encoding="utf-8")


def test_runs_of_different_tasks_share_a_page_and_what_is_left_out_is_said(tmp_path):
    runs = {"a": run_folder(tmp_path / "a", samples=12)}
    runs["b"] = run_folder(tmp_path / "b", "iemocap", samples=12)
    write_report(runs, tmp_path / "page", title="t", lead="l")
    page = (tmp_path / "page").read_text(encoding="utf-8")
    check_whole(page)
    words = " ".join(Elements(page).texts)
    for word in ("Confusion: happy", "Accuracy happy", "MAE", "Figures left out"):
        assert word in words
    assert "b: the confusion of seven classes" in words
    assert "a: " not in words.split("Figures left out")[1]


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report({"a": tmp_path}, tmp_path / "page", title="t", lead="l")
    assert not (tmp_path / "page").exists()


def test_runs_are_found_below_a_folder_each_once(sweep_folder):
    places = [sweep_folder / margin / seed for margin in ("0.5", "0.9") for seed in ("seed-1",)]
    found = find_runs([*places, sweep_folder])
    assert found[:2] == places
    assert sorted(found) == sorted(sweep_folder.glob("*/*"))


def test_a_place_without_a_finished_run_is_an_error(tmp_path, sweep_folder):
    with pytest.raises(ValueError, match=r"empty: expected finished runs in or below it, got none"):
        report([sweep_folder, tmp_path / "empty"], tmp_path / "page.html")
    begun = run_folder(tmp_path / "begun")
    (begun / "metrics.json").unlink()
    with pytest.raises(ValueError, match="begun: expected finished runs"):
        find_runs([begun])
    assert not (tmp_path / "page.html").exists()


def test_runs_of_different_seeds_are_one_group(sweep_folder):
    groups = group(find_runs([sweep_folder]))
    assert [(g.name, g.settings) for g in groups] == [
        ("0.5", {"margin": 0.5}),
        ("0.9", {"margin": 0.9}),
    ]
    for g in groups:
        assert [place.name for place in g.folders] == ["seed-1", "seed-2"]
        values = [g.settings["margin"] + seed for seed in (1, 2)]
        assert g.metrics["mae"].values == tuple(values)
        assert g.metrics["mae"].mean == pytest.approx(statistics.fmean(values))
        assert g.metrics["mae"].std == pytest.approx(statistics.pstdev(values))


def test_runs_on_other_data_or_of_another_training_are_other_groups(tmp_path):
    changes = [{}, {"data": {"sha256": "another file"}}, {"training": {"epochs": 4}}]
    changes.append({"text": {"encoder": "bert"}})
    places = [run_folder(tmp_path / str(n), config=change) for n, change in enumerate(changes)]
    groups = group(places)
    assert [g.name for g in groups] == ["0", "1", "2", "3"]
    assert groups[0].settings == {"data": "0123456789ab", "text encoder": "scratch", "epochs": 3}
    assert [len(g.folders) for g in groups] == [1, 1, 1, 1]


def test_a_models_own_settings_are_compared_with_its_own_kind(tmp_path):
    changes = [
        {"model": "one", "model_config": {"margin": 0.5}},
        {"model": "one", "model_config": {"margin": 0.9}},
        {"model": "two", "model_config": {"margin": 0.5, "layers": 3}},
    ]
    places = [run_folder(tmp_path / str(n), config=change) for n, change in enumerate(changes)]
    assert [g.settings for g in group(places)] == [
        {"model": "one", "margin": 0.5},
        {"model": "one", "margin": 0.9},
        {"model": "two"},
    ]


def test_groups_beside_each_other_have_names_of_their_own(tmp_path):
    for seed, margin in ((1, 0.5), (2, 0.9), (3, 0.9)):
        config = {"seed": seed, "model_config": {"margin": margin}}
        run_folder(tmp_path / "row" / f"seed-{seed}", config=config)
    groups = group(find_runs([tmp_path]))
    assert [(g.name, len(g.folders)) for g in groups] == [("row", 1), ("seed-2", 2)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ([{"margin": 0.5}, {"margin": 1}], "margin"),
        ([{"margin": 0.5}, {"margin": 1, "refine": False}], None),
        ([{"refine": False}, {"refine": True}], None),
        ([{"margin": None}, {"margin": 1}], None),
        ([{"margin": 0.5}], None),
    ],
)
def test_a_sweep_is_one_number_that_differs(tmp_path, changes, field):
    runs = [
        run_folder(tmp_path / str(n), config={"model_config": change})
        for n, change in enumerate(changes)
    ]
    assert swept(group(runs)) == field


def test_the_report_has_the_table_the_sweep_and_the_figures_of_each_group(sweep_folder, tmp_path):
    page = tmp_path / "new" / "page.html"
    groups = report([sweep_folder], page)
    text = page.read_text(encoding="utf-8")
    check_whole(text)
    words = " ".join(Elements(text).texts)
    assert "margin=0.5" in words
    assert "2.000 ± 0.500" in words  # (0.5 + 1, 0.5 + 2)
    assert "Test metrics against margin" in words
    assert "MAG-BERT" in words
    drawn = [name for name in groups[0].metrics if not name.startswith(("f1", "mag_bert"))]
    assert Elements(text).tags.count("figure") == len(drawn) + 5 * 2
    assert "synthetic" not in text


def test_a_report_on_a_synthetic_corpus_says_so(tmp_path):
    run = run_folder(tmp_path / "a", samples=12)
    lines = (run / "predictions.csv").read_text()
    (run / "predictions.csv").write_text(lines.replace("test,t", "test,synthetic_test_t"))
    groups = report([run], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "not to be put beside published ones" in text
    assert "Sweep" not in text
    assert [g.name for g in groups] == ["a"]


def test_figures_are_saved_as_files(sweep_folder, tmp_path):
    written = save_figures(group(find_runs([sweep_folder / "0.5"])), tmp_path / "new", "svg")
    assert sorted(path.name for path in written) == sorted(
        f"{name}.svg"
        for name in (
            "0.5-loss-terms-over-time",
            "0.5-predicted-against-true-scores",
            "0.5-confusion-of-the-seven-classes",
            "0.5-confusion-of-the-two-classes",
            "0.5-fused-features",
        )
    )
    assert all(path.read_bytes().startswith(b"<?xml") for path in written)


def test_metrics_that_are_not_defined_are_said_so():
    none = METRICS | {"corr": None, "mae": float("nan"), "acc2": {"nn_n": 0.5, "p_n": None}}
    names = ["MAE", "Corr", "Acc-7", "Acc-2", "F1"]
    values = ["0.712", "0.800", "50.0", "81.2 / 85.0", "81.0 / 84.9"]
    assert columns(METRICS | {"mag_bert": METRICS}) == dict(zip(names, values, strict=True))
    assert list(columns(none).values()) == ["n/a", "n/a", "50.0", "50.0 / n/a", "81.0 / 84.9"]


def test_other_tasks_have_columns_of_their_own():
    sims = {"mae": 0.4, "corr": 0.5, "acc2": 0.78, "acc5": 0.3, "f1": 0.77}
    assert columns(sims) == {
        "MAE": "0.400",
        "Corr": "0.500",
        "Acc-2": "78.0",
        "Acc-5": "30.0",
        "F1": "77.0",
    }
    four = {"accuracy": {"happy": 0.5, "mean": 0.75}, "f1": {"happy": 0.25}}
    assert columns(four) == {"Accuracy happy": "50.0", "Accuracy mean": "75.0", "F1 happy": "25.0"}


def test_the_text_table_stands_in_columns():
    table = text_table({"a": METRICS, "a long name": METRICS | {"mae": 10.0}})
    lines = table.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["MAE", "Corr", "Acc-7", "Acc-2", "F1"]
    for heading, value in (("MAE", "0.712"), ("Acc-7", "50.0"), ("F1", "84.9")):
        assert lines[0].index(heading) + len(heading) == lines[1].rindex(value) + len(value)
    assert len({len(line) for line in lines}) == 1


def test_means_are_over_what_is_defined_with_shares_in_percent():
    runs = [METRICS, METRICS | {"mae": 0.75, "corr": None}, METRICS | {"acc7": 0.25, "corr": None}]
    found = summaries([{**run, "mag_bert": {"f1": {"p_n": 0.5}}} for run in runs])
    assert found["mag_bert_f1_p_n"].values == (50.0, 50.0, 50.0)
    assert found["corr"].values == (0.8,)
    assert found["acc7"].mean == pytest.approx(100 * (0.5 + 0.5 + 0.25) / 3)
    assert found["acc7"].std == pytest.approx(statistics.pstdev([50, 50, 25]))
    assert mean_and_deviation("acc7", found["acc7"]) == "41.7 ± 11.8"
    assert mean_and_deviation("corr", found["corr"]) == "0.800"
    nothing = summaries([{"corr": None}])["corr"]
    assert (nothing.values, mean_and_deviation("corr", nothing)) == ((), "n/a")
    assert summaries([]) == {}


def test_names_and_digits():
    titles = {
        "acc2_nn_n": "Acc-2 nn/n",
        "mag_bert_f1_p_n": "F1 p/n (MAG-BERT)",
        "accuracy_mean": "Accuracy mean",
        "mflops": "mflops",
        "params_million": "params million",
    }
    assert {name: title(name) for name in titles} == titles
    cases = [("acc7", 46.0, "46.0"), ("acc2", 84.99, "84.99"), ("mae", 0.7, "0.700")]
    cases += [("corr", 0.5888, "0.5888"), ("acc2", None, "")]
    for name, value, text in cases:
        assert printed(name, value) == text


def test_tables_escape_what_they_hold():
    head, rows = ["a", "b"], [["x|y", "<b>"]]
    lines = markdown_table(head, rows, words=False).splitlines()
    assert lines == ["| a | b |", "| --- | ---: |", "| x\\|y | <b> |"]
    assert markdown_table(head, rows, words=True).splitlines()[1] == "| --- | --- |"
    assert "<td>x|y</td><td>&lt;b&gt;</td>" in html_table(head, rows)
    assert "<table class=words>" in html_table(head, rows, words=True)
