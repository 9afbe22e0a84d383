import pytest

from tests.capabilities import can, needs


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, AttributeError, ImportError])
def test_what_fails_is_skipped_by_its_name(error):
    def fail():
        raise error("not here")

    assert not can(fail)
    mark = needs("the impossible", fail).mark
    assert mark.args == (True,)
    assert mark.kwargs["reason"] == "not with this torch: the impossible"


def test_what_works_is_not_skipped_and_a_mistake_in_the_attempt_is_an_error():
    assert can(lambda: 1)
    assert needs("one", lambda: 1).mark.args == (False,)
    with pytest.raises(NameError):
        can(lambda: nobodys_name)  # noqa: F821
