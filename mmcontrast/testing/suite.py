"""The suite: it checks a loss against all laws that its traits claim, and reports the results."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch

from mmcontrast import arguments
from mmcontrast.testing import checks as _laws  # noqa: F401  fills the catalogue
from mmcontrast.testing.infer import proposal
from mmcontrast.testing.registry import CHECKS, FIRST
from mmcontrast.testing.report import CheckReport, CheckResult, LawsBroken
from mmcontrast.testing.running import LossCheck, result_of
from mmcontrast.testing.snippet import describe
from mmcontrast.testing.traits import KINDS, Loss, Traits, as_traits
from mmcontrast.testing.unchecked import unchecked

ON_FAIL = ("raise", "warn", "report")


def iter_checks(
    loss: Loss,
    traits: Traits | Mapping[str, Any] | None = None,
    *,
    checks: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    max_examples: int = 100,
    seed: int | None = None,
    shrink: bool = True,
) -> Iterator[tuple[Loss, LossCheck]]:
    """The loss with each law that its traits claim, in the order of the report.

    Args:
        loss: the loss, called with a batch.
        traits: :class:`Traits`, or a mapping of their names.
        checks: names of the laws to check; None for all.
        exclude: names of laws to leave out.
        max_examples, seed, shrink: as in :func:`check_contrastive_loss`.

    Raises:
        ValueError: on an unknown name of a law.

    Example:
        >>> from mmcontrast import symmetric_info_nce
        >>> for loss, check in iter_checks(symmetric_info_nce, {"symmetric": True}, max_examples=5):
        ...     check(loss)
    """
    traits = as_traits(traits)
    arguments.whole("max_examples", max_examples)
    chosen = None if checks is None else set(checks)
    left_out = set(exclude)
    for name in (chosen or set()) | left_out:
        arguments.one_of("checks", name, list(CHECKS))
    for name, check in CHECKS.items():
        if name in left_out or not check.applies(traits) or not (chosen is None or name in chosen):
            continue
        yield loss, LossCheck(check, traits, max_examples, seed, shrink)


def check_contrastive_loss(
    loss: Loss,
    *,
    kind: str = "paired",
    symmetric: bool = False,
    normalized: bool = True,
    rotation_invariant: bool = True,
    permutation_invariant: bool = True,
    translation_invariant: bool = False,
    row_shift_invariant: bool = False,
    relabelling_invariant: bool = True,
    nonnegative: bool = True,
    bounds: tuple[float, float] | None = None,
    discriminative: bool = True,
    needs_positive: bool = True,
    form: str | None = None,
    temperature: float | None = None,
    decoupled: bool = False,
    collapse_value: Callable[[int], float] | None = None,
    differentiable: tuple[str, ...] | None = None,
    features: int | None = None,
    unit: bool = False,
    smallest: int = 1,
    classes: int | None = None,
    rectangular: bool = False,
    keep: bool = False,
    positives: bool = False,
    labels: bool = False,
    present: bool = False,
    ignore_index: int | None = None,
    empty: str | None = None,
    deterministic: bool = True,
    smooth: bool = True,
    traceable: bool = False,
    functional: bool = False,
    stateful: bool = False,
    factory: Callable[[float], Loss] | None = None,
    reductions: Callable[[str], Loss] | None = None,
    chunked: Callable[[int], Loss] | None = None,
    pairwise: Loss | None = None,
    reference: Loss | None = None,
    dtypes: Mapping[torch.dtype, float | None] | None = None,
    tol: float = 1e-8,
    checks: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = 100,
    seed: int | None = None,
    shrink: bool = True,
    infer: bool = False,
    on_fail: str = "raise",
) -> CheckReport:
    """Check a contrastive loss against the laws that it claims.

    Every law is checked on drawn examples; the smallest one that breaks it is in the report as code
    that reproduces it. A Module is copied for every call and never changed; torch's random state is
    restored.

    Traits are declared, never guessed: without a ``form`` (or a ``reference``) no law looks at the
    denominator, the temperature or a mask, and the report's first line says so. ``infer=True``
    proposes what to declare.

    Args:
        loss: a function, a Module, a ``functools.partial``, or a class, which is made anew for
            every call; with ``stateful``, any callable that makes one. It returns a 0-d tensor, or
            something with a ``.total``, as :class:`mmcontrast.LossTerms` has.
        kind: ``"paired"``, ``"labelled"``, ``"triplet"`` or ``"multimodal"``.
        symmetric, normalized, rotation_invariant, permutation_invariant, translation_invariant,
            row_shift_invariant, relabelling_invariant, nonnegative, bounds, discriminative,
            needs_positive, form, temperature, decoupled, collapse_value, differentiable, features,
            unit, smallest, classes, rectangular, keep, positives, labels, present, ignore_index,
            empty, deterministic, smooth, traceable, functional, stateful, factory, reductions,
            chunked, pairwise, reference, dtypes, tol: the traits that the loss claims; see
            :class:`Traits`.
        checks: names of the laws to check; None for all.
        exclude: names of laws to leave out.
        expected_failures: names of laws that the loss is known to break, each with the reason. If
            one of them holds, that is an unexpected pass, and the report is not ok either.
        max_examples: the number of examples of each law; slow laws take fewer.
        seed: the seed of the examples; None takes the same ones every time.
        shrink: False takes the first example that breaks a law instead of the smallest.
        infer: also look for the known form (of those that ``form`` declares) and temperature that
            are nearest to the loss, and say how the two differ. That is a proposal: what is not
            declared is not checked.
        on_fail: ``"raise"``, ``"warn"``, or ``"report"`` for neither.

    Raises:
        LawsBroken: an AssertionError, with ``on_fail="raise"``, unless the report is ok.
        ValueError: on an unknown name of a law, an expected failure without a reason, or traits
            that exclude each other.

    Example:
        >>> from mmcontrast import info_nce
        >>> report = check_contrastive_loss(info_nce, form="info_nce", temperature=0.07,
        ...                                 max_examples=5)
        >>> report.ok
        True
    """
    keywords = locals()
    arguments.one_of("kind", kind, KINDS)  # others have doors and defaults of their own
    stated = {f.name: keywords[f.name] for f in fields(Traits) if f.name in keywords}
    stated.pop("dtypes")
    traits = Traits(**stated) if dtypes is None else Traits(**stated, dtypes=dtypes)
    return report_on(
        loss,
        traits,
        checks=checks,
        exclude=exclude,
        expected_failures=expected_failures,
        max_examples=max_examples,
        seed=seed,
        shrink=shrink,
        infer=infer,
        on_fail=on_fail,
    )


def report_on(
    loss: Loss,
    traits: Traits | Mapping[str, Any] | None = None,
    *,
    checks: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = 100,
    seed: int | None = None,
    shrink: bool = True,
    infer: bool = False,
    on_fail: str = "report",
    name: str | None = None,
) -> CheckReport:
    """:func:`check_contrastive_loss` with the traits in one object, and a name for the report."""
    traits = as_traits(traits)
    arguments.one_of("on_fail", on_fail, ON_FAIL)
    expected = dict(expected_failures or {})
    for law, reason in expected.items():
        arguments.one_of("expected_failures", law, list(CHECKS))
        if not isinstance(reason, str) or not reason.strip():
            arguments.fail(f"expected_failures[{law!r}]", "a reason", repr(reason))
    chosen = [
        check
        for _, check in iter_checks(
            loss,
            traits,
            checks=checks,
            exclude=exclude,
            max_examples=max_examples,
            seed=seed,
            shrink=shrink,
        )
    ]
    results: list[CheckResult] = []
    for check in chosen:
        if results and results[0].name in FIRST and results[0].status == "failed":
            results.append(result_of(check.check, "not_run"))
        else:
            results.append(_expect(check.run(loss), expected.get(check.name)))
    not_claimed = {
        law: check.needs
        for law, check in CHECKS.items()
        if checks is None and traits.kind in check.kinds and not check.when(traits)
    }
    report = CheckReport(
        name or describe(loss),
        traits.kind,
        tuple(results),
        not_claimed,
        ""
        if checks is not None
        else unchecked(traits.kind, [r.name for r in results], decoupled=traits.decoupled),
        proposal(loss, traits) if infer else "",
    )
    if not report.ok and on_fail == "raise":
        raise LawsBroken(report)
    if not report.ok and on_fail == "warn":
        warnings.warn(str(report), stacklevel=3)  # the line that called a door of the suite
    return report


def _expect(result: CheckResult, reason: str | None) -> CheckResult:
    if reason is None:
        return result
    if result.status == "skipped":
        return result
    status = {"failed": "expected_failure", "passed": "unexpected_pass"}[result.status]
    return CheckResult(**{**vars(result), "status": status, "reason": reason})
