"""One law checked on one loss."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given

from mmcontrast import arguments
from mmcontrast.testing.batch import Batch, batch_of
from mmcontrast.testing.causes import cause_of
from mmcontrast.testing.lacking import lacking
from mmcontrast.testing.matrix import similarities
from mmcontrast.testing.registry import CHECKS, FIRST, Check
from mmcontrast.testing.report import CheckReport, CheckResult, LawsBroken
from mmcontrast.testing.snippet import describe, snippet
from mmcontrast.testing.subject import LawBroken, Subject, same_random_state
from mmcontrast.testing.traits import Loss, Traits, as_traits


@dataclass(frozen=True)
class LossCheck:
    """A law with the traits of a loss and the number of examples: call it with the loss.

    Raises:
        LawsBroken: where the loss breaks the law.
    """

    check: Check
    traits: Traits
    max_examples: int = 100
    seed: int | None = None
    shrink: bool = True

    @property
    def name(self) -> str:
        """The law's name."""
        return self.check.name

    def run(self, loss: Loss) -> CheckResult:
        """Check the law on examples; the result holds the smallest one that breaks it."""
        return _try(self, Subject(loss, self.traits))

    def __call__(self, loss: Loss) -> None:
        """Run, and raise LawsBroken if the law is broken."""
        result = self.run(loss)
        if result.status == "failed":
            raise LawsBroken(CheckReport(describe(loss), self.traits.kind, (result,), {}))


def result_of(check: Check, status: str, **more: Any) -> CheckResult:
    """The result of a check, with the law's name, text and number."""
    return CheckResult(check.name, check.law, check.number, status, hint=check.hint, **more)


def _try(bound: LossCheck, subject: Subject) -> CheckResult:
    check, traits = bound.check, bound.traits
    tried = 0
    lacked: str | None = None
    last: tuple[Batch, dict[str, Any]] | None = None

    def one(example: tuple[Batch, dict[str, Any]]) -> None:
        nonlocal tried, last, lacked
        tried += 1
        last = example
        batch, drawn = example
        try:
            with same_random_state():
                check(subject, batch.copy(), **copy.deepcopy(drawn))
        except Exception as error:  # of the loss, or of torch
            lack = lacking(error)
            # On rows of float64 it was the loss's own choice: nothing else would be checked either.
            if lack is None or check.name in FIRST:
                raise
            lacked = lack

    phases = [Phase.generate, Phase.shrink] if bound.shrink else [Phase.generate]
    most = bound.max_examples if check.most is None else min(check.most, bound.max_examples)
    configured = hypothesis.settings(
        max_examples=most,
        deadline=None,
        derandomize=bound.seed is None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    test = configured(given(check.examples(traits))(one))
    if bound.seed is not None:
        test = hypothesis.seed(bound.seed)(test)
    start = time.perf_counter()
    try:
        test()
    except Exception as error:  # an exception of the loss breaks the law too
        return result_of(
            check,
            "failed",
            message=_message(error),
            cause=cause_of(check.name, check.needs, _message(error), traits.noun),
            code="" if last is None else _code(check.name, subject.loss, traits, last, error),
            examples=tried,
            seconds=time.perf_counter() - start,
            similarities=None if last is None else similarities(last[0]),
        )
    if lacked is not None:
        seconds = time.perf_counter() - start
        return result_of(check, "skipped", reason=lacked, examples=tried, seconds=seconds)
    return result_of(check, "passed", examples=tried, seconds=time.perf_counter() - start)


def _message(error: Exception) -> str:
    """The message of a broken law, or the exception that the loss raised."""
    if isinstance(error, LawBroken):
        return str(error)
    if isinstance(error, hypothesis.errors.Flaky):
        inside = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
        return f"on one of two runs of the same example: {type(inside).__name__}: {inside}"
    return f"raised {type(error).__name__}: {error}"


def _code(
    name: str,
    loss: Loss,
    traits: Traits,
    example: tuple[Batch, dict[str, Any]],
    error: Exception,
) -> str:
    message = _message(error)
    code = snippet(name, loss, _needed(name, loss, traits, example, message), *example)
    first = message.partition("\n")[0]
    return f"{code}\n# {first[:200]}"


def _needed(
    name: str, loss: Loss, traits: Traits, example: tuple[Batch, dict[str, Any]], message: str
) -> Traits:
    """The traits that the example needs to break the law with the same message."""
    usual = Traits(kind=traits.kind)
    for claimed in traits.claimed():
        if claimed == "kind":
            continue
        try:
            fewer = replace(traits, **{claimed: getattr(usual, claimed)})
            with same_random_state():
                batch, drawn = example
                CHECKS[name](Subject(loss, fewer), batch.copy(), **copy.deepcopy(drawn))
        except Exception as error:  # of the law or the loss; only the same message counts
            if _message(error) == message:
                traits = fewer
    return traits


def replay(
    name: str,
    loss: Loss,
    *inputs: Any,
    traits: Traits | Mapping[str, Any] | None = None,
    draws: Mapping[str, Any] | None = None,
) -> None:
    """Check one law on one example, as the code in reports does.

    Args:
        name: of the law.
        loss: the loss.
        inputs: its positional arguments.
        traits: the traits that it claims.
        draws: further arguments of the law, by name.

    Raises:
        LawBroken: an AssertionError, where the example breaks the law; or whatever the loss raises.
        ValueError: on an unknown name of a law.

    Example:
        >>> import torch
        >>> from mmcontrast import info_nce
        >>> replay("single_sample", info_nce, torch.ones(1, 2), torch.ones(1, 2))
    """
    arguments.one_of("name", name, list(CHECKS))
    traits = as_traits(traits)
    with same_random_state():
        CHECKS[name](Subject(loss, traits), batch_of(traits.kind, inputs), **dict(draws or {}))
