import pytest

from tests.capabilities import FAILURES, can, need


@pytest.mark.parametrize("error", FAILURES)
def test_what_fails_is_skipped_by_its_words(error):
    def fail():
        """do the impossible"""
        raise error("not here")

    assert not can(fail)
    with pytest.raises(pytest.skip.Exception, match=r"^this torch cannot do the impossible$"):
        need(fail)


def test_what_works_is_not_skipped_and_tried_once():
    tried = []

    def attempt():
        tried.append("once")

    need(attempt)
    need(attempt)
    assert tried == ["once"]
    need(attempt, anew=True)
    assert tried == ["once", "once"]


def test_a_mistake_in_the_attempt_is_an_error():
    with pytest.raises(NameError):
        can(lambda: nobodys_name)  # noqa: F821
