"""Tables as Markdown and HTML."""

import re

import pytest

from reference_models.tables.pages import (
    check_page,
    check_place,
    html_page,
    html_table,
    markdown_table,
)


def test_tables_escape_what_they_hold():
    head, rows = ["a", "b"], [["x|y", "<b>"], ["two\nlines", "2"]]
    lines = markdown_table(head, rows, words=False).splitlines()
    assert lines == ["| a | b |", "| --- | ---: |", "| x\\|y | \\<b> |", "| two lines | 2 |"]
    assert markdown_table(head, rows, words=True).splitlines()[1] == "| --- | --- |"
    assert "<td>x|y</td><td>&lt;b&gt;</td>" in html_table(head, rows)
    assert "<table class=words>" in html_table(head, rows, words=True)


def test_a_table_scrolls_in_a_box_of_its_own():
    table = html_table(["a"], [["b"]])
    assert table.startswith('<div class="scroll wide" tabindex=0><table>')
    assert table.endswith("</table></div>")
    assert html_table(["a"], [["b"]], words=True).startswith("<div class=scroll tabindex=0><table ")
    style = html_page("a", [])
    assert ".scroll { overflow-x: auto; }" in style
    assert re.search(r"^pre \{[^}]*overflow-x: auto", style, re.M)


def test_nothing_but_a_page_is_written_over(tmp_path):
    page = tmp_path / "index.html"
    check_place(tmp_path)
    page.write_text(html_page("title", []))
    check_place(tmp_path)
    page.write_text("<style>\n:root { color-scheme: light; --ink: #1d2733; --soft")  # as of 0.1
    check_place(tmp_path)
    page.write_text("<!doctype html><title>mine</title>")
    with pytest.raises(ValueError, match=rf"^--out: expected .* older page at {page}"):
        check_place(tmp_path)
    page.unlink()
    page.mkdir()
    with pytest.raises(ValueError, match="got something else"):
        check_page(page)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a folder for results, got that of a run"):
        check_place(tmp_path)


def test_links_of_a_cell_are_quoted():
    table = html_table(["a"], [[{"<b>": 'c d/"e".csv', "f": "g"}]])
    assert '<td><a href="c%20d/%22e%22.csv">&lt;b&gt;</a> <a href="g">f</a></td>' in table
