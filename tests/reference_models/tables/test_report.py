"""The page: whole in itself, true to the run folders, and legible where numbers are missing."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from reference_models.tables.compared import compare
from reference_models.tables.groups import find_runs, group
from reference_models.tables.report import report, save_figures, write_report
from tests.reference_models.tables.test_figures import run_folder
from tests.reference_models.tables.test_statistics import METRICS


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = {
        "with <contrast>": [run_folder(folder / "a", samples=12)],
        "without": [run_folder(folder / "b", samples=12, contrast=False)],
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


def check_whole(page, folder=None):
    """Nothing is loaded from elsewhere, and every reference has one target.

    The page may link to files in the ``folder`` that it lies in.
    """
    elements = Elements(page)
    assert elements.links
    inside = ("#", "data:image/png;base64,")
    beside = [link for link in elements.links if not link.startswith(inside)]
    assert folder is not None or not beside
    assert all(not link.startswith("/") and (folder / unquote(link)).is_file() for link in beside)
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
        "81.2",
        "2 of 3",
        "These numbers are synthetic.",
    ):
        assert cell in words
    assert "train hycon --data <FILE>" in words
    assert "<contrast>" not in page
    assert "<title>Two &amp; two</title>" in page
    for topic in ("Model", "Data", "Text encoder", "Epochs", "Seeds", "Date"):
        assert f"<td>{topic}</td>" in page
    assert "SHA-256 0123456789abcdef" in page
    assert "Figures left out" not in page


def test_seeds_are_averaged_and_compared_where_asked(tmp_path):
    runs = {
        name: [
            run_folder(tmp_path / f"{name}{seed}", samples=12, config={"seed": seed})
            for seed in (1, 2)
        ]
        for name in ("a", "b")
    }
    found = write_report(runs, tmp_path / "page", title="t", lead="l", against="b")
    page = (tmp_path / "page").read_text(encoding="utf-8")
    check_whole(page)
    words = Elements(page).texts
    assert "Differences from b" in words
    assert words.count("2") >= 2  # seeds
    assert "2, 2 of 3" in words  # epochs kept
    assert found.sentences("a", ["mae"]) == [
        "MAE of a minus that of b: +0.000 (+0.000 to +0.000), 0 of 2 seeds: cannot tell"
    ]


def test_the_same_runs_give_the_same_page(tmp_path):
    runs = {"a": [run_folder(tmp_path / "a", samples=12)]}
    for name in ("one", "two"):
        write_report(runs, tmp_path / name, title="t", lead="l")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "How to go on" not in (tmp_path / "one").read_text(encoding="utf-8")


def test_runs_of_different_tasks_share_a_page_and_what_is_left_out_is_said(tmp_path):
    runs = {"a": [run_folder(tmp_path / "a", samples=12)]}
    runs["b"] = [run_folder(tmp_path / "b", "iemocap", samples=12)]
    write_report(runs, tmp_path / "page", title="t", lead="l")
    page = (tmp_path / "page").read_text(encoding="utf-8")
    check_whole(page)
    words = " ".join(Elements(page).texts)
    for word in ("Confusion: happy", "Accuracy happy", "MAE", "Figures left out"):
        assert word in words
    assert "b: the confusion of seven classes" in words
    assert "a: " not in words.split("Figures left out")[1]


def test_neither_a_page_nor_a_comparison_goes_over_other_files(tmp_path):
    places = [
        run_folder(tmp_path / name, samples=12, config={"model_config": {"d": name}})
        for name in ("a", "b")
    ]
    results = places[0] / "metrics.json"
    before = results.read_bytes()
    for call in (
        lambda: report(places, results),
        lambda: write_report({"a": places[:1]}, results, title="t", lead="l"),
        lambda: compare(places, places[0]),
    ):
        with pytest.raises(ValueError, match=r"^--out"):
            call()
    assert results.read_bytes() == before
    assert not (places[0] / "index.html").exists()


@pytest.mark.usefixtures("blank_figures")
def test_figures_of_groups_with_like_names_are_different_files(tmp_path):
    names = ("A", "a", "ü", "ö")
    places = [
        run_folder(tmp_path / "runs" / name, samples=12, config={"model_config": {"d": name}})
        for name in names
    ]
    written = save_figures(group(places), tmp_path / "figures", "png")
    assert len(set(written)) == len(written) == 5 * len(names)
    assert all(path.name[0].isalnum() for path in written)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report({"a": [tmp_path]}, tmp_path / "page", title="t", lead="l")
    assert not (tmp_path / "page").exists()


def test_the_report_has_the_table_the_sweep_and_the_figures_of_each_group(sweep_folder, tmp_path):
    page = tmp_path / "new" / "page.html"
    report([sweep_folder], page)
    text = page.read_text(encoding="utf-8")
    check_whole(text)
    words = " ".join(Elements(text).texts)
    assert "margin=0.5" in words
    assert "2.000 ± 0.500" in words  # (0.5 + 1, 0.5 + 2)
    assert "Test metrics against margin" in words
    assert "MAG-BERT" in words
    assert "<title>hycon: 4 runs</title>" in text
    drawn = ["mae", "corr", "acc7", "acc2_nn_n", "acc2_p_n"]
    assert Elements(text).tags.count("figure") == len(drawn) + 5 * 2
    assert "synthetic" not in text


@pytest.mark.usefixtures("blank_figures")
def test_a_report_on_a_synthetic_corpus_says_so(tmp_path):
    run = run_folder(tmp_path / "a", samples=12)
    lines = (run / "predictions.csv").read_text()
    (run / "predictions.csv").write_text(lines.replace("test,t", "test,synthetic_test_t"))
    groups = report([run], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "not to be put beside published ones" in text
    assert "Sweep" not in text
    assert [g.name for g in groups] == ["a"]


@pytest.mark.usefixtures("blank_figures")
def test_pages_say_why_acc7_is_left_out(tmp_path):
    folders = [
        run_folder(tmp_path / "runs" / name, samples=12, reach=2, config={"model_config": {"d": n}})
        for n, name in enumerate(("a", "b"))
    ]
    write_report({"a": folders[:1], "b": folders[1:]}, tmp_path / "1", title="t", lead="l")
    report(folders, tmp_path / "2")
    compare(folders, tmp_path / "compared")
    for page in ("1", "2", "compared/index.html", "compared/compared.md"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "Acc-7 is left out where the labels of the data do not reach from -3 to 3" in text
        assert text.count("Acc-7") == text.count("Acc-7 is left out") + text.count(
            "Acc-7 and Acc-5"
        )
        assert "Acc-5" in text


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
