"""The site's pages: sessions in them run and print what stands there."""

import doctest
import re

import pytest
import torch

import mmcontrast as mm
from tests.readme import page

PAGES = {path.relative_to(page.SITE).as_posix(): path for path in page.PAGES[1:]}
FENCE = re.compile(r"^```pycon\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF
ELSEWHERE = {"other_libraries.md"}
"""Pages whose sessions need other libraries: test_peers_page.py runs them."""

SESSIONS = [n for n, p in PAGES.items() if n not in ELSEWHERE and FENCE.search(p.read_text())]


def session(name):
    """All blocks of a page as one session, each on the line on which it stands."""
    text = PAGES[name].read_text()
    lines = [""] * (text.count("\n") + 1)
    for match in FENCE.finditer(text):
        first = text[: match.start(1)].count("\n")
        block = match[1].splitlines()
        lines[first : first + len(block)] = block
    return doctest.DocTestParser().get_doctest("\n".join(lines), {}, name, name, 0)


def run(name):
    test, said = session(name), []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    torch.manual_seed(0)
    failed = runner.run(test, out=said.append, clear_globs=False).failed
    assert not failed, "".join(said)
    return test.globs


def test_there_are_sessions():
    assert {"start.md", "choosing.md", "guides/test_your_loss.md"} <= set(SESSIONS)


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_run_and_print_what_stands_there(name):
    run(name)


def test_every_cell_of_the_table_of_choices_is_a_call():
    """Evaluated with the names that the page gives its data."""
    given = run("choosing.md")
    rows = re.findall(r"^\| (?!---)(.+) \|$", PAGES["choosing.md"].read_text(), flags=re.MULTILINE)
    calls = [call for row in rows[1:] for call in re.findall(r"`([a-z_]+\(.+?\))`(?= \||$|,)", row)]
    assert len(calls) > 20
    for call in calls:
        value = eval(call, given)
        value = value.total if isinstance(value, mm.LossTerms) else value
        assert isinstance(value, torch.Tensor), call
        assert value.isfinite().all(), call


def test_a_session_that_prints_something_else_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.md"
    path.write_text("# A\n\n```pycon\n>>> 1 + 1\n3\n```\n")
    monkeypatch.setitem(PAGES, "a.md", path)
    with pytest.raises(AssertionError, match="- 3"):
        run("a.md")


def test_blocks_of_a_page_share_their_names_and_know_their_lines(tmp_path, monkeypatch):
    path = tmp_path / "a.md"
    path.write_text("# A\n\n```pycon\n>>> x = 2\n```\n\ntext\n\n```pycon\n>>> x + 1\n3\n```\n")
    monkeypatch.setitem(PAGES, "a.md", path)
    assert run("a.md")["x"] == 2
    assert [example.lineno for example in session("a.md").examples] == [3, 9]
