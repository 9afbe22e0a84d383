"""BibTeX by function: every paper that a docstring names has its entry, and no entry lies idle."""

import inspect
import re
from functools import partial

import pytest
import torch

import mmcontrast as mm
from mmcontrast.citations import entries, papers_named
from reference_models.registry import MODELS

PUBLIC = [name for name in mm.__all__ if callable(getattr(mm, name))]
SOURCE = re.compile(
    r"arXiv|IEEE|Multimedia Systems|COLING|EUSIPCO|NeurIPS|BMVC|\beq\. \d|\b20\d\d\b"
)


def docstrings(name):
    """Of a public name, and of its methods."""
    target = getattr(mm, name)
    methods = (
        [x for n, x in vars(target).items() if n[0] != "_"] if isinstance(target, type) else []
    )
    return [inspect.getdoc(x) or "" for x in (target, *methods)]


def keys(bibtex):
    return re.findall(r"^@\w+\{(\w+),", bibtex, flags=re.MULTILINE)


# --- docstrings and entries ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_every_arxiv_number_of_a_docstring_is_cited(name):
    numbers = re.findall(r"arXiv:(\d{4}\.\d{4,5})", " ".join(docstrings(name)))
    for number in numbers:
        assert f"eprint        = {{{number}}}" in mm.citation(name), number


@pytest.mark.parametrize("name", PUBLIC)
def test_every_source_that_a_docstring_lists_has_an_entry(name):
    """Sources stand between semicolons, each with where it was published or an equation of it."""
    for text in docstrings(name):
        listed = text.partition("References:")[2]
        for source in filter(SOURCE.search, listed.split(";")):
            assert papers_named(source), source


def test_every_entry_is_named_by_a_docstring_or_a_reference_model():
    named = {key for name in PUBLIC for key in keys(mm.citation(name))}
    named |= {key for model in MODELS.values() for key in papers_named(model.citation)}
    assert set(entries()) == named


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].citation != "none"])
def test_every_reference_models_paper_has_an_entry(name):
    assert len(papers_named(MODELS[name].citation)) == 1


def test_entries_are_well_formed_and_in_order():
    assert list(entries()) == sorted(entries())
    for key, entry in entries().items():
        assert re.match(r"@(article|inproceedings|misc)\{", entry)
        assert entry.endswith("\n}")
        assert entry.count("{") == entry.count("}")
        fields = dict(re.findall(r"^  (\w+) += \{(.+)", entry, flags=re.MULTILINE))
        assert {"title", "author", "year"} <= set(fields)
        first = fields["author"].split(",")[0].split()[-1].lower()  # "van den Oord, Aaron and ..."
        assert key.startswith(first + fields["year"].rstrip("},"))
        assert ("eprint" in fields) == ("archiveprefix" in fields)
        assert "eprint" in fields or "shorttitle" in fields, "nothing could name it"
        venues = {"article": "journal", "inproceedings": "booktitle", "misc": "eprint"}
        assert venues[entry[1 : entry.index("{")]] in fields


# --- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [mm.sup_con, mm.SupCon, mm.SupCon(form="in"), partial(mm.sup_con, form="in"), "SupCon"],
    ids=["function", "class", "Module", "partial", "name"],
)
def test_a_function_may_be_given_in_any_way(way):
    assert keys(mm.citation(way)) == ["khosla2020supcon", "mai2023hycon", "yeh2022decoupled"]


class Mine(mm.SupCon):
    """Of a user's own."""


@pytest.mark.parametrize("given", [Mine, Mine(), partial(Mine, form="in")])
def test_a_class_of_ones_own_cites_what_it_is_made_of(given):
    assert mm.citation(given) == mm.citation(mm.SupCon)


@pytest.mark.parametrize("given", [mm.sup_con, mm.SupCon(), Mine()])
def test_what_is_compiled_cites_what_it_was(given):
    assert mm.citation(torch.compile(given, backend="eager")) == mm.citation(mm.SupCon)


def test_entries_come_in_the_docstrings_order():
    found = keys(mm.citation(mm.triplet))
    assert found == [
        *("schroff2015facenet", "mai2023hycon"),
        *("balntas2016triplets", "hermans2017triplet"),
    ]


def test_papers_of_a_method_are_its_classes():
    assert keys(mm.citation(mm.Mahalanobis)) == ["ledoit2004covariance"]


def test_what_names_no_paper_cites_none():
    assert mm.citation(mm.gather) == ""
    assert mm.citation("IGNORE") == ""


def test_a_name_counts_as_a_whole_word_and_a_number_to_its_end():
    assert papers_named("MFON eq. 7") == ["zhang2025mfon"]
    assert papers_named("MFON-2 and XMFON") == []
    assert papers_named("arXiv:1807.03748, and arXiv:2005.036870") == ["oord2018cpc"]
    assert papers_named("over two\n    lines: Ledoit and\n    Wolf") == ["ledoit2004covariance"]


@pytest.mark.parametrize(
    ("wrong", "came"),
    [
        *(("nothing", "'nothing'"), ("", "''"), (3, "3"), (None, "None")),
        *((torch.nn.Linear, "Linear"), (torch.nn.ReLU(), "the Module ReLU"), (len, "len")),
    ],
)
def test_what_is_not_public_is_refused(wrong, came):
    with pytest.raises(ValueError, match=f"function: expected a public .*, got {came}$"):
        mm.citation(wrong)
