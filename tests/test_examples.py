"""What the profiles of Hypothesis draw."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import as_many, seed
from tests.processes import ROOT


def drawn(profile):
    """All that a test draws under the profile."""
    numbers = []

    @settings(settings.get_profile(profile), database=None)
    @given(st.integers(0, 10**9))
    def test(number):
        numbers.append(number)

    test()
    return numbers


def test_the_profile_of_the_gate_draws_the_same_each_time():
    assert drawn("ci") == drawn("ci")
    assert len(drawn("ci")) == 25


def test_the_nightly_one_draws_ten_times_as_many_anew_and_keeps_what_failed():
    first, again = drawn("nightly"), drawn("nightly")
    assert len(first) == len(again) == 250
    assert first != again
    assert settings.get_profile("nightly").database is not None


@pytest.mark.parametrize(("profile", "number"), [("dev", 300), ("ci", 300), ("nightly", 3000)])
def test_tests_with_a_number_of_their_own_draw_as_many_times_as_many(profile, number, monkeypatch):
    monkeypatch.setattr("tests.examples.settings", lambda: settings.get_profile(profile))
    assert as_many(300) == number


@pytest.mark.parametrize(("profile", "fixed"), [("dev", False), ("ci", True), ("nightly", False)])
def test_the_law_suite_is_seeded_anew_where_the_profile_draws_anew(profile, fixed, monkeypatch):
    monkeypatch.setattr("tests.examples.settings", lambda: settings.get_profile(profile))
    assert (seed() is None) == (seed() == seed()) == fixed


def test_what_failed_is_kept_in_one_place(tmp_path, monkeypatch):
    """From whatever folder the tests are run, and whichever a test goes to."""
    kept = settings.get_profile("nightly").database
    monkeypatch.chdir(tmp_path)
    kept.save(b"a test of this", b"example")
    try:
        assert list(tmp_path.iterdir()) == []
        monkeypatch.chdir(ROOT)
        assert list(kept.fetch(b"a test of this")) == [b"example"]
    finally:
        kept.delete(b"a test of this", b"example")
