"""Figures of several runs side by side: the same axes, a word on every term, what is left out."""

import json
import re

from reference_models import registry
from reference_models.tables.finished import Run
from reference_models.tables.panels import TERMS, sections
from tests.reference_models.tables.test_figures import run_folder


def two_runs(folder):
    """The losses of the second are ten times those of the first."""
    runs = {name: run_folder(folder / name, samples=12) for name in ("a", "b")}
    history = json.loads((runs["b"] / "history.json").read_text())
    rows = [{k: v if k == "epoch" else 10 * v for k, v in row.items()} for row in history]
    (runs["b"] / "history.json").write_text(json.dumps(rows))
    return {name: Run(place) for name, place in runs.items()}


def ticks(svg):
    """The numbers along the axes of a figure."""
    return re.findall(r"<text [^>]*>([−\d.]+)</text>", svg)


def test_panels_side_by_side_have_the_same_axes(tmp_path):
    parts = sections(two_runs(tmp_path))
    for heading in ("Loss terms over time", "Predicted against true scores"):
        (part,) = [part for part in parts if part.startswith(f"<h2>{heading}<")]
        first, second = part.split("<figure>")[1:]
        assert ticks(first)
        assert ticks(first) == ticks(second)


def test_every_term_that_is_drawn_has_a_word(tmp_path):
    (part,) = sections(two_runs(tmp_path), curves_only=True)
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", part) == [
        ("task", TERMS["task"]),
        ("semi", TERMS["semi"]),
    ]
    assert part.count("<svg") == 2
    assert re.findall("<h3>(.*?)</h3>", part) == ["a, seed 1", "b, seed 1"]


def test_the_curves_of_a_stage_have_terms_of_their_own(tmp_path):
    run = Run(run_folder(tmp_path / "a", stage=True, contrast=False))
    network, teacher = sections({"a": run}, curves_only=True)
    assert "Loss terms over time: teacher" in teacher
    assert network.count("<dt>") == teacher.count("<dt>") == 1


def test_words_on_weights_are_those_of_the_models():
    """Every term that has a weight of its own among the keys is explained."""
    weights = {
        name.removesuffix("_weight")
        for paper in registry.MODELS.values()
        for name in vars(paper.config)
        if name.endswith("_weight")
    }
    assert weights
    assert weights <= TERMS.keys()
