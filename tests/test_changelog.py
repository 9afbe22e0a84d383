"""The changelog is of this version, and what a release had is still there."""

import inspect
import re

import pytest

import mmcontrast as mm
from tests.readme.citing import ROOT, version
from tests.released import RELEASED

CHANGELOG = (ROOT / "notebooks/site/changelog.md").read_text()
SECTIONS = ["Search and replace", "Added", "Changed", "Fixed", "Deprecated", "Removed"]
NAMES = [(release, name) for release, names in RELEASED.items() for name in names]


def releases():
    """Version -> section -> text, in the order of the page."""
    parts = re.split(r"^## (\d+\.\d+\.\d+)$", CHANGELOG, flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {
        number: dict(re.findall(r"^### (.+)\n\n((?:(?!### ).*\n)+)", text, flags=re.MULTILINE))
        for number, text in pairs
    }


def test_the_top_is_this_version_and_versions_fall():
    found = [tuple(map(int, number.split("."))) for number in releases()]
    assert ".".join(map(str, found[0])) == version()
    assert found == sorted(found, reverse=True)


def test_every_release_is_told_in_the_same_sections():
    for number, sections in releases().items():
        assert list(sections) == [x for x in SECTIONS if x in sections], number
    assert {"Added", "Changed", "Fixed", "Deprecated"} <= set(releases()[version()])


def test_what_is_new_is_told():
    """Public names that the last release did not have."""
    before = RELEASED[list(RELEASED)[-1]]
    told = set(re.findall(r"`(\w+)", releases()[version()]["Added"]))
    modules = {name for name in mm.__all__ if name[0].isupper()}
    assert set(mm.__all__) - set(before) - modules <= told


@pytest.mark.parametrize(("release", "name"), NAMES)
def test_a_released_name_is_still_there_with_its_arguments(release, name):
    """Positional arguments in their places, keywords by name; more may have come."""
    target, listed = getattr(mm, name), RELEASED[release][name]
    if not listed:  # a number, or what has no arguments
        return
    positional, _, keywords = listed.partition("*")
    found = inspect.signature(target).parameters
    if positional and not hasattr(target, "_fields"):  # a result's fields are read by name
        assert list(found)[: len(positional.split())] == positional.split()
    assert set(positional.split()) | set(keywords.split()) <= set(found)
