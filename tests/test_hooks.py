"""What the site's hooks make of pages and docstrings. No site is built; without Sphinx, skipped."""

import base64
import importlib.util
import json
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from tests.readme.page import SITE

pytest.importorskip("sphinx", reason="make docs installs it")

from docutils import nodes
from docutils.core import publish_doctree
from sphinx.addnodes import desc, pending_xref

spec = importlib.util.spec_from_file_location("hooks", SITE / "hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)


def read(page, text):
    source = [text]
    hooks.linked_to_the_gallery(None, page, source)
    return source[0]


def docstring(what, text):
    lines = text.splitlines()
    hooks.as_napoleon_reads_it(None, what, "name", None, None, lines)
    return lines


# --- links and pictures --------------------------------------------------------------------------


def test_links_to_notebooks_lead_to_their_pages():
    text = "[a](../../01_drop_in_losses.ipynb), [b](../start.md)"
    assert read("guides/index", text) == "[a](/gallery/01_drop_in_losses.ipynb), [b](../start.md)"
    assert read("gallery/01_drop_in_losses", "[a](site/start.md)") == "[a](../start.md)"


def test_the_gallery_has_a_card_for_each_notebook():
    listed = (SITE / "gallery.md").read_text()
    cards = read("gallery", listed)
    assert cards.count('<a class="card"') == listed.count(".ipynb): ")
    assert 'href="gallery/01_drop_in_losses.html"' in cards
    assert "* [" not in cards
    assert "<strong>A &lt; B</strong><span>C.</span>" in read(
        "gallery", "* [A < B](../x.ipynb): C."
    )


def test_a_card_shows_the_first_picture_of_its_notebook(tmp_path):
    data = [{"text/plain": "1"}, {"image/png": base64.b64encode(b"first").decode()}]
    data.append({"image/png": base64.b64encode(b"second").decode()})
    cells = [{}, {"outputs": [{"data": shown} for shown in data]}]
    for folder in ("source/gallery", "built/gallery"):
        (tmp_path / folder).mkdir(parents=True)
    for name, found in (("a", cells), ("b", [{}])):
        (tmp_path / f"source/gallery/{name}.ipynb").write_text(json.dumps({"cells": found}))
    app = SimpleNamespace(srcdir=tmp_path / "source", outdir=tmp_path / "built")
    hooks.with_pictures(app, RuntimeError())
    assert not list((tmp_path / "built/gallery").iterdir())
    hooks.with_pictures(app, None)
    assert [p.name for p in (tmp_path / "built/gallery").iterdir()] == ["a.png"]
    assert (tmp_path / "built/gallery/a.png").read_bytes() == b"first"


def test_papers_are_linked_but_for_those_in_code_titles_and_links():
    tree = publish_doctree(
        "arXiv:1703.07737\n================\n\nSee arXiv:1807.03748, arXiv:2002.05709;"
        " ``arXiv:2103.00020``, `arXiv:2303.15343 <https://example.org>`_."
    )
    hooks.linked_to_arxiv(None, tree)
    assert [link["refuri"] for link in tree.findall(nodes.reference)] == [
        "https://arxiv.org/abs/1807.03748",
        "https://arxiv.org/abs/2002.05709",
        "https://example.org",
    ]
    assert tree.next_node(nodes.paragraph).astext().startswith("See arXiv:1807.03748, arXiv:2002.")


def test_public_names_are_linked_but_for_those_in_titles_and_links():
    tree = publish_doctree("``triplet``\n===========\n\n``info_nce``, ``sup_con()``, ``x``.")
    entry = desc("", nodes.paragraph("", "", nodes.literal("", "n_pair")))
    linked = pending_xref("", nodes.literal("", "n_pair"), reftarget="elsewhere")
    tree += [entry, nodes.paragraph("", "", linked)]
    hooks.linked_by_name(None, tree)
    targets = [link["reftarget"] for link in tree.findall(pending_xref)]
    expected = ["mmcontrast.info_nce", "mmcontrast.sup_con", "mmcontrast.n_pair", "elsewhere"]
    assert targets == expected
    assert tree.next_node(pending_xref).astext() == "info_nce"


def test_a_picture_for_light_pages_brings_that_for_dark_ones():
    tree = publish_doctree(".. image:: a-light.svg\n   :alt: A.\n\n.. image:: b.svg\n")
    hooks.in_both_themes(None, tree)
    found = [(x["uri"], x.get("alt"), x["classes"]) for x in tree.findall(nodes.image)]
    expected = [("a-light.svg", "A.", ["only-light"]), ("a-dark.svg", "A.", ["only-dark"])]
    assert found == [*expected, ("b.svg", None, [])]


# --- docstrings ----------------------------------------------------------------------------------


class Record(NamedTuple):
    """A record."""

    number: int

    def twice(self):
        return 2 * self.number


def test_fields_have_no_entry_of_their_own():
    def skipped(name, member):
        return hooks.skipped(None, "class", name, member, False, None)

    assert skipped("number", Record.number) is True
    assert skipped("load_state_dict", len) is True
    assert skipped("twice", Record.twice) is None


def test_sections_as_napoleon_takes_them():
    text = (
        "It sums.\n\nArgs:\n    x, y,\n    z: (B, D) rows.\n\nReturns:\n    a scalar: the mean.\n"
    )
    assert docstring("function", f"{text}\nReferences: arXiv:1807.03748.") == [
        *("It sums.", "", "Args:", f"    x{hooks.OR}y{hooks.OR}z: (B, D) rows.", ""),
        *("Returns:", "    : a scalar: the mean.", ""),
        *("References:", "    arXiv:1807.03748."),
    ]
    assert docstring("property", "seconds: of a run.") == [": seconds: of a run."]
    assert docstring("method", "seconds: of a run.") == ["seconds: of a run."]


@pytest.mark.parametrize("shown", ["&lt;function f", "object at 0x7f", "Alias for field number 0"])
def test_a_signature_that_nobody_can_read_fails_the_build(tmp_path, shown):
    (tmp_path / "api").mkdir()
    (tmp_path / "api/good.html").write_text("normalize=l2_normalize")
    hooks.with_readable_signatures(SimpleNamespace(outdir=tmp_path), None)
    (tmp_path / "api/bad.html").write_text(shown)
    with pytest.raises(ValueError, match=r"got addresses: bad.html$"):
        hooks.with_readable_signatures(SimpleNamespace(outdir=tmp_path), None)
    hooks.with_readable_signatures(SimpleNamespace(outdir=tmp_path), RuntimeError())
