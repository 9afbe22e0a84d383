"""Cosines of a failing example: against a loop, drawn and as a table, and where there are none."""

import math
import xml.etree.ElementTree as xml

import pytest
import torch

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.matrix import MOST, Similarities, similarities

SVG = "{http://www.w3.org/2000/svg}"


def rows(seed, n=3, d=4):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(x, y):
    return float(x @ y) / math.hypot(*x.tolist()) / math.hypot(*y.tolist())


def test_pairs_are_first_rows_by_second():
    a, b = rows(0), rows(1)
    found = similarities(Batch("paired", {"a": a, "b": b}))
    assert (found.rows, found.columns) == (("a1", "a2", "a3"), ("b1", "b2", "b3"))
    for i in range(3):
        for j in range(3):
            assert found.cosines[i][j] == pytest.approx(cosine(a[i], b[j]))


def test_rows_with_labels_are_compared_with_themselves():
    found = similarities(Batch("labelled", {"z": rows(2)}, torch.tensor([0, 0, 1])))
    assert found.columns == found.rows == ("z1", "z2", "z3")
    assert [found.cosines[i][i] for i in range(3)] == pytest.approx([1, 1, 1])


def test_further_rows_stand_side_by_side():
    a, p, n = rows(0), rows(1), rows(2)
    found = similarities(Batch("triplet", {"a": a, "p": p, "n": n}))
    assert found.columns == ("p1", "p2", "p3", "n1", "n2", "n3")
    assert found.cosines[1][4] == pytest.approx(cosine(a[1], n[1]))


@pytest.mark.parametrize(
    "x",
    [rows(0, n=1), rows(0, n=MOST + 1), rows(0, d=0), rows(0).fill_(math.nan)],
    ids=["one sample", "many", "no features", "NaN"],
)
def test_where_a_picture_would_not_help_there_is_none(x):
    assert similarities(Batch("paired", {"a": x, "b": x})) is None


def test_a_picture_may_have_as_many_rows_as_help():
    x = rows(0, n=MOST)
    assert len(similarities(Batch("paired", {"a": x, "b": x})).rows) == MOST


SOME = Similarities(("a1", "a<"), ("b1", "b2"), ((1.0, -0.001), (-1.0, 0.2)))


def test_the_picture_has_a_cell_for_each_pair_in_its_colour():
    drawn = xml.fromstring(SOME.to_svg())
    cells = [cell.get("fill") for cell in drawn.iter(f"{SVG}rect")]
    assert cells == ["#2166ac", "#f7f7f7", "#b24c14", "#ccdae8"]
    said = [text.text for text in drawn.iter(f"{SVG}text")]
    assert said == ["b1", "b2", "a1", "1.00", "0.00", "a<", "-1.00", "0.20"]
    corners = [
        [
            float(cell.get(at)) + float(cell.get(size))
            for at, size in (("x", "width"), ("y", "height"))
        ]
        for cell in drawn.iter(f"{SVG}rect")
    ]
    for size, ends in zip(("width", "height"), zip(*corners, strict=True), strict=True):
        assert max(ends) <= float(drawn.get(size)) < max(ends) + 5
    assert drawn.get("aria-label") == "Cosines of a1, a< with b1, b2"


def test_the_table_has_the_same_numbers():
    assert SOME.to_markdown() == [
        "| cosine | b1 | b2 |",
        "|---|---|---|",
        "| a1 | 1.00 | 0.00 |",
        "| a< | -1.00 | 0.20 |",
    ]
