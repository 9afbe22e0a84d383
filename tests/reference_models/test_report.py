"""The page: whole in itself, true to the run folders, and legible where numbers are missing."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from safetensors.numpy import save_file

from reference_models.report import table_row, text_table, write_report

METRICS = {
    "mae": 0.71234,
    "corr": 0.8,
    "acc7": 0.5,
    "acc5": 0.5,
    "acc2": {"nn_n": 0.8125, "p_n": 0.85},
    "f1": {"nn_n": 0.81, "p_n": 0.849},
}


def run_folder(folder, *, metrics=METRICS, samples=40, contrast=True):
    """A finished run as far as the page reads it, with random content."""
    random = np.random.default_rng(0)
    folder.mkdir()
    labels = random.uniform(-3, 3, samples)
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "id", "label", "prediction"])
        writer.writerow(["valid", "v", 0.0, 9.0])  # not of the test split
        for row, label in enumerate(labels):
            writer.writerow(["test", f"t{row}", label, label + random.normal()])
    save_file(
        {"test": random.normal(size=(samples, 5)).astype(np.float32)}, folder / "fused.safetensors"
    )
    history = [
        {"epoch": n, "loss": 2.0 / n, "loss_task": 1.5 / n, "loss_semi": 0.5 * contrast / n}
        | {"valid_mae": 1.0 / n}
        for n in (1, 2, 3)
    ]
    (folder / "history.json").write_text(json.dumps(history))
    (folder / "config.json").write_text(json.dumps({"model": "hycon"}))
    (folder / "metrics.json").write_text(json.dumps({"test": metrics, "best_epoch": 2}))
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = {
        "with <contrast>": run_folder(folder / "a"),
        "without": run_folder(folder / "b", contrast=False),
    }
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


def test_nothing_is_loaded_from_elsewhere(page):
    elements = Elements(page)
    assert elements.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in elements.links)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(elements.tags)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page))
    # What remains of addresses are the names of the two namespaces of SVG.
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'<>\s]+", page)) == names
    assert len(page) < 1_500_000


def test_every_reference_inside_the_page_has_one_target(page):
    elements = Elements(page)
    assert len(elements.ids) == len(set(elements.ids))
    targets = {link[1:] for link in elements.links if link.startswith("#")}
    targets |= {target[1:] for target in re.findall(r"url\((#.*?)\)", page)}
    assert targets <= set(elements.ids)


def test_there_are_four_figures_for_each_run_and_the_table(page):
    elements = Elements(page)
    assert elements.tags.count("svg") == elements.tags.count("figure") == 8
    words = " ".join(elements.texts)
    for word in ("Loss terms over time", "Predicted against true", "Confusion", "Fused features"):
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


def test_a_term_that_is_switched_off_is_not_drawn(page):
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert ["semi" in Elements(figure).texts for figure in figures[:2]] == [True, False]
    assert all("validation MAE" in Elements(figure).texts for figure in figures[:2])


def test_the_confusion_counts_the_test_split_in_seven_classes(page, tmp_path):
    figure = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)[4]
    texts = [text.strip() for text in Elements(figure).texts if text.strip()]
    # The cells are those texts that are no tick of the two axes, which come first.
    numbers = [int(text.replace("−", "-")) for text in texts if re.fullmatch(r"[−-]?\d+", text)]
    ticks, cells = numbers[:14], np.array(numbers[14:]).reshape(7, 7)
    assert ticks == [*range(-3, 4)] * 2
    written = (run_folder(tmp_path / "a") / "predictions.csv").read_text()
    rows = list(csv.DictReader(written.splitlines()))[1:]
    expected = np.zeros((7, 7), dtype=int)
    for row in rows:
        true, predicted = (
            round(min(3.0, max(-3.0, float(row[key])))) for key in ("label", "prediction")
        )
        expected[true + 3, predicted + 3] += 1
    np.testing.assert_array_equal(cells, expected)


def test_the_same_runs_give_the_same_page(tmp_path):
    runs = {"a": run_folder(tmp_path / "a", samples=12)}
    for name in ("one", "two"):
        write_report(runs, tmp_path / name, title="t", lead="l")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_a_handful_of_samples_is_enough(tmp_path, samples):
    write_report(
        {"a": run_folder(tmp_path / "a", samples=samples)}, tmp_path / "p", title="t", lead="l"
    )
    page = (tmp_path / "p").read_text(encoding="utf-8")
    assert ("too few samples for a map" in page) == (samples < 4)
    assert "How to go on" not in page


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report({"a": tmp_path}, tmp_path / "page", title="t", lead="l")
    assert not (tmp_path / "page").exists()


def test_metrics_that_are_not_defined_are_said_so():
    none = METRICS | {"corr": None, "mae": float("nan"), "acc2": {"nn_n": 0.5, "p_n": None}}
    assert table_row(METRICS) == ["0.712", "0.800", "50.0", "81.2 / 85.0", "81.0 / 84.9"]
    assert table_row(none) == ["n/a", "n/a", "50.0", "50.0 / n/a", "81.0 / 84.9"]


def test_the_text_table_stands_in_columns():
    table = text_table({"a": METRICS, "a long name": METRICS | {"mae": 10.0}})
    lines = table.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["MAE", "Corr", "Acc-7", "Acc-2", "F1"]
    for heading, value in (("MAE", "0.712"), ("Acc-7", "50.0"), ("F1", "84.9")):
        assert lines[0].index(heading) + len(heading) == lines[1].rindex(value) + len(value)
    assert len({len(line) for line in lines}) == 1
