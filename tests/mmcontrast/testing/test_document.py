"""The report as a page: what failed, with its picture, and everything escaped."""

import xml.etree.ElementTree as xml

from mmcontrast.testing.document import document
from mmcontrast.testing.matrix import Similarities
from mmcontrast.testing.report import CheckReport, CheckResult

COSINES = Similarities(("a1", "a2"), ("b1", "b2"), ((1.0, 0.0), (0.0, 1.0)))
PASSED = CheckResult("symmetric", "Exchanging changes nothing.", "10", "passed")
FAILED = CheckResult(
    *("collapse_value", "log N & no less.", "2", "failed"),
    **{"message": "it is <1>", "hint": "A mean.", "code": "x < y", "similarities": COSINES},
)


def page(*results, **more):
    return CheckReport("my_loss", "paired", results, more.pop("not_claimed", {}), **more).to_html()


def body(text):
    """The page as a tree: it is well-formed but for the two void tags of its head."""
    return xml.fromstring(text[text.index("<body>") : text.index("</html>")])


def test_a_failure_comes_first_with_its_picture_and_its_code():
    text = page(PASSED, FAILED)
    tree = body(text)
    assert tree.find("h1").text == "my_loss: laws are broken"
    (section,) = tree.findall("section")
    assert section.find("pre").text == "x < y"
    words = [p.text for p in section.findall("p")]
    assert words[:3] == ["log N & no less.", "it is <1>", "Usually: A mean."]
    assert section.find("{http://www.w3.org/2000/svg}svg") is not None
    names = [row[0][0].text for row in tree.iter("tr") if row.get("class")]
    assert names == ["collapse_value", "symmetric"]
    ends = [row[2].text for row in tree.iter("tr") if row.get("class")]
    assert ends == ["failed: it is <1>", "passed"]
    assert document(CheckReport("my_loss", "paired", (PASSED, FAILED), {})) == text


def test_where_all_laws_hold_there_is_no_picture():
    tree = body(page(PASSED, not_claimed={"chunks_are_exact": "chunked"}, proposal="near <form>"))
    assert tree.find("h1").text == "my_loss: all laws hold"
    assert tree.find("section") is None
    assert tree.find("pre").text == "near <form>"
    assert "".join(tree.find("details/ul/li").itertext()) == "chunks_are_exact needs chunked"


def test_failures_of_one_cause_are_one_section():
    other = CheckResult("bounds", "At most 1.", "3", "failed", "it is 2", "A sum.", "z", cause="c")
    one = CheckResult("sign", "At least 0.", "4", "failed", "it is 2", "A sum.", "zz", cause="c")
    (section,) = body(page(one, other)).findall("section")
    assert section.find("h2").text.startswith("2 laws, one cause")
    assert section.find("pre").text == "z"
