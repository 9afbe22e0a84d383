"""One pytest test for each loss and law."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmcontrast import arguments
from mmcontrast.testing.snippet import describe
from mmcontrast.testing.suite import iter_checks
from mmcontrast.testing.traits import Loss, Traits

Stated = Traits | Mapping[str, Any] | None


def parametrize_with_checks(
    losses: Iterable[Loss] | Mapping[str, Loss],
    *,
    traits: Callable[[Loss], Stated] | Stated = None,
    expected_failures: Callable[[Loss], Mapping[str, str]] | Mapping[str, str] | None = None,
    checks: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    max_examples: int = 100,
    seed: int | None = None,
    shrink: bool = True,
) -> Any:
    """A pytest decorator that parametrizes a test over each loss and each law that it claims.

    The test takes ``loss`` and ``check``; ids read ``law-loss``, so that ``pytest -k symmetric``
    selects one law.

    Args:
        losses: the losses, or a mapping of the names for the test ids to the losses.
        traits: the traits of all losses, or a callable: loss -> traits. A mapping with the kind
            ``"distance"`` begins with the defaults of :func:`check_distance`, :class:`Traits` with
            its own.
        expected_failures: a mapping of law to reason, or a callable: loss -> mapping. These
            tests are strict xfails.
        checks, exclude, max_examples, seed, shrink: as in :func:`check_contrastive_loss`.

    Raises:
        ValueError: on an unknown name of a law.

    Example:
        >>> from mmcontrast import SymmetricInfoNCE
        >>> @parametrize_with_checks([SymmetricInfoNCE()], traits={"symmetric": True})
        ... def test_my_losses(loss, check):
        ...     check(loss)
    """
    import pytest

    pairs: list[tuple[str, Loss]]
    if isinstance(losses, Mapping):
        pairs = list(losses.items())
    else:
        pairs = [(describe(loss), loss) for loss in losses]
    chosen = None if checks is None else list(checks)
    left_out = list(exclude)
    cases = []
    for name, loss in pairs:
        stated = traits(loss) if callable(traits) else traits
        expected = expected_failures(loss) if callable(expected_failures) else expected_failures
        bound = [
            check
            for _, check in iter_checks(
                loss,
                stated,
                checks=chosen,
                exclude=left_out,
                max_examples=max_examples,
                seed=seed,
                shrink=shrink,
            )
        ]
        reasons = dict(expected or {})
        for law in reasons:
            arguments.one_of("expected_failures", law, [check.name for check in bound])
        for check in bound:
            reason = reasons.get(check.name)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            cases.append(pytest.param(loss, check, id=f"{check.name}-{name}", marks=marks))
    return pytest.mark.parametrize(("loss", "check"), cases)
