"""Tables as Markdown and HTML."""

from reference_models.tables.pages import html_table, markdown_table


def test_tables_escape_what_they_hold():
    head, rows = ["a", "b"], [["x|y", "<b>"], ["two\nlines", "2"]]
    lines = markdown_table(head, rows, words=False).splitlines()
    assert lines == ["| a | b |", "| --- | ---: |", "| x\\|y | \\<b> |", "| two lines | 2 |"]
    assert markdown_table(head, rows, words=True).splitlines()[1] == "| --- | --- |"
    assert "<td>x|y</td><td>&lt;b&gt;</td>" in html_table(head, rows)
    assert "<table class=words>" in html_table(head, rows, words=True)
